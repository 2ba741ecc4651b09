# SPDX-License-Identifier: GPL-2.0-only
"""Colours, type and files of every figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from kdelta.report.context import ReportContext
from kdelta.report.palette import ARM_COLOURS, CONTROL_COLOUR, INK, PAPER, RULE
from kdelta.report.wording import acceleration_label

# Text width of the A4 page in paper.tex (17 cm): figures go in at their own size.
PAGE_WIDTH = 6.69
PAGE_HEIGHT = 8.6

_ARM_MARKERS = ("o", "s", "^", "v", "P", "X")
CONTROL_MARKER = "D"
MISSING_COLOUR = "#d8d8d8"

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
    "font.family": ["DejaVu Sans"],
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


def settle_layout(figure: Figure) -> Figure:
    """Compute the layout once; otherwise every file written from the figure does it twice."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


class _QuietCanvas(FigureCanvasAgg):
    # seaborn.heatmap draws the whole figure after each panel, only to see whether tick labels
    # overlap; with the layout engine at work that takes minutes for a figure of many panels.
    def draw(self) -> None:
        self.figure.stale = False


def arm_styles(context: ReportContext) -> dict[str, tuple[str, str]]:
    """Colour and marker by arm, the same in every figure."""
    styles = {
        arm.name: (ARM_COLOURS[i % len(ARM_COLOURS)], _ARM_MARKERS[i % len(_ARM_MARKERS)])
        for i, arm in enumerate(context.treatments)
    }
    return styles | {arm.name: (CONTROL_COLOUR, CONTROL_MARKER) for arm in context.controls}


def delta_colours(higher_is_better: bool) -> Colormap:
    """A diverging map, safe for the colour-blind: blue is faster, orange is slower."""
    colours = sns.diverging_palette(40, 250, s=88, l=66, sep=4, as_cmap=True)
    return colours if higher_is_better else colours.reversed()


def title_suffix(context: ReportContext) -> str:
    """What follows every figure's title when its numbers are not measurements."""
    return f" \N{EM DASH} {acceleration_label(context)}" if context.emulated else ""


def save_svg(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on the figure alone."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def save_pdf(pages: Sequence[Figure], path: Path) -> None:
    """Write one PDF page per figure; the bytes depend on the figures alone."""
    with PdfPages(path, metadata={"CreationDate": None, "Creator": None, "Producer": None}) as pdf:
        for page in pages:
            pdf.savefig(page)
