# SPDX-License-Identifier: GPL-2.0-only
"""Axes: what stands along them, with its unit, and ratios in per cent.

An axis of ratios is logarithmic, so that a gain and its undoing are as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from kdelta.report.context import Factor, Metric, Regime, ReportContext
from kdelta.report.figures.style import arm_styles, marker_size
from kdelta.report.formatting import group_digits, level_label, typeset_minus
from kdelta.report.results import Results
from kdelta.report.tables import INVALID

CHANGE = "change (%)"
ARM = "arm"
REGIME = "regime"
BLOCK = "block number"

Cell = tuple[str, ...]
"""The levels of one cell, in the order of the context's factors."""

_THIN_SPACE = "\N{THIN SPACE}"
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 25, 50)
_UP = (10, 20, 50, 100, 200, 300, 400, 900, 1900, 4900, 9900)
_DOWN = (-10, -20, -30, -50, -60, -75, -80, -90, -95, -98, -99)

Floats = NDArray[np.float64]
T = TypeVar("T")


def tick_number(value: float) -> str:
    """A positive number at a tick, its digits in groups of three."""
    return group_digits(f"{value:.0f}", _THIN_SPACE) if value >= 1000 else f"{value:g}"


def squeeze(text: str, width: int) -> str:
    """At most so many characters: both ends of a longer text, where names differ most often."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def factor_name(factor: Factor) -> str:
    """A factor over its levels; the unit, unless every level carries it (``64 KiB``)."""
    if not factor.unit or factor.unit in ("B", "bytes"):
        return factor.title
    return f"{factor.title} ({factor.unit})"


def cells_name(context: ReportContext) -> str:
    """The factors over cells: ``writers · readers``."""
    return " · ".join(factor_name(factor) for factor in context.factors)


def cell_label(context: ReportContext, cell: Cell) -> str:
    """A cell under ``cells_name``: ``1 · 5``."""
    return " · ".join(level_label(f, v) for f, v in zip(context.factors, cell, strict=True))


def percent_ticks(low: float, high: float, most: int) -> list[float]:
    """Round changes between two ratios, in per cent, evenly spaced where the range allows it.

    Args:
        low: Ratio, positive and below 1.
        high: Ratio, above 1.
        most: As many as fit on the axis, at least 2.

    Returns:
        In ascending order, 0 among them; no two closer than the axis over ``most``.
    """
    gap = math.log(high / low) / most
    for step in _STEPS:
        first, last = (round((end - 1) * 100 / step, 6) for end in (low, high))
        ticks = [
            round(n * step, 1)
            for n in range(math.ceil(first), math.floor(last) + 1)
            if n * step > -100
        ]
        places = np.log1p(np.array(ticks) / 100)
        if len(ticks) >= 2 and np.diff(places).min() >= gap:
            return ticks
    ticks = [0.0]
    for candidates, end in ((_UP, high), (_DOWN, low)):
        before = 0.0
        for tick in candidates:
            place = math.log1p(tick / 100)
            if abs(place - before) >= gap and abs(place) <= abs(math.log(end)):
                ticks.append(float(tick))
                before = place
    return sorted(ticks)


def set_percent_axis(
    axis: Axes, which: Literal["x", "y"], limits: tuple[float, float], most: int
) -> None:
    """Make an axis of ratios logarithmic, with its ticks in per cent.

    Args:
        axis: Its data are ratios.
        which: Of its two axes.
        limits: Smallest and largest ratio shown.
        most: Ticks that fit.
    """
    ticks = percent_ticks(*limits, most)
    labels = [typeset_minus(f"{tick:+g}" if tick else "0") for tick in ticks]
    places = [1 + tick / 100 for tick in ticks]
    if which == "x":
        axis.set_xscale("log")
        axis.set_xlim(*limits)
        axis.set_xticks(places, labels)
        axis.set_xticks([], minor=True)
    else:
        axis.set_yscale("log")
        axis.set_ylim(*limits)
        axis.set_yticks(places, labels)
        axis.set_yticks([], minor=True)


def ratio_limits(
    run: Results,
    metric: Metric,
    regimes: Sequence[Regime] | None = None,
) -> tuple[float, float]:
    """Limits that show every block's ratio, the 1, and intervals up to twice the ratios' span.

    An interval from three blocks can be many times as wide as its ratios are apart; drawn in
    full it would flatten everything else, so it leaves the panel instead.

    Args:
        run: Tables and facts.
        metric: Whose ratios.
        regimes: Which of them are to fit; None for all.
    """
    ratios = _rows(run.frames.ratios, run, metric, regimes)
    deltas = _rows(run.frames.deltas, run, metric, regimes)
    drawn = deltas[deltas["verdict"] != INVALID]
    points = _logs(ratios["ratio"])
    ends = np.concatenate([_logs(drawn["ratio_low"]), _logs(drawn["ratio_high"])])
    low, high = points.min(initial=0.0), points.max(initial=0.0)
    span = max(high - low, 0.02)
    ends = ends[(ends > low - span / 2) & (ends < high + span / 2)]
    low, high = ends.min(initial=low), ends.max(initial=high)
    pad = 0.05 * max(high - low, 0.02)
    return math.exp(low - pad), math.exp(high + pad)


def paged(
    items: Sequence[T], page_height: float | None, title: float, line: float, across: int = 1
) -> list[Sequence[T]]:
    """The items of a figure page by page; a single line of them may exceed a page.

    Args:
        items: At least one.
        page_height: Inches that a page may take; None for one page with everything.
        title: Inches that are taken before the first line.
        line: Inches of a line.
        across: Items in a line.
    """
    count = len(items)
    if page_height is not None:
        count = across * max(1, int((page_height - title) / line))
    return [items[i : i + count] for i in range(0, len(items), count)]


def arm_lines(context: ReportContext, **style: Any) -> list[Line2D]:
    """A legend's handle for every arm, with its colour and marker."""
    return [
        Line2D(
            *([], []),
            color=colour,
            marker=marker,
            markersize=marker_size(marker),
            label=squeeze(arm, 30),
            **style,
        )
        for arm, (colour, marker) in arm_styles(context).items()
    ]


def _rows(
    frame: pd.DataFrame,
    context: ReportContext,
    metric: Metric,
    regimes: Sequence[Regime] | None,
) -> pd.DataFrame:
    rows = frame[
        (frame["metric"] == metric.name) & frame["arm"].isin([arm.name for arm in context.compared])
    ]
    if regimes is None:
        return rows
    return rows[rows["regime"].isin([regime.name for regime in regimes])]


def _logs(column: pd.Series) -> Floats:
    values: Floats = column.to_numpy(dtype=np.float64)
    return np.log(values[np.isfinite(values) & (values > 0)])
