# SPDX-License-Identifier: GPL-2.0-only
"""Every figure of a report, as SVG for the page and as PDF for the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from kdelta.report.figures import figure_parts, mechanism_figures, run_figures
from kdelta.report.figures.drift import drift_figures
from kdelta.report.figures.font import document_font
from kdelta.report.figures.forest import forest_figures
from kdelta.report.figures.heatmap import heatmap_figures
from kdelta.report.figures.latency import latency_figures
from kdelta.report.figures.pressure import pressure_figures
from kdelta.report.figures.style import PAGE_HEIGHT, figure_style, save_pdf, save_svg, set_font
from kdelta.report.figures.trace_pages import pages_figures
from kdelta.report.figures.trace_waits import wait_figures
from kdelta.report.results import Results

# Called with the height of a page, or None for everything in one figure.
Draw = Callable[[float | None], list[Figure]]

_ONE_EACH = {
    "forest": forest_figures,
    "drift": drift_figures,
    "latency": latency_figures,
    "pressure": pressure_figures,
    "mechanism-pages": pages_figures,
    "mechanism-wait": wait_figures,
}


def write_figures(run: Results, folder: Path) -> list[Path]:
    """Draw every figure into ``folder``.

    The SVG holds everything in one picture. The PDF holds the same where that fits a page of
    paper, and several pages otherwise; its text is set in the paper's font where that is
    installed. Where there are several pages, each is an SVG too, for pages that are printed.

    Returns:
        The files written, as ``<stem>.svg`` and ``.pdf``, and ``<stem>-<page>.svg``; those of
        the mechanism only where there are traced boots.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with document_font() as family:
        for stem, draw in drawings(run).items():
            svg, pdf = folder / f"{stem}.svg", folder / f"{stem}.pdf"
            with figure_style(stem):
                pages = draw(PAGE_HEIGHT)
                whole = pages if len(pages) == 1 else draw(None)
                save_svg(whole[0], svg)
                parts = _save_parts(pages, folder, stem)
                if family is not None:
                    set_font(pages, family)
                save_pdf(pages, pdf)
            written += [svg, pdf, *parts]
    return written


def _save_parts(pages: Sequence[Figure], folder: Path, stem: str) -> list[Path]:
    for old in figure_parts(folder, stem):
        old.unlink()
    if len(pages) == 1:
        return []
    parts = [folder / f"{stem}-{number}.svg" for number in range(1, len(pages) + 1)]
    for page, part in zip(pages, parts, strict=True):
        save_svg(page, part)
    return parts


def drawings(run: Results) -> dict[str, Draw]:
    """How each figure of a run is drawn, by its stem."""
    names = run_figures(run.metrics, run.distribution)
    if not run.frames.mechanism.empty:
        names += mechanism_figures(run.metrics)
    return {
        name.stem: partial(heatmap_figures, run, name.metric)
        if name.template == "heatmap"
        else partial(_ONE_EACH[name.stem], run)
        for name in names
    }
