# SPDX-License-Identifier: GPL-2.0-only
"""Every figure of a report, as SVG for the page and as PDF for the paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from kdelta.report.blocks import blocks_figures
from kdelta.report.context import ReportContext
from kdelta.report.figure_style import PAGE_HEIGHT, figure_style, save_pdf, save_svg
from kdelta.report.frames import ReportFrames
from kdelta.report.heatmap import heatmap_figures
from kdelta.report.metrics import MAIN_METRICS, MECHANISM_FIGURES
from kdelta.report.trace_pages import pages_figures
from kdelta.report.trace_waits import wait_figures

# Called with the height of a page, or None for everything in one figure.
Draw = Callable[[float | None], list[Figure]]


def write_figures(frames: ReportFrames, context: ReportContext, folder: Path) -> list[Path]:
    """Draw every figure into ``folder``.

    The SVG holds everything in one picture. The PDF holds the same where that fits a page of
    paper, and several pages otherwise.

    Returns:
        The files written, as ``<stem>.svg`` and ``.pdf``; those of the mechanism only where
        there are traced boots.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for stem, draw in _figures(frames, context).items():
        svg, pdf = folder / f"{stem}.svg", folder / f"{stem}.pdf"
        with figure_style(stem):
            pages = draw(PAGE_HEIGHT)
            save_pdf(pages, pdf)
            whole = pages if len(pages) == 1 else draw(None)
            save_svg(whole[0], svg)
        written += [svg, pdf]
    return written


def _figures(frames: ReportFrames, context: ReportContext) -> dict[str, Draw]:
    figures: dict[str, Draw] = {
        f"{kind}-{metric.name}": partial(draw, frames, context, metric)
        for kind, draw in (("heatmap", heatmap_figures), ("blocks", blocks_figures))
        for metric in MAIN_METRICS
    }
    if not frames.mechanism.empty:
        for stem, draw in zip(MECHANISM_FIGURES, (pages_figures, wait_figures), strict=True):
            figures[stem] = partial(draw, frames, context)
    return figures
