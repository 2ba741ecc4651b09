# SPDX-License-Identifier: GPL-2.0-only
"""tables/mechanism.csv: where pages were allocated and who waited for the lock.

Of probe `pipe-allocation`, and what the traced boots lack, whichever their probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from kdelta.analysis.boots import cell_key
from kdelta.analysis.mechanism_records import Allocation, Contention, MechanismArm, MechanismSample
from kdelta.analysis.records import Cell
from kdelta.analysis.rules import one_line
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of

PROBE = "pipe-allocation"


def mechanism_frame(arms: Sequence[MechanismArm], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per regime, arm and cell that any arm of the regime traced with this probe.

    A cell that an arm's boot has no record of is a failed one. Columns of
    tables/mechanism.csv; a ratio whose divisor is 0 is missing.

    Args:
        arms: in display order.
        settings: names of the factors.
    """
    rows = traced_rows(arms, PROBE, settings, lambda sample: [_columns(sample)])
    return frame_of("tables/mechanism.csv", rows, settings.factors)


def traced_rows(
    arms: Sequence[MechanismArm],
    probe: str,
    settings: AnalysisSettings,
    rows_of: Callable[[MechanismSample | None], Iterable[Mapping[str, object]]],
) -> Iterator[dict[str, object]]:
    """The rows of a probe's table, each with its arm and cell.

    Args:
        arms: in display order.
        probe: its name.
        settings: names of the factors.
        rows_of: what is to be said of a cell; None of one that an arm has no record of.
    """
    for arm in arms:
        for cell in traced_cells(arms, arm.regime, probe):
            levels = dict(zip(settings.factors, cell, strict=True))
            for row in rows_of(arm.samples.get(cell)):
                yield {"regime": arm.regime, "arm": arm.arm, **levels, **row}


def traced_cells(arms: Sequence[MechanismArm], regime: str, probe: str) -> list[Cell]:
    """The cells of a regime that any arm has a record of a probe of, in order."""
    found = {
        cell
        for arm in arms
        if arm.regime == regime
        for cell, sample in arm.samples.items()
        if probe in sample.probes
    }
    return sorted(found, key=cell_key)


def mechanism_notes(arms: Sequence[MechanismArm]) -> Iterator[str]:
    """Whole sentences on what the traced boots lack."""
    for arm in arms:
        place = f"Mechanism boot of {arm.regime}, arm {arm.arm}"
        if arm.gate is not None and not arm.gate.ok:
            yield f"{place}: the guest was not the one asked for: {'; '.join(arm.gate.failures)}."
        elif arm.end is None:
            yield f"{place}: it did not reach its end."
        elif not arm.end.ok:
            why = " ".join((arm.end.error or "no reason was recorded").split()).rstrip(".")
            yield f"{place}: it failed: {why}."
        failed = [sample for sample in arm.samples.values() if sample.status == "failed"]
        if failed:
            why = one_line(failed[0].error or "no reason was recorded")
            yield f"{place}: {len(failed)} of {len(arm.samples)} cells failed; first: {why}."
        lost = sum(
            (_lost(sample) or 0) + (sample.locks.lost_events if sample.locks else 0)
            for sample in arm.samples.values()
        )
        if lost:
            yield f"{place}: {lost} trace events were lost, so its counts are too low."
        if arm.splats:
            first = arm.splats[0]
            yield f"{place}: its console shows, in line {first.line_number}: {first.text}."


def _columns(sample: MechanismSample | None) -> dict[str, object]:
    if sample is None:
        return {"status": "failed"}
    return {
        "status": "failed" if sample.failure(PROBE) else "ok",
        **(_allocation_columns(sample.allocation) if sample.allocation else {}),
        **(_contention_columns(sample.contention) if sample.contention else {}),
        "lost_events": _lost(sample),
    }


def _allocation_columns(seen: Allocation) -> dict[str, object]:
    return {
        "writes": seen.writes,
        "pages_before_lock_per_write": _per(seen.pages_before_lock, seen.writes),
        "pages_under_lock_per_write": _per(seen.pages_under_lock, seen.writes),
        "bulk_calls": seen.bulk_calls,
        "bulk_pages_requested_per_call": _per(seen.bulk_pages_requested, seen.bulk_calls),
        "bulk_pages_per_call": _per(seen.bulk_pages, seen.bulk_calls),
        "reclaims_before_lock": seen.reclaims_before_lock,
        "reclaims_under_lock": seen.reclaims_under_lock,
    }


def _contention_columns(seen: Contention) -> dict[str, object]:
    return {
        "contention_writes": seen.writes,
        "waits_per_write": _per(seen.waits, seen.writes),
        "wait_us_per_write": _per(seen.wait_ns_total / 1e3, seen.writes),
        "wait_mean_us": _us(seen.wait_ns_mean),
        "wait_p50_us": _us(seen.wait_ns_p50),
        "wait_p99_us": _us(seen.wait_ns_p99),
        "wait_max_us": _us(seen.wait_ns_max),
    }


def _lost(sample: MechanismSample) -> int | None:
    runs = [run.lost_events for run in (sample.allocation, sample.contention) if run is not None]
    return sum(runs) if runs else None


def _per(amount: float, number: int) -> float | None:
    return amount / number if number else None


def _us(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e3
