# SPDX-License-Identifier: GPL-2.0-only
"""The wait for the lock per write, cell by cell, from the traced boots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from kdelta.report.context import Regime
from kdelta.report.figures.axes import Cell, arm_lines, cell_label, cells_name, paged, tick_number
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_WIDTH,
    arm_styles,
    finish,
    marker_size,
    new_figure,
)
from kdelta.report.figures.svg import INK, PAPER
from kdelta.report.frames import number
from kdelta.report.mechanism import WAIT, mechanism_rows, traced_regimes
from kdelta.report.results import Results

_ARM_HEIGHT = 0.065
_ROW_HEIGHT = 0.19  # at the least
_CELLS_HEIGHT = 6.4
_TITLE_HEIGHT = 0.9
_AXIS_HEIGHT = 0.75
_TITLE_CHARACTERS = 70
# Beyond this ratio of the largest wait to the smallest a linear axis hides the small ones.
_LINEAR_SPAN = 30


def wait_figures(run: Results, page_height: float | None = None) -> list[Figure]:
    """The wait for the lock per write: cells down, one mark per arm, a panel per regime.

    The wait axis is the same in every panel; it is logarithmic, but for zero, where the waits
    span more than a factor of thirty.

    Args:
        run: Tables, with traced boots, and facts.
        page_height: Inches that a figure may take; None draws everything into one. A single row
            of panels may exceed it.

    Returns:
        One figure per page.
    """
    regimes = traced_regimes(run)
    cells = max(len(_cells(run, regime)) for regime in regimes)
    across = min(2, len(regimes))
    row = max(_ROW_HEIGHT, min(len(run.arms) * _ARM_HEIGHT, _CELLS_HEIGHT / max(cells, 1)))
    height = cells * row + _AXIS_HEIGHT
    return [
        _wait_figure(run, page, across, height)
        for page in paged(regimes, page_height, _TITLE_HEIGHT, height, across)
    ]


def _wait_figure(run: Results, regimes: Sequence[Regime], across: int, height: float) -> Figure:
    down = math.ceil(len(regimes) / across)
    figure = new_figure(PAGE_WIDTH, down * height + _TITLE_HEIGHT)
    axes = figure.subplots(down, across, squeeze=False, sharex=True)
    waits = pd.to_numeric(run.frames.mechanism[WAIT]).to_numpy(dtype=float)
    waits = waits[np.isfinite(waits)]
    for index, axis in enumerate(axes.flat):
        if index >= len(regimes):
            axis.set_axis_off()
            continue
        cells = _cells(run, regimes[index])
        _draw_waits(axis, run, regimes[index], cells)
        axis.set_yticks(range(len(cells)), [cell_label(run, cell) for cell in cells])
        axis.set_ylim(len(cells) - 0.4, -0.6)
        if index % across:
            axis.set_yticklabels([])
        axis.set_ylabel("" if index % across else cells_name(run))
        title = textwrap.fill(regimes[index].title, _TITLE_CHARACTERS // across)
        axis.set_title(title, loc="left", fontsize=FONT_SIZE, color=INK)
        axis.set_xlabel("wait for pipe->mutex (µs/write)")
        axis.tick_params(labelbottom=True)
    _scale(axes[0, 0], waits)
    handles = arm_lines(run, linestyle="none")
    return finish(figure, run, "Wait for pipe->mutex per write, one traced boot per arm", handles)


def _scale(axis: Axes, waits: NDArray[np.float64]) -> None:
    positive = waits[waits > 0]
    if positive.size and positive.max() > _LINEAR_SPAN * positive.min():
        low = 10 ** math.floor(math.log10(positive.min()))
        axis.set_xscale("symlog", linthresh=low, linscale=0.3)
        axis.set_xlim(-0.15 * low if waits.min() <= 0 else low, positive.max() * 1.4)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_number(value)))
    else:
        axis.set_xlim(0, 1.08 * waits.max(initial=0.0) or 1.0)


def _cells(run: Results, regime: Regime) -> list[Cell]:
    names = [factor.name for factor in run.factors]
    rows = mechanism_rows(run.frames, regime)
    order = {f.name: run.levels(f.name) for f in run.factors}
    found = {tuple(str(row[n]) for n in names) for row in rows.to_dict("records")}
    return sorted(found, key=lambda c: [order[n].index(v) for n, v in zip(names, c, strict=True)])


def _draw_waits(axis: Axes, run: Results, regime: Regime, cells: list[Cell]) -> None:
    names = [factor.name for factor in run.factors]
    place = {cell: index for index, cell in enumerate(cells)}
    styles = arm_styles(run)
    for index, arm in enumerate(run.arms):
        rows = mechanism_rows(run.frames, regime, arm.name).to_dict("records")
        colour, marker = styles[arm.name]
        # A little apart, so that marks of the same wait do not hide each other.
        shift = (index - (len(run.arms) - 1) / 2) * 0.8 / len(run.arms)
        axis.plot(
            [number(row[WAIT]) for row in rows],
            [place[tuple(str(row[n]) for n in names)] + shift for row in rows],
            marker=marker,
            color=colour,
            markeredgecolor=PAPER,
            markeredgewidth=0.5,
            markersize=marker_size(marker),
            linestyle="none",
            clip_on=False,
            zorder=3,
        )
    sns.despine(ax=axis)
    axis.grid(axis="both")
    axis.set_axisbelow(True)
