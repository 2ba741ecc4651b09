# SPDX-License-Identifier: GPL-2.0-only
"""validity.csv: which samples break which rule, and why.

Rules of the boot taint each of its planned samples, those that were never run
too: a table must be able to say why a block is missing from a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kdelta.analysis.boot_rules import boot_breaches
from kdelta.analysis.boots import RawBoot, cell_key
from kdelta.analysis.breach import Breach
from kdelta.analysis.host_rules import host_breaches
from kdelta.analysis.records import Cell
from kdelta.analysis.rules import sample_breaches
from kdelta.analysis.samples import SampleKey
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import SampleSpeed, sample_speeds


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


def violations(boots: Sequence[RawBoot], settings: AnalysisSettings) -> list[Violation]:
    """Every rule that any planned sample breaks, in display order."""
    speeds = sample_speeds(boots)
    return sorted(
        (found for boot in boots for found in _boot_violations(boot, settings, speeds)),
        key=lambda v: (
            settings.regimes.index(v.regime),
            v.block,
            settings.arms.index(v.arm),
            cell_key(v.cell),
            v.round,
            v.breach.rule,
        ),
    )


def broken_samples(found: Iterable[Violation]) -> frozenset[SampleKey]:
    """The samples that are set aside."""
    return frozenset(violation.key for violation in found)


def validity_frame(found: Iterable[Violation], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per sample and rule broken, in the order given."""
    columns = [
        "regime",
        "block",
        "arm",
        *settings.factors,
        "round",
        "rule",
        "value",
        "limit",
        "detail",
    ]
    rows = [
        (v.regime, v.block, v.arm, *v.cell, v.round, b.rule, b.value, b.limit, b.detail)
        for v in found
        for b in (v.breach,)
    ]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(
        {
            "regime": "str",
            "block": "int64",
            "arm": "str",
            "round": "int64",
            "rule": "str",
            "value": "float64",
            "limit": "float64",
            "detail": "str",
        }
    )


def _boot_violations(
    boot: RawBoot, settings: AnalysisSettings, speeds: Mapping[SampleKey, SampleSpeed]
) -> list[Violation]:
    ran = {sample.place: sample for sample in boot.samples}
    last = max((sample.record.cell_order for sample in ran.values()), default=0)
    # By rule: where both the boot and the sample break it, the sample's own facts are told.
    whole = {b.rule: b for b in (*boot_breaches(boot), *host_breaches(boot, settings.limits))}
    found = []
    for place in boot.places:
        breaches = dict(whole)
        sample = ran.get(place)
        if sample is not None:
            own = sample_breaches(
                boot,
                sample,
                is_last=sample.record.cell_order == last,
                settings=settings,
                speed=speeds.get((boot.regime, boot.block, boot.arm, *place)),
            )
            breaches.update((breach.rule, breach) for breach in own)
        elif not boot.failed:
            breaches.setdefault(
                "incomplete-boot",
                Breach("incomplete-boot", len(ran), len(boot.places), "the cell was not run"),
            )
        found += [
            Violation(boot.regime, boot.block, boot.arm, *place, b) for b in breaches.values()
        ]
    return found
