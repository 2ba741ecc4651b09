# SPDX-License-Identifier: GPL-2.0-only
"""Heat map of the deltas: one panel per regime and arm, the control beside the arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.figures.axes import factor_name, paged, squeeze
from kdelta.report.figures.style import (
    FONT_SIZE,
    MISSING_COLOUR,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    delta_colours,
    finish,
    new_figure,
)
from kdelta.report.figures.svg import INK, INVALID_COLOUR, INVALID_FILL, INVALID_SIGN
from kdelta.report.formatting import level_label, typeset_minus
from kdelta.report.frames import ReportFrames, number
from kdelta.report.results import Results
from kdelta.report.tables import INVALID, Cell, DeltaTable, choose_precision, delta_tables

MISSING_NOTE = "missing"
INVALID_NOTE = f"{INVALID_SIGN} {INVALID}"
_CELL_HEIGHT = {True: 0.4, False: 0.24}  # with an interval in the cells, and without
_THIN_SPACE = "\N{THIN SPACE}"
# Colour bar and axis names; the row labels come on top.
_MARGIN_WIDTH = 0.87
_NOTE_COLOUR = "#1b1f24"  # on every colour of the map at 5:1 or better, in either theme
_PANEL_GAP_WIDTH = 0.12
_PANEL_GAP_HEIGHT = 0.72
_TITLE_CHARACTERS = 70
_TITLE_HEIGHT = 0.35
_COLOUR_BAR_HEIGHT = 2.3
# The mean advance of DejaVu Sans over the digits, signs and brackets of an interval, with a
# little air: wide intervals of neighbouring cells must not touch.
_CHARACTER_WIDTH = 0.58 * SMALL_FONT_SIZE / 72


class Size(NamedTuple):
    """Inches: of a panel with its labels, and beside all panels of a line."""

    width: float
    height: float
    margin: float


@dataclass(frozen=True)
class Panel:
    """The delta tables of one regime and arm, stacked over the extra factors' levels."""

    regime: Regime
    arm: Arm
    row_labels: tuple[str, ...]
    columns: tuple[str, ...]
    percent: NDArray[np.float64]
    notes: NDArray[np.str_]


def heatmap_figures(run: Results, metric: Metric, page_height: float | None = None) -> list[Figure]:
    """Draw every delta of a metric, regime by regime, arms before the control.

    The intervals stand in the cells if all arms of a regime then still stand side by side;
    otherwise they are left to the forest plot, which shows them better.

    Args:
        run: Tables and facts.
        metric: Which one.
        page_height: Inches that a figure may take; None draws everything into one. A single row
            of panels may exceed it.

    Returns:
        One figure per page; the colours mean the same in all of them.
    """
    by_regime = _panels(run, metric, intervals=True)
    size = _panel_size(by_regime)
    if len(run.compared) > _fit(size):
        by_regime = _panels(run, metric, intervals=False)
        size = _panel_size(by_regime)
    across = max(1, min(len(run.compared), _fit(size)))
    lines = [
        panels[start : start + across]
        for panels in by_regime
        for start in range(0, len(panels), across)
    ]
    limit = colour_limit(run, metric)
    return [
        _figure(page, across, size, run, metric, limit)
        for page in paged(lines, page_height, _TITLE_HEIGHT, size.height)
    ]


def _fit(size: Size) -> int:
    """How many panels fit beside each other."""
    return int((PAGE_WIDTH - size.margin) / size.width)


def colour_limit(run: Results, metric: Metric) -> float:
    """The percent at which the colours end: the same for every regime and arm."""
    rows = run.frames.deltas[
        (run.frames.deltas["metric"] == metric.name)
        & run.frames.deltas["arm"].isin([arm.name for arm in run.compared])
        & (run.frames.deltas["verdict"] != INVALID)
    ]
    largest = rows["delta_percent"].abs().max()
    return max(5.0, math.ceil(largest / 5) * 5) if math.isfinite(number(largest)) else 5.0


def _figure(
    lines: Sequence[Sequence[Panel]],
    across: int,
    size: Size,
    context: ReportContext,
    metric: Metric,
    limit: float,
) -> Figure:
    height = len(lines) * size.height + _TITLE_HEIGHT
    # One width for all figures: what the cells do not need goes into them, not around them.
    figure = new_figure(max(PAGE_WIDTH, across * size.width + size.margin), height)
    axes = figure.subplots(len(lines), across, squeeze=False)
    norm = Normalize(-limit, limit)
    for number_of_line, line in enumerate(lines):
        for index, axis in enumerate(axes[number_of_line]):
            if index >= len(line):
                axis.set_axis_off()
                continue
            _draw(axis, line[index], norm, metric)
            _label(axis, line[index], context, size.width, first=index == 0)
    bar = figure.colorbar(
        ScalarMappable(norm, delta_colours(metric.higher_is_better)),
        ax=axes.ravel().tolist(),
        shrink=min(1.0, _COLOUR_BAR_HEIGHT / height),
        aspect=18,
        anchor=(0.0, 1.0),
        pad=0.02,
    )
    low, high = ("slower", "faster") if metric.higher_is_better else ("faster", "slower")
    bar.set_label(f"{low}  ←  change (%)  →  {high}", fontsize=SMALL_FONT_SIZE)
    bar.outline.set_visible(False)
    return finish(figure, context, f"{metric.title}: change against {context.baseline}")


def _panels(run: Results, metric: Metric, *, intervals: bool) -> list[list[Panel]]:
    """The panels of each regime, one per arm."""
    precision = choose_precision(run)
    return [
        [
            _panel(
                run.frames,
                regime,
                arm,
                delta_tables(run, regime, arm, metric, precision),
                intervals=intervals,
            )
            for arm in run.compared
        ]
        for regime in run.regimes
    ]


def _panel(
    frames: ReportFrames,
    regime: Regime,
    arm: Arm,
    tables: Sequence[DeltaTable],
    *,
    intervals: bool,
) -> Panel:
    found = {
        _key(row, tables): number(row["delta_percent"])
        for row in frames.deltas_of(regime.name, arm.name, tables[0].metric.name).to_dict("records")
    }
    labels, percent, notes = [], [], []
    for table in tables:
        extra = tuple(level for _, level in table.extra)
        shown = [level_label(factor, level) for factor, level in table.extra]
        for label, row in zip(table.row_labels, table.rows, strict=True):
            labels.append(" · ".join((*shown, label)))
            percent.append(
                [
                    math.nan
                    if c.invalid or not c.measured
                    else found.get((*extra, c.row, c.column), math.nan)
                    for c in row
                ]
            )
            notes.append([_note(c, intervals=intervals) for c in row])
    return Panel(
        regime,
        arm,
        tuple(labels),
        tuple(_column_label(tables[0], column) for column in tables[0].columns),
        np.array(percent, dtype=float),
        np.array(notes, dtype=str),
    )


def _column_label(table: DeltaTable, column: str) -> str:
    return level_label(table.column_factor, column) if table.column_factor else ""


def _note(cell: Cell, *, intervals: bool) -> str:
    if cell.invalid:
        return INVALID_NOTE if intervals else INVALID_SIGN
    if not cell.measured:
        return MISSING_NOTE
    if not intervals:
        return typeset_minus(cell.delta)
    return typeset_minus(f"{cell.delta}\n{cell.interval}").replace(", ", f",{_THIN_SPACE}")


def _key(row: dict[object, object], tables: Sequence[DeltaTable]) -> tuple[object, ...]:
    table = tables[0]
    column = row[table.column_factor.name] if table.column_factor else ""
    return (*(row[f.name] for f, _ in table.extra), row[table.row_factor.name], column)


def _draw(axis: Axes, panel: Panel, norm: Normalize, metric: Metric) -> None:
    sns.heatmap(
        panel.percent,
        ax=axis,
        mask=np.isnan(panel.percent),
        annot=panel.notes,
        fmt="",
        annot_kws={"fontsize": SMALL_FONT_SIZE, "linespacing": 1.15, "color": _NOTE_COLOUR},
        cmap=delta_colours(metric.higher_is_better),
        norm=norm,
        # Unused beside the norm, but seaborn would search an empty panel for them.
        vmin=norm.vmin,
        vmax=norm.vmax,
        cbar=False,
        linewidths=1.0,
        linecolor="white",
        xticklabels=list(panel.columns),
        yticklabels=list(panel.row_labels),
    )
    axis.set_facecolor(MISSING_COLOUR)
    for row, column in zip(*np.nonzero(np.isnan(panel.percent)), strict=True):
        _draw_gap(axis, int(row), int(column), str(panel.notes[row, column]))
    axis.tick_params(length=0, labelrotation=0)


def _draw_gap(axis: Axes, row: int, column: int, note: str) -> None:
    """A cell without a colour of the map: nothing measured, or too much set aside."""
    invalid = note in (INVALID_NOTE, INVALID_SIGN)
    if invalid:
        axis.add_patch(
            Rectangle(
                (column, row),
                1,
                1,
                facecolor=INVALID_FILL,
                edgecolor="white",
                linewidth=1.0,
            )
        )
    axis.text(
        column + 0.5,
        row + 0.5,
        note,
        ha="center",
        va="center",
        fontsize=SMALL_FONT_SIZE,
        color=INVALID_COLOUR if invalid else "#404040",
        style="normal" if invalid else "italic",
        weight="bold" if invalid else "normal",
    )


def _label(axis: Axes, panel: Panel, context: ReportContext, width: float, *, first: bool) -> None:
    arm = panel.arm.name
    if panel.arm.is_control and "control" not in arm.lower():
        arm = f"{arm} (control)"
    # The line above belongs to the regime, whose title may reach over all panels.
    axis.set_title(f"\n{squeeze(arm, int(width * 12))}", loc="left", color=INK, fontsize=FONT_SIZE)
    if first:
        axis.annotate(
            squeeze(panel.regime.title, _TITLE_CHARACTERS),
            (0, 1),
            (0, 1.75 * FONT_SIZE),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            fontsize=FONT_SIZE,
            color=INK,
        ).set_in_layout(False)
    factors = (*context.extra_factors, context.factor(context.row_factor))
    names = [factor_name(factor) for factor in factors]
    axis.set_ylabel(" · ".join(names) if first else "")
    if not first:
        axis.set_yticks([])
    column = context.column_factor
    axis.set_xlabel(factor_name(context.factor(column)) if column else "")


def _panel_size(by_regime: Sequence[Sequence[Panel]]) -> Size:
    panels = [panel for regime in by_regime for panel in regime]
    notes = [line for p in panels for note in p.notes.flat for line in str(note).split("\n")]
    widest = max((len(line.replace(_THIN_SPACE, "")) for line in notes), default=4)
    rows, columns = panels[0].percent.shape if panels else (1, 1)
    labels = max((len(label) for p in panels for label in p.row_labels), default=1)
    return Size(
        width=columns * (widest * _CHARACTER_WIDTH + 0.07) + _PANEL_GAP_WIDTH,
        height=rows * _CELL_HEIGHT[any("\n" in str(n) for p in panels for n in p.notes.flat)]
        + _PANEL_GAP_HEIGHT,
        margin=_MARGIN_WIDTH + labels * _CHARACTER_WIDTH,
    )
