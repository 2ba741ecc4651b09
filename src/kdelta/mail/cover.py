# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's text: the author's own prose, and in few words what the report says at length.

Subject, list of patches and diffstat around it are git's (`kdelta.mail.series`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jinja2
import pandas as pd

from kdelta.errors import KdeltaError
from kdelta.report.caveats import (
    NO_INTERVAL,
    OPEN,
    SHORT,
    UNPAIRED,
    paired_cells,
    weak_cells,
    weaknesses,
)
from kdelta.report.context import Arm, Metric, Regime
from kdelta.report.formatting import format_quantity, format_share, join_words, plural
from kdelta.report.frames import ReportFrames, number
from kdelta.report.grid import Grid, Group
from kdelta.report.mechanism import ONE_BOOT, MechanismPart
from kdelta.report.results import Results
from kdelta.report.sentences import effect, legend
from kdelta.report.tables import INVALID
from kdelta.report.text import fold_command, wrap
from kdelta.report.text_tables import form_of, format_grid, format_table
from kdelta.report.view import ArmTables, Section, build_view

TEMPLATE = "cover-letter.txt.j2"
# So that it can be quoted twice on a terminal of 80 columns.
WIDTH = 75
_INDENT = "  "
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
        commit: of a source from git; None for any other, which has no commit to name.
        tree: hash of the source's git tree.
        sign_off: the sender, ``Name <mail>``.
        tables: names of the metrics whose delta tables are shown; none: the primary one.
    """

    prose: str
    arm: str
    kernel: str
    commit: str | None
    tree: str
    sign_off: str
    tables: tuple[str, ...] = ()


def render_cover(run: Results, letter: Letter, templates: Path) -> str:
    """The cover letter's text, without a line end.

    Args:
        run: tables, of all arms, and facts.
        letter: what is said beside them.
        templates: folder of the template, ``report/mail``.

    Raises:
        KdeltaError: the template is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fold"] = partial(wrap, width=WIDTH)
    environment.filters["command"] = partial(fold_command, width=WIDTH)
    environment.filters["grid"] = partial(format_grid, width=WIDTH)
    try:
        template = environment.get_template(TEMPLATE)
    except jinja2.TemplateNotFound:
        raise KdeltaError(
            f"{templates / TEMPLATE}: no such file; it is the repository's template of cover "
            "letters: get it back with git checkout"
        ) from None
    kept = {run.baseline, letter.arm, *(arm.name for arm in run.controls)}
    others = _other_arms(run, kept)
    run = _of_arms(run, kept)
    view = build_view(run)
    metrics = letter.tables or (run.primary.name,)
    regimes = [_brief(run, section, metrics) for section in view.sections]
    tables = [table for regime in regimes for _, arm in regime.shown for table in arm.tables]
    lines = form_of(tables, WIDTH, (1, 2, 3), _INDENT)
    starred = any(cell.short_of_blocks for table in tables for cell in table.cells)
    text = template.render(
        letter=letter,
        view=view,
        context=run,
        regimes=regimes,
        tables={table: format_table(table, WIDTH, lines, _INDENT) for table in tables},
        mechanism=view.mechanism and _mechanism_table(view.mechanism, run.baseline),
        told={sentence for regime in regimes for sentence in regime.unmet},
        others=others,
        weak_points=_weak_points(run),
        with_all=_with_all_samples(run),
        host=_facts(run.environment, _HOST_FACTS),
        tools=_facts(run.environment, _TOOL_FACTS) + _facts(run.provenance, _BUILD_FACTS),
        remarks=[f"{m.title}: {m.remark}" for m in run.metrics if m.remark],
        legend=f"Marks: {legend(run, starred)}",
    )
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _of_arms(run: Results, kept: set[str]) -> Results:
    """The run without the arms that are not in this mail."""
    tables = {
        name: frame[frame["arm"].isin(kept)]
        for name, frame in vars(run.frames).items()
        if isinstance(frame, pd.DataFrame) and "arm" in frame
    }
    return replace(run, arms=tuple(a for a in run.arms if a.name in kept)).with_tables(**tables)


def _facts(facts: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    # Runs on several hosts have "Host 2: Processor".
    return [f"{label}: {text}" for label, text in facts.items() if label.split(": ")[-1] in wanted]


@dataclass(frozen=True)
class _RegimeBrief:
    """A regime of the letter.

    Attributes:
        section: the report's.
        about: its description, and what it was meant to do and did; empty where there is neither.
        unmet: what it should have done and did not, a sentence each.
        shown: the metrics whose tables are in the letter, with these tables.
        summary: the cells' verdicts, the metrics without a table, and the control arm.
    """

    section: Section
    about: str
    unmet: tuple[str, ...]
    shown: tuple[tuple[Metric, ArmTables], ...]
    summary: str


def _brief(run: Results, section: Section, metrics: Sequence[str]) -> _RegimeBrief:
    """What is said of a regime, with the tables of the metrics that have these names."""
    groups = [g for g in (*section.main, *section.details) if g.metric.name in metrics]
    shown = tuple((group.metric, arm) for group in groups for arm in group.arms)
    told = [arm.tally for metric, arm in shown if metric is run.primary]
    if len(groups) > 1:  # whose cells?
        told = [text.replace("Cells:", f"Cells ({run.primary.short}):", 1) for text in told]
    told += [
        _overall(run, section.regime, arm.arm, group.metric)
        for group in section.main
        for arm in group.arms
        # The primary metric's stands above all tables, as the regime's answer.
        if group.metric is not run.primary
    ]
    told.append(_control_words(run, section.regime))
    description = section.regime.description.strip()
    if description and not description.endswith((".", "!", "?")):
        description += "."
    return _RegimeBrief(
        section=section,
        about=f"{description} {_met_words(run.frames, section.regime)}".strip(),
        unmet=tuple(e.sentence for e in section.pressure.expectations if not e.met),
        shown=shown,
        summary=" ".join(text for text in told if text),
    )


def _overall(run: Results, regime: Regime, arm: Arm, metric: Metric) -> str:
    row = run.overall(regime, arm, metric)
    if row is None or not math.isfinite(number(row["ratio"])):
        return f"{metric.title}: no valid pair of samples."
    return f"{metric.title} overall {' '.join(effect(row))}: {row['verdict']}."


def _control_words(run: Results, regime: Regime) -> str:
    """The control arm on the primary metric; empty without one."""
    if not run.controls:
        return ""
    row = run.control(regime)
    if row is None:
        return "Control arm: no valid pair of samples, the noise floor is unknown."
    parts = []
    overall = run.overall(regime, run.controls[0])
    if overall is not None and math.isfinite(number(overall["ratio"])):
        parts.append(f"{run.primary.short} {' '.join(effect(overall))}")
    false = number(row["false_verdicts"])
    if false > 0:
        cells = plural(int(number(row["cells"])), "cell")
        parts.append(f"declared different in {int(false)} of {cells}")
    # The noise floor stands beside the answer.
    return f"Control arm: {', '.join(parts)}." if parts else ""


def _met_words(frames: ReportFrames, regime: Regime) -> str:
    """Which expectations of a regime every arm met, by counter; empty where there is none."""
    rows = frames.expectations[frames.expectations["regime"] == regime.name]
    words = []
    for key, group in rows.groupby(["counter", "bound", "limit", "share_wanted"], sort=False):
        counter, bound, limit, share = key
        if group["met"].all():
            often = "" if number(share) >= 1 else f" in {format_share(number(share))} of samples"
            bounded = str(bound).replace("_", " ")
            words.append(f"{counter} {bounded} {format_quantity(number(limit))}{often}")
    return f"As meant, in every arm: {join_words(words)}." if words else ""


def _mechanism_table(part: MechanismPart, baseline: str) -> Grid:
    """Where pages are allocated and how long a write waits: of the report's two tables, in one."""
    waits = {group.heading: {row[0]: row[-1] for row in group.rows} for group in part.waits.groups}
    return Grid(
        "Share of a write's pages that are allocated before pipe->mutex is taken, and the wait for "
        f"it per write as a multiple of {baseline}'s, median over cells (lowest to highest): "
        f"{ONE_BOOT}.",
        ("arm", "pages", "wait"),
        tuple(
            Group(
                group.heading,
                tuple((row[0], row[1], waits[group.heading].get(row[0], "")) for row in group.rows),
            )
            for group in part.pages.groups
        ),
    )


def _other_arms(run: Results, kept: set[str]) -> list[tuple[str, str, str]]:
    """Name, title and answers of the arms that were measured beside the mailed one."""
    if all(arm.name in kept for arm in run.treatments):
        return []
    titles = {arm.name: arm.title for arm in run.arms}
    found: dict[str, list[str]] = {}
    for section in build_view(run).sections:
        for answer in section.answers:
            if answer.arm.name not in kept:
                words = (section.regime.title, answer.delta, answer.interval, answer.verdict)
                told = " ".join(w for w in words if w)
                told += f" ({answer.floor})" if answer.floor else ""
                found.setdefault(answer.arm.name, []).append(told)
    return [(name, titles[name], "; ".join(words)) for name, words in found.items()]


def _weak_points(run: Results) -> tuple[str, ...]:
    """What a reader must hold against the letter, without what it says elsewhere.

    The report's own list goes regime by regime and ends with the noise floor, which stands
    below each table here, and with the samples that were set aside, which have a point of
    their own.
    """
    nothing = run.frames.set_aside.iloc[:0]
    found = list(weaknesses(replace(run, regimes=()).with_tables(set_aside=nothing)))
    for arm in run.treatments:
        words = _weak_cells(run, arm)
        if words:
            found.append(f"Of {arm.name}'s {words}.")
    return tuple(found)


def _weak_cells(run: Results, arm: Arm) -> str:
    """How many cells are short of something, over all regimes; empty if none is."""
    rows = pd.concat([run.deltas(regime, arm) for regime in run.regimes])
    cells = run.cells * len(run.regimes)
    weak = weak_cells(rows, run, cells)
    fewest = f" (fewest: {int(paired_cells(rows)['blocks'].min())})" if weak[SHORT] else ""
    counts = (
        (weak[INVALID], INVALID),
        (weak[UNPAIRED], "without a single valid pair of samples"),
        (weak[SHORT], f"on fewer than the {plural(run.blocks, 'planned block')}{fewest}"),
        (weak[NO_INTERVAL], "with too few blocks for an interval"),
        (weak[OPEN], OPEN),
    )
    found = join_words(f"{count} {what}" for count, what in counts if count)
    return f"{plural(cells, 'cell')} ({run.primary.short}), {found}" if found else ""


def _with_all_samples(run: Results) -> str:
    """The mailed arm's answers with the samples that were set aside taken in."""
    second = run.with_tables(overall=run.frames.overall_all)
    return "; ".join(
        " ".join((regime.title, *effect(row), str(row["verdict"])))
        for regime in run.regimes
        for arm in run.treatments
        if (row := second.overall(regime, arm)) is not None
    )
