# SPDX-License-Identifier: GPL-2.0-only
"""What a reader must hold against the answers, short of a warning."""

from __future__ import annotations

import math

from kdelta.report.cells import number
from kdelta.report.context import Arm, Regime, ReportContext
from kdelta.report.formatting import join_words, plural
from kdelta.report.frames import ReportFrames
from kdelta.report.metrics import PRIMARY
from kdelta.report.tables import INVALID, cell_count
from kdelta.report.wording import magnitude


def weaknesses(frames: ReportFrames, context: ReportContext) -> tuple[str, ...]:
    """What a reader must hold against the answers, the gravest first."""
    found = []
    if context.emulated:
        found.append(
            "The numbers are emulated: neither their size nor their sign carries over to hardware."
        )
    if context.oversubscribed:
        found.append(
            f"The guest had {plural(context.vcpus, 'vCPU')} on a host with "
            f"{plural(context.host_cpus, 'CPU')}: vCPUs waited for each other."
        )
    for regime in context.regimes:
        found.extend(_regime_weaknesses(frames, context, regime))
    found.extend(_noise_floor(frames, context))
    if not context.controls:
        found.append("No control arm was run: the noise floor is unknown.")
    aside, planned = (int(frames.set_aside[c].sum()) for c in ("set_aside", "samples"))
    if aside:
        found.append(
            f"{aside} of {plural(planned, 'planned sample')} set aside: "
            f"{_aside_by_arm(frames, context)}. Both analyses, with and without them, are below."
        )
    return tuple(found)


def _regime_weaknesses(frames: ReportFrames, context: ReportContext, regime: Regime) -> list[str]:
    found = []
    for arm in context.treatments:
        weak = _arm_weaknesses(frames, context, regime, arm)
        if weak:
            found.append(f"{regime.title}, {arm.name}: {weak}.")
    return found


def _noise_floor(frames: ReportFrames, context: ReportContext) -> list[str]:
    """One sentence for all regimes: the same words for each would bury the rest."""
    floors = []
    for regime in context.regimes:
        control = frames.control_of(regime.name, PRIMARY.name)
        if control is not None and math.isfinite(number(control["noise_floor_percent"])):
            floors.append(f"{magnitude(control['noise_floor_percent'])} ({regime.title})")
    if not floors:
        return []
    return [
        f"The noise floor is {join_words(floors)}: a smaller true effect on a cell's "
        f"{PRIMARY.short} would have been called faster or slower with less than "
        f"{context.power * 100:g}% probability."
    ]


def _arm_weaknesses(frames: ReportFrames, context: ReportContext, regime: Regime, arm: Arm) -> str:
    rows = frames.deltas_of(regime.name, arm.name, PRIMARY.name)
    invalid = int((rows["verdict"] == INVALID).sum())
    rows = rows[(rows["blocks"] > 0) & rows["ratio"].notna() & (rows["verdict"] != INVALID)]
    cells = cell_count(frames, context)
    if rows.empty:
        return (
            f"{invalid} of {plural(cells, 'cell')} {INVALID}" if invalid else "nothing was measured"
        )
    has_interval = rows["delta_low_percent"].notna()
    short = int((rows["blocks"] < context.blocks).sum())
    counts = (
        (invalid, INVALID),
        (cells - invalid - len(rows), "without a single valid pair of samples"),
        (
            short,
            f"on fewer than the {plural(context.blocks, 'planned block')} "
            f"(fewest: {int(rows['blocks'].min())})",
        ),
        (int((~has_interval).sum()), "with too few blocks for an interval"),
        (int((has_interval & (rows["verdict"] == "inconclusive")).sum()), "inconclusive"),
    )
    found = join_words(f"{count} {what}" for count, what in counts if count)
    return f"of {plural(cells, 'cell')}, {found}" if found else ""


def _aside_by_arm(frames: ReportFrames, context: ReportContext) -> str:
    counts = {}
    for name in dict.fromkeys([context.baseline, *(arm.name for arm in context.arms)]):
        rows = frames.set_aside[frames.set_aside["arm"] == name]
        if not rows.empty:
            counts[name] = (int(rows["set_aside"].sum()), int(rows["samples"].sum()))
    words = join_words(f"{aside} of {planned} of {n}" for n, (aside, planned) in counts.items())
    shares = {aside / max(1, planned) for aside, planned in counts.values()}
    return words if len(shares) == 1 else f"{words}; the arms are not alike in this"
