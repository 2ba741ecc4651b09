# SPDX-License-Identifier: GPL-2.0-only
"""Forest plot: every cell's effect with its interval, arm by arm, and the overall effects."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.path import Path

from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.figures.axes import (
    CHANGE,
    Cell,
    cell_label,
    cells_name,
    ratio_limits,
    set_percent_axis,
    squeeze,
)
from kdelta.report.figures.style import (
    FONT_SIZE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    SMALL_FONT_SIZE,
    arm_styles,
    finish,
    legend_columns,
    new_figure,
)
from kdelta.report.figures.svg import INK, INVALID_SIGN, PAPER, RULE
from kdelta.report.formatting import Row as TableRow
from kdelta.report.frames import ReportFrames, number
from kdelta.report.results import Results
from kdelta.report.sentences import confidence_label, magnitude
from kdelta.report.tables import INVALID

SLOT = 0.12
"""Inches that one arm takes in one cell."""
NO_PAIR = "n/a"
SIGNS = {
    "faster": "+",
    "slower": "\N{MINUS SIGN}",
    "equivalent": "=",
    "inconclusive": "~",
    INVALID: INVALID_SIGN,
}
_NOISE_ALPHA = 0.3
_MARGIN_ALPHA = 0.75
OVERALL = "overall"
_CELL_GAP = 0.6  # between the arms of one cell and of the next, in slots
_AXIS_HEIGHT = 0.85
_TITLE_HEIGHT = 1.15
_TICK_WIDTH = 0.36
# Beyond this many cells panels under each other take metres: all regimes stand side by side.
_MANY_CELLS = 16
_TITLE_LINES = {False: 1, True: 3}  # in panels two beside each other, and in narrower ones


class _Panel(NamedTuple):
    """Some cells of a regime, with the overall effects below them where they are the last."""

    regime: Regime
    cells: tuple[Cell, ...]
    with_overall: bool


def forest_figures(
    run: Results,
    page_height: float | None = None,
    metric: Metric | None = None,
) -> list[Figure]:
    """Draw a panel per regime: cells down, the arms under each other within them.

    The axis of changes is the same in every panel.

    Args:
        run: Tables and facts.
        page_height: Inches that a figure may take; None draws everything into one.
        metric: Which one; the primary one without it.

    Returns:
        One figure per page.
    """
    metric = metric or run.primary
    cells = all_cells(run)
    step = (len(run.compared) + _CELL_GAP) * SLOT
    whole = (len(cells) + 1) * step + _AXIS_HEIGHT
    across = _across(len(run.regimes), len(cells), whole)
    if page_height is None:
        lines = _lines(run.regimes, cells, across, len(cells))
        return [_figure(run, metric, lines, across)]
    room = page_height - _TITLE_HEIGHT
    if whole > room:
        fit = max(1, int((room - _AXIS_HEIGHT) / step) - 1)
        # Equal parts, so that the last page does not hold a single cell.
        fit = math.ceil(len(cells) / math.ceil(len(cells) / fit))
        pages = [[line] for line in _lines(run.regimes, cells, across, fit)]
    else:
        lines = _lines(run.regimes, cells, across, len(cells))
        down = max(1, int(room / whole))
        pages = [lines[i : i + down] for i in range(0, len(lines), down)]
    return [_figure(run, metric, page, across) for page in pages]


def all_cells(run: Results) -> tuple[Cell, ...]:
    """Every planned or observed cell, in display order."""
    levels = [run.levels(factor.name) for factor in run.factors]
    return tuple(itertools.product(*levels))


def _across(regimes: int, cells: int, height: float) -> int:
    two_rows_fit = 2 * height <= PAGE_HEIGHT - _TITLE_HEIGHT
    if regimes <= 2 or cells <= _MANY_CELLS or two_rows_fit:
        return min(regimes, 2)
    return min(regimes, 4) if regimes % 3 else 3


def _lines(
    regimes: Sequence[Regime], cells: Sequence[Cell], across: int, fit: int
) -> list[list[_Panel]]:
    """Lines of panels: the same cells of some regimes beside each other."""
    return [
        [
            _Panel(regime, tuple(cells[first : first + fit]), first + fit >= len(cells))
            for regime in regimes[start : start + across]
        ]
        for start in range(0, len(regimes), across)
        for first in range(0, max(1, len(cells)), fit)
    ]


def _figure(run: Results, metric: Metric, lines: Sequence[Sequence[_Panel]], across: int) -> Figure:
    step = (len(run.compared) + _CELL_GAP) * SLOT
    rows = [len(line[0].cells) + line[0].with_overall for line in lines]
    heights = [count * step + _AXIS_HEIGHT for count in rows]
    figure = new_figure(PAGE_WIDTH, sum(heights) + _TITLE_HEIGHT)
    axes = figure.subplots(len(lines), across, squeeze=False, height_ratios=heights)
    limits = ratio_limits(run, metric)
    most = max(3, int((PAGE_WIDTH - 1.2) / across / _TICK_WIDTH))
    for line, places in zip(lines, axes, strict=True):
        for index, axis in enumerate(places):
            if index >= len(line):
                axis.set_axis_off()
                continue
            set_percent_axis(axis, "x", limits, most)
            _draw(axis, run, metric, line[index])
            _label(axis, run, metric, line[index], across, first=index == 0)
    verdicts = {
        v for f in (run.frames.deltas, run.frames.overall) for v in _of(f, metric)["verdict"]
    }
    handles, signs = legend(run, verdicts)
    figure.legend(
        handles=handles,
        title=signs,
        title_fontsize=SMALL_FONT_SIZE,
        alignment="left",
        loc="outside lower left",
        ncols=legend_columns(handles, 4),
        columnspacing=1.2,
    )
    title = f"{metric.title}: change against {run.baseline}, cell by cell"
    return finish(figure, run, title)


def _draw(axis: Axes, run: Results, metric: Metric, panel: _Panel) -> None:
    arms = run.compared
    step = len(arms) + _CELL_GAP
    rows = len(panel.cells) + panel.with_overall
    axis.set_ylim(rows * step, 0)
    draw_bands(axis, run, noise_floor(run.frames, panel.regime, metric))
    names = [factor.name for factor in run.factors]
    for index, arm in enumerate(arms):
        found = run.frames.deltas_of(panel.regime.name, arm.name, metric.name).to_dict("records")
        by_cell = {tuple(str(row[n]) for n in names): row for row in found}
        places = {c: i * step + index + (_CELL_GAP + 1) / 2 for i, c in enumerate(panel.cells)}
        blocks = _of(run.frames.ratios, metric)
        blocks = blocks[(blocks["regime"] == panel.regime.name) & (blocks["arm"] == arm.name)]
        ratios = [
            (places[cell], number(ratio))
            for *levels, ratio in blocks[[*names, "ratio"]].itertuples(index=False)
            if (cell := tuple(map(str, levels))) in places
        ]
        draw_ticks(axis, run, arm, ratios)
        for cell, place in places.items():
            draw_row(axis, run, arm, place, Row.of(by_cell.get(cell)))
        if panel.with_overall:
            overall = run.frames.overall_of(panel.regime.name, arm.name, metric.name)
            place = len(panel.cells) * step + index + (_CELL_GAP + 1) / 2
            row = Row.of(None if overall is None else overall.to_dict())
            draw_row(axis, run, arm, place, row, overall=True)
    for edge in range(1, rows):
        last = edge == len(panel.cells)
        axis.axhline(
            edge * step, color=INK if last else RULE, linewidth=0.8 if last else 0.5, zorder=0.5
        )


def _of(frame: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    return frame[frame["metric"] == metric.name]


def noise_floor(frames: ReportFrames, regime: Regime, metric: Metric) -> float:
    """The noise floor of a regime in per cent; NaN where it is unknown."""
    row = frames.control_of(regime.name, metric.name)
    return math.nan if row is None else number(row["noise_floor_percent"])


def _label(
    axis: Axes,
    run: Results,
    metric: Metric,
    panel: _Panel,
    across: int,
    *,
    first: bool,
) -> None:
    step = len(run.compared) + _CELL_GAP
    labels = [cell_label(run, cell) for cell in panel.cells]
    labels += [OVERALL] * panel.with_overall
    axis.set_yticks([(i + 0.5) * step for i in range(len(labels))], labels if first else [])
    axis.tick_params(axis="y", length=0)
    axis.set_ylabel(cells_name(run) if first else "")
    axis.set_xlabel(f"{metric.short}: {CHANGE}" if across < 3 else CHANGE)
    room = int(84 / across) - 4
    title = textwrap.fill(squeeze(panel.regime.title, _TITLE_LINES[across > 2] * room), room)
    axis.set_title(f"{title}\n", loc="left", fontsize=FONT_SIZE, color=INK)
    floor = noise_floor(run.frames, panel.regime, metric)
    note = f"noise floor {magnitude(floor)}" if run.controls else ""
    axis.text(
        0, 1.0, note, transform=axis.transAxes, va="bottom", fontsize=SMALL_FONT_SIZE, color=INK
    ).set_in_layout(False)
    axis.spines[["top", "right", "left"]].set_visible(False)


class Row(NamedTuple):
    """An effect: ratios, NaN where unknown, and the sign of its verdict."""

    ratio: float
    low: float
    high: float
    verdict: str

    @classmethod
    def of(cls, row: TableRow | None) -> Self:
        """From a row of deltas.csv or overall.csv; None for a row that is not there."""
        if row is None:
            return cls(math.nan, math.nan, math.nan, "")
        ratio, low, high = (number(row[name]) for name in ("ratio", "ratio_low", "ratio_high"))
        return cls(ratio, low, high, str(row["verdict"]))

    @property
    def drawn(self) -> bool:
        """Whether there is an effect to draw: an invalid one is none."""
        return self.verdict != INVALID and math.isfinite(self.ratio)

    @property
    def sign(self) -> str:
        """The verdict as one character."""
        if self.verdict != INVALID and not math.isfinite(self.ratio):
            return NO_PAIR
        return SIGNS.get(self.verdict, "?")


def draw_bands(axis: Axes, context: ReportContext, noise_floor_percent: float) -> None:
    """The noise floor, the margin of equivalence within it, and the line of no change."""
    for percent, alpha in (
        (noise_floor_percent, _NOISE_ALPHA),
        (100 * context.equivalence_margin, _MARGIN_ALPHA),
    ):
        if math.isfinite(percent):
            end = 1 + percent / 100
            axis.axvspan(1 / end, end, color=RULE, alpha=alpha, linewidth=0, zorder=0)
    axis.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)


def draw_ticks(
    axis: Axes, context: ReportContext, arm: Arm, ratios: Sequence[tuple[float, float]]
) -> None:
    """Every block's ratio as a small upright stroke.

    Args:
        axis: Slots down, ratios across.
        context: The facts of the run.
        arm: Whose they are.
        ratios: Place down and ratio.
    """
    if not ratios:
        return
    # One path for all: thousands of markers would make the page heavy.
    ends = [((x, y - 0.28), (x, y + 0.28)) for y, x in ratios]
    path = Path(np.array(ends).reshape(-1, 2), [Path.MOVETO, Path.LINETO] * len(ends))
    colour, _ = arm_styles(context)[arm.name]
    axis.add_patch(
        PathPatch(path, fill=False, edgecolor=colour, linewidth=0.7, alpha=0.55, zorder=2)
    ).set_in_layout(False)


def draw_row(
    axis: Axes, context: ReportContext, arm: Arm, place: float, row: Row, *, overall: bool = False
) -> None:
    """An effect with its interval and the sign of its verdict at the panel's right edge."""
    # Outside the axes: the layout makes room for the first one, and for the few wider ones.
    axis.text(
        1.012,
        place,
        row.sign,
        transform=axis.get_yaxis_transform(),
        va="center_baseline",
        fontsize=SMALL_FONT_SIZE,
        weight="bold",
        color=INK,
    ).set_in_layout(place < 2 or row.sign == NO_PAIR)
    if not row.drawn:
        return
    colour, marker = arm_styles(context)[arm.name]
    if overall and math.isfinite(row.low) and math.isfinite(row.high):
        tip, foot = (row.ratio, place - 0.42), (row.ratio, place + 0.42)
        corners = [(row.low, place), tip, (row.high, place), foot]
        axis.add_patch(Polygon(corners, facecolor=colour, edgecolor=PAPER, linewidth=0.5, zorder=5))
        _draw_arrows(axis, row, place, colour)
        return
    if math.isfinite(row.low) and math.isfinite(row.high):
        axis.hlines(place, row.low, row.high, colors=colour, linewidth=1.3, zorder=4)
        _draw_arrows(axis, row, place, colour)
    settled = row.verdict in ("faster", "slower", "equivalent")
    axis.plot(
        row.ratio,
        place,
        marker=marker,
        markersize=4.4,
        markerfacecolor=colour if settled else PAPER,
        markeredgecolor=PAPER if settled else colour,
        markeredgewidth=0.5 if settled else 1.0,
        linestyle="none",
        zorder=5,
    )


def _draw_arrows(axis: Axes, row: Row, place: float, colour: str) -> None:
    """An interval that leaves the panel ends in an arrow head."""
    left, right = axis.get_xlim()
    for outside, end, marker in ((row.low < left, left, "<"), (row.high > right, right, ">")):
        if outside:
            axis.plot(
                end,
                place,
                marker=marker,
                markersize=4,
                color=colour,
                markeredgewidth=0,
                clip_on=False,
                zorder=6,
            )


def legend(context: ReportContext, verdicts: Iterable[str]) -> tuple[list[Artist], str]:
    """The legend's handles, and its heading: the signs that occur, in words."""
    handles: list[Artist] = []
    for arm in context.compared:
        colour, marker = arm_styles(context)[arm.name]
        name = squeeze(arm.name, 30)
        handles.append(
            Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.3, label=name)
        )
    diamond = Line2D([], [], color=INK, marker="d", linestyle="none", markersize=7)
    diamond.set_label(f"overall, {confidence_label(context)} interval")
    tick = Line2D([], [], color=INK, marker="|", linestyle="none", markersize=6, label="one block")
    hollow = Line2D([], [], marker="o", linestyle="none", markersize=5, label="hollow: not settled")
    hollow.set(markerfacecolor=PAPER, markeredgecolor=INK)
    margin = Patch(facecolor=RULE, alpha=_MARGIN_ALPHA)
    margin.set_label(f"equivalent: within {context.equivalence_margin * 100:g}%")
    handles += [diamond, tick, hollow, margin]
    if context.controls:
        handles.append(Patch(facecolor=RULE, alpha=_NOISE_ALPHA, label="below the noise floor"))
    seen = set(verdicts)
    words = [f"{sign} {verdict}" for verdict, sign in SIGNS.items() if verdict in seen]
    return handles, f"At the right edge: {', '.join(words)}" if words else ""
