# SPDX-License-Identifier: GPL-2.0-only
"""The report as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import markupsafe

from kdelta.errors import KdeltaError
from kdelta.report.captions import Captions, FigureEntry
from kdelta.report.context import ReportContext
from kdelta.report.formatting import format_size, group_digits, plural, typeset_minus
from kdelta.report.frames import ReportFrames
from kdelta.report.svg import inline_svg
from kdelta.report.tables import cell_count
from kdelta.report.templating import STYLE, make_environment, read_asset
from kdelta.report.view import build_view
from kdelta.report.wording import acceleration_label, adjustment_sentence

_THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


def render_html(frames: ReportFrames, context: ReportContext, assets: Path, figures: Path) -> str:
    """The page, with its style and figures in it.

    Args:
        frames: The analysed tables.
        context: The facts of the run; any text in it is escaped.
        assets: The repository's ``report/`` folder.
        figures: The folder that ``write_figures`` filled.

    Raises:
        KdeltaError: A figure is missing, or the assets are.
    """
    view = build_view(frames, context)
    captions = Captions(assets, view)
    environment = make_environment(assets, autoescape=True)
    environment.filters.update(
        minus=typeset_minus,
        digits=lambda number: group_digits(number, _THIN_SPACE),
        count=plural,
        size=format_size,
        arrow=lambda text: text.replace("->", "\N{RIGHTWARDS ARROW}"),
        caption=captions.table,
    )
    entries = captions.figures()
    return environment.get_template("index.html.j2").render(
        view=view,
        context=context,
        baseline=context.baseline,
        acceleration=acceleration_label(context),
        cells=cell_count(frames, context),
        adjustment=adjustment_sentence("verdict"),
        figures=[(entry, _load_figure(figures, entry)) for entry in entries],
        mechanism_figures=[
            (entry, _load_figure(figures, entry)) for entry in captions.mechanism_figures()
        ],
        # Our own file, not user input: escaping would break its quotes and child selectors.
        style=markupsafe.Markup(read_asset(assets, STYLE, "report.css")),
    )


def _load_figure(folder: Path, entry: FigureEntry) -> markupsafe.Markup:
    path = folder / f"{entry.stem}.svg"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KdeltaError(
            f"{path}: not readable: {error.strerror}; draw the figures before the page"
        ) from error
    return markupsafe.Markup(inline_svg(text, entry.stem, entry.alternative))
