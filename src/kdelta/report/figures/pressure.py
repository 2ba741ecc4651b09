# SPDX-License-Identifier: GPL-2.0-only
"""What the regimes did to the kernel: a panel per counter, the regimes down, a mark per arm."""

from __future__ import annotations

import math
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kdelta.pressure_counters import PRESSURE_COUNTERS, PressureCounter
from kdelta.report.figures.axes import REGIME, arm_lines, squeeze, tick_number
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_WIDTH,
    arm_styles,
    finish,
    marker_size,
    new_figure,
)
from kdelta.report.figures.svg import INK, PAPER, RULE
from kdelta.report.results import Results

NOTHING = "0 everywhere"
UNKNOWN = "no such counter"

_ACROSS = 3
_SLOT = 0.12
_LABEL_CHARACTERS = 54
_AXIS_HEIGHT = 0.8
_TITLE_HEIGHT = 0.75
# Beyond this ratio of the largest rate to the smallest a linear axis hides the small ones.
_LINEAR_SPAN = 30


COUNTERS = tuple(counter for counter in PRESSURE_COUNTERS if counter.shown == "figure")


def pressure_figures(run: Results, page_height: float | None = None) -> list[Figure]:
    """Draw each counter's rate: mean over cells, and the range of the cells as a line.

    Args:
        run: Tables and facts.
        page_height: Inches that a figure may take; the figure is one in any case, and higher
            only from a dozen regimes on.

    Returns:
        One figure.
    """
    del page_height
    down = math.ceil(len(COUNTERS) / _ACROSS)
    each = len(run.regimes) * max(0.42, (len(run.arms) + 0.6) * _SLOT) + _AXIS_HEIGHT
    figure = new_figure(PAGE_WIDTH, down * each + _TITLE_HEIGHT)
    axes = figure.subplots(down, _ACROSS, squeeze=False)
    labels = [textwrap.fill(squeeze(regime.title, _LABEL_CHARACTERS), 18) for regime in run.regimes]
    for index, (axis, counter) in enumerate(zip(axes.flat, COUNTERS, strict=True)):
        _draw(axis, run, counter)
        axis.set_title(counter.title, loc="left", fontsize=FONT_SIZE, color=INK)
        axis.set_xlabel(
            f"rate ({counter.rate_unit})" if "%" not in counter.rate_unit else "share (%)"
        )
        first = index % _ACROSS == 0
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
        axis.set_ylabel(REGIME if first else "")
    return [
        finish(figure, run, "Memory pressure that the guest saw", arm_lines(run, linewidth=1.2), 5)
    ]


def _draw(axis: Axes, run: Results, counter: PressureCounter) -> None:
    rows = run.frames.pressure.assign(_rate=pd.to_numeric(run.frames.pressure[counter.column]))
    rows = rows[rows["_rate"].notna()]
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if rows.empty or not (rows["_rate"] > 0).any():
        axis.set_xlim(0, 1)
        axis.set_xticks([0])
        note = UNKNOWN if rows.empty else NOTHING
        axis.text(0.5, 0.5, note, transform=axis.transAxes, ha="center", va="center", color=INK)
        return
    styles = arm_styles(run)
    step = 0.8 / len(run.arms)
    for place, regime in enumerate(run.regimes):
        here = rows[rows["regime"] == regime.name]
        if here.empty:
            axis.annotate(
                "n/a", (0, place), (3, 0), textcoords="offset points", va="center", color=INK
            )
        for index, arm in enumerate(run.arms):
            found = here[here["arm"] == arm.name]["_rate"]
            if found.empty:
                continue
            colour, marker = styles[arm.name]
            y = place + (index - (len(run.arms) - 1) / 2) * step
            axis.hlines(y, found.min(), found.max(), colors=colour, linewidth=1.2, zorder=2)
            axis.plot(
                found.mean(),
                y,
                marker=marker,
                color=colour,
                markersize=marker_size(marker),
                markeredgecolor=PAPER,
                markeredgewidth=0.5,
                clip_on=False,
                zorder=3,
            )
    _scale(axis, rows["_rate"].to_numpy(dtype=float))
    axis.grid(axis="x", color=RULE)
    for edge in np.arange(0.5, len(run.regimes) - 1):
        axis.axhline(edge, color=RULE, linewidth=0.5, zorder=0)
    axis.set_axisbelow(True)


def _scale(axis: Axes, rates: np.ndarray) -> None:
    positive = rates[rates > 0]
    # Never finer than one per second or one per cent: what little there is looks little.
    top = max(positive.max(), 1.0)
    low = max(positive.min(), 0.1)
    if top > _LINEAR_SPAN * low:
        low = 10 ** math.floor(math.log10(low))
        axis.set_xscale("symlog", linthresh=low, linscale=0.3)
        axis.set_xlim(0, top * 1.5)
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(top * 1.5)) + 1)
        step = math.ceil(len(decades) / 3)
        axis.set_xticks([0, *(10.0**exponent for exponent in decades[::-1][::step])])
        axis.set_xticks([], minor=True)
    else:
        axis.set_xlim(0, 1.08 * top)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4))
    # Last: a new scale brings its own, whose numbers are formulas.
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_number(value)))
