# SPDX-License-Identifier: GPL-2.0-only
"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

import markupsafe

from kdelta.errors import KdeltaError
from kdelta.report.captions import Captions, FigureEntry
from kdelta.report.drilldown import drilldown
from kdelta.report.figures import figure_parts
from kdelta.report.figures.answers import answer_scale
from kdelta.report.figures.svg import inline_svg
from kdelta.report.formatting import format_size, group_digits, plural, typeset_minus
from kdelta.report.results import Results
from kdelta.report.run_files import Consoles, run_files
from kdelta.report.sentences import acceleration_label, adjustment_sentence
from kdelta.report.templating import SCRIPT, STYLE, make_environment, read_asset
from kdelta.report.view import build_view

_THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
_STYLE_SHEETS = ("theme.css", "page.css", "tables.css", "print.css")


class Drawing(NamedTuple):
    """A figure of the page."""

    entry: FigureEntry
    svg: markupsafe.Markup


def render_html(run: Results, assets: Path, figures: Path, results_dir: Path | None = None) -> str:
    """The page, with its style, script and figures in it.

    Args:
        run: Tables and facts; any text in it is escaped.
        assets: The repository's ``report/`` folder.
        figures: The folder that ``write_figures`` filled.
        results_dir: The run's folder, whose files the page links to; without it the one that
            holds ``figures``.

    Raises:
        KdeltaError: A figure is missing, or the assets are.
    """
    view = build_view(run)
    captions = Captions(assets, view)
    run_folder = figures.parent if results_dir is None else results_dir
    environment = make_environment(assets, autoescape=True)
    environment.filters.update(
        minus=typeset_minus,
        digits=lambda number: group_digits(number, _THIN_SPACE),
        count=plural,
        size=format_size,
        arrow=lambda text: text.replace("->", "\N{RIGHTWARDS ARROW}"),
        caption=captions.table,
    )
    # Our own files, not user input: escaping would break their quotes.
    style = "".join(read_asset(assets, STYLE, name) for name in _STYLE_SHEETS)
    script = read_asset(assets, SCRIPT, "report.js")
    environment.globals.update(
        view=view,
        context=run,
        baseline=run.baseline,
        drilldown=drilldown(run, view.precision, Consoles(run_folder)),
    )
    return environment.get_template("index.html.j2").render(
        acceleration=acceleration_label(run),
        cells=run.cells,
        adjustment=adjustment_sentence("verdict"),
        scale=answer_scale(run),
        figures=_load(figures, captions.figures()),
        mechanism_figures=_load(figures, captions.mechanism_figures()),
        files=run_files(run_folder, run),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        script_hash=_csp_hash(script),
    )


def _csp_hash(script: str) -> str:
    """The source that lets this script run, and no other, under the page's own policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _load(folder: Path, entries: tuple[FigureEntry, ...]) -> list[Drawing]:
    return [Drawing(entry, _svg(folder, entry)) for entry in entries]


def _svg(folder: Path, entry: FigureEntry) -> markupsafe.Markup:
    """The figure; page by page where it has several, since no sheet of paper takes it whole."""
    whole = folder / f"{entry.stem}.svg"
    parts = figure_parts(folder, entry.stem)
    if len(parts) < 2:
        return markupsafe.Markup(inline_svg(_read(whole), entry.stem, entry.alternative))
    pictures = [
        inline_svg(_read(part), part.stem, f"{entry.alternative} Part {number} of {len(parts)}.")
        for number, part in enumerate(parts, start=1)
    ]
    return markupsafe.Markup("\n".join(pictures))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KdeltaError(
            f"{path}: not readable: {error.strerror}; draw the figures before the page"
        ) from error
