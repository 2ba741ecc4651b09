# SPDX-License-Identifier: GPL-2.0-only
"""The method in words, made from the run's own numbers, and what was set on the host."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kdelta.probes.inside import PROBES
from kdelta.report.context import Factor, ReportContext
from kdelta.report.formatting import format_seconds, join_words, level_words, plural
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label, confidence_label, guest_size


class Paragraph(NamedTuple):
    """A labelled paragraph of the methods."""

    label: str
    text: str


def methods(run: Results) -> tuple[Paragraph, ...]:
    """Every paragraph of the methods section, in the order to be read."""
    own = [Paragraph(label, text) for label, text in run.workload_methods]
    before = [write(run) for write in _BEFORE]
    after = [write(run) for write in _AFTER]
    return tuple(paragraph for paragraph in (*before, *own, *after) if paragraph.text)


def _levels(run: Results, factor: Factor) -> list[str]:
    levels = run.levels(factor.name)
    return [level_words(factor, level).removeprefix(f"{factor.title} = ") for level in levels]


def _design(run: Results) -> Paragraph:
    axes = join_words(f"{f.title} {{{', '.join(_levels(run, f))}}}" for f in run.factors)
    seconds = join_words(
        f"{format_seconds(run.seconds_per_cell[r.name])} ({r.title})"
        for r in run.regimes
        if r.name in run.seconds_per_cell
    )
    arms = join_words(arm.name for arm in run.arms)
    rounds = max(map(int, run.frames.samples.get("round", ())), default=1)
    return Paragraph(
        "Design",
        f"In a block every arm is booted once ({arms}), in an order drawn for the block; the "
        "guests then live together on one host, of which one runs at a time. In "
        + (f"each of {rounds} rounds" if rounds > 1 else "one round")
        + f" every cell comes once, in random order: {axes}. Within a cell the arms run one right "
        "after the other, in balanced orders. "
        f"{plural(run.blocks, 'block')} per regime were planned before the first boot"
        + (
            f", with {seconds} measured per cell and block, after a warm-up in every round."
            if seconds
            else "."
        ),
    )


def _guest(run: Results) -> Paragraph:
    workload = f" The workload used {join_words(run.phrases)}." if run.phrases else ""
    reason = run.acceleration_reason.strip().rstrip(".")
    return Paragraph(
        "Guest",
        f"Each guest had {' and '.join(guest_size(run))} on a host with "
        f"{plural(run.host_cpus, 'CPU')}; acceleration: "
        f"{acceleration_label(run)}" + (f" ({reason})." if reason else ".") + workload,
    )


def _effect(run: Results) -> Paragraph:
    speed = (
        "Ratios are those at equal speed of the CPUs: what goes with the speed check's ratio is "
        "taken out, by a slope per regime that a block takes from the other blocks. "
    )
    return Paragraph(
        "Effect and interval",
        "The effect of a cell is the ratio of an arm to "
        f"{run.baseline} within a block, over blocks the geometric mean; "
        "a delta is that ratio minus 1. The effect of a regime is the geometric mean of its "
        f"cells' effects. Intervals hold {confidence_label(run)} confidence: "
        f"{run.interval_method}. "
        + (speed if run.frames.ratios["speed_ratio"].notna().any() else "")
        + "Samples of one boot are never treated as independent.",
    )


def _verdicts(run: Results) -> Paragraph:
    margin = f"{run.equivalence_margin * 100:g}%"
    return Paragraph(
        "Verdicts",
        "A cell is invalid when at least half of its planned pairs of samples were set aside, or "
        "when that left fewer than three. Else it is equivalent when its whole interval lies "
        f"within {margin} of no change, faster or slower when {run.verdict_method}, and else "
        "inconclusive. So a cell can be "
        "inconclusive although its own interval excludes no change: the verdict pays for looking "
        "at many cells, the interval does not.",
    )


def _control(run: Results) -> Paragraph:
    text = ""
    if run.controls:
        text = (
            "The control arm boots the baseline image as if it "
            "were an arm and goes through the same analysis. Its true effect is zero: what it "
            "shows is the error of the experiment. The noise floor under each table is the "
            "smallest true effect that the table would have called faster or slower with "
            f"{run.power * 100:g}% probability, given the control's spread over blocks, pooled "
            "over cells, at Holm's strictest level and beyond the margin of equivalence."
        )
    return Paragraph("Control", text)


def _validity(run: Results) -> Paragraph:
    aside, planned = (int(run.frames.set_aside[c].sum()) for c in ("set_aside", "samples"))
    return Paragraph(
        "Validity",
        "Rules fixed before the run check every boot and sample; a sample that breaks one is set "
        f"aside, with the reason in validity.csv. Here: {aside} of "
        f"{plural(planned, 'planned sample')}.",
    )


def _mechanism(run: Results) -> Paragraph:
    tables = {probe.about: getattr(run.frames, Path(probe.table).stem) for probe in PROBES.values()}
    told = [about for about, table in tables.items() if not table.empty]
    text = ""
    if told:
        text = (
            f"Every arm was booted once more and traced. {' '.join(told)} A traced boot is never "
            "timed and no speed is taken from it."
        )
    return Paragraph("Mechanism", text)


_BEFORE = (_design, _guest, _effect, _verdicts)
_AFTER = (_control, _validity, _mechanism)


def environment_grids(context: ReportContext) -> tuple[Grid, ...]:
    """What was set on the host, and what could not be: the tables that have rows."""
    grids = (
        Grid(
            "Set on the host for the time of a block, and restored after it.",
            ("what", "before", "during the block"),
            (Group("", context.environment_set),),
            prose=frozenset({1, 2}),
        ),
        Grid(
            "Could not be set on the host.",
            ("what", "why"),
            (Group("", context.environment_not_set),),
            prose=frozenset({1}),
        ),
    )
    return tuple(grid for grid in grids if grid)
