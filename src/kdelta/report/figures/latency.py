# SPDX-License-Identifier: GPL-2.0-only
"""Distributions of write latency, the baseline against the other arms, cell by cell."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from kdelta.report.context import Regime, ReportContext
from kdelta.report.figures.axes import paged, squeeze, tick_number
from kdelta.report.figures.selection import CellLevels, fixed_factors, shown_cells
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    arm_styles,
    finish,
    new_figure,
)
from kdelta.report.figures.svg import INK, PAPER, RULE
from kdelta.report.formatting import level_words
from kdelta.report.frames import ReportFrames
from kdelta.report.results import Results
from kdelta.report.tables import at_levels

LATENCY = "write latency (µs)"
SHARE = "share below (%)"
NOTHING = "no latencies"

_SHARES = (1, 10, 50, 90, 99, 99.9)
_DASHES = ((6.0, 1.5), (4.0, 1.0, 1.0, 1.0), (2.5, 1.5), (8.0, 2.0, 1.0, 2.0))
_CONTROL_DASHES = (1.0, 1.0)
_PANEL_HEIGHT = 1.12
_REGIME_HEIGHT = 0.5
_TITLE_HEIGHT = 0.85
_TITLE_CHARACTERS = 90


def latency_figures(run: Results, page_height: float | None = None) -> list[Figure]:
    """Draw the share of writes below each latency: a grid of cells per regime, a line per arm.

    Args:
        run: Tables and facts.
        page_height: Inches that a figure may take; None draws everything into one. A single
            regime may exceed it.

    Returns:
        One figure per page. The axis of shares is the same everywhere, that of latencies along a
        row of cells.
    """
    grid = shown_cells(run, _levels(run))
    each = len(grid) * _PANEL_HEIGHT + _REGIME_HEIGHT
    return [
        _figure(run, regimes, grid, each)
        for regimes in paged(run.regimes, page_height, _TITLE_HEIGHT, each)
    ]


def _levels(run: Results) -> dict[str, tuple[str, ...]]:
    return {factor.name: run.levels(factor.name) or ("",) for factor in run.factors}


def _figure(
    run: Results,
    regimes: Sequence[Regime],
    grid: Sequence[Sequence[CellLevels]],
    each: float,
) -> Figure:
    down, across = len(grid), len(grid[0])
    fixed = fixed_factors(run, _levels(run))
    at = "".join(f", {level_words(factor, level)}" for factor, level in fixed)
    figure = new_figure(PAGE_WIDTH, len(regimes) * each + _TITLE_HEIGHT)
    parts = figure.subfigures(len(regimes), 1, squeeze=False)[:, 0]
    for part, regime in zip(parts, regimes, strict=True):
        part.set_facecolor(PAPER)
        title = squeeze(regime.title, _TITLE_CHARACTERS - len(at)) + at
        part.suptitle(title, x=0.01, ha="left", fontsize=FONT_SIZE, color=INK)
        axes = part.subplots(down, across, squeeze=False)
        for (row, column), axis in np.ndenumerate(axes):
            if column >= len(grid[row]):
                axis.set_axis_off()
                continue
            # Rows differ in latency by far more than arms do.
            _scale(axis, _limits(run.frames, regime, [(*fixed, *one) for one in grid[row]]))
            cell = grid[row][column]
            _draw(axis, run, regime, (*fixed, *cell))
            words = ", ".join(level_words(factor, level) for factor, level in cell)
            axis.set_title(textwrap.fill(words, int(96 / across)), fontsize=SMALL_FONT_SIZE)
            below = row + 1 < down and column < len(grid[row + 1])
            axis.set_ylabel(SHARE if column == 0 else "", fontsize=SMALL_FONT_SIZE)
            axis.set_xlabel("" if below else LATENCY)
            axis.tick_params(labelleft=bool(column == 0))
    return finish(figure, run, "Distribution of write latency", _legend(run), 5)


def _limits(
    frames: ReportFrames, regime: Regime, cells: Sequence[CellLevels]
) -> tuple[float, float]:
    """Latencies that hold everything that is drawn of these cells."""
    rows = frames.latency[frames.latency["regime"] == regime.name]
    shown = [at_levels(rows, cell) for cell in cells]
    values = np.concatenate([rows["latency_us"].to_numpy(dtype=float) for rows in shown])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = values.min(initial=math.inf), values.max(initial=0.0)
    return (low / 1.1, high * 1.1) if values.size else (1.0, 10.0)


def _scale(axis: Axes, limits: tuple[float, float]) -> None:
    axis.set_xscale("log")
    axis.set_xlim(*limits)
    decades = math.log10(limits[1] / limits[0])
    subs = (1.0,) if decades > 1.8 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_number(value)))
    axis.xaxis.set_minor_locator(NullLocator())
    # The tail is where arms differ, and a linear scale hides it in its last pixel.
    axis.set_yscale("logit")
    axis.set_ylim(0.008, 0.9993)
    axis.set_yticks([share / 100 for share in _SHARES], [f"{share:g}" for share in _SHARES])
    axis.yaxis.set_minor_locator(NullLocator())


def _draw(axis: Axes, run: Results, regime: Regime, cell: CellLevels) -> None:
    rows = at_levels(run.frames.latency[run.frames.latency["regime"] == regime.name], cell)
    rows = rows[rows["quantile"].map(_is_drawn).astype(bool)]
    for arm, style in line_styles(run).items():
        ours = rows[rows["arm"] == arm].sort_values("quantile")
        ours = ours[ours["latency_us"] > 0]
        if not ours.empty:
            axis.plot(ours["latency_us"], ours["quantile"], **style)
    if not axis.lines:
        axis.text(0.5, 0.5, NOTHING, transform=axis.transAxes, ha="center", va="center")
    axis.grid(axis="both", color=RULE)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _is_drawn(quantile: float) -> bool:
    """Whether a quantile can be told from its neighbours: between 10 and 90 % every fourth is."""
    return abs(quantile - 0.5) >= 0.4 or round(100 * quantile) % 4 == 2


def line_styles(context: ReportContext) -> dict[str, dict[str, Any]]:
    """How each arm's line is drawn: by dashes too, not by colour alone."""
    dashes: dict[str, tuple[float, ...]] = {context.baseline: ()}
    dashes |= {arm.name: _DASHES[i % len(_DASHES)] for i, arm in enumerate(context.treatments)}
    dashes |= {arm.name: _CONTROL_DASHES for arm in context.controls}
    styles = arm_styles(context)
    return {
        arm: {
            "color": styles[arm][0],
            "linestyle": (0, pattern) if pattern else "-",
            "linewidth": 1.3,
        }
        for arm, pattern in dashes.items()
    }


def _legend(context: ReportContext) -> list[Line2D]:
    return [
        Line2D([], [], label=squeeze(arm, 30), **style)
        for arm, style in line_styles(context).items()
    ]
