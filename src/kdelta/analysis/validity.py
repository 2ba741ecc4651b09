# SPDX-License-Identifier: GPL-2.0-only
"""Which samples break which rule, what each arm lost by it, and sentences on what is lacking.

The tables are validity.csv and tables/set_aside.csv. Rules of the boot taint each of its planned
samples, those that were never run too: a table must be able to say why a block is missing from a
cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kdelta.analysis.boots import RawBoot, cell_key
from kdelta.analysis.inference import Floats
from kdelta.analysis.records import Cell
from kdelta.analysis.rules import (
    Breach,
    boot_breaches,
    host_breaches,
    one_line,
    slice_breaches,
    slow_breach,
)
from kdelta.analysis.samples import SampleKey
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of

ASYMMETRY_LEVEL = 0.05
"""p below which arms are said to have lost samples at different rates."""


@dataclass(frozen=True)
class Violation:
    """A breach and the sample it sets aside."""

    regime: str
    block: int
    arm: str
    cell: Cell
    round: int
    breach: Breach

    @property
    def key(self) -> SampleKey:
        """What identifies the sample."""
        return (self.regime, self.block, self.arm, self.cell, self.round)


def in_order(found: Iterable[Violation], settings: AnalysisSettings) -> list[Violation]:
    """Violations in display order."""
    regimes, arms = (
        {name: place for place, name in enumerate(names)}
        for names in (settings.regimes, settings.arms)
    )
    return sorted(
        found,
        key=lambda v: (
            regimes[v.regime],
            v.block,
            arms[v.arm],
            cell_key(v.cell),
            v.round,
            v.breach.rule,
        ),
    )


def slow_violations(
    samples: pd.DataFrame, full: Floats, settings: AnalysisSettings
) -> list[Violation]:
    """Samples beside which the vCPUs were too slow.

    Args:
        samples: of all blocks, with their relative speeds.
        full: what full speed was for each.
        settings: the limit, and the factors.
    """
    limit = settings.limits.cpu_speed
    slow = samples["relative_speed"].to_numpy() < limit
    names = ["regime", "block", "arm", "round", "relative_speed", "speed_before", "speed_after"]
    columns = [samples.loc[slow, name].tolist() for name in (*names, *settings.factors)]
    return [
        Violation(
            regime, block, arm, tuple(cell), number, slow_breach(relative, before, after, of, limit)
        )
        for of, regime, block, arm, number, relative, before, after, *cell in zip(
            full[slow].tolist(), *columns, strict=True
        )
    ]


def broken_samples(found: Iterable[Violation]) -> frozenset[SampleKey]:
    """The samples that are set aside."""
    return frozenset(violation.key for violation in found)


def validity_frame(found: Iterable[Violation], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per sample and rule broken, in the order given."""
    return frame_of(
        "validity.csv",
        (
            {
                "regime": violation.regime,
                "block": violation.block,
                "arm": violation.arm,
                **dict(zip(settings.factors, violation.cell, strict=True)),
                "round": violation.round,
                **vars(violation.breach),
            }
            for violation in found
        ),
        settings.factors,
    )


def own_violations(boot: RawBoot, settings: AnalysisSettings) -> list[Violation]:
    """Every rule that any planned sample of a boot breaks, but for what other boots tell of it."""
    own = slice_breaches(boot, settings)
    whole = [*boot_breaches(boot), *host_breaches(boot, settings.limits)]
    ran = boot.ran.places
    numbers = range(len(ran)) if whole else sorted(own)
    broken = [(ran[number], (*whole, *own.get(number, ()))) for number in numbers]
    if len(ran) < boot.slices:
        not_run = Breach("incomplete-boot", len(ran), boot.slices, "the cell was not run")
        lost = whole if boot.failed else [not_run, *whole]
        there = set(ran)
        broken += [(place, (*lost,)) for place in boot.places if place not in there]
    return [
        Violation(boot.regime, boot.block, boot.arm, *place, breach)
        for place, breaches in broken
        # By rule: where both the boot and the sample break it, the sample's own facts are told.
        for breach in {breach.rule: breach for breach in breaches}.values()
    ]


def set_aside_frame(
    boots: Sequence[RawBoot], found: Sequence[Violation], settings: AnalysisSettings
) -> pd.DataFrame:
    """One row per measured regime and arm: columns of tables/set_aside.csv.

    Args:
        boots: every planned boot.
        found: every violation; a sample may have several.
        settings: display order.
    """
    rules = sorted({violation.breach.rule for violation in found})
    per_rule = Counter((v.regime, v.arm, v.breach.rule) for v in found)
    samples = Counter((regime, arm) for regime, _, arm, *_ in {v.key for v in found})
    rows = []
    for regime in settings.regimes:
        here = [boot for boot in boots if boot.regime == regime]
        for arm in settings.arms if here else ():
            ours = [boot for boot in here if boot.arm == arm]
            rows.append(
                {
                    "regime": regime,
                    "arm": arm,
                    "boots": len(ours),
                    "boots_failed": sum(boot.failed for boot in ours),
                    "samples": sum(boot.slices for boot in ours),
                    "set_aside": samples[regime, arm],
                    **{rule: per_rule[regime, arm, rule] for rule in rules},
                }
            )
    return frame_of("tables/set_aside.csv", rows, rules=rules)


def notes(
    boots: Sequence[RawBoot], found: Sequence[Violation], settings: AnalysisSettings
) -> tuple[str, ...]:
    """What is missing, failed, was tried before, or fell on one arm more than on another.

    Args:
        boots: every planned boot.
        found: every violation.
        settings: names and display order.
    """
    return (
        *_absent(boots, settings),
        *_failed_boots(boots),
        *_earlier_attempts(boots),
        *_asymmetries(boots, found, settings),
        *_without_console(boots),
    )


def _absent(boots: Sequence[RawBoot], settings: AnalysisSettings) -> Iterator[str]:
    measured = {boot.regime for boot in boots}
    arms = {(boot.regime, boot.arm) for boot in boots}
    for regime in settings.regimes:
        if regime not in measured:
            kept = "its cells count as lost" if settings.blocks else "the tables leave it out"
            yield f"Regime {regime} has no block yet; {kept}."
        elif settings.blocks is not None:
            there = {boot.block for boot in boots if boot.regime == regime}
            lost = [number for number in range(1, settings.blocks + 1) if number not in there]
            if lost:
                yield (
                    f"Regime {regime}: {len(lost)} of {settings.blocks} planned blocks are not "
                    f"there ({', '.join(map(str, lost))}); their pairs count as lost."
                )
    for regime in settings.regimes:
        for arm in settings.arms:
            if regime in measured and (regime, arm) not in arms:
                yield f"Regime {regime}: no block has the arm {arm}."


def _failed_boots(boots: Sequence[RawBoot]) -> Iterator[str]:
    for boot in boots:
        if boot.failure is not None:
            yield f"{boot.name}: the boot failed: {boot.failure.rstrip('.')}."


def _earlier_attempts(boots: Sequence[RawBoot]) -> Iterator[str]:
    for boot in {(boot.regime, boot.block): boot for boot in boots}.values():
        tries = boot.host.earlier_attempts if boot.host else ()
        if tries:
            told = "; ".join(
                one_line(f"{t.at or 'at an unknown time'}: {t.reason or 'no reason was recorded'}")
                for t in tries
            ).rstrip(".")
            number = "one earlier attempt" if len(tries) == 1 else f"{len(tries)} earlier attempts"
            yield f"{boot.regime}, block {boot.block}: {number} ended without data ({told})."


def _asymmetries(
    boots: Sequence[RawBoot], found: Sequence[Violation], settings: AnalysisSettings
) -> Iterator[str]:
    """A regime, a rule or a kernel that costs one arm more samples biases what is left."""
    broken = broken_samples(found)
    planned = {arm: sum(boot.slices for boot in boots if boot.arm == arm) for arm in settings.arms}
    lost = {arm: sum(key[2] == arm for key in broken) for arm in settings.arms}
    booted = {arm: sum(boot.arm == arm for boot in boots) for arm in settings.arms}
    failed = {arm: sum(boot.failed for boot in boots if boot.arm == arm) for arm in settings.arms}
    base = settings.baseline
    for arm in settings.compared_arms:
        if failed[arm] != failed[base]:
            meaning = (
                "both run the same image, so that is chance or the host's doing"
                if arm == settings.control
                else "that may be an effect of the arm itself"
            )
            yield (
                f"Asymmetry: {failed[arm]} of {booted[arm]} boots of arm {arm} failed, and "
                f"{failed[base]} of {booted[base]} of {base}; {meaning}."
            )
        counts = np.array([[lost[n], planned[n] - lost[n]] for n in (arm, base)])
        p_value = float(stats.fisher_exact(counts).pvalue)
        if p_value < ASYMMETRY_LEVEL:
            yield (
                f"Asymmetry: {lost[arm]} of {planned[arm]} samples of arm {arm} were set aside, "
                f"and {lost[base]} of {planned[base]} of {base} (Fisher's exact test over the "
                f"run, p = {p_value:.2g}; samples of one boot often fall together, so that p is "
                "a pointer and no proof)."
            )


def _without_console(boots: Sequence[RawBoot]) -> Iterator[str]:
    for boot in boots:
        if boot.boot is not None and boot.splats is None:
            yield f"{boot.name}: no console log, so kernel splats could not be looked for."
