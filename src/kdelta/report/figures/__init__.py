# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a report, a module each: here which there are, and in which files.

Nothing here needs a plotting library: text, page and paper refer to figures and draw none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from kdelta.report.context import Metric, metrics_of
from kdelta.workload.declaration import Workload


class FigureName(NamedTuple):
    """A figure: its file name without suffix, its title, the template of its caption."""

    stem: str
    title: str
    template: str
    metric: Metric


def run_figures(metrics: tuple[Metric, ...], distribution: str) -> tuple[FigureName, ...]:
    """Every figure that a run always has, in the order shown.

    Args:
        metrics: the workload's, the primary one first.
        distribution: of what the workload gives a histogram; empty if of nothing.
    """
    primary = metrics[0]
    heatmaps = (
        FigureName(f"heatmap-{metric.name}", f"{metric.title}, heat map", "heatmap", metric)
        for metric in metrics
        if metric.main
    )
    return (
        *heatmaps,
        FigureName("forest", f"{primary.title}, cell by cell", "forest", primary),
        FigureName("drift", f"{primary.title}, block by block", "drift", primary),
        *(
            [FigureName("latency", f"Distribution of {distribution}", "latency", primary)]
            if distribution
            else []
        ),
        FigureName("pressure", "Memory pressure", "pressure", primary),
    )


def mechanism_figures(metrics: tuple[Metric, ...]) -> tuple[FigureName, ...]:
    """The figures of the traced boots."""
    return (
        FigureName(
            "mechanism-pages",
            "Pages allocated before and under the lock",
            "mechanism-pages",
            metrics[0],
        ),
        FigureName("mechanism-wait", "Wait for the lock", "mechanism-wait", metrics[0]),
    )


def figure_stems(workload: Workload, mechanism: bool = False) -> tuple[str, ...]:
    """The file names, without suffix, of every figure of a report, in the order shown.

    Args:
        workload: what was run.
        mechanism: Whether the run has mechanism boots, which are drawn too.
    """
    metrics = metrics_of(workload)
    distribution = workload.distribution.title if workload.distribution else ""
    figures = run_figures(metrics, distribution)
    return tuple(f.stem for f in (*figures, *(mechanism_figures(metrics) if mechanism else ())))


def figure_parts(folder: Path, stem: str) -> list[Path]:
    """``<stem>-1.svg`` and so on, in order; none where the figure fits one page."""
    name = re.compile(re.escape(stem) + r"-(\d+)\.svg")
    found = {
        int(match[1]): path
        for path in folder.glob("*.svg")
        if (match := name.fullmatch(path.name)) is not None
    }
    return [found[number] for number in sorted(found)]
