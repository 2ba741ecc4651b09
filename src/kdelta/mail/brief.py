# SPDX-License-Identifier: GPL-2.0-only
"""What the report says at length, in the few words that a cover letter has room for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from kdelta.report.caveats import (
    NO_INTERVAL,
    OPEN,
    SHORT,
    UNPAIRED,
    paired_cells,
    weak_cells,
    weaknesses,
)
from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.formatting import format_quantity, format_share, join_words, plural
from kdelta.report.frames import ReportFrames, number
from kdelta.report.grid import Grid, Group
from kdelta.report.mechanism import ONE_BOOT, MechanismPart
from kdelta.report.sentences import effect
from kdelta.report.tables import INVALID, cell_count
from kdelta.report.view import ArmTables, Section, View


@dataclass(frozen=True)
class RegimeBrief:
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


def regime_briefs(
    frames: ReportFrames, context: ReportContext, view: View, metrics: Sequence[str]
) -> tuple[RegimeBrief, ...]:
    """The regimes in order.

    Args:
        frames: of the mailed arm, the baseline and the control.
        context: likewise.
        view: made from these.
        metrics: names of those whose tables are shown.
    """
    return tuple(_brief(frames, context, section, metrics) for section in view.sections)


def _brief(
    frames: ReportFrames, context: ReportContext, section: Section, metrics: Sequence[str]
) -> RegimeBrief:
    groups = [g for g in (*section.main, *section.details) if g.metric.name in metrics]
    shown = tuple((group.metric, arm) for group in groups for arm in group.arms)
    told = [arm.tally for metric, arm in shown if metric is context.primary]
    if len(groups) > 1:  # whose cells?
        told = [text.replace("Cells:", f"Cells ({context.primary.short}):", 1) for text in told]
    told += [
        _overall(frames, section.regime, arm.arm, group.metric)
        for group in section.main
        for arm in group.arms
        # The primary metric's stands above all tables, as the regime's answer.
        if group.metric is not context.primary
    ]
    told.append(control_words(frames, context, section.regime))
    description = section.regime.description.strip()
    if description and not description.endswith((".", "!", "?")):
        description += "."
    return RegimeBrief(
        section=section,
        about=f"{description} {met_words(frames, section.regime)}".strip(),
        unmet=tuple(e.sentence for e in section.pressure.expectations if not e.met),
        shown=shown,
        summary=" ".join(text for text in told if text),
    )


def _overall(frames: ReportFrames, regime: Regime, arm: Arm, metric: Metric) -> str:
    row = frames.overall_of(regime.name, arm.name, metric.name)
    if row is None or not math.isfinite(number(row["ratio"])):
        return f"{metric.title}: no valid pair of samples."
    return f"{metric.title} overall {' '.join(effect(row))}: {row['verdict']}."


def control_words(frames: ReportFrames, context: ReportContext, regime: Regime) -> str:
    """The control arm on the primary metric; empty without one."""
    if not context.controls:
        return ""
    row = frames.control_of(regime.name, context.primary.name)
    if row is None:
        return "Control arm: no valid pair of samples, the noise floor is unknown."
    parts = []
    overall = frames.overall_of(regime.name, context.controls[0].name, context.primary.name)
    if overall is not None and math.isfinite(number(overall["ratio"])):
        parts.append(f"{context.primary.short} {' '.join(effect(overall))}")
    false = number(row["false_verdicts"])
    if false > 0:
        cells = plural(int(number(row["cells"])), "cell")
        parts.append(f"declared different in {int(false)} of {cells}")
    # The noise floor stands beside the answer.
    return f"Control arm: {', '.join(parts)}." if parts else ""


def met_words(frames: ReportFrames, regime: Regime) -> str:
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


def mechanism_table(part: MechanismPart, baseline: str) -> Grid:
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


def other_arms(view: View, kept: set[str]) -> list[tuple[str, str]]:
    """Name of every arm that is not mailed, and its answers, one after the other.

    Args:
        view: of all arms.
        kept: names of the arms that the letter is about.
    """
    found: dict[str, list[str]] = {}
    for section in view.sections:
        for answer in section.answers:
            if answer.arm.name not in kept:
                words = (section.regime.title, answer.delta, answer.interval, answer.verdict)
                told = " ".join(w for w in words if w)
                told += f" ({answer.floor})" if answer.floor else ""
                found.setdefault(answer.arm.name, []).append(told)
    return [(name, "; ".join(words)) for name, words in found.items()]


def weak_points(frames: ReportFrames, context: ReportContext) -> tuple[str, ...]:
    """What a reader must hold against the letter, without what it says elsewhere.

    The report's own list goes regime by regime and ends with the noise floor, which stands
    below each table here, and with the samples that were set aside, which have a point of
    their own.
    """
    whole_run = replace(context, regimes=())
    found = list(weaknesses(replace(frames, set_aside=frames.set_aside.iloc[:0]), whole_run))
    for arm in context.treatments:
        words = _weak_cells(frames, context, arm.name)
        if words:
            found.append(f"Of {arm.name}'s {words}.")
    return tuple(found)


def _weak_cells(frames: ReportFrames, context: ReportContext, arm: str) -> str:
    """How many cells are short of something, over all regimes; empty if none is."""
    rows = pd.concat(
        [frames.deltas_of(regime.name, arm, context.primary.name) for regime in context.regimes]
    )
    cells = cell_count(frames, context) * len(context.regimes)
    weak = weak_cells(rows, context, cells)
    fewest = f" (fewest: {int(paired_cells(rows)['blocks'].min())})" if weak[SHORT] else ""
    counts = (
        (weak[INVALID], INVALID),
        (weak[UNPAIRED], "without a single valid pair of samples"),
        (weak[SHORT], f"on fewer than the {plural(context.blocks, 'planned block')}{fewest}"),
        (weak[NO_INTERVAL], "with too few blocks for an interval"),
        (weak[OPEN], OPEN),
    )
    found = join_words(f"{count} {what}" for count, what in counts if count)
    return f"{plural(cells, 'cell')} ({context.primary.short}), {found}" if found else ""


def with_all_samples(frames: ReportFrames, context: ReportContext) -> str:
    """The mailed arm's answers with the samples that were set aside taken in."""
    table = frames.overall_all[frames.overall_all["metric"] == context.primary.name]
    words = []
    for regime in context.regimes:
        for arm in context.treatments:
            rows = table[(table["regime"] == regime.name) & (table["arm"] == arm.name)]
            words += [
                " ".join((regime.title, *effect(row), str(row["verdict"])))
                for _, row in rows.iterrows()
            ]
    return "; ".join(words)
