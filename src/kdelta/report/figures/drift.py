# SPDX-License-Identifier: GPL-2.0-only
"""Ratio against block number: whether an effect drifted over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdelta.report.context import Arm, Metric, Regime
from kdelta.report.figures.axes import BLOCK, CHANGE, paged, ratio_limits, set_percent_axis, squeeze
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    arm_styles,
    finish,
    marker_size,
    new_figure,
)
from kdelta.report.figures.svg import INK, PAPER, RULE
from kdelta.report.frames import ReportFrames
from kdelta.report.results import Results

_ACROSS = 3
_PANEL_HEIGHT = 1.25
_REGIME_HEIGHT = 0.55
_TITLE_HEIGHT = 0.85
_TICKS = 6
_TITLE_CHARACTERS = 90


def drift_figures(
    run: Results,
    page_height: float | None = None,
    metric: Metric | None = None,
) -> list[Figure]:
    """Draw every ratio over the blocks: a row of panels per regime, a panel per arm.

    Args:
        run: Tables and facts.
        page_height: Inches that a figure may take; None draws everything into one. A single
            regime may exceed it.
        metric: Which one; the primary one without it.

    Returns:
        One figure per page. Within a regime the axes are the same; between regimes the one of
        changes differs, as a noisy regime would flatten a quiet one.
    """
    metric = metric or run.primary
    down = max(1, math.ceil(len(run.compared) / _ACROSS))
    each = down * _PANEL_HEIGHT + _REGIME_HEIGHT
    return [
        _figure(run, metric, regimes, down, each)
        for regimes in paged(run.regimes, page_height, _TITLE_HEIGHT, each)
    ]


def after_baseline(frames: ReportFrames, regime: Regime, arm: str, baseline: str) -> set[int]:
    """The blocks in which the arm was booted after the baseline."""
    boots = frames.samples[frames.samples["regime"] == regime.name]
    orders = [
        boots[boots["arm"] == name].groupby("block")["boot_order"].first()
        for name in (arm, baseline)
    ]
    both = pd.concat(orders, axis="columns", join="inner", keys=("arm", "baseline"))
    return {int(block) for block in both.index[both["arm"] > both["baseline"]]}


def _figure(
    run: Results,
    metric: Metric,
    regimes: Sequence[Regime],
    down: int,
    each: float,
) -> Figure:
    arms = run.compared
    across = max(1, min(len(arms), _ACROSS))
    figure = new_figure(PAGE_WIDTH, len(regimes) * each + _TITLE_HEIGHT)
    parts = figure.subfigures(len(regimes), 1, squeeze=False)[:, 0]
    for part, regime in zip(parts, regimes, strict=True):
        part.set_facecolor(PAPER)
        part.suptitle(
            squeeze(regime.title, _TITLE_CHARACTERS),
            x=0.01,
            ha="left",
            fontsize=FONT_SIZE,
            color=INK,
        )
        axes = part.subplots(down, across, squeeze=False)
        for index, axis in enumerate(axes.flat):
            if index >= len(arms):
                axis.set_axis_off()
                continue
            limits = ratio_limits(run, metric, [regime])
            set_percent_axis(axis, "y", limits, _TICKS)
            _draw(axis, run, metric, regime, arms[index])
            first, last = index % across == 0, index + across >= len(arms)
            axis.set_ylabel(CHANGE if first else "")
            axis.set_xlabel(BLOCK if last else "")
            axis.tick_params(labelleft=first, labelbottom=last)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=4)
    title = f"{metric.title}: change against {run.baseline}, block by block"
    return finish(figure, run, title)


def _draw(axis: Axes, run: Results, metric: Metric, regime: Regime, arm: Arm) -> None:
    colour, marker = arm_styles(run)[arm.name]
    axis.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    rows = run.frames.ratios[
        (run.frames.ratios["regime"] == regime.name)
        & (run.frames.ratios["arm"] == arm.name)
        & (run.frames.ratios["metric"] == metric.name)
        & (run.frames.ratios["ratio"] > 0)
    ]
    last = max(run.blocks, int(rows["block"].max()) if len(rows) else 1)
    blocks = np.arange(1, last + 1)
    logs = rows.assign(log=np.log(rows["ratio"].to_numpy(dtype=float)))
    cells = logs.pivot_table(
        index="block", columns=list(run.frames.factors), values="log", observed=True
    ).reindex(blocks)
    # All cells in one line that is lifted between them: a path each would make the page heavy.
    gap = np.full((1, cells.shape[1]), np.nan)
    lines = np.exp(np.vstack([cells.to_numpy(dtype=float), gap]))
    axis.plot(
        np.tile([*blocks, last], cells.shape[1]),
        lines.T.ravel(),
        color=colour,
        linewidth=0.6,
        alpha=0.45,
        zorder=2,
    )
    mean = np.exp(cells.mean(axis="columns").to_numpy(dtype=float))
    axis.plot(blocks, mean, color=colour, linewidth=1.6, zorder=3)
    later = after_baseline(run.frames, regime, arm.name, run.baseline)
    for filled in (True, False):
        chosen = [block for block in blocks if (block in later) == filled]
        axis.plot(
            chosen,
            mean[np.array(chosen, dtype=int) - 1],
            marker=marker,
            markersize=marker_size(marker),
            markerfacecolor=colour if filled else PAPER,
            markeredgecolor=colour,
            linestyle="none",
            zorder=4,
        )
    axis.set_xlim(0.5, last + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axis.set_title(squeeze(arm.name, 34), fontsize=SMALL_FONT_SIZE)
    axis.grid(axis="y", color=RULE)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _legend() -> list[Line2D]:
    mean = Line2D([], [], color=INK, linewidth=1.6, label="geometric mean over cells")
    cell = Line2D([], [], color=INK, linewidth=0.6, alpha=0.6, label="one cell")
    after = Line2D([], [], color=INK, marker="o", linestyle="none", markersize=5)
    after.set_label("booted after the baseline")
    before = Line2D([], [], marker="o", linestyle="none", markersize=5, label="before it")
    before.set(markerfacecolor=PAPER, markeredgecolor=INK)
    return [mean, cell, after, before]
