# SPDX-License-Identifier: GPL-2.0-only
"""The report stage's entry points: one function per output, each a rule of the workflow.

``results_dir`` is ``results/<experiment>/`` with the analysed tables in it; ``assets`` is the
repository's ``report/`` folder. Page and paper need the figures, the PDF needs the paper.
"""

from __future__ import annotations

from pathlib import Path

from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames, load_frames
from kdelta.report.html import render_html
from kdelta.report.latex import LatexReport
from kdelta.report.pdf import compile_pdf
from kdelta.report.results import Results
from kdelta.report.text import DEFAULT_WIDTH, render_brief, render_text

__all__ = [
    "compile_pdf",
    "load_frames",
    "render_brief",
    "render_text",
    "write_figures",
    "write_html",
    "write_latex",
    "write_text",
]

FIGURES = "figures"
TEXT = "report/tables.txt"
PAGE = "report/index.html"
PAPER_SOURCE = "report/paper.tex"
PAPER = "report/paper.pdf"
MACROS = "report/macros.tex"
PIECES = "report/tables"


def write_text(
    frames: ReportFrames,
    context: ReportContext,
    results_dir: Path,
    assets: Path,
    *,
    width: int = DEFAULT_WIDTH,
) -> Path:
    """Write ``report/tables.txt`` and return its path."""
    return _write(results_dir / TEXT, render_text(Results.of(frames, context), assets, width=width))


def write_figures(frames: ReportFrames, context: ReportContext, results_dir: Path) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.pdf`` and return their paths."""
    # Imported late: text, page and paper need no plotting library, and it takes a second.
    from kdelta.report.figures.draw import write_figures as draw

    return draw(Results.of(frames, context), results_dir / FIGURES)


def write_html(
    frames: ReportFrames, context: ReportContext, results_dir: Path, assets: Path
) -> Path:
    """Write ``report/index.html``, with the figures of the results folder in it."""
    text = render_html(Results.of(frames, context), assets, results_dir / FIGURES)
    return _write(results_dir / PAGE, text)


def write_latex(
    frames: ReportFrames, context: ReportContext, results_dir: Path, assets: Path
) -> Path:
    """Write the LaTeX sources and return the path of ``report/paper.tex``.

    The paper includes ``../figures/*.pdf`` and ``macros.tex``, which lies beside it;
    ``report/tables/*.tex`` are for other documents. Tables of an earlier run are removed.
    """
    report = LatexReport(Results.of(frames, context), assets)
    source = _write(results_dir / PAPER_SOURCE, report.paper(results_dir / FIGURES))
    _write(results_dir / MACROS, report.macros())
    pieces = report.pieces()
    for old in (results_dir / PIECES).glob("*.tex"):
        if old.name not in pieces:
            old.unlink()
    for name, text in pieces.items():
        _write(results_dir / PIECES / name, text)
    return source


def _write(path: Path, text: str) -> Path:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise KdeltaError(f"{path}: not written: {error.strerror}") from error
    return path
