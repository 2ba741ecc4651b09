# SPDX-License-Identifier: GPL-2.0-only
"""What the traced boots saw: where pages are allocated, and who waits for the lock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdelta.report.context import Arm, Regime
from kdelta.report.formatting import (
    cell_heads,
    cell_labels,
    format_quantity,
    format_share,
    format_spread,
    join_words,
    level_label,
    plural,
)
from kdelta.report.frames import ReportFrames, number
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label

BEFORE, UNDER = "pages_before_lock_per_write", "pages_under_lock_per_write"
WAIT = "wait_us_per_write"
# What a write needs pages for: over several sizes a mean over cells means little.
SIZE_FACTOR = "write_size"
ONE_BOOT = "one traced boot per arm, no interval, not a measurement of speed"
# Beyond this share of pages the few that go the other way (the first write of a pipe, a
# reservation that fell short) do not change the story.
_NEARLY_ALL = 0.95

_PAGES = (
    (BEFORE, "pages before the lock per write"),
    (UNDER, "pages under the lock per write"),
    ("bulk_pages_requested_per_call", "bulk pages asked per call"),
    ("bulk_pages_per_call", "bulk pages returned per call"),
    ("reclaims_before_lock", "reclaims before the lock"),
    ("reclaims_under_lock", "reclaims under the lock"),
)
_WAITS = (
    ("waits_per_write", "waits per write"),
    (WAIT, "wait per write (µs)"),
    ("wait_p99_us", "p99 of a wait (µs)"),
)


@dataclass(frozen=True)
class MechanismPart:
    """The mechanism as all outputs show it; ``cells`` is for the page."""

    sentences: tuple[tuple[Regime, tuple[str, ...]], ...]
    problems: tuple[str, ...]
    pages: Grid
    waits: Grid
    cells: tuple[Grid, ...]


def mechanism(run: Results) -> MechanismPart | None:
    """Tables and sentences of the traced boots; None where there were none."""
    if run.frames.mechanism.empty:
        return None
    traced = traced_regimes(run)
    return MechanismPart(
        sentences=tuple(
            (regime, (*_place(run, regime), *_waiting(run, regime))) for regime in traced
        ),
        problems=_problems(run),
        pages=Grid(
            "Where a write's pages are allocated: median over cells (lowest to highest), one "
            f"traced boot per arm; acceleration: {acceleration_label(run)}. Reclaims are "
            "direct reclaims that the writer entered, over the whole trace of a cell.",
            ("arm", "share before the lock", *(title for _, title in _PAGES)),
            _groups(run, traced, _page_row),
        ),
        waits=Grid(
            f"Waiting for pipe->mutex: median over cells (lowest to highest), {ONE_BOOT}; "
            f"acceleration: {acceleration_label(run)}.",
            (
                "arm",
                *(title for _, title in _WAITS),
                f"wait per write against {run.baseline}",
            ),
            _groups(run, traced, _wait_row),
        ),
        cells=tuple(_cells(run, regime) for regime in traced),
    )


def traced_regimes(run: Results) -> list[Regime]:
    """The regimes of which there are traces, timed or not."""
    return [r for r in run.traced_regimes if not mechanism_rows(run.frames, r).empty]


def mechanism_rows(frames: ReportFrames, regime: Regime, arm: str | None = None) -> pd.DataFrame:
    """The rows of a regime, of one arm or of all."""
    rows = frames.mechanism[frames.mechanism["regime"] == regime.name]
    return rows if arm is None else rows[rows["arm"] == arm]


def share_before(rows: pd.DataFrame) -> float:
    """Share of the traced pages that were allocated before the lock; NaN without any page."""
    writes = pd.to_numeric(rows["writes"])
    before, under = (float((pd.to_numeric(rows[c]) * writes).sum()) for c in (BEFORE, UNDER))
    return before / (before + under) if before + under > 0 else math.nan


def wait_ratios(rows: pd.DataFrame, baseline: pd.DataFrame, factors: list[str]) -> list[float]:
    """Wait per write over the baseline's, per cell; cells in which the baseline never waits out."""
    pairs = rows.merge(baseline, on=factors, suffixes=("", "_base"))
    waits, base = (pd.to_numeric(pairs[c]) for c in (WAIT, f"{WAIT}_base"))
    ratios = (waits / base.where(base > 0)).to_numpy(dtype=float)
    return [float(ratio) for ratio in ratios[np.isfinite(ratios)]]


def _place(run: Results, regime: Regime) -> list[str]:
    shares = [(a, share_before(mechanism_rows(run.frames, regime, a.name))) for a in run.arms]
    known = [(arm, share) for arm, share in shares if math.isfinite(share)]
    if not known:
        return ["No page was seen to be allocated by a writer."]
    words = join_words(f"{arm.name} {format_share(share)}" for arm, share in known)
    found = [f"Share of pages allocated before the lock: {words}."]
    for arm, share in known:
        if arm in run.treatments:
            sizes = _by_size(run, regime, arm)
            found.append(f"{arm.name}: allocation {_left(share)}{sizes}.")
    return found


def _left(share: float) -> str:
    if share >= _NEARLY_ALL:
        return "left the critical section"
    if share <= 1 - _NEARLY_ALL:
        return "did not leave the critical section"
    return f"left the critical section in part, {format_share(1 - share)} of the pages are under it"


def _by_size(run: Results, regime: Regime, arm: Arm) -> str:
    """The share before the lock by write size, where that is a factor: it decides on it."""
    if SIZE_FACTOR not in run.frames.factors:
        return ""
    factor = run.factor(SIZE_FACTOR)
    rows = mechanism_rows(run.frames, regime, arm.name)
    shares = (
        (level_label(factor, level), share_before(rows[rows[SIZE_FACTOR] == level]))
        for level in run.levels(SIZE_FACTOR)
    )
    words = (f"{label} {format_share(share)}" for label, share in shares if math.isfinite(share))
    return f"; before the lock by {factor.title}: {', '.join(words)}"


def _waiting(run: Results, regime: Regime) -> list[str]:
    words = []
    for arm in run.compared:
        ratios = _ratios_of(run, regime, arm)
        if ratios:
            words.append(
                f"{arm.name} {format_spread(ratios)}, below 1 in {sum(r < 1 for r in ratios)} of "
                f"{plural(len(ratios), 'cell')}"
            )
    if not words:
        return []
    return [
        f"Wait for pipe->mutex per write, as a multiple of {run.baseline}'s (median over "
        f"cells, lowest to highest): {'; '.join(words)} ({ONE_BOOT})."
    ]


def _ratios_of(run: Results, regime: Regime, arm: Arm) -> list[float]:
    base = mechanism_rows(run.frames, regime, run.baseline)
    return wait_ratios(mechanism_rows(run.frames, regime, arm.name), base, list(run.frames.factors))


def _problems(run: Results) -> tuple[str, ...]:
    found = []
    for regime in run.regimes:
        for arm in run.arms:
            rows = mechanism_rows(run.frames, regime, arm.name)
            lost = pd.to_numeric(rows["lost_events"]).fillna(0)
            if lost.sum() > 0:
                found.append(
                    f"{regime.title}, {arm.name}: the trace buffer lost {int(lost.sum())} events "
                    f"in {int((lost > 0).sum())} of {plural(len(rows), 'cell')}: these counts are "
                    "too low."
                )
            failed = int((rows["status"] == "failed").sum())
            if failed:
                found.append(
                    f"{regime.title}, {arm.name}: the trace failed in {failed} of "
                    f"{plural(len(rows), 'cell')}."
                )
    return tuple(found)


_MakeRow = Callable[[Results, Regime, Arm], tuple[str, ...]]


def _groups(run: Results, regimes: list[Regime], make: _MakeRow) -> tuple[Group, ...]:
    return tuple(
        Group(
            regime.title,
            tuple(
                make(run, regime, arm)
                for arm in run.arms
                if not mechanism_rows(run.frames, regime, arm.name).empty
            ),
        )
        for regime in regimes
    )


def _page_row(run: Results, regime: Regime, arm: Arm) -> tuple[str, ...]:
    rows = mechanism_rows(run.frames, regime, arm.name)
    share = format_share(share_before(rows))
    return (arm.name, share, *(format_spread(pd.to_numeric(rows[c])) for c, _ in _PAGES))


def _wait_row(run: Results, regime: Regime, arm: Arm) -> tuple[str, ...]:
    rows = mechanism_rows(run.frames, regime, arm.name)
    ratio = "1"
    if arm.name != run.baseline:
        ratio = format_spread(_ratios_of(run, regime, arm))
    return (arm.name, *(format_spread(pd.to_numeric(rows[c])) for c, _ in _WAITS), ratio)


def _cells(run: Results, regime: Regime) -> Grid:
    columns = (*_PAGES, *_WAITS, ("lost_events", "lost events"))
    groups = tuple(
        Group(
            arm.name,
            tuple(
                (
                    *cell_labels(run, row),
                    *(format_quantity(number(row[c])) for c, _ in columns),
                )
                for row in mechanism_rows(run.frames, regime, arm.name).to_dict("records")
            ),
        )
        for arm in run.arms
    )
    return Grid(
        f"Mechanism in {regime.title}, per arm and cell, one traced boot per arm; acceleration: "
        f"{acceleration_label(run)}.",
        (*cell_heads(run), *(title for _, title in columns)),
        tuple(group for group in groups if group.rows),
        labels=len(run.factors),
    )
