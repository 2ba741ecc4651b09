# SPDX-License-Identifier: GPL-2.0-only
"""The locks of the kernel that were waited for longest: described, never judged."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, Regime, ReportContext
from kdelta.report.formatting import format_quantity, format_spread, plural
from kdelta.report.frames import number
from kdelta.report.grid import Grid, Group, Row
from kdelta.report.mechanism import ONE_BOOT
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label

HEAVIEST = 10
"""Locks that are shown of a regime; all are in tables/locks.csv."""

_SHARE, _PER_OPERATION = "wait_share", "wait_us_per_operation"
_LOCK = ["lock", "caller"]


@dataclass(frozen=True)
class LockPart:
    """Waits for locks as all outputs show them.

    Attributes:
        sentences: of each regime in which nobody waited.
        problems: what the traces lack.
        heaviest: a row per lock, a group per regime.
    """

    sentences: tuple[str, ...]
    problems: tuple[str, ...]
    heaviest: Grid


def lock_contention(run: Results) -> LockPart | None:
    """What the traced boots saw; None where nothing was traced for it."""
    table = run.frames.locks
    if table.empty:
        return None
    good = table[table["status"] == "ok"]
    # Of arms that do not do the same work in the same time, the time per operation is the wait
    # that can be compared; not every workload counts operations.
    column = _PER_OPERATION if good[_PER_OPERATION].notna().any() else _SHARE
    of_regime = {r: good[good["regime"] == r.name] for r in run.traced_regimes}
    groups = tuple(
        Group(regime.title, _rows(rows, run, list(run.frames.factors), column))
        for regime, rows in of_regime.items()
    )
    what = "µs waited per operation" if column == _PER_OPERATION else "% of the traced time"
    return LockPart(
        sentences=tuple(
            f"{regime.title}: no task of the workload waited for a lock."
            for (regime, rows), group in zip(of_regime.items(), groups, strict=True)
            if not rows.empty and not group.rows
        ),
        problems=_problems(table, run),
        heaviest=Grid(
            f"The locks that the workload's tasks waited for longest, at most {HEAVIEST} a regime, "
            f"by the function that wanted them: {what}, all tasks together, median over cells "
            f"(lowest to highest); waits per second in {run.baseline}. {ONE_BOOT.capitalize()}:"
            " they explain, and prove nothing. All are in tables/locks.csv; acceleration: "
            f"{acceleration_label(run)}.",
            ("function", "lock", "waits/s", *(arm.name for arm in run.arms)),
            tuple(group for group in groups if group.rows),
            labels=2,
        ),
    )


def _rows(
    rows: pd.DataFrame, context: ReportContext, factors: list[str], column: str
) -> tuple[Row, ...]:
    """The heaviest locks of a regime: by the arm in which their share of the time is largest."""
    cells = {arm.name: _cells(rows, arm, factors) for arm in context.arms}
    waited = rows[pd.to_numeric(rows["waits"]) > 0]
    total = waited.assign(share=pd.to_numeric(waited[_SHARE]))
    by_arm = total.groupby([*_LOCK, "arm"])["share"].sum().reset_index()
    by_arm["share"] /= by_arm["arm"].map(lambda name: max(len(cells.get(name, ())), 1))
    ranked = by_arm.groupby(_LOCK)["share"].max().reset_index()
    ranked = ranked.sort_values(["share", *_LOCK], ascending=[False, True, True])[:HEAVIEST]
    found = []
    for lock, caller in ranked[_LOCK].itertuples(index=False):
        ours = waited[(waited["lock"] == lock) & (waited["caller"] == caller)]

        def values(arm: str, name: str, ours: pd.DataFrame = ours) -> list[float]:
            """Of each cell that the arm traced; a cell in which nobody waited has 0."""
            mine = ours[ours["arm"] == arm]
            there = {
                tuple(str(row[f]) for f in factors): number(row[name])
                for row in mine.to_dict("records")
            }
            return [there.get(cell, 0.0) for cell in cells[arm]]

        scale = 100 if column == _SHARE else 1
        found.append(
            (
                str(caller),
                str(lock),
                format_quantity(_median(values(context.baseline, "waits_per_s"))),
                *(format_spread(scale * v for v in values(a.name, column)) for a in context.arms),
            )
        )
    return tuple(found)


def _cells(rows: pd.DataFrame, arm: Arm, factors: list[str]) -> list[tuple[str, ...]]:
    """The cells that an arm has been traced in."""
    mine = rows[rows["arm"] == arm.name]
    return list(dict.fromkeys(tuple(str(v) for v in row) for row in mine[factors].to_numpy()))


def _median(values: list[float]) -> float:
    return float(pd.Series(values, dtype=float).median())


def _problems(table: pd.DataFrame, context: ReportContext) -> tuple[str, ...]:
    found = []
    for regime in context.traced_regimes:
        for arm in context.arms:
            rows = table[(table["regime"] == regime.name) & (table["arm"] == arm.name)]
            found += _lacks(rows, regime, arm)
    return tuple(found)


def _lacks(rows: pd.DataFrame, regime: Regime, arm: Arm) -> list[str]:
    found = []
    failed = rows[rows["status"] == "failed"]
    if not failed.empty:
        why = str(failed["reason"].iloc[0]).rstrip(".")
        found.append(
            f"{regime.title}, {arm.name}: the locks of {plural(len(failed), 'cell')} are not "
            f"known: {why}."
        )
    # Every row of a cell has the cell's number.
    lossy = rows[pd.to_numeric(rows["lost_events"]).fillna(0) > 0]
    if not lossy.empty:
        found.append(
            f"{regime.title}, {arm.name}: the trace buffer was full before the end of a cell; "
            "what was waited for until then counts, without a time per operation."
        )
    return found
