# SPDX-License-Identifier: GPL-2.0-only
"""Whole sentences on what the data lacks, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.breach import one_line
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.validity import Violation, broken_samples

ASYMMETRY_LEVEL = 0.05
"""p below which arms are said to have lost samples at different rates."""


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
    planned = {
        arm: sum(len(boot.places) for boot in boots if boot.arm == arm) for arm in settings.arms
    }
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
