# SPDX-License-Identifier: GPL-2.0-only
"""Plain text, in the table form of a kernel cover letter. Layout only; ASCII only."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from jinja2 import Environment

from kdelta.report.grid import Grid
from kdelta.report.results import Results
from kdelta.report.sentences import Banner, legend
from kdelta.report.templating import make_environment
from kdelta.report.text_tables import form_of, format_grid, format_table
from kdelta.report.view import build_view

DEFAULT_WIDTH = 160
PROSE_WIDTH = 78
_MIN_WIDTH = 40  # narrower than this, prose has nothing but breaks
_INDENT = "    "
_HARD_SPACE = "\N{NO-BREAK SPACE}"
_SHELL_WORD = re.compile(r"(?:[^\s']|'[^']*'?)+")
_KEEP_TOGETHER = re.compile(
    r"\[[^\[\]]{1,24}\]|= \S+(?: [KMG]?i?B\b)?|\d [KMG]?i?B\b|\d (?:s|cells?|blocks?)\b|-> \S+"
)


def box(banner: Banner, width: int = PROSE_WIDTH) -> str:
    """The banner as a box that no reader scrolls past."""
    inner = width - 4
    lines = [*textwrap.wrap(banner.headline, inner), "", *textwrap.wrap(banner.body, inner)]
    rule = "#" * width
    return "\n".join([rule, *(f"# {line:<{inner}} #" for line in lines), rule])


def wrap(text: str, indent: str = "", hanging: str | None = None, width: int = PROSE_WIDTH) -> str:
    """Fold prose, at the width of a mail; never breaks a word, an interval or a quantity."""
    kept = _KEEP_TOGETHER.sub(lambda match: match[0].replace(" ", _HARD_SPACE), text)
    folded = textwrap.fill(
        kept,
        width,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return folded.replace(_HARD_SPACE, " ")


def fold_command(text: str, indent: str = "", hanging: str = "", width: int = PROSE_WIDTH) -> str:
    """Fold a shell command that stays one: quoted words whole, lines end in a backslash."""
    lines = [indent]
    for word in _SHELL_WORD.findall(text):
        # Two columns for the mark of a line that goes on.
        if len(lines[-1]) + len(word) > width - 2 and lines[-1].strip():
            lines[-1] += "\\"
            lines.append(hanging)
        lines[-1] += f"{word} "
    return "\n".join(lines).rstrip()


def titled_grid(grid: Grid, width: int, prose_width: int = PROSE_WIDTH) -> str:
    """A plain table with its caption above it, in the letters of a mail."""
    text = f"\n{wrap(grid.caption, '  ', width=prose_width)}\n{format_grid(grid, width)}"
    return text.replace("\N{MICRO SIGN}", "u")


BRIEF_LINES = 36
"""Of `render_brief`: with the paths of the reports it is a screen of 40."""


def render_brief(run: Results, assets: Path, *, width: int = DEFAULT_WIDTH) -> str:
    """What was compared, the answer, and what weakens it, in at most `BRIEF_LINES` lines.

    Args:
        run: Tables and facts.
        assets: The repository's ``report/`` folder.
        width: Columns available; prose is folded there, but at 78 at most.
    """
    view = build_view(run)
    template = _environment(assets, width).get_template("brief.txt.j2")
    against = [*(notice.headline for notice in view.notices), *view.weaknesses]
    # The gravest come first: what does not fit is counted.
    for kept in range(len(against), -1, -1):
        left = len(against) - kept
        more = [f"{left} more: `kdelta show` prints everything."] if left else []
        text = template.render(view=view, context=run, held=[*against[:kept], *more])
        if len(text.splitlines()) <= BRIEF_LINES:
            break
    return text


def render_text(run: Results, assets: Path, *, width: int = DEFAULT_WIDTH) -> str:
    """The report as plain text, the form the terminal and ``tables.txt`` show.

    Args:
        run: Tables and facts.
        assets: The repository's ``report/`` folder.
        width: Columns available to tables; prose is folded there, but at 78 at most.
    """
    view = build_view(run)
    # One form for the whole report: a reader compares its tables with each other.
    lines = form_of(view.main_tables, width, (1, 2), _INDENT)
    environment = _environment(assets, width)
    environment.filters["table"] = lambda table: format_table(table, width, lines, _INDENT)
    return environment.get_template("tables.txt.j2").render(
        view=view,
        context=run,
        baseline=run.baseline,
        legend=f"Marks: {legend(run, view.any_short_of_blocks)}",
    )


def _environment(assets: Path, width: int) -> Environment:
    prose = max(min(width, PROSE_WIDTH), _MIN_WIDTH)

    def fold(text: str, indent: str = "", hanging: str | None = None) -> str:
        return wrap(text, indent, hanging, prose)

    environment = make_environment(assets)
    environment.filters.update(
        box=lambda banner: box(banner, prose),
        wrap=fold,
        command=lambda text, indent="", hanging="": fold_command(text, indent, hanging, prose),
        heading=lambda text: wrap(text, "  ", "    ", max(width, prose)),
        titled_grid=lambda grid: titled_grid(grid, width, prose),
    )
    return environment
