# SPDX-License-Identifier: GPL-2.0-only
"""What a forest plot is drawn with: bands, block ticks, intervals, diamonds, signs of verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Polygon
from matplotlib.path import Path

from kdelta.report.axis_labels import squeeze
from kdelta.report.cells import Row as TableRow
from kdelta.report.cells import number
from kdelta.report.context import Arm, ReportContext
from kdelta.report.figures.style import SMALL_FONT_SIZE, arm_styles
from kdelta.report.palette import INK, INVALID_SIGN, PAPER, RULE
from kdelta.report.tables import INVALID
from kdelta.report.wording import confidence_label

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
        corners = [
            (row.low, place),
            (row.ratio, place - 0.42),
            (row.high, place),
            (row.ratio, place + 0.42),
        ]
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
