# SPDX-License-Identifier: GPL-2.0-only
"""How many samples were set aside, per arm and rule."""

from __future__ import annotations

from dataclasses import dataclass

from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames


@dataclass(frozen=True)
class SetAside:
    """Counts of samples, one number per arm.

    A sample that breaks two rules is counted under both, and once in ``totals``.
    """

    arms: tuple[str, ...]
    rules: tuple[tuple[str, tuple[int, ...]], ...]
    totals: tuple[int, ...]
    samples: tuple[int, ...]

    @property
    def any(self) -> bool:
        """Whether any sample was set aside."""
        return any(self.totals)


def set_aside(frames: ReportFrames, context: ReportContext) -> SetAside:
    """Count over every arm that has samples, those of the context first and in its order."""
    present = list(dict.fromkeys(frames.samples["arm"]))
    planned = [context.baseline, *(arm.name for arm in context.arms)]
    arms = [a for a in dict.fromkeys([*planned, *present]) if a in present]
    samples = frames.samples.groupby("arm").size()
    totals = frames.samples.loc[~frames.samples["valid"]].groupby("arm").size()
    key = ["regime", "block", "arm", *(f for f in frames.factors if f in frames.validity), "rule"]
    broken = frames.validity.drop_duplicates(key).groupby(["rule", "arm"]).size().to_dict()
    rules = sorted(set(frames.validity["rule"]))
    return SetAside(
        arms=tuple(arms),
        rules=tuple((rule, tuple(int(broken.get((rule, a), 0)) for a in arms)) for rule in rules),
        totals=tuple(int(totals.get(arm, 0)) for arm in arms),
        samples=tuple(int(samples.get(arm, 0)) for arm in arms),
    )
