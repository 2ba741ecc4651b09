# SPDX-License-Identifier: GPL-2.0-only
"""Captions and text alternatives, from the templates in ``report/captions/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from kdelta.report.context import ReportContext
from kdelta.report.figures import FigureName, mechanism_figures, run_figures
from kdelta.report.figures.selection import selection_sentence
from kdelta.report.formatting import plural
from kdelta.report.mechanism import ONE_BOOT
from kdelta.report.sentences import acceleration_label
from kdelta.report.tables import DeltaTable
from kdelta.report.templating import CAPTIONS
from kdelta.report.view import View


@dataclass(frozen=True)
class FigureEntry:
    """A figure as an output refers to it: ``stem`` is its file name without suffix."""

    stem: str
    title: str
    caption: str
    alternative: str


class Captions:
    """Fills the caption templates; the results are plain text, still to be escaped."""

    def __init__(self, assets: Path, view: View) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(assets / CAPTIONS), undefined=jinja2.StrictUndefined
        )
        self._view = view

    def figures(self) -> tuple[FigureEntry, ...]:
        """Every figure but those of the traced boots, in the order shown."""
        context = self._view.context
        return tuple(
            self._entry(name) for name in run_figures(context.metrics, context.distribution)
        )

    def mechanism_figures(self) -> tuple[FigureEntry, ...]:
        """The figures of the traced boots; none where there were none."""
        if self._view.mechanism is None:
            return ()
        figures = mechanism_figures(self._view.context.metrics)
        return tuple(self._entry(name) for name in figures)

    def _entry(self, name: FigureName) -> FigureEntry:
        facts = {
            "metric": name.metric,
            "margin": f"{100 * self._view.context.equivalence_margin:g}%",
            "drawn": _drawn_cells(self._view),
            "one_boot": ONE_BOOT,
        }
        return FigureEntry(
            stem=name.stem,
            title=name.title,
            caption=self._fill(f"{name.template}.txt.j2", **facts),
            alternative=self._fill(f"{name.template}-alternative.txt.j2", **facts),
        )

    def table(self, table: DeltaTable) -> str:
        """The caption of a delta table, with n, interval and acceleration."""
        return self._fill("delta-table.txt.j2", table=table, n=block_range(table))

    def _fill(self, template: str, **values: object) -> str:
        context: ReportContext = self._view.context
        text = self._environment.get_template(template).render(
            context=context,
            view=self._view,
            baseline=context.baseline,
            acceleration=acceleration_label(context),
            **values,
        )
        return " ".join(text.split())


def block_range(table: DeltaTable) -> str:
    """How many blocks the cells of a table rest on: ``4 blocks``, ``2 to 4 blocks``."""
    counts = sorted({cell.blocks for cell in table.cells if cell.measured})
    if not counts:
        return "0 blocks"
    if len(counts) == 1:
        return plural(counts[0], "block")
    return f"{counts[0]} to {counts[-1]} blocks"


def _drawn_cells(view: View) -> str:
    """Which cells the figure of latencies shows, in a sentence; empty if it shows all."""
    tables = next((a.tables for s in view.sections for m in s.main for a in m.arms), ())
    if not tables:
        return ""
    first = tables[0]
    levels = {first.row_factor.name: [row[0].row for row in first.rows if row]}
    if first.column_factor is not None:
        levels[first.column_factor.name] = list(first.columns)
    for table in tables:
        for factor, level in table.extra:
            levels.setdefault(factor.name, [])
            if level not in levels[factor.name]:
                levels[factor.name].append(level)
    return selection_sentence(view.context, levels) if all(levels.values()) else ""
