# SPDX-License-Identifier: GPL-2.0-only
"""Pages per write before and under the lock, from the traced boots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kdelta.report.context import Factor, Regime
from kdelta.report.figures.axes import ARM, factor_name, paged, squeeze
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    arm_styles,
    finish,
    new_figure,
)
from kdelta.report.figures.svg import BASELINE_COLOUR, INK, PAPER
from kdelta.report.formatting import format_quantity, level_label
from kdelta.report.frames import ReportFrames, number
from kdelta.report.mechanism import BEFORE, SIZE_FACTOR, UNDER, mechanism_rows, traced_regimes
from kdelta.report.results import Results

_HATCH = "////"
_PANEL_HEIGHT = 1.9
_TITLE_HEIGHT = 0.9
_TITLE_CHARACTERS = 80


def pages_figures(run: Results, page_height: float | None = None) -> list[Figure]:
    """Stacked bars of pages per write before and under the lock, a panel per regime.

    Within a panel the write sizes side by side where they are a factor, and within these the
    arms. A bar is the mean over the cells that it stands for.

    Args:
        run: Tables, with traced boots, and facts.
        page_height: Inches that a figure may take; None draws everything into one.

    Returns:
        One figure per page.
    """
    regimes = traced_regimes(run)
    size = next((f for f in run.factors if f.name == SIZE_FACTOR), None)
    across = 1 if size or len(regimes) == 1 else 2
    limit = _pages_limit(run.frames, size)
    return [
        _pages_figure(run, page, across, size, limit)
        for page in paged(regimes, page_height, _TITLE_HEIGHT, _PANEL_HEIGHT, across)
    ]


def _pages_figure(
    run: Results,
    regimes: Sequence[Regime],
    across: int,
    size: Factor | None,
    limit: float,
) -> Figure:
    down = math.ceil(len(regimes) / across)
    figure = new_figure(PAGE_WIDTH, down * _PANEL_HEIGHT + _TITLE_HEIGHT)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for index, axis in enumerate(axes.flat):
        if index >= len(regimes):
            axis.set_axis_off()
            continue
        _draw_pages(axis, run, regimes[index], size, _TITLE_CHARACTERS // across)
        axis.set_ylim(0, limit)
        title = textwrap.fill(regimes[index].title, _TITLE_CHARACTERS // across)
        axis.set_title(title, loc="left", fontsize=FONT_SIZE, color=INK)
        axis.set_ylabel("allocated (pages/write)" if index % across == 0 else "")
    handles = [
        Patch(facecolor=BASELINE_COLOUR, label="under the lock"),
        Patch(facecolor=PAPER, edgecolor=INK, hatch=_HATCH, label="before the lock"),
    ]
    if size:
        handles = [Patch(facecolor=arm_styles(run)[a.name][0], label=a.name) for a in run.arms]
        handles += [
            Patch(facecolor=INK, label="solid: under the lock"),
            Patch(facecolor=PAPER, edgecolor=INK, hatch=_HATCH, label="hatched: before the lock"),
        ]
    return finish(figure, run, "Pages allocated per write, before and under pipe->mutex", handles)


def _draw_pages(axis: Axes, run: Results, regime: Regime, size: Factor | None, room: int) -> None:
    arms = [a.name for a in run.arms if not mechanism_rows(run.frames, regime, a.name).empty]
    levels = run.levels(size.name) if size else ("",)
    styles = arm_styles(run)
    width = 0.8 / len(arms)
    for place, level in enumerate(levels):
        for index, arm in enumerate(arms):
            rows = mechanism_rows(run.frames, regime, arm)
            rows = rows[rows[size.name] == level] if size else rows
            under, before = (number(pd.to_numeric(rows[c]).mean()) for c in (UNDER, BEFORE))
            x = place + (index - (len(arms) - 1) / 2) * width if size else float(index)
            _draw_bar(axis, x, width * 0.9 if size else 0.6, under, before, styles[arm][0])
    if size:
        axis.set_xticks(range(len(levels)), [level_label(size, level) for level in levels])
        axis.set_xlabel(factor_name(size))
    else:
        axis.set_xticks(range(len(arms)), [squeeze(arm, room // len(arms)) for arm in arms])
        axis.set_xlabel(ARM)
    sns.despine(ax=axis)
    axis.grid(axis="y")
    axis.set_axisbelow(True)


def _draw_bar(axis: Axes, x: float, width: float, under: float, before: float, colour: str) -> None:
    if not (math.isfinite(under) and math.isfinite(before)):
        axis.text(x, 0, "n/a", ha="center", va="bottom", fontsize=SMALL_FONT_SIZE, color=INK)
        return
    axis.bar(x, under, width, color=colour)
    axis.bar(
        x,
        before,
        width,
        bottom=under,
        facecolor=PAPER,
        edgecolor=colour,
        hatch=_HATCH,
        linewidth=0.8,
    )
    if width > 0.4:
        label = format_quantity(under + before)
        axis.annotate(
            label,
            (x, under + before),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL_FONT_SIZE,
        )


def _pages_limit(frames: ReportFrames, size: Factor | None) -> float:
    keys = ["regime", "arm", *([size.name] if size else [])]
    table = frames.mechanism[keys].copy()
    table["pages"] = sum(pd.to_numeric(frames.mechanism[c]) for c in (BEFORE, UNDER))
    largest = number(table.groupby(keys)["pages"].mean().max())
    return 1.15 * largest if math.isfinite(largest) and largest > 0 else 1.0
