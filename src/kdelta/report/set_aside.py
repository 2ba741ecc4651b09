# SPDX-License-Identifier: GPL-2.0-only
"""Samples set aside: how many, for which rules, and what the results are with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, Regime, ReportContext
from kdelta.report.formatting import (
    Row,
    cell_heads,
    cell_labels,
    plural,
)
from kdelta.report.frames import number, select
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label, confidence_label, effect_words
from kdelta.report.tables import Precision

_FIXED = ("boots", "boots_failed", "samples", "set_aside")
_HEADS = ("boots", "boots failed", "samples", "set aside")


@dataclass(frozen=True)
class SetAside:
    """Counts of samples, and both analyses side by side where any was set aside.

    ``overall`` and ``changed`` are empty grids where no second analysis was made.
    """

    total: int
    samples: int
    counts: Grid
    overall: Grid
    changed: Grid
    changed_sentence: str

    @property
    def any(self) -> bool:
        """Whether any sample was set aside."""
        return self.total > 0


def set_aside(run: Results, precision: Precision) -> SetAside:
    """Count per regime and arm, in the order of the run, and compare both analyses."""
    changed, cells, compared = _changed(run)
    return SetAside(
        total=int(run.frames.set_aside["set_aside"].sum()),
        samples=int(run.frames.set_aside["samples"].sum()),
        counts=_counts(run),
        overall=_overall(run, precision),
        changed=changed,
        changed_sentence=(
            f"{_overall_changes(run)} The verdict on the {run.primary.short} "
            f"of {cells} of {plural(compared, 'cell')} differs between the two analyses."
            if compared
            else ""
        ),
    )


def _counts(run: Results) -> Grid:
    table = run.frames.set_aside
    groups = tuple(
        Group(
            regime.title,
            tuple(
                (arm.name, *(str(int(number(row[c]))) for c in (*_FIXED, *run.frames.rules)))
                for arm in run.arms
                for row in select(table, regime=regime.name, arm=arm.name).to_dict("records")
            ),
        )
        for regime in run.regimes
    )
    return Grid(
        "Boots and samples planned, boots that failed, samples set aside and the rules they broke. "
        "A sample that breaks several rules is counted under each of them.",
        ("arm", *_HEADS, *run.frames.rules),
        groups,
    )


def _both(run: Results) -> Iterator[tuple[Regime, Arm, Row, Row]]:
    """Every overall effect of the second analysis, behind that of the first."""
    second = run.with_tables(overall=run.frames.overall_all)
    for regime in run.regimes:
        for arm in run.compared:
            kept, every = (one.overall(regime, arm) for one in (run, second))
            if every is not None:
                yield regime, arm, {} if kept is None else kept.to_dict(), every.to_dict()


def _overall(run: Results, precision: Precision) -> Grid:
    rows: dict[Regime, list[tuple[str, ...]]] = {}
    for regime, arm, *results in _both(run):
        words = (w for r in results for w in (effect_words(r, precision.percent), _verdict(r)))
        rows.setdefault(regime, []).append((arm.name, *words))
    return Grid(
        f"Overall effect on {run.primary.short} [{confidence_label(run)} interval "
        f"over at most {plural(run.blocks, 'block')}], without and with the samples that "
        f"were set aside; acceleration: {acceleration_label(run)}.",
        ("arm", "without", "verdict", "with all", "verdict"),
        tuple(Group(regime.title, tuple(found)) for regime, found in rows.items()),
        statuses=frozenset({2, 4}),
    )


def _overall_changes(run: Results) -> str:
    """Which answers the samples that were set aside would turn: the first thing to look for."""
    results = both_verdicts(run)
    turned = [
        f"{arm.name}, {regime.title} ({without} without, {every} with them)"
        for regime, arm, without, every in results
        if without != every
    ]
    which = f": {'; '.join(turned)}" if turned else ""
    return (
        f"The overall verdict differs in {len(turned)} of {plural(len(results), 'result')}{which}."
    )


def both_verdicts(run: Results) -> list[tuple[Regime, Arm, str, str]]:
    """Every answer of the second analysis: its verdict without the samples set aside, and with."""
    return [
        (regime, arm, _verdict(without), _verdict(every))
        for regime, arm, without, every in _both(run)
    ]


def _changed(run: Results) -> tuple[Grid, int, int]:
    """The cells with another verdict, one row per change; how many these are, and of how many."""
    key = ["regime", "arm", *run.frames.factors]
    tables = [
        t[t["metric"] == run.primary.name] for t in (run.frames.deltas, run.frames.deltas_all)
    ]
    both = tables[0].merge(tables[1], on=key, suffixes=("", "_all"))
    differ = both[both["verdict"] != both["verdict_all"]]
    groups = []
    for regime in run.regimes:
        rows = []
        for arm in run.compared:
            of_arm = both[(both["regime"] == regime.name) & (both["arm"] == arm.name)]
            part = differ[differ.index.isin(of_arm.index)]
            for (without, every), cells in part.groupby(["verdict", "verdict_all"], sort=False):
                which = "all cells"
                if len(cells) < len(of_arm):
                    which = _cells(run, cells)
                count = f"{len(cells)} of {len(of_arm)}"
                rows.append((arm.name, str(without), str(every), count, which))
        groups.append(Group(regime.title, tuple(rows)))
    names = " / ".join(cell_heads(run))
    grid = Grid(
        f"Cells whose verdict on the {run.primary.short} differs, without and with the "
        "samples that were set aside.",
        ("arm", "without", "with all", "cells", names),
        tuple(group for group in groups if group.rows),
        prose=frozenset({4}),
        statuses=frozenset({1, 2}),
    )
    return grid, len(differ), len(both)


def _cells(context: ReportContext, cells: pd.DataFrame) -> str:
    return ", ".join("/".join(cell_labels(context, row)) for row in cells.to_dict("records"))


def _verdict(row: Row) -> str:
    return str(row.get("verdict") or "none")
