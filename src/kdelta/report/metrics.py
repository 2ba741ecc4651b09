# SPDX-License-Identifier: GPL-2.0-only
"""Names, units and directions of the metrics, as a reader sees them, and the list of figures."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """A column of the results.

    ``higher_is_better`` decides which sign of a delta is good news.
    """

    name: str
    title: str
    short: str
    unit: str
    higher_is_better: bool


THROUGHPUT = Metric("throughput_mib_s", "Throughput", "throughput", "MiB/s", True)
LATENCY_MEAN = Metric("latency_mean_ns", "Mean write latency", "mean write latency", "ns", False)
LATENCY_P50 = Metric("latency_p50_ns", "Median write latency", "median write latency", "ns", False)
LATENCY_P99 = Metric(
    "latency_p99_ns", "99th percentile of write latency", "p99 write latency", "ns", False
)

PRIMARY = THROUGHPUT
MAIN_METRICS = (THROUGHPUT, LATENCY_MEAN)
"""Shown in full everywhere, with heat maps."""
DETAIL_METRICS = (LATENCY_P50, LATENCY_P99)
"""Shown on the page only, folded."""


class FigureName(NamedTuple):
    """A figure: its file name without suffix, its title, the template of its caption."""

    stem: str
    title: str
    template: str
    metric: Metric = PRIMARY


FIGURES = (
    *(
        FigureName(f"heatmap-{metric.name}", f"{metric.title}, heat map", "heatmap", metric)
        for metric in MAIN_METRICS
    ),
    FigureName("forest", f"{PRIMARY.title}, cell by cell", "forest"),
    FigureName("drift", f"{PRIMARY.title}, block by block", "drift"),
    FigureName("latency", "Distribution of write latency", "latency"),
    FigureName("pressure", "Memory pressure", "pressure"),
)
"""Every figure that a run always has, in the order shown."""
MECHANISM_FIGURES = (
    FigureName("mechanism-pages", "Pages allocated before and under the lock", "mechanism-pages"),
    FigureName("mechanism-wait", "Wait for the lock", "mechanism-wait"),
)
"""The figures of the traced boots."""


def figure_stems(mechanism: bool = False) -> tuple[str, ...]:
    """The file names, without suffix, of every figure of a report, in the order shown.

    Args:
        mechanism: Whether the run has mechanism boots, which are drawn too.
    """
    return tuple(figure.stem for figure in FIGURES + (MECHANISM_FIGURES if mechanism else ()))
