# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter: the author's own prose, and what the run has to say. Layout only."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.mail.layout import WIDTH, format_tables
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames
from kdelta.report.metrics import PRIMARY
from kdelta.report.tables import DeltaTable
from kdelta.report.view import View, build_view
from kdelta.report.weaknesses import weaknesses
from kdelta.report.wording import legend

TEMPLATE = "cover-letter.txt.j2"
# What a reader of a mail asks first; the report has the rest.
_SETUP_FACTS = (
    *("Processor", "Cores", "Host system", "Host is itself a guest", "CPU frequency governor"),
    *("Turbo", "Guest", "QEMU", "virtme-ng", "stress-ng"),
)
_BUILD_FACTS = ("Compiler", "kdelta", "Run", "Seed")


@dataclass(frozen=True)
class Letter:
    """What a cover letter says beside the run's results.

    Attributes:
        prose: the author's own words, as they wrote them.
        arm: the variant that is mailed.
        kernel: the source in words.
        base: last lines: what the patches apply to.
        sign_off: the sender, ``Name <mail>``.
        shortlog: subjects by author.
        diffstat: of the whole series.
    """

    prose: str
    arm: str
    kernel: str
    base: str
    sign_off: str
    shortlog: str
    diffstat: str


def base_lines(kernel: str, commit: str | None, tree: str) -> str:
    """What the patches apply to, in the last lines of the cover letter.

    Args:
        kernel: the source in words.
        commit: of a source from git; None for any other, which has no commit to name.
        tree: hash of the source's git tree.
    """
    if commit is not None:
        return f"base-commit: {commit}"
    return (
        _fold(
            f"Based on {kernel}, which is no commit of a git repository and so has no base-commit; "
            "the git tree of its files is:"
        )
        + f"\n  {tree}"
    )


def render_cover(
    frames: ReportFrames, context: ReportContext, letter: Letter, templates: Path
) -> str:
    """The body of the cover letter.

    Args:
        frames: the analysed tables, of all arms.
        context: the facts of the run.
        letter: what is said beside them.
        templates: folder of the template, ``report/mail``.

    Raises:
        KdeltaError: the template is not there.
    """
    kept = {context.baseline, letter.arm, *(arm.name for arm in context.controls)}
    mine = replace(context, arms=tuple(a for a in context.arms if a.name in kept))
    view = build_view(_of_arms(frames, kept), mine)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fold"] = _fold
    try:
        template = environment.get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise KdeltaError(
            f"{templates / TEMPLATE}: no such file; it is the repository's template of cover "
            "letters: get it back with git checkout"
        ) from None
    text = template.render(
        letter=letter,
        view=view,
        context=mine,
        tables=_laid_out(view),
        primary=PRIMARY.name,
        others=_other_answers(frames, context, kept),
        weaknesses=_weaknesses(frames, mine, kept),
        setup=_facts(context.environment, _SETUP_FACTS) + _facts(context.provenance, _BUILD_FACTS),
        closed_loop=next((p.text for p in view.methods if p.label == "Throughput and latency"), ""),
        legend=f"Marks: {legend(mine, view.any_short_of_blocks)}",
    )
    body = "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))
    return f"{body}\n-- \nkdelta {__version__}\n"


def _of_arms(frames: ReportFrames, kept: set[str]) -> ReportFrames:
    """The tables without the arms that are not in this mail."""
    changes: dict[str, Any] = {}
    for field in fields(frames):
        frame = getattr(frames, field.name)
        if isinstance(frame, pd.DataFrame) and "arm" in frame:
            changes[field.name] = frame[frame["arm"].isin(kept)]
    return replace(frames, **changes)


def _laid_out(view: View) -> dict[DeltaTable, str]:
    tables = view.main_tables
    return dict(zip(tables, format_tables(tables), strict=True))


def _other_answers(
    frames: ReportFrames, context: ReportContext, kept: set[str]
) -> list[tuple[str, str]]:
    """Regime and answer of the variants that were measured beside the mailed one."""
    if all(arm.name in kept for arm in context.treatments):
        return []
    return [
        (section.regime.title, answer.sentence)
        for section in build_view(frames, context).sections
        for answer in section.answers
        if answer.arm.name not in kept
    ]


def _weaknesses(frames: ReportFrames, context: ReportContext, kept: set[str]) -> tuple[str, ...]:
    mine = _of_arms(frames, kept)
    # Samples set aside have a section of their own here, other than the report's.
    return weaknesses(replace(mine, set_aside=mine.set_aside.iloc[:0]), context)


def _facts(facts: Mapping[str, str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    # Runs on several hosts have "Host 2: Processor".
    return [(label, text) for label, text in facts.items() if label.split(": ")[-1] in wanted]


def _fold(text: str, indent: str = "", hanging: str | None = None) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
