# SPDX-License-Identifier: GPL-2.0-only
"""The report's sentences about results. Plain text; every output escapes and typesets it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.formatting import (
    NO_INTERVAL,
    Row,
    format_interval,
    format_percent,
    plural,
)
from kdelta.report.frames import number, whole
from kdelta.report.results import Results
from kdelta.report.tables import (
    INVALID,
    NO_VERDICT_MARK,
    VERDICT_MARKS,
    DeltaTable,
)

HEADLINE_DECIMALS = 1
HOPELESS_PERCENT = 1000
"""Above this, a magnitude is no more than a sign that nothing could be seen."""


@dataclass(frozen=True)
class Banner:
    """The loud lines at the top of every output of an emulated run."""

    headline: str
    meaning: str
    reason: str
    """Why there was no KVM, a sentence; may be empty."""

    @property
    def body(self) -> str:
        """Everything below the headline."""
        return f"{self.meaning} Reason: {self.reason}" if self.reason else self.meaning


NOISE_FLOOR = "noise floor of a cell"


@dataclass(frozen=True)
class Answer:
    """What a regime says about an arm, in one sentence with its interval.

    `floor` is the noise floor in words; empty without a control arm, or without an answer.
    """

    regime: Regime
    arm: Arm
    verdict: str
    mark: str
    delta: str
    interval: str
    sentence: str
    floor: str = ""


def emulation_banner(context: ReportContext) -> Banner | None:
    """The warning of an emulated run; None for a measured one."""
    if not context.emulated:
        return None
    name = context.acceleration.upper()
    reason = context.acceleration_reason.strip().rstrip(".")
    return Banner(
        headline=f"EMULATED ({name}): not a measurement of kernel performance",
        meaning="The guests ran on emulated CPUs, without KVM, so these numbers show that the "
        "pipeline works, not how fast a kernel is on hardware.",
        reason=f"{reason}." if reason else "",
    )


def confidence_label(context: ReportContext) -> str:
    """``95%`` for a confidence of 0.95."""
    return f"{context.confidence * 100:g}%"


def acceleration_label(context: ReportContext) -> str:
    """How the guests ran, in a few words."""
    if context.emulated:
        return f"emulated ({context.acceleration.upper()})"
    return "KVM"


def legend(
    context: ReportContext, short_of_blocks: bool, signs: Mapping[str, str] | None = None
) -> str:
    """What the marks beside a delta mean; ``signs`` replaces marks that an output sets finer."""
    margin = f" (within {context.equivalence_margin * 100:g}%)"
    marks = [
        f"{(signs or {}).get(mark, mark)} {verdict}{margin if verdict == 'equivalent' else ''}"
        for verdict, mark in VERDICT_MARKS.items()
    ]
    marks[-1] += " (too many samples set aside)"
    marks.append(f"{NO_INTERVAL} too few blocks for an interval")
    if short_of_blocks:
        marks.append(f"* fewer than the {plural(context.blocks, 'planned block')}")
    return f"{', '.join(marks)}. {adjustment_sentence('mark')}"


def adjustment_sentence(what: str) -> str:
    """For what a verdict is adjusted and an interval is not."""
    return (
        f"A {what} is adjusted for the number of cells of its arm and metric in all regimes "
        "together, an interval is not."
    )


def guest_size(context: ReportContext) -> tuple[str, str]:
    """CPUs and memory of the guests."""
    resized = any(arm.resized for arm in context.arms)
    rest = " where an arm does not say otherwise" if resized else ""
    return plural(context.vcpus, "vCPU"), f"{context.memory_mib} MiB of memory{rest}"


def setup_sentence(context: ReportContext) -> str:
    """Guest and workload in one sentence, as under a cover letter's tables."""
    parts = [context.architecture] if context.architecture else []
    parts += [*guest_size(context), *context.phrases]
    verb = "Emulated" if context.emulated else "Measured"
    return (
        f"{verb} in virtme-ng guests ({', '.join(parts)}; acceleration: "
        f"{acceleration_label(context)}) on a host with {plural(context.host_cpus, 'CPU')}; "
        f"protocol {context.protocol}."
    )


def answer(run: Results, regime: Regime, arm: Arm) -> Answer:
    """The overall effect of an arm in a regime on the primary metric."""
    row = run.overall(regime, arm)
    base = run.baseline
    if row is not None and row["verdict"] == INVALID:
        return _invalid_answer(run, regime, arm, row)
    if row is None or not math.isfinite(number(row["ratio"])):
        sentence = f"{arm.name} against {base}: no valid pair of samples, no result."
        return Answer(regime, arm, "", NO_VERDICT_MARK, "n/a", NO_INTERVAL, sentence)
    verdict = str(row["verdict"])
    delta, interval = effect(row)
    counts = f"{plural(int(number(row['cells'])), 'cell')}, {plural(_blocks(row), 'block')}"
    floor = noise_floor(run, regime)
    words = ", ".join(filter(None, (f"{run.primary.short} {delta} {interval}", floor)))
    if interval == NO_INTERVAL:
        words += f" ({counts})"
        claim = f"{arm.name} against {base}: no claim, too few blocks for an interval"
    else:
        words += f" ({confidence_label(run)} interval, {counts})"
        claim = _claim(arm.name, base, verdict, run)
    if run.emulated:
        claim += " (under emulation)"
    return Answer(
        regime=regime,
        arm=arm,
        verdict=verdict,
        mark=VERDICT_MARKS.get(verdict, NO_VERDICT_MARK),
        delta=delta,
        interval=interval,
        sentence=f"{claim}: {words}.{_to_settle(row)}{_over_nodes(run, regime, arm)}",
        floor=floor,
    )


def _claim(arm: str, base: str, verdict: str, context: ReportContext) -> str:
    if verdict in ("faster", "slower"):
        return f"{arm} is {verdict} than {base}"
    if verdict == "equivalent":
        return f"{arm} equals {base} within {context.equivalence_margin * 100:g}%"
    return f"{arm} against {base}: not settled"


def noise_floor(run: Results, regime: Regime, metric: Metric | None = None) -> str:
    """What stands beside an answer: ``noise floor of a cell 8.0%``; empty without a control arm."""
    if not run.controls:
        return ""
    row = run.frames.control_of(regime.name, (metric or run.primary).name)
    floor = math.nan if row is None else number(row["noise_floor_percent"])
    return f"{NOISE_FLOOR} {magnitude(floor)}"


def _invalid_answer(run: Results, regime: Regime, arm: Arm, row: pd.Series) -> Answer:
    lost, planned = pairs_set_aside(run, regime, arm, run.primary)
    sentence = (
        f"{arm.name} against {run.baseline}: invalid, no claim: {lost} of "
        f"{plural(planned, 'pair')} of samples set aside or missing."
    )
    rows = run.deltas(regime, arm)
    gone = int((pd.to_numeric(rows["blocks"]) < min(2, run.blocks)).sum())
    if gone:
        verb = "has" if gone == 1 else "have"
        cells = plural(len(rows), "cell")
        sentence += f" {gone} of {cells} {verb} fewer than two pairs left."
    if math.isfinite(number(row["ratio"])):
        sentence += f" What is left: {run.primary.short} {' '.join(effect(row))}."
    return Answer(regime, arm, INVALID, VERDICT_MARKS[INVALID], "no result", "", sentence)


def pairs_set_aside(run: Results, regime: Regime, arm: Arm, metric: Metric) -> tuple[int, int]:
    """Pairs of samples set aside and pairs planned, over the cells of a table."""
    rows = run.deltas(regime, arm, metric)
    lost = int(pd.to_numeric(rows["set_aside"]).sum())
    return lost, lost + int(pd.to_numeric(rows["blocks"]).sum())


def overall_line(run: Results, regime: Regime, arm: Arm, metric: Metric) -> str:
    """The overall effect under a table."""
    row = run.overall(regime, arm, metric)
    aside = ""
    if row is not None and row["verdict"] == INVALID:
        lost, planned = pairs_set_aside(run, regime, arm, metric)
        aside = f" ({lost} of {plural(planned, 'pair')} set aside)"
    if row is None or not math.isfinite(number(row["ratio"])):
        return f"Overall: no valid pair of samples{f': {INVALID}{aside}' if aside else ''}."
    delta, interval = effect(row)
    verdict = str(row["verdict"]) or "no verdict"
    cells = plural(int(number(row["cells"])), "cell")
    return (
        f"Overall: {metric.short} {delta} {interval} over {cells} and "
        f"{plural(_blocks(row), 'block')}: {verdict}{aside}.{_to_settle(row)}"
        f"{_over_nodes(run, regime, arm)}"
    )


def tally_line(tables: tuple[DeltaTable, ...]) -> str:
    """How many cells got which verdict."""
    cells = [cell for table in tables for cell in table.cells]
    counts = [(sum(c.verdict == verdict for c in cells), verdict) for verdict in VERDICT_MARKS]
    words = [f"{count} {verdict}" for count, verdict in counts if count]
    missing = sum(not cell.measured and not cell.invalid for cell in cells)
    if missing:
        words.append(f"{missing} missing")
    return f"Cells: {', '.join(words)}." if words else ""


def control_line(run: Results, regime: Regime, metric: Metric) -> str:
    """What the control arm says about a table; empty without a control arm."""
    if not run.controls:
        return ""
    arm = run.controls[0]
    row = run.control(regime, metric)
    if row is None:
        return "Control arm: no valid pair of samples, the noise floor is unknown."
    parts = []
    if math.isfinite(number(row["largest_delta_percent"])):
        parts.append(f"largest cell {magnitude(row['largest_delta_percent'])}")
    overall = run.overall(regime, arm, metric)
    if overall is not None and math.isfinite(number(overall["ratio"])):
        parts.insert(0, " ".join(("overall", *effect(overall))))
    false, cells = whole(row["false_verdicts"]), whole(row["cells"])
    if false is not None and cells:
        parts.append(f"declared different in {false} of {plural(cells, 'cell')}")
    known = f"Control arm (true effect zero): {', '.join(parts)}. " if parts else ""
    floor = number(row["noise_floor_percent"])
    if not math.isfinite(floor):
        return f"{known}Noise floor unknown (too few blocks)."
    return (
        f"{known}Noise floor {magnitude(floor)}: the smallest true effect that this table would "
        f"have called faster or slower with {run.power * 100:g}% probability."
    )


def effect(row: Row | pd.Series, decimals: int = HEADLINE_DECIMALS) -> tuple[str, str]:
    """Delta and interval of a row, in per cent."""
    delta, low, high = (
        number(row.get(name))
        for name in ("delta_percent", "delta_low_percent", "delta_high_percent")
    )
    return format_percent(delta, decimals), format_interval(low, high, decimals)


def effect_words(row: Row | pd.Series, decimals: int) -> str:
    """Both as one text; ``n/a`` alone where there is no delta."""
    words = effect(row, decimals)
    return words[0] if math.isnan(number(row.get("delta_percent"))) else " ".join(words)


def _blocks(row: pd.Series) -> int:
    return int(number(row["blocks"]))


def _to_settle(row: pd.Series) -> str:
    blocks = whole(row["blocks_to_settle"])
    if not blocks:
        return ""
    return f" With this effect and spread about {plural(blocks, 'block')} would settle it."


def _over_nodes(run: Results, regime: Regime, arm: Arm) -> str:
    """What an interval is of where effects differ between nodes."""
    if not run.nodes_differ(regime, arm):
        return ""
    return " Effects differ from node to node: the interval reaches over those of all."


def magnitude(value: object) -> str:
    """The size of an effect in per cent, without its sign."""
    size = abs(number(value))
    if not math.isfinite(size):
        return "unknown"
    if size > HOPELESS_PERCENT:
        return f">{HOPELESS_PERCENT}%"  # of a noise floor: nothing could have been seen
    return f"{size:.{HEADLINE_DECIMALS if size < 100 else 0}f}%"
