# SPDX-License-Identifier: GPL-2.0-only
"""The report's sentences about results. Plain text; every output escapes and typesets it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, Regime, ReportContext
from kdelta.report.formatting import (
    NO_INTERVAL,
    format_interval,
    format_percent,
    format_size,
    join_words,
    plural,
)
from kdelta.report.frames import ReportFrames
from kdelta.report.metrics import PRIMARY, Metric
from kdelta.report.tables import (
    NO_VERDICT_MARK,
    VERDICT_MARKS,
    DeltaTable,
    cell_count,
    number,
    whole,
)

HEADLINE_DECIMALS = 1


@dataclass(frozen=True)
class Banner:
    """The loud lines at the top of every output of an emulated run."""

    headline: str
    body: str


@dataclass(frozen=True)
class Answer:
    """What a regime says about an arm, in one sentence with its interval."""

    regime: Regime
    arm: Arm
    verdict: str
    mark: str
    delta: str
    interval: str
    sentence: str


def emulation_banner(context: ReportContext) -> Banner | None:
    """The warning of an emulated run; None for a measured one."""
    if not context.emulated:
        return None
    name = context.acceleration.upper()
    reason = context.acceleration_reason.strip().rstrip(".")
    return Banner(
        headline=f"EMULATED ({name}): not a measurement of kernel performance",
        body=(
            "The guests ran on emulated CPUs, without KVM, so these numbers show that the "
            "pipeline works, not how fast a kernel is on hardware."
            + (f" Reason: {reason}." if reason else "")
        ),
    )


def confidence_label(context: ReportContext) -> str:
    """``95%`` for a confidence of 0.95."""
    return f"{context.confidence * 100:g}%"


def acceleration_label(context: ReportContext) -> str:
    """How the guests ran, in a few words."""
    if context.emulated:
        return f"emulated ({context.acceleration.upper()})"
    return "KVM"


def legend(context: ReportContext, short_of_blocks: bool) -> str:
    """What the marks beside a delta mean."""
    margin = f" (within {context.equivalence_margin * 100:g}%)"
    marks = [
        f"{mark} {verdict}{margin if verdict == 'equivalent' else ''}"
        for verdict, mark in VERDICT_MARKS.items()
    ]
    marks.append(f"{NO_INTERVAL} too few blocks for an interval")
    if short_of_blocks:
        marks.append(f"* fewer than the {plural(context.blocks, 'planned block')}")
    return (
        f"{', '.join(marks)}. A mark is adjusted for the number of cells in its table, an interval "
        "is not."
    )


def setup_sentence(context: ReportContext) -> str:
    """Guest and workload in one sentence, as under a cover letter's tables."""
    parts = [plural(context.vcpus, "vCPU"), f"{context.memory_mib} MiB of memory"]
    if context.write_size is not None:
        parts.append(f"{format_size(context.write_size)} writes")
    if context.pipe_size is not None:
        parts.append(f"{format_size(context.pipe_size)} pipe")
    verb = "Emulated" if context.emulated else "Measured"
    return (
        f"{verb} in virtme-ng guests ({', '.join(parts)}; acceleration: "
        f"{acceleration_label(context)}) on a host with {plural(context.host_cpus, 'CPU')}; "
        f"protocol {context.protocol}."
    )


def answer(frames: ReportFrames, context: ReportContext, regime: Regime, arm: Arm) -> Answer:
    """The overall effect of an arm in a regime on the primary metric."""
    row = frames.overall_of(regime.name, arm.name, PRIMARY.name)
    base = context.baseline
    if row is None or not math.isfinite(number(row["ratio"])):
        sentence = f"{arm.name} against {base}: no valid pair of samples, no result."
        return Answer(regime, arm, "", NO_VERDICT_MARK, "n/a", NO_INTERVAL, sentence)
    verdict = str(row["verdict"])
    delta, interval = _effect(row)
    counts = f"{plural(int(number(row['cells'])), 'cell')}, {plural(_blocks(row), 'block')}"
    effect = f"{PRIMARY.short} {delta} {interval} ({confidence_label(context)} interval, {counts})"
    if interval == NO_INTERVAL:
        effect = f"{PRIMARY.short} {delta} {interval} ({counts})"
        claim = f"{arm.name} against {base}: no claim, too few blocks for an interval"
    elif verdict in ("faster", "slower"):
        claim = f"{arm.name} is {verdict} than {base}"
    elif verdict == "equivalent":
        claim = f"{arm.name} equals {base} within {context.equivalence_margin * 100:g}%"
    else:
        claim = f"{arm.name} against {base}: not settled"
    if context.emulated:
        claim += " (under emulation)"
    return Answer(
        regime=regime,
        arm=arm,
        verdict=verdict,
        mark=VERDICT_MARKS.get(verdict, NO_VERDICT_MARK),
        delta=delta,
        interval=interval,
        sentence=f"{claim}: {effect}.{_to_settle(row)}",
    )


def overall_line(
    frames: ReportFrames, context: ReportContext, regime: Regime, arm: Arm, metric: Metric
) -> str:
    """The overall effect under a table."""
    row = frames.overall_of(regime.name, arm.name, metric.name)
    if row is None or not math.isfinite(number(row["ratio"])):
        return "Overall: no valid pair of samples."
    delta, interval = _effect(row)
    verdict = str(row["verdict"]) or "no verdict"
    cells = plural(int(number(row["cells"])), "cell")
    return (
        f"Overall: {metric.short} {delta} {interval} over {cells} and "
        f"{plural(_blocks(row), 'block')}: {verdict}.{_to_settle(row)}"
    )


def tally_line(tables: tuple[DeltaTable, ...]) -> str:
    """How many cells got which verdict."""
    cells = [cell for table in tables for cell in table.cells]
    counts = [
        (sum(c.measured and c.verdict == verdict for c in cells), verdict)
        for verdict in VERDICT_MARKS
    ]
    words = [f"{count} {verdict}" for count, verdict in counts if count]
    missing = sum(not cell.measured for cell in cells)
    if missing:
        words.append(f"{missing} missing")
    return f"Cells: {', '.join(words)}." if words else ""


def control_line(
    frames: ReportFrames, context: ReportContext, regime: Regime, metric: Metric
) -> str:
    """What the control arm says about a table; empty without a control arm."""
    if not context.controls:
        return ""
    arm = context.controls[0]
    row = frames.control_of(regime.name, metric.name)
    if row is None:
        return "Control arm: no valid pair of samples, the noise floor is unknown."
    parts = []
    if math.isfinite(number(row["largest_delta_percent"])):
        parts.append(f"largest cell {_magnitude(row['largest_delta_percent'])}")
    overall = frames.overall_of(regime.name, arm.name, metric.name)
    if overall is not None and math.isfinite(number(overall["ratio"])):
        parts.insert(0, " ".join(("overall", *_effect(overall))))
    floor = number(row["noise_floor_percent"])
    if math.isfinite(floor):
        parts.append(f"noise floor {_magnitude(floor)}")
    else:
        parts.append("noise floor unknown (too few blocks)")
    false, cells = whole(row["false_verdicts"]), whole(row["cells"])
    if false is not None and cells:
        parts.append(f"declared different in {false} of {plural(cells, 'cell')}")
    return f"Control arm (true effect zero): {', '.join(parts)}."


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
    if not context.controls:
        found.append("No control arm was run: the noise floor is unknown.")
    aside = int((~frames.samples["valid"]).sum())
    if aside:
        found.append(
            f"{aside} of {plural(len(frames.samples), 'sample')} set aside as invalid: "
            f"{_aside_by_arm(frames, context)}."
        )
    return tuple(found)


def _regime_weaknesses(frames: ReportFrames, context: ReportContext, regime: Regime) -> list[str]:
    found = []
    control = frames.control_of(regime.name, PRIMARY.name)
    false = whole(control["false_verdicts"]) if control is not None else None
    if control is not None and false:
        found.append(
            f"{regime.title}: the control arm, whose true effect is zero, was declared different "
            f"in {false} of {plural(int(number(control['cells'])), 'cell')}."
        )
    for arm in context.treatments:
        weak = _arm_weaknesses(frames, context, regime, arm)
        if weak:
            found.append(f"{regime.title}, {arm.name}: {weak}.")
    if control is not None and math.isfinite(number(control["noise_floor_percent"])):
        found.append(
            f"{regime.title}: effects on a cell's {PRIMARY.short} below "
            f"{_magnitude(control['noise_floor_percent'])} could not have been seen (noise floor "
            "of the control arm)."
        )
    return found


def _arm_weaknesses(frames: ReportFrames, context: ReportContext, regime: Regime, arm: Arm) -> str:
    rows = frames.deltas_of(regime.name, arm.name, PRIMARY.name)
    rows = rows[(rows["blocks"] > 0) & rows["ratio"].notna()]
    if rows.empty:
        return "nothing was measured"
    cells = cell_count(frames, context)
    has_interval = rows["delta_low_percent"].notna()
    short = int((rows["blocks"] < context.blocks).sum())
    counts = (
        (cells - len(rows), "without a single valid pair of samples"),
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
    invalid = frames.samples.loc[~frames.samples["valid"], "arm"].value_counts()
    names = [arm.name for arm in context.arms] + [context.baseline]
    order = dict.fromkeys([*names, *invalid.index])
    return join_words(
        f"{int(invalid.get(name, 0))} of {name}"
        for name in order
        if name in set(frames.samples["arm"])
    )


def _effect(row: pd.Series) -> tuple[str, str]:
    delta = format_percent(number(row["delta_percent"]), HEADLINE_DECIMALS)
    low, high = number(row["delta_low_percent"]), number(row["delta_high_percent"])
    return delta, format_interval(low, high, HEADLINE_DECIMALS)


def _blocks(row: pd.Series) -> int:
    return int(number(row["blocks"]))


def _to_settle(row: pd.Series) -> str:
    blocks = whole(row["blocks_to_settle"])
    return f" About {plural(blocks, 'block')} would settle it." if blocks else ""


def _magnitude(value: object) -> str:
    size = number(value)
    return f"{abs(size):.{HEADLINE_DECIMALS}f}%" if math.isfinite(size) else "unknown"
