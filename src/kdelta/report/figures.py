# SPDX-License-Identifier: GPL-2.0-only
"""Every figure of a report, as SVG for the page and as PDF for the paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from kdelta.report.blocks import blocks_figures
from kdelta.report.context import ReportContext
from kdelta.report.figure_style import PAGE_HEIGHT, figure_style, save_pdf, save_svg
from kdelta.report.frames import ReportFrames
from kdelta.report.heatmap import heatmap_figures
from kdelta.report.metrics import MAIN_METRICS, Metric

Draw = Callable[[ReportFrames, ReportContext, Metric, float | None], list[Figure]]
_KINDS: dict[str, Draw] = {"heatmap": heatmap_figures, "blocks": blocks_figures}


def write_figures(frames: ReportFrames, context: ReportContext, folder: Path) -> list[Path]:
    """Draw every figure into ``folder``.

    The SVG holds everything in one picture. The PDF holds the same where that fits a page of
    paper, and several pages otherwise.

    Returns:
        The files written, as ``<kind>-<metric>.svg`` and ``.pdf``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, draw in _KINDS.items():
        for metric in MAIN_METRICS:
            stem = f"{kind}-{metric.name}"
            with figure_style(stem):
                pages = draw(frames, context, metric, PAGE_HEIGHT)
                save_pdf(pages, folder / f"{stem}.pdf")
                whole = pages if len(pages) == 1 else draw(frames, context, metric, None)
                save_svg(whole[0], folder / f"{stem}.svg")
            written += [folder / f"{stem}.svg", folder / f"{stem}.pdf"]
    return written
