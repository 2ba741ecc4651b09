# SPDX-License-Identifier: GPL-2.0-only
"""Captions and text alternatives, from the templates in ``report/captions/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from kdelta.report.context import ReportContext
from kdelta.report.formatting import plural
from kdelta.report.mechanism import ONE_BOOT
from kdelta.report.metrics import FIGURE_KINDS, MAIN_METRICS, MECHANISM_FIGURES
from kdelta.report.tables import DeltaTable
from kdelta.report.templating import CAPTIONS
from kdelta.report.view import View
from kdelta.report.wording import acceleration_label

_TITLES = {
    "heatmap": "heat map",
    "blocks": "block by block",
    "mechanism-pages": "Pages allocated before and under the lock",
    "mechanism-wait": "Wait for the lock",
}


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
        """Every figure of the deltas, in the order shown."""
        return tuple(
            FigureEntry(
                stem=f"{kind}-{metric.name}",
                title=f"{metric.title}, {_TITLES[kind]}",
                caption=self._fill(f"{kind}.txt.j2", metric=metric),
                alternative=self._fill(f"{kind}-alternative.txt.j2", metric=metric),
            )
            for kind in FIGURE_KINDS
            for metric in MAIN_METRICS
        )

    def mechanism_figures(self) -> tuple[FigureEntry, ...]:
        """The figures of the traced boots; none where there were none."""
        if self._view.mechanism is None:
            return ()
        return tuple(
            FigureEntry(
                stem=stem,
                title=_TITLES[stem],
                caption=self._fill(f"{stem}.txt.j2", one_boot=ONE_BOOT),
                alternative=self._fill(f"{stem}-alternative.txt.j2"),
            )
            for stem in MECHANISM_FIGURES
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
