# SPDX-License-Identifier: GPL-2.0-only
"""tables/locks.csv: which locks of the kernel were waited for. Of probe `lock-contention`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from kdelta.analysis.mechanism import traced_rows
from kdelta.analysis.mechanism_records import Locks, MechanismArm, MechanismSample
from kdelta.analysis.rules import one_line
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of
from kdelta.workload.readers import ReadError
from kdelta.workload.samples import values_of

PROBE = "lock-contention"


def locks_frame(arms: Sequence[MechanismArm], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per regime, arm, cell and lock, heaviest first; columns of tables/locks.csv.

    A cell without a wait has one row with 0 waits, one that failed or that an arm's boot has no
    record of a row that says why.

    Args:
        arms: in display order.
        settings: names of the factors, and what was run.
    """
    rows = traced_rows(arms, PROBE, settings, lambda sample: _rows(sample, settings))
    return frame_of("tables/locks.csv", rows, settings.factors)


def _rows(
    sample: MechanismSample | None, settings: AnalysisSettings
) -> Iterator[Mapping[str, object]]:
    why = "the boot has no record of it" if sample is None else sample.failure(PROBE)
    if sample is None or sample.locks is None or why is not None:
        yield {"status": "failed", "reason": one_line(why or "no reason was recorded")}
        return
    seen = sample.locks
    operations = _operations(sample, seen, settings)
    whole = {"status": "ok", "lost_events": seen.lost_events}
    if not seen.waits:
        none = 0.0 if operations else math.nan
        yield {
            **whole,
            "waits": 0,
            "waits_per_s": 0.0,
            "wait_us_per_operation": none,
            "wait_share": 0.0,
        }
    for lock in seen.waits:
        yield {
            **whole,
            "lock": lock.lock,
            "caller": lock.caller,
            "waits": lock.waits,
            "waits_per_s": _per(lock.waits, seen.elapsed_s),
            "wait_mean_us": _per(lock.wait_ns / 1e3, lock.waits),
            "wait_max_us": lock.wait_ns_max / 1e3,
            "wait_us_per_operation": _per(lock.wait_ns / 1e3, operations),
            "wait_share": _per(lock.wait_ns / 1e9, seen.elapsed_s),
        }


def _operations(sample: MechanismSample, seen: Locks, settings: AnalysisSettings) -> float:
    """Operations that the workload counted in the run; 0 where that is not known."""
    workload = settings.workload
    if workload.operations is None or seen.lost_events:
        return 0.0
    said = seen.bench if workload.output == "json" else seen.bench.get("output", "")
    try:
        values = values_of(
            workload, said, {**settings.arguments, **sample.cell}, seen.elapsed_s, settings.script
        )
    except ReadError:
        return 0.0  # a traced run is short: it may not have come to what it prints
    number = values.get(workload.operations)
    return float(number) if isinstance(number, int | float) and number > 0 else 0.0


def _per(amount: float, number: float) -> float:
    return amount / number if number else math.nan
