# SPDX-License-Identifier: GPL-2.0-only
"""What a reader must hold against the answers, short of a warning."""

from __future__ import annotations

import math

import pandas as pd

from kdelta.report.cells import number
from kdelta.report.context import Regime, ReportContext
from kdelta.report.disturbance import host_state
from kdelta.report.formatting import join_words, plural
from kdelta.report.frames import ReportFrames
from kdelta.report.tables import INVALID, cell_count

UNPAIRED = "no valid pair of samples"
NO_INTERVAL = "too few blocks for an interval"
OPEN = "inconclusive"
SHORT = "short of blocks"
_KINDS = (INVALID, UNPAIRED, NO_INTERVAL, OPEN, SHORT)
"""The gravest first."""


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
    if weakness := host_state(frames, context).weakness:
        found.append(weakness)
    found.extend(_noise_floor(frames, context))
    if not context.controls:
        found.append("No control arm was run: the noise floor is unknown.")
    aside, planned = (int(frames.set_aside[c].sum()) for c in ("set_aside", "samples"))
    if aside:
        found.append(
            f"{aside} of {plural(planned, 'planned sample')} set aside: "
            f"{_aside_by_arm(frames, context)}. The report has both analyses, with and "
            "without them."
        )
    return tuple(found)


def _regime_weaknesses(frames: ReportFrames, context: ReportContext, regime: Regime) -> list[str]:
    """One sentence for all arms of a regime: a line for each of them would bury the rest."""
    cells = cell_count(frames, context)
    by_kind: dict[str, dict[int, list[str]]] = {}
    fewest = []
    for arm in context.treatments:
        rows = frames.deltas_of(regime.name, arm.name, context.primary.name)
        for kind, count in weak_cells(rows, context, cells).items():
            if count:
                by_kind.setdefault(kind, {}).setdefault(count, []).append(arm.name)
        paired = paired_cells(rows)
        fewest += [int(paired["blocks"].min())] if len(paired) else []
    found = []
    for kind in _KINDS:
        if kind in by_kind:
            what = kind
            if kind == SHORT:
                planned = plural(context.blocks, "planned block")
                what = f"fewer than the {planned} (fewest: {min(fewest)})"
            found.append(f"{what} in {_places(by_kind[kind], cells, context)}")
    return [f"{regime.title}: {'; '.join(found)}."] if found else []


def paired_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of cells with a valid pair of samples, whose arm is not invalid."""
    return rows[(rows["blocks"] > 0) & rows["ratio"].notna() & (rows["verdict"] != INVALID)]


def weak_cells(rows: pd.DataFrame, context: ReportContext, cells: int) -> dict[str, int]:
    """How many cells of an arm's table have each weakness."""
    invalid = int((rows["verdict"] == INVALID).sum())
    paired = paired_cells(rows)
    has_interval = paired["delta_low_percent"].notna()
    return {
        INVALID: invalid,
        UNPAIRED: cells - invalid - len(paired),
        NO_INTERVAL: int((~has_interval).sum()),
        OPEN: int((has_interval & (paired["verdict"] == OPEN)).sum()),
        SHORT: int((paired["blocks"] < context.blocks).sum()),
    }


def _places(arms: dict[int, list[str]], cells: int, context: ReportContext) -> str:
    """``2 of 9 cells of bulk and all 9 cells of loop``."""
    words = []
    for count, names in arms.items():
        everywhere = len(names) == len(context.treatments) > 1
        which = "every arm" if everywhere else join_words(names)
        share = "all" if count == cells > 1 else f"{count} of"
        words.append(f"{share} {plural(cells, 'cell')} of {which}")
    return join_words(words)


def _noise_floor(frames: ReportFrames, context: ReportContext) -> list[str]:
    """What the number beside each answer means."""
    rows = [frames.control_of(regime.name, context.primary.name) for regime in context.regimes]
    if not any(r is not None and math.isfinite(number(r["noise_floor_percent"])) for r in rows):
        return []
    return [
        f"Below the noise floor a true effect on a cell's {context.primary.short} would have been "
        f"called faster or slower with less than {context.power * 100:g}% probability."
    ]


def _aside_by_arm(frames: ReportFrames, context: ReportContext) -> str:
    counts = {}
    for name in dict.fromkeys([context.baseline, *(arm.name for arm in context.arms)]):
        rows = frames.set_aside[frames.set_aside["arm"] == name]
        if not rows.empty:
            counts[name] = (int(rows["set_aside"].sum()), int(rows["samples"].sum()))
    words = join_words(f"{aside} of {planned} of {n}" for n, (aside, planned) in counts.items())
    # One sample more or less is as alike as whole samples can be.
    most, least = (pick(aside for aside, _ in counts.values()) for pick in (max, min))
    return f"{words}; the arms are not alike in this" if most - least > 1 else words
