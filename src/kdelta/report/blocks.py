# SPDX-License-Identifier: GPL-2.0-only
"""Every block's ratio, cell by cell, with the mean and its interval."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from kdelta.report.cells import level_label, level_words
from kdelta.report.context import Factor, Regime, ReportContext
from kdelta.report.figure_style import (
    FONT_SIZE,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    arm_styles,
    new_figure,
    settle_layout,
    title_suffix,
)
from kdelta.report.frames import ReportFrames
from kdelta.report.metrics import Metric
from kdelta.report.palette import INK, INVALID_SIGN, PAPER
from kdelta.report.tables import INVALID, at_levels, extra_levels, factor_levels, table_columns
from kdelta.report.wording import confidence_label

_PANEL_HEIGHT = 1.4
_SLOT_WIDTH = 0.13
_MIN_PANEL_WIDTH = 1.7
_MARGIN_WIDTH = 0.6
_REGIME_TITLE_HEIGHT = 0.35
_TITLE_HEIGHT = 0.75
# Points and interval stand side by side within an arm's slot, in units of the slot.
_INTERVAL_SHIFT = 0.2

Floats = NDArray[np.float64]


def blocks_figures(
    frames: ReportFrames, context: ReportContext, metric: Metric, page_height: float | None = None
) -> list[Figure]:
    """Draw every ratio of a metric: a facet per regime, a panel per level of the rows.

    The column factor runs along each panel, the arms side by side within its levels. The ratio
    axis is the same everywhere.

    Args:
        frames: The analysed tables.
        context: The facts of the run.
        metric: Which one.
        page_height: Inches that a figure may take; None draws everything into one. A single
            regime may exceed it.

    Returns:
        One figure per page.
    """
    whole = _figure(frames, context, metric, context.regimes)
    if page_height is None or whole.get_figheight() <= page_height:
        return [whole]
    return [_figure(frames, context, metric, [regime]) for regime in context.regimes]


def _figure(
    frames: ReportFrames, context: ReportContext, metric: Metric, regimes: Sequence[Regime]
) -> Figure:
    facets = _facets(frames, context)
    arms = context.compared
    slots = len(table_columns(frames, context)) * len(context.compared)
    width = max(_MIN_PANEL_WIDTH, slots * _SLOT_WIDTH)
    across = max(1, min(len(facets), int((PAGE_WIDTH - _MARGIN_WIDTH) / width)))
    down = math.ceil(len(facets) / across)
    each = down * _PANEL_HEIGHT + _REGIME_TITLE_HEIGHT
    figure = new_figure(
        max(PAGE_WIDTH, across * width + _MARGIN_WIDTH), len(regimes) * each + _TITLE_HEIGHT
    )
    limits = ratio_limits(frames, context, metric)
    parts = figure.subfigures(len(regimes), 1, squeeze=False)[:, 0]
    for part, regime in zip(parts, regimes, strict=True):
        part.set_facecolor(PAPER)
        part.suptitle(regime.title, x=0.01, ha="left", fontsize=9.5, color=INK)
        axes = part.subplots(down, across, squeeze=False, sharey=True)
        for index, axis in enumerate(axes.flat):
            if index >= len(facets):
                axis.set_axis_off()
                continue
            _draw(axis, frames, context, metric, regime, facets[index])
            axis.set_ylim(*limits)
            axis.set_title(_facet_title(facets[index], int(width * 16)), fontsize=SMALL_FONT_SIZE)
            _label_axes(
                axis, context, metric, first=index % across == 0, last=index + across >= len(facets)
            )
    figure.suptitle(
        f"{metric.title}: every block's ratio to {context.baseline}{title_suffix(context)}",
        x=0.01,
        ha="left",
        weight="bold",
    )
    invalid = bool((frames.deltas["verdict"] == INVALID).any())
    figure.legend(
        handles=_legend(context, invalid=invalid),
        loc="outside lower left",
        ncols=3 if len(arms) > 3 or invalid else 6,
    )
    return settle_layout(figure)


def ratio_limits(
    frames: ReportFrames, context: ReportContext, metric: Metric
) -> tuple[float, float]:
    """Axis limits that show every point, the 1, and intervals up to twice the points' span.

    An interval from three blocks can be many times as wide as its points are apart; drawn in
    full it would flatten everything else, so it leaves the panel instead.
    """
    names = [arm.name for arm in context.compared]
    points = _finite(frames.ratios, metric, names, "ratio")
    drawn = frames.deltas[frames.deltas["verdict"] != INVALID]
    ends = np.concatenate([_finite(drawn, metric, names, c) for c in ("ratio_low", "ratio_high")])
    low, high = min(points.min(initial=1.0), 1.0), max(points.max(initial=1.0), 1.0)
    span = max(high - low, 0.02)
    ends = ends[(ends > low - span / 2) & (ends < high + span / 2)]
    low, high = min(low, ends.min(initial=low)), max(high, ends.max(initial=high))
    pad = 0.06 * max(high - low, 0.02)
    return low - pad, high + pad


Facet = tuple[tuple[Factor, str], ...]


def _facets(frames: ReportFrames, context: ReportContext) -> list[Facet]:
    row = context.factor(context.row_factor)
    return [
        (*extra, (row, level))
        for extra in extra_levels(frames, context)
        for level in factor_levels(frames, context, row.name)
    ]


def _facet_title(facet: Facet, characters: int) -> str:
    parts = [level_words(factor, level) for factor, level in facet]
    line = ", ".join(parts)
    return line if len(line) <= characters else ",\n".join(parts)


def _draw(
    axis: Axes,
    frames: ReportFrames,
    context: ReportContext,
    metric: Metric,
    regime: Regime,
    facet: Facet,
) -> None:
    columns = list(table_columns(frames, context))
    arms = [arm.name for arm in context.compared]
    styles = arm_styles(context)
    column = context.column_factor
    axis.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ratios = _rows(frames.ratios, metric, regime, facet)
    ratios = ratios.assign(_column=ratios[column] if column else "")
    if not ratios.empty:
        sns.stripplot(
            ratios,
            x="_column",
            y="ratio",
            hue="arm",
            order=columns,
            hue_order=arms,
            palette={name: styles[name][0] for name in arms},
            dodge=True,
            jitter=False,
            size=3.6,
            alpha=0.65,
            linewidth=0,
            legend=False,
            ax=axis,
        )
    # The same places that stripplot's dodge uses: 0.8 of a level, shared by the arms.
    slot = 0.8 / len(arms)
    for row in _rows(frames.deltas, metric, regime, facet).to_dict("records"):
        if row["arm"] not in arms:
            continue
        index = columns.index(row[column] if column else "")
        offset = (arms.index(row["arm"]) - (len(arms) - 1) / 2 + _INTERVAL_SHIFT) * slot
        if row["verdict"] == INVALID:
            _draw_invalid(axis, index + offset, styles[row["arm"]][0])
            continue
        if not math.isfinite(row["ratio"]):
            continue
        _draw_interval(axis, index + offset, row, *styles[row["arm"]])
    axis.set_xlim(-0.5, len(columns) - 0.5)
    factor = context.factor(column) if column else None
    labels = [level_label(factor, level) if factor else "" for level in columns]
    axis.set_xticks(range(len(columns)), labels)
    for edge in np.arange(0.5, len(columns) - 1):
        axis.axvline(edge, color="#8c959f", linewidth=0.4, alpha=0.6, zorder=0)
    sns.despine(ax=axis)
    axis.grid(axis="y")
    axis.set_axisbelow(True)


def _draw_interval(
    axis: Axes, x: float, row: dict[object, float], colour: str, marker: str
) -> None:
    if math.isfinite(row["ratio_low"]) and math.isfinite(row["ratio_high"]):
        axis.vlines(x, row["ratio_low"], row["ratio_high"], colors=colour, linewidth=1.6, zorder=4)
    axis.plot(
        x,
        row["ratio"],
        marker=marker,
        markersize=4.6,
        markerfacecolor=colour,
        markeredgecolor=PAPER,
        markeredgewidth=0.8,
        linestyle="none",
        zorder=5,
    )


def _draw_invalid(axis: Axes, x: float, colour: str) -> None:
    # At no change, which the axis always shows: the place says nothing about the effect.
    axis.text(
        x,
        1,
        INVALID_SIGN,
        color=colour,
        ha="center",
        va="center",
        fontsize=FONT_SIZE,
        weight="bold",
        zorder=6,
    )


def _label_axes(
    axis: Axes, context: ReportContext, metric: Metric, *, first: bool, last: bool
) -> None:
    column = context.factor(context.column_factor).title if context.column_factor else ""
    axis.set_xlabel(column if last else "")
    better = "higher" if metric.higher_is_better else "lower"
    axis.set_ylabel(f"ratio ({better} is faster)" if first else "", fontsize=SMALL_FONT_SIZE)


def _legend(context: ReportContext, *, invalid: bool) -> list[Line2D]:
    handles = []
    for arm in context.compared:
        colour, marker = arm_styles(context)[arm.name]
        title = textwrap.shorten(arm.name, 30, placeholder="…")
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=5, label=title)
        )
    handles.append(
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            linestyle="none",
            markersize=3.6,
            alpha=0.65,
            label="one block",
        )
    )
    handles.append(
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            markersize=5,
            linewidth=1.6,
            label=f"mean, {confidence_label(context)} interval",
        )
    )
    handles.append(
        Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="no change")
    )
    if invalid:
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                marker=f"${INVALID_SIGN}$",
                linestyle="none",
                markersize=6,
                label="invalid",
            )
        )
    return handles


def _rows(frame: pd.DataFrame, metric: Metric, regime: Regime, facet: Facet) -> pd.DataFrame:
    frame = frame[(frame["metric"] == metric.name) & (frame["regime"] == regime.name)]
    return at_levels(frame, facet)


def _finite(frame: pd.DataFrame, metric: Metric, arms: Sequence[str], column: str) -> Floats:
    rows = frame[(frame["metric"] == metric.name) & frame["arm"].isin(arms)]
    values: Floats = rows[column].to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]
