# SPDX-License-Identifier: GPL-2.0-only
"""What the slices of a boot say: the workload's output understood, and the kernel's counters.

A run has millions of values, and every step here is taken for a whole column of them: one value
after another takes ten times as long.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kdelta.analysis.boots import Column, Floats, Histogram, Slices
from kdelta.analysis.records import Cell, SampleRecord
from kdelta.analysis.settings import AnalysisSettings
from kdelta.errors import KdeltaError
from kdelta.pressure_counters import PRESSURE_COUNTERS
from kdelta.workload.readers import lookup_all
from kdelta.workload.samples import understand, wrong_parameters

Growth = Mapping[str, int]
"""What kernel counters grew by over a slice, by names such as `vmstat.pgscan_direct`."""


def read_slices(
    cells: Sequence[Cell],
    records: Sequence[SampleRecord],
    settings: AnalysisSettings,
    where: Callable[[int], str],
) -> Slices:
    """The slices of a boot.

    Args:
        cells: of the slices, sorted.
        records: as the guest wrote them.
        settings: the workload.
        where: number of a slice -> its file and line.

    Raises:
        KdeltaError: a histogram is damaged; the message begins with its file and line.
    """
    workload, script = settings.workload, settings.script
    levels = dict(zip(cells, (one.cell for one in records), strict=True))
    by_cell = {cell: {**settings.arguments, **found} for cell, found in levels.items()}
    given = tuple(by_cell[cell] for cell in cells)
    outputs = [one.output if one.bench is None else one.bench for one in records]
    wall_s = wall_seconds(records)
    elapsed = [None if wall != wall else wall for wall in wall_s.tolist()]
    found = understand(workload, outputs, given, elapsed, script)
    strange = wrong_parameters(workload, found.reported, [one.cell for one in records])
    tables: dict[int, Any] = {
        number: table
        for number, table in enumerate(found.distribution)
        if table is not None and number not in found.misread
    }
    try:
        histograms = dict(zip(tables, Histogram.of_all([*tables.values()]), strict=True))
    except ValueError:
        path = workload.distribution.read if workload.distribution else ""
        histograms = {
            number: _histogram(table, f"{where(number)}: key bench.{path}")
            for number, table in tables.items()
        }
    grown = growth_columns([growth_of(record) for record in records])
    return Slices(
        records=tuple(records),
        wall_s=wall_s,
        cells=tuple(cells),
        given=given,
        values=found.values,
        misread={
            number: "no result was recorded"
            if outputs[number] is None
            else f"its output was not understood: {why}"
            for number, why in found.misread.items()
        },
        strange={number: why for number, why in strange.items() if number not in found.misread},
        histograms=histograms,
        grown=grown,
        counters=counters_of(grown, len(records)),
    )


def wall_seconds(records: Sequence[SampleRecord]) -> Floats:
    """Seconds that each slice took by the monotonic clock; NaN where that was not recorded."""
    spans = [
        math.nan
        if one.monotonic_start_ns is None or one.monotonic_end_ns is None
        else one.monotonic_end_ns - one.monotonic_start_ns
        for one in records
    ]
    return np.array(spans, dtype=float) / 1e9


def _histogram(buckets: Any, where: str) -> Histogram:
    try:
        return Histogram.of(buckets)
    except ValueError as error:
        raise KdeltaError(
            f"{where}: {error}; the file was cut short or edited: move its folder away and measure "
            "the block again"
        ) from None


def growth_of(record: SampleRecord) -> Growth:
    """What the counters of a slice grew by; empty where that was not recorded.

    Earlier versions recorded some counters before and after.
    """
    if record.grown is not None:
        return record.grown
    if record.before is None or record.after is None:
        return {}
    first, last = (
        {
            **{f"vmstat.{name}": value for name, value in moment.vmstat.items()},
            **{f"stat.{name}": value for name, value in moment.stat.items()},
            **{f"psi.{r}.{k}": v for r, kinds in moment.psi.items() for k, v in kinds.items()},
        }
        for moment in (record.before, record.after)
    )
    return {name: value - first[name] for name, value in last.items() if name in first}


def growth_columns(grown: Sequence[Growth]) -> Mapping[str, Column]:
    """Counter -> what it grew by over each slice; None where a slice lacks it."""
    kinds = dict.fromkeys(map(tuple, grown))
    return lookup_all(grown, itertools.chain.from_iterable(kinds))


def counters_of(grown: Mapping[str, Column], number: int) -> dict[str, Column]:
    """The counters that samples.csv has, of each slice; None is one that the kernel lacks.

    Args:
        grown: as `growth_columns` makes it.
        number: of slices.
    """
    missing = [None] * number
    found = {name: grown.get(read, missing) for name, read in _ONE}
    for name, prefix in _SUMS:
        # Which there are, one of every zone say, is the kernel's.
        parts = [column for read, column in grown.items() if read.startswith(prefix)]
        if any(None in column for column in parts):
            found[name] = [_sum(row) for row in zip(*parts, strict=True)]
        else:
            found[name] = [*map(sum, zip(*parts, strict=True))] if parts else missing
    return found


def _sum(values: Iterable[int | None]) -> int | None:
    there = [value for value in values if value is not None]
    return sum(there) if there else None


_ONE = (
    *((one.name, one.read) for one in PRESSURE_COUNTERS if not one.read.endswith("*")),
    ("steal_ticks", "stat.steal"),
)
_SUMS = tuple((one.name, one.read[:-1]) for one in PRESSURE_COUNTERS if one.read.endswith("*"))
