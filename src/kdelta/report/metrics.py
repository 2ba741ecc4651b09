# SPDX-License-Identifier: GPL-2.0-only
"""The metrics of a run's workload as a reader sees them, and the list of figures."""

from __future__ import annotations

from typing import NamedTuple

from kdelta.workload.declaration import Workload


class Metric(NamedTuple):
    """A column of the results.

    ``higher_is_better`` decides which sign of a delta is good news. ``main`` ones are shown in
    full everywhere, with heat maps, the others on the page only, folded. ``slug`` stands for it
    in names of files and macros.
    """

    name: str
    title: str
    short: str
    unit: str
    higher_is_better: bool
    main: bool = True
    slug: str = ""
    remark: str = ""


def metrics_of(workload: Workload) -> tuple[Metric, ...]:
    """A workload's metrics, the primary one first."""
    order = sorted(workload.metrics, key=lambda name: name != workload.primary)
    return tuple(
        Metric(
            name=name,
            title=metric.title,
            short=metric.short or metric.title[0].lower() + metric.title[1:],
            unit=metric.unit,
            higher_is_better=metric.better == "higher",
            main=metric.shown == "main",
            slug=metric.slug or name.replace("_", "-"),
            remark=metric.remark,
        )
        for name, metric in ((name, workload.metrics[name]) for name in order)
    )


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
