# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter: the author's own prose, and what the run has to say. Layout only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.mail.brief import (
    RegimeBrief,
    mechanism_table,
    other_arms,
    regime_briefs,
    weak_points,
    with_all_samples,
)
from kdelta.mail.layout import WIDTH, format_tables
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames
from kdelta.report.sentences import legend
from kdelta.report.tables import DeltaTable
from kdelta.report.text import fold_command, wrap
from kdelta.report.text_tables import format_grid
from kdelta.report.view import build_view

TEMPLATE = "cover-letter.txt.j2"
# What a reader of a mail asks first; the report has the rest.
_HOST_FACTS = (
    *("Processor", "Cores", "Host system", "Host is itself a guest", "CPU frequency governor"),
    "Turbo",
)
_TOOL_FACTS = ("QEMU", "virtme-ng", "stress-ng")
_BUILD_FACTS = ("Compiler", "kdelta", "Run", "Seed")


@dataclass(frozen=True)
class Letter:
    """What a cover letter says beside the run's results.

    Attributes:
        prose: the author's own words, as they wrote them.
        arm: the arm that is mailed.
        kernel: the source in words.
        base: last lines: what the patches apply to.
        sign_off: the sender, ``Name <mail>``.
        shortlog: subjects by author.
        diffstat: of the whole series.
        tables: names of the metrics whose delta tables are shown; none: the primary one.
    """

    prose: str
    arm: str
    kernel: str
    base: str
    sign_off: str
    shortlog: str
    diffstat: str
    tables: tuple[str, ...] = ()


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
        wrap(
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
    environment.filters["fold"] = wrap
    environment.filters["command"] = fold_command
    environment.filters["grid"] = lambda grid: format_grid(grid, WIDTH)
    try:
        template = environment.get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise KdeltaError(
            f"{templates / TEMPLATE}: no such file; it is the repository's template of cover "
            "letters: get it back with git checkout"
        ) from None
    regimes = regime_briefs(frames, mine, view, letter.tables or (context.primary.name,))
    laid_out = _laid_out(regimes)
    starred = any(cell.short_of_blocks for table in laid_out for cell in table.cells)
    text = template.render(
        letter=letter,
        view=view,
        context=mine,
        regimes=regimes,
        tables=laid_out,
        mechanism=view.mechanism and mechanism_table(view.mechanism, mine.baseline),
        told={sentence for regime in regimes for sentence in regime.unmet},
        others=_others(frames, context, kept),
        weak_points=weak_points(frames, mine),
        with_all=with_all_samples(frames, mine),
        host=_facts(context.environment, _HOST_FACTS),
        tools=_facts(context.environment, _TOOL_FACTS) + _facts(context.provenance, _BUILD_FACTS),
        remarks=[f"{m.title}: {m.remark}" for m in context.metrics if m.remark],
        legend=f"Marks: {legend(mine, starred)}",
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


def _laid_out(regimes: Sequence[RegimeBrief]) -> dict[DeltaTable, str]:
    tables = [table for regime in regimes for _, arm in regime.shown for table in arm.tables]
    return dict(zip(tables, format_tables(tables), strict=True))


def _others(
    frames: ReportFrames, context: ReportContext, kept: set[str]
) -> list[tuple[str, str, str]]:
    """Name, title and answers of the arms that were measured beside the mailed one."""
    if all(arm.name in kept for arm in context.treatments):
        return []
    titles = {arm.name: arm.title for arm in context.arms}
    found = other_arms(build_view(frames, context), kept)
    return [(name, titles[name], words) for name, words in found]


def _facts(facts: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    # Runs on several hosts have "Host 2: Processor".
    return [f"{label}: {text}" for label, text in facts.items() if label.split(": ")[-1] in wanted]
