# SPDX-License-Identifier: GPL-2.0-only
"""Names, units and directions of the metrics, as a reader sees them."""

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
"""Shown in full everywhere, with figures."""
DETAIL_METRICS = (LATENCY_P50, LATENCY_P99)
"""Shown on the page only, folded."""

FIGURE_KINDS = ("heatmap", "blocks")


MECHANISM_FIGURES = ("mechanism-pages", "mechanism-wait")


def figure_stems(mechanism: bool = False) -> tuple[str, ...]:
    """The file names, without suffix, of every figure of a report, in the order shown.

    Args:
        mechanism: Whether the run has mechanism boots, which are drawn too.
    """
    stems = tuple(f"{kind}-{metric.name}" for kind in FIGURE_KINDS for metric in MAIN_METRICS)
    return stems + (MECHANISM_FIGURES if mechanism else ())
