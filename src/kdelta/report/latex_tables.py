# SPDX-License-Identifier: GPL-2.0-only
r"""Tables that an author's own paper takes in with ``\input``: one bare ``tabular`` per file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kdelta.report.captions import Captions
from kdelta.report.context import ReportContext
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label, confidence_label, effect, noise_floor
from kdelta.report.tables import VERDICT_MARKS, Cell, DeltaTable
from kdelta.report.view import MetricTables, View

SIGNS = {"-": "\N{MINUS SIGN}", "x": "\N{MULTIPLICATION SIGN}"}
"""Marks of verdicts that paper sets finer than text."""
_MIN_NOTE = 45
_MAX_NOTE = 110


@dataclass(frozen=True)
class Piece:
    """One table with its notes; either ``table`` or ``grid`` is there.

    Attributes:
        name: of the file, without ``.tex``.
        caption: what the paper has as the table's caption; a comment at the file's top.
        notes: lines under the table, so that n, interval and acceleration go wherever it goes.
        packages: LaTeX packages that it needs.
    """

    name: str
    caption: str
    notes: tuple[str, ...]
    table: DeltaTable | None = None
    grid: Grid | None = None
    packages: tuple[str, ...] = field(default=("booktabs",))

    @property
    def columns(self) -> int:
        """Of the tabular."""
        if self.table is not None:
            return len(self.table.columns) + 1
        return len(self.grid.head) if self.grid is not None else 0


def pieces(run: Results, view: View, captions: Captions) -> tuple[Piece, ...]:
    """Every table of the report, each under a name of its own."""
    found: list[Piece] = []
    for section in view.sections:
        for group in (*section.main, *section.details):
            found += _deltas(run, group, captions)
        found += _grid(run, f"pressure-{section.regime.name}", section.pressure.arms)
    found += _grid(run, "overall", overall_grid(run))
    found += _grid(run, "set-aside", view.set_aside.counts)
    if view.costs is not None:
        found += _grid(run, "costs", view.costs.totals)
        found += _grid(run, "costs-symbols", view.costs.symbols)
        found += _grid(run, "costs-stack", view.costs.stack)
    if view.mechanism is not None:
        found += _grid(run, "mechanism-pages", view.mechanism.pages)
        found += _grid(run, "mechanism-waits", view.mechanism.waits)
    if view.locks is not None:
        found += _grid(run, "lock-contention", view.locks.heaviest)
    if view.claims is not None:
        found += _grid(run, "claims", view.claims.cells)
    return tuple(_distinct(found))


def overall_grid(run: Results) -> Grid:
    """The overall effect of every arm in every regime."""
    groups = []
    for regime in run.regimes:
        rows = []
        for arm in run.compared:
            for metric in run.main_metrics:
                row = run.overall(regime, arm, metric)
                if row is None:
                    continue
                counts = (str(int(float(row[c]))) for c in ("cells", "blocks"))
                floor = noise_floor(run, regime, metric) or "unknown"
                result = (" ".join(effect(row)), floor.split()[-1], str(row["verdict"]) or "none")
                rows.append((arm.name, metric.short, *result, *counts))
        groups.append(Group(regime.title, tuple(rows)))
    return Grid(
        f"Overall change against {run.baseline}, geometric mean over cells, with its "
        f"{confidence_label(run)} interval over blocks.",
        ("arm", "metric", "change", "noise floor", "verdict", "cells", "blocks"),
        tuple(groups),
        labels=2,
        statuses=frozenset({4}),
    )


def _deltas(context: ReportContext, group: MetricTables, captions: Captions) -> Iterator[Piece]:
    for arm in group.arms:
        for table in arm.tables:
            caption = captions.table(table)
            used = {cell.verdict for cell in table.cells}
            marks = [
                f"{SIGNS.get(m, m)} {verdict}"
                for verdict, m in VERDICT_MARKS.items()
                if verdict in used
            ]
            if any(cell.short_of_blocks for cell in table.cells):
                marks.append("* fewer blocks than planned")
            text = caption + (f" Marks: {', '.join(marks)}." if marks else "")
            width = len(table.row_factor.title) + sum(map(_width, zip(*table.rows, strict=True)))
            yield Piece(
                f"delta-{table.regime.name}-{group.metric.slug}-{table.arm.name}",
                caption,
                _wrap(text, width),
                table=table,
            )


def _width(cells: tuple[Cell, ...]) -> int:
    """Letters of a column of cells: above the values, below the change with its interval."""
    return 2 + max(
        max(len(c.baseline) + len(c.value) + 3, len(c.delta) + len(c.interval) + 3) for c in cells
    )


def _grid(context: ReportContext, name: str, grid: Grid) -> Iterator[Piece]:
    if not grid:
        return
    for number, page in enumerate(grid.pages(), start=1):
        text, how = page.caption, acceleration_label(context)
        if f"acceleration: {how}" not in text:
            text += f" Acceleration: {how}."
        heads = (page.head_lines(i) for i in range(len(page.head)))
        widths = [
            max(len(line) for line in (*head, *(row[i] for row in page.rows)))
            for i, head in enumerate(heads)
        ]
        folded = any(page.is_long(i) for i in range(len(page.head)))
        yield Piece(
            name if number == 1 else f"{name}-{number}",
            page.caption,
            _wrap(text, sum(widths) + 2 * len(widths)),
            grid=page,
            packages=("booktabs", "array") if folded else ("booktabs",),
        )


def _wrap(text: str, width: int) -> tuple[str, ...]:
    columns = min(max(width, _MIN_NOTE), _MAX_NOTE)
    return tuple(textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False))


def _distinct(found: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces with a number behind the names that occur twice: one per extra level, say."""
    taken: set[str] = set()
    for piece in found:
        name, number = piece.name, 1
        while name in taken:
            number += 1
            name = f"{piece.name}-{number}"
        taken.add(name)
        yield Piece(**{**piece.__dict__, "name": name})
