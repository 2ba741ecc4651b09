# SPDX-License-Identifier: GPL-2.0-only
"""Colours, type and files of every figure."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from kdelta.report.context import ReportContext
from kdelta.report.figures.svg import ARM_COLOURS, BASELINE_COLOUR, CONTROL_COLOUR, INK, PAPER, RULE
from kdelta.report.sentences import acceleration_label

# Text width of the A4 page in paper.tex (17 cm): figures go in at their own size.
PAGE_WIDTH = 6.69
PAGE_HEIGHT = 8.6

_ARM_MARKERS = ("o", "s", "^", "v", "P", "X")
BASELINE_MARKER = "*"
CONTROL_MARKER = "D"
MISSING_COLOUR = "#d8d8d8"

_SNAP_DIGITS = 5  # of a figure's width: a hundredth of a point

# It comes with matplotlib, and is wide: where it fits, others do.
FONT_FAMILY = "DejaVu Sans"
FONT_SIZE = 9.0
SMALL_FONT_SIZE = 8.0

_RC: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "axes.titlecolor": INK,
    "axes.titlesize": FONT_SIZE,
    "axes.unicode_minus": True,
    "figure.facecolor": PAPER,
    "figure.titlesize": FONT_SIZE + 1.5,
    "font.family": [FONT_FAMILY],
    "font.size": FONT_SIZE,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": SMALL_FONT_SIZE,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.facecolor": PAPER,
    # Titles come from users: a dollar sign is a dollar sign.
    "text.parse_math": False,
    "text.color": INK,
    "svg.fonttype": "none",
    "xtick.color": INK,
    "xtick.labelsize": SMALL_FONT_SIZE,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": SMALL_FONT_SIZE,
    "ytick.major.width": 0.6,
}


@contextmanager
def figure_style(name: str) -> Iterator[None]:
    """The rc settings of a figure; its name seeds the element ids, so that no two collide."""
    with mpl.rc_context():
        mpl.rcParams.update(_RC)
        mpl.rcParams["svg.hashsalt"] = name
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    _QuietCanvas(figure)
    return figure


class _QuietCanvas(FigureCanvasAgg):
    # seaborn.heatmap draws the whole figure after each panel, only to see whether tick labels
    # overlap; with the layout engine at work that takes minutes for a figure of many panels.
    def draw(self) -> None:
        self.figure.stale = False


def arm_styles(context: ReportContext) -> dict[str, tuple[str, str]]:
    """Colour and marker by arm, the baseline included: the same in every figure."""
    styles = {context.baseline: (BASELINE_COLOUR, BASELINE_MARKER)} | {
        arm.name: (ARM_COLOURS[i % len(ARM_COLOURS)], _ARM_MARKERS[i % len(_ARM_MARKERS)])
        for i, arm in enumerate(context.treatments)
    }
    return styles | {arm.name: (CONTROL_COLOUR, CONTROL_MARKER) for arm in context.controls}


def marker_size(marker: str) -> float:
    """Points at which a marker looks as large as the others: a star has little in it."""
    return 8.0 if marker == BASELINE_MARKER else 5.0


def legend_columns(handles: Sequence[Artist], most: int) -> int:
    """How many columns of a legend fit on a page's width."""
    # Points: a handle with the gaps around it, and the mean advance of a character.
    widths = [40 + 0.59 * SMALL_FONT_SIZE * len(str(handle.get_label())) for handle in handles]
    for columns in range(most, 1, -1):
        filled = [part.max() for part in np.array_split(np.array(widths), columns) if part.size]
        if sum(filled) <= 72 * PAGE_WIDTH:
            return columns
    return 1


def legend_in_rows(figure: Figure, handles: Sequence[Artist], most: int) -> None:
    """A legend below the figure that is read line by line; matplotlib fills column by column."""
    for columns in range(min(most, len(handles)), 0, -1):
        ordered = [handle for first in range(columns) for handle in handles[first::columns]]
        if columns == 1 or legend_columns(ordered, columns) == columns:
            break
    figure.legend(handles=ordered, loc="outside lower left", ncols=columns)


def delta_colours(higher_is_better: bool) -> Colormap:
    """A diverging map, safe for the colour-blind: blue is faster, orange is slower."""
    colours = sns.diverging_palette(40, 250, s=88, l=66, sep=4, as_cmap=True)
    return colours if higher_is_better else colours.reversed()


def finish(
    figure: Figure,
    context: ReportContext,
    title: str,
    handles: Sequence[Artist] = (),
    most: int = 6,
) -> Figure:
    """Title, legend below the figure if there are handles for one, and the layout.

    Args:
        figure: With everything else drawn.
        context: The facts of the run; a title says when its numbers are not measurements.
        title: Of the whole figure.
        handles: Of the legend, in the order to be read.
        most: Columns that the legend may have.
    """
    if context.emulated:
        title = f"{title} \N{EM DASH} {acceleration_label(context)}"
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    if handles:
        legend_in_rows(figure, handles, most)
    return _settle_layout(figure)


def _settle_layout(figure: Figure) -> Figure:
    """Compute the layout once; otherwise every file written from the figure does it twice."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # The solver adds in any order: the last bits differ from run to run, and with them the files.
    _snap(figure)
    return figure


def _snap(figure: Figure | SubFigure) -> None:
    for axis in figure.axes:
        axis.set_position(np.round(axis.get_position().bounds, _SNAP_DIGITS).tolist())
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((round(float(x), _SNAP_DIGITS), round(float(y), _SNAP_DIGITS)))
    for part in figure.subfigs:
        box = part.bbox_relative
        box.p0, box.p1 = np.round(box.p0, _SNAP_DIGITS), np.round(box.p1, _SNAP_DIGITS)
        _snap(part)


def set_font(figures: Sequence[Figure], family: str) -> None:
    """Set every text in another font, in the layout that there is.

    Args:
        figures: Drawn and settled.
        family: A font that is not wider; what it lacks is taken from `FONT_FAMILY`.
    """
    for figure in figures:
        for text in figure.findobj(Text):
            text.set_fontfamily([family, FONT_FAMILY])


def save_svg(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on the figure alone."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    # A hundredth of a point is nothing to the eye, and a third of the page's weight.
    short = re.sub(
        r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text.getvalue()
    )
    path.write_text(short, encoding="utf-8", newline="\n")


def save_pdf(pages: Sequence[Figure], path: Path) -> None:
    """Write one PDF page per figure; the bytes depend on the figures alone."""
    with PdfPages(path, metadata={"CreationDate": None, "Creator": None, "Producer": None}) as pdf:
        for page in pages:
            pdf.savefig(page)
