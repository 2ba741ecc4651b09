# SPDX-License-Identifier: GPL-2.0-only
"""What is to be held against a run: warnings, and weaknesses of its answers.

The warnings stand at the top of every output, the weaknesses beside the answers; of both the
gravest come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from kdelta.report.context import Arm, Regime, ReportContext
from kdelta.report.disturbance import host_state
from kdelta.report.formatting import cell_words, join_words, plural
from kdelta.report.frames import ReportFrames, number, select
from kdelta.report.nodes import ONE_FOR_ALL, compared, node_effects, processors, untold
from kdelta.report.position import p_words, position_effect, position_rows
from kdelta.report.pressure import expectations
from kdelta.report.results import Results
from kdelta.report.sentences import effect, magnitude
from kdelta.report.set_aside import both_verdicts
from kdelta.report.tables import INVALID

UNPAIRED = "no valid pair of samples"
NO_INTERVAL = "too few blocks for an interval"
OPEN = "inconclusive"
SHORT = "short of blocks"
_KINDS = (INVALID, UNPAIRED, NO_INTERVAL, OPEN, SHORT)
"""The gravest first."""

_BOOT_FAILED = "boot-failed"
_BROKEN = "broken"


class Notice(NamedTuple):
    """A warning: one line, and the facts behind it."""

    headline: str
    details: tuple[str, ...] = ()


def notices(run: Results) -> tuple[Notice, ...]:
    """Every warning of a run, in the order to be read."""
    return (
        *_invalid(run),
        *_turned(run),
        *_same_kernel(run),
        *_failed_boots(run),
        *_missing_blocks(run),
        *_nodes(run),
        *_host(run),
        *_control(run),
        *_negative_controls(run),
        *_boot_order(run),
        *_regimes(run),
        *_hosts(run),
        *_attempts(run),
    )


def _invalid(run: Results) -> list[Notice]:
    found = []
    seen: set[str] = set()
    for arm in run.compared:
        places, causes = [], []
        for regime in run.regimes:
            where = _invalid_where(run, regime, arm)
            if where:
                places.append(f"{regime.title} ({where})")
                for name in dict.fromkeys([arm.name, run.baseline]):
                    causes += _cause(run.frames, regime, name)
        if places:
            # What the baseline lost concerns every arm: once is enough.
            new = tuple(cause for cause in causes if cause not in seen)
            found.append(Notice(f"{arm.name}: invalid in {join_words(places)}", new))
            seen.update(causes)
    return found


def _turned(run: Results) -> list[Notice]:
    """Answers that rest on what was set aside; of one that is invalid that is told already."""
    turned = [
        f"{arm.name} in {regime.title} ({without} without them, {every} with all)"
        for regime, arm, without, every in both_verdicts(run)
        if not arm.is_control and without not in (every, INVALID)
    ]
    if not turned:
        return []
    return [Notice(f"The samples set aside decide the verdict: {join_words(turned)}")]


def _invalid_where(run: Results, regime: Regime, arm: Arm) -> str:
    rows = run.deltas(regime, arm)
    overall = run.overall(regime, arm)
    invalid = int((rows["verdict"] == INVALID).sum())
    parts = ["overall"] if overall is not None and overall["verdict"] == INVALID else []
    if invalid:
        parts.append(f"{invalid} of {plural(len(rows), 'cell')}")
    return join_words(parts)


def _cause(frames: ReportFrames, regime: Regime, arm: str) -> list[str]:
    """Which samples of an arm were set aside; empty if none was."""
    for row in select(frames.set_aside, regime=regime.name, arm=arm).to_dict("records"):
        if number(row["set_aside"]) > 0:
            counts = {rule: int(number(row[rule])) for rule in frames.rules if number(row[rule])}
            order = _most_frequent_first(counts)
            return [
                f"{regime.title}, {arm}: {int(number(row['set_aside']))} of "
                f"{plural(int(number(row['samples'])), 'sample')} set aside: "
                f"{_counted(counts)}"
                f"{_first(frames, regime.name, arm, order[0]) if order else ''}."
            ]
    return []


def _most_frequent_first(counts: Mapping[str, int]) -> list[str]:
    """Rules, the one to show in front: the others are often its consequences."""
    return sorted(counts, key=lambda rule: (-counts[rule], rule != _BOOT_FAILED, rule))


def _counted(counts: Mapping[str, int]) -> str:
    return join_words(f"{rule} {counts[rule]}" for rule in _most_frequent_first(counts))


def _first(frames: ReportFrames, regime: str, arm: str, rule: str) -> str:
    rows = select(frames.validity, regime=regime, arm=arm, rule=rule)
    if rows.empty:
        return ""
    row = rows.iloc[0]
    return f"; first: block {row['block']}: {str(row['detail']).rstrip('.')}"


def _same_kernel(context: ReportContext) -> list[Notice]:
    """Arms that were compiled to what the baseline was: there is nothing to compare.

    Unless they are booted in another way.
    """
    booted = {arm.name: arm.booting for arm in context.arms}
    return [
        Notice(
            f"{image.name}: compiled to the same code as the baseline",
            (
                "No object file of its kernel differs from the baseline's, but for the image's "
                "name and addresses. Is what its patches change part of this configuration?",
            ),
        )
        for image in context.images
        if image.objects_changed == 0 and not booted.get(image.name)
    ]


def _failed_boots(run: Results) -> list[Notice]:
    totals, details = [], []
    for arm in run.arms:
        rows = select(run.frames.set_aside, arm=arm.name)
        failed, boots = (int(rows[c].sum()) for c in ("boots_failed", "boots"))
        if failed:
            totals.append(f"{failed} of {boots} of {arm.name}")
        for regime in run.regimes:
            for row in select(rows, regime=regime.name).to_dict("records"):
                if number(row["boots_failed"]) > 0:
                    details.append(
                        f"{regime.title}, {arm.name}: {int(number(row['boots_failed']))} of "
                        f"{plural(int(number(row['boots'])), 'boot')}"
                        f"{_first(run.frames, regime.name, arm.name, _BOOT_FAILED)}."
                    )
    return [Notice(f"Boots failed: {join_words(totals)}", tuple(details))] if totals else []


def _missing_blocks(run: Results) -> list[Notice]:
    """Planned blocks of which nothing is there; a boot that failed has left a trace."""
    counts, details = [], []
    for regime in run.regimes:
        missing = missing_blocks(run, regime)
        if missing:
            numbers = join_words(str(block) for block in missing)
            counts.append(f"{len(missing)} of {run.blocks} in {regime.title}")
            noun = "blocks" if len(missing) > 1 else "block"
            verb = "were" if len(missing) > 1 else "was"
            details.append(f"{regime.title}: {noun} {numbers} {verb} planned and left no data.")
    if not counts:
        return []
    details.append("No count of planned samples or boots in this report includes them.")
    return [Notice(f"Blocks missing: {join_words(counts)}", tuple(details))]


def missing_blocks(run: Results, regime: Regime) -> list[int]:
    """The numbers of a regime's planned blocks that have neither a sample nor a broken rule."""
    there: set[int] = set()
    for table in (run.frames.samples, run.frames.validity):
        there.update(int(block) for block in table.loc[table["regime"] == regime.name, "block"])
    return [block for block in range(1, run.blocks + 1) if block not in there]


def _host(run: Results) -> list[Notice]:
    """A disturbance that was seen, then a spread that nothing explains."""
    host = host_state(run)
    found = ((host.disturbed, host.details), (host.spread, host.spread_details))
    return [Notice(headline, details) for headline, details in found if headline]


def _control(run: Results) -> list[Notice]:
    details = []
    for arm in run.controls:
        for regime in run.regimes:
            # Throughput alone: the other metrics repeat or describe it.
            where = _control_where(run.frames, regime, arm, run.primary.name)
            if where:
                details.append(f"{regime.title}: {run.primary.short} ({where}).")
    if not details:
        return []
    headline = "The control arm, whose true effect is zero, came out different"
    return [Notice(headline, tuple(details))]


def _control_where(frames: ReportFrames, regime: Regime, arm: Arm, metric: str) -> str:
    row = frames.control_of(regime.name, metric)
    if row is None or not row["differs"]:
        return ""
    parts = []
    overall = frames.overall_of(regime.name, arm.name, metric)
    if overall is not None and overall["verdict"] in ("faster", "slower"):
        parts.append(f"overall {' '.join(effect(overall))} {overall['verdict']}")
    cells = number(row["false_verdicts"])
    if cells > 0:
        parts.append(f"{int(cells)} of {plural(int(number(row['cells'])), 'cell')}")
    return join_words(parts) or "different"


def _negative_controls(run: Results) -> list[Notice]:
    table = run.frames.negative_controls
    broken = table[table["status"] == _BROKEN]
    details = tuple(
        f"{run.regime_title(str(row['regime']))}, {row['arm']}, {cell_words(run, row)}: "
        f"throughput {' '.join(effect(row))} {row['verdict']}."
        for row in broken.to_dict("records")
    )
    if broken.empty:
        return []
    cells = plural(len(table), "cell")
    return [
        Notice(
            f"Negative control broken: an effect where there can be none, in {len(broken)} of "
            f"{cells}",
            details,
        )
    ]


def _boot_order(run: Results) -> list[Notice]:
    found = [(r, row) for r, row in position_rows(run) if row["differs"]]
    if not found:
        return []
    places = join_words(f"{position_effect(row)[0]} ({regime.title})" for regime, row in found)
    details = tuple(
        f"{regime.title}: {' '.join(position_effect(row))} per place. The orders "
        f"measured leave at most {magnitude(row['largest_bias_percent'])} of that in any cell's "
        "delta."
        for regime, row in found
    )
    return [
        Notice(
            f"The order of arms matters: {run.primary.short} changes from one that runs a cell "
            f"to the next by {places}",
            details,
        )
    ]


def _regimes(run: Results) -> list[Notice]:
    found = []
    for regime in run.regimes:
        unmet = [e.sentence for e in expectations(run, regime) if not e.met]
        if unmet:
            found.append(Notice(f"{regime.title}: expectation of the regime not met", tuple(unmet)))
    return found


def _nodes(run: Results) -> list[Notice]:
    found = [one for one in compared(run) if run.nodes_differ(*one[:2])]
    if not found:
        return []
    details = tuple(
        f"{regime.title}, {arm.name}: {node_effects(rows)}; p of equal effects: "
        f"{p_words(number(rows['p_holm'].iloc[0]))}."
        for regime, arm, rows in found
    )
    places = join_words(f"{arm.name} in {regime.title}" for regime, arm, _ in found)
    return [Notice(f"Effects differ from node to node: {places}", (*details, ONE_FOR_ALL))]


def _hosts(run: Results) -> list[Notice]:
    several = processors(run)
    if len(several) > 1:
        headline = f"Blocks of different processors are pooled: {join_words(several)}"
        return [Notice(headline, run.host_differences)]
    if run.host_differences:
        return [Notice("Blocks were measured on hosts that differ", run.host_differences)]
    return []


def _attempts(context: ReportContext) -> list[Notice]:
    tries = context.earlier_attempts
    if not tries:
        return []
    details = tuple(
        f"{context.regime_title(a.regime)}, block {a.block}, {a.at}: {a.reason.rstrip('.')}."
        for a in tries
    )
    return [Notice(f"{plural(len(tries), 'earlier attempt')} ended without data", details)]


def weaknesses(run: Results) -> tuple[str, ...]:
    """What a reader must hold against the answers, the gravest first."""
    found = []
    if run.emulated:
        found.append(
            "The numbers are emulated: neither their size nor their sign carries over to hardware."
        )
    if run.oversubscribed:
        found.append(
            f"The guest had {plural(run.vcpus, 'vCPU')} on a host with "
            f"{plural(run.host_cpus, 'CPU')}: vCPUs waited for each other."
        )
    for regime in run.regimes:
        found.extend(_regime_weaknesses(run, regime))
    if weakness := host_state(run).weakness:
        found.append(weakness)
    if weakness := untold(run):
        found.append(weakness)
    found.extend(_noise_floor(run))
    if not run.controls:
        found.append("No control arm was run: the noise floor is unknown.")
    aside, planned = (int(run.frames.set_aside[c].sum()) for c in ("set_aside", "samples"))
    if aside:
        broken = {rule: int(run.frames.set_aside[rule].sum()) for rule in run.frames.rules}
        found.append(
            f"{aside} of {plural(planned, 'planned sample')} set aside ({_counted(broken)}): "
            f"{_aside_by_arm(run)}. The report has both analyses, with and "
            "without them."
        )
    return tuple(found)


def _regime_weaknesses(run: Results, regime: Regime) -> list[str]:
    """One sentence for all arms of a regime: a line for each of them would bury the rest."""
    cells = run.cells
    by_kind: dict[str, dict[int, list[str]]] = {}
    fewest = []
    for arm in run.treatments:
        rows = run.deltas(regime, arm)
        for kind, count in weak_cells(rows, run, cells).items():
            if count:
                by_kind.setdefault(kind, {}).setdefault(count, []).append(arm.name)
        paired = paired_cells(rows)
        fewest += [int(paired["blocks"].min())] if len(paired) else []
    found = []
    for kind in _KINDS:
        if kind in by_kind:
            what = kind
            if kind == SHORT:
                planned = plural(run.blocks, "planned block")
                what = f"fewer than the {planned} (fewest: {min(fewest)})"
            found.append(f"{what} in {_places(by_kind[kind], cells, run)}")
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


def _noise_floor(run: Results) -> list[str]:
    """What the number beside each answer means."""
    rows = [run.control(regime) for regime in run.regimes]
    if not any(r is not None and math.isfinite(number(r["noise_floor_percent"])) for r in rows):
        return []
    return [
        f"Below the noise floor a true effect on a cell's {run.primary.short} would have been "
        f"called faster or slower with less than {run.power * 100:g}% probability."
    ]


def _aside_by_arm(run: Results) -> str:
    counts = {}
    for name in dict.fromkeys([run.baseline, *(arm.name for arm in run.arms)]):
        rows = select(run.frames.set_aside, arm=name)
        if not rows.empty:
            counts[name] = (int(rows["set_aside"].sum()), int(rows["samples"].sum()))
    words = join_words(f"{aside} of {planned} of {n}" for n, (aside, planned) in counts.items())
    # One sample more or less is as alike as whole samples can be.
    most, least = (pick(aside for aside, _ in counts.values()) for pick in (max, min))
    return f"{words}; the arms are not alike in this" if most - least > 1 else words
