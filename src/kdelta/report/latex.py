# SPDX-License-Identifier: GPL-2.0-only
"""The report as a LaTeX document."""

from __future__ import annotations

import re
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.report.captions import Captions
from kdelta.report.context import ReportContext
from kdelta.report.formatting import group_digits, plural, typeset_minus
from kdelta.report.frames import ReportFrames
from kdelta.report.templating import make_environment
from kdelta.report.tex_escape import Tex, escape, escape_breakable, pdf_string
from kdelta.report.view import build_view
from kdelta.report.wording import legend

_THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
_SIGNS = {"-": "\N{MINUS SIGN}", "x": "\N{MULTIPLICATION SIGN}"}


def render_latex(
    frames: ReportFrames,
    context: ReportContext,
    assets: Path,
    figures: Path,
    graphics: str = "../figures",
) -> str:
    r"""The paper's source.

    Every expression of the template is escaped on its way out; only ``Tex`` passes as it is.

    Args:
        frames: The analysed tables.
        context: The facts of the run; any text in it is escaped.
        assets: The repository's ``report/`` folder.
        figures: The folder that ``write_figures`` filled.
        graphics: How the document refers to that folder, from where it is compiled.

    Raises:
        KdeltaError: A figure is missing, or the assets are.
    """
    view = build_view(frames, context)
    captions = Captions(assets, view)
    environment = make_environment(
        assets,
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\COMMENT{",
        comment_end_string="}",
        finalize=escape,
    )
    environment.filters.update(
        minus=typeset_minus,
        arrow=lambda text: text.replace("->", "\N{RIGHTWARDS ARROW}"),
        sign=lambda mark: _SIGNS.get(mark, mark),
        digits=lambda number: group_digits(number, _THIN_SPACE),
        count=plural,
        caption=captions.table,
        breakable=escape_breakable,
        pdf_string=lambda text: Tex(pdf_string(text)),
    )
    entries = captions.figures()
    return environment.get_template("paper.tex.j2").render(
        view=view,
        context=context,
        baseline=context.baseline,
        legend=legend(context, view.any_short_of_blocks, _SIGNS),
        figures=[(entry, count_pages(figures / f"{entry.stem}.pdf")) for entry in entries],
        mechanism_figures=[
            (entry, count_pages(figures / f"{entry.stem}.pdf"))
            for entry in captions.mechanism_figures()
        ],
        graphics=Tex(graphics),
    )


def count_pages(path: Path) -> int:
    """The pages of a PDF file that ``write_figures`` wrote (its objects are not compressed)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KdeltaError(
            f"{path}: not readable: {error.strerror}; draw the figures before the paper"
        ) from error
    return max(1, len(re.findall(rb"/Type\s*/Page\b", data)))
