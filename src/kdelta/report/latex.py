# SPDX-License-Identifier: GPL-2.0-only
"""The report as a LaTeX document, and the pieces of it that another document takes in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import jinja2

from kdelta.errors import KdeltaError
from kdelta.report.captions import Captions
from kdelta.report.formatting import group_digits, plural, typeset_minus
from kdelta.report.latex_tables import SIGNS, pieces
from kdelta.report.macros import headline, macros
from kdelta.report.results import Results
from kdelta.report.sentences import Answer, acceleration_label, legend
from kdelta.report.templating import make_environment
from kdelta.report.tex_escape import Tex, escape, escape_breakable, one_line, pdf_string
from kdelta.report.view import View, build_view

_THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


class LatexReport:
    """A run's report as LaTeX sources.

    Every expression of the templates is escaped on its way out; only ``Tex`` passes as it is.
    """

    def __init__(self, run: Results, assets: Path) -> None:
        """Prepare the sources.

        Args:
            run: Tables and facts; any text in it is escaped.
            assets: The repository's ``report/`` folder.

        Raises:
            KdeltaError: The assets are missing.
        """
        self._run = run
        self._view: View = build_view(run)
        self._captions = Captions(assets, self._view)
        self._environment = _environment(assets, self._captions, self._headline)

    def paper(self, figures: Path, graphics: str = "../figures") -> str:
        """The paper's source, which takes in ``macros.tex`` from its own folder.

        Args:
            figures: The folder that ``write_figures`` filled.
            graphics: How the document refers to that folder, from where it is compiled.

        Raises:
            KdeltaError: A figure is missing.
        """
        entries = (self._captions.figures(), self._captions.mechanism_figures())
        deltas, mechanism = (
            [(entry, count_pages(figures / f"{entry.stem}.pdf")) for entry in part]
            for part in entries
        )
        return self._environment.get_template("paper.tex.j2").render(
            view=self._view,
            context=self._run,
            baseline=self._run.baseline,
            legend=legend(self._run, self._view.any_short_of_blocks, SIGNS),
            figures=deltas,
            mechanism_figures=mechanism,
            graphics=Tex(graphics),
        )

    def macros(self) -> str:
        """The source of ``macros.tex``: every headline number under a name."""
        found = macros(self._run)
        groups = [(name, list(part)) for name, part in groupby(found, key=lambda m: m.group)]
        # As an example the shortest, which is the easiest to read.
        effects = [m.name for m in found if "Overall" in m.name and m.name.endswith("Throughput")]
        example = Tex("\\" + min(effects or [found[0].name], key=len))
        return self._render("macros.tex.j2", groups=groups, example=example)

    def pieces(self) -> dict[str, str]:
        """The tables one by one: file name to source."""
        found = pieces(self._run, self._view, self._captions)
        return {f"{p.name}.tex": self._render("piece.tex.j2", piece=p) for p in found}

    def _render(self, template: str, **values: object) -> str:
        facts: Mapping[str, object] = MappingProxyType(
            {
                "context": self._run,
                "run": self._run.provenance.get("Run", "unknown"),
                "acceleration": acceleration_label(self._run),
            }
        )
        return self._environment.get_template(template).render(**facts, **values)

    def _headline(self, answer: Answer) -> Tex:
        """The sentence of an answer with its numbers as macros."""
        typed = headline(self._run, answer.regime, answer.arm)
        effect = ", ".join(filter(None, (f"{answer.delta} {answer.interval}", answer.floor)))
        before, found, after = answer.sentence.partition(effect)
        if typed is None or not found:
            return escape(typeset_minus(answer.sentence))
        parts = (escape(typeset_minus(before)), typed, escape(typeset_minus(after)))
        return Tex("".join(parts))


def _environment(assets: Path, captions: Captions, headline_filter: object) -> jinja2.Environment:
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
        sign=lambda mark: SIGNS.get(mark, mark),
        digits=lambda number: group_digits(number, _THIN_SPACE),
        count=plural,
        caption=captions.table,
        breakable=escape_breakable,
        pdf_string=lambda text: Tex(pdf_string(text)),
        comment=lambda text: Tex(one_line(text)),
        headline=headline_filter,
    )
    return environment


def count_pages(path: Path) -> int:
    """The pages of a PDF file that ``write_figures`` wrote (its objects are not compressed)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KdeltaError(
            f"{path}: not readable: {error.strerror}; draw the figures before the paper"
        ) from error
    return max(1, len(re.findall(rb"/Type\s*/Page\b", data)))
