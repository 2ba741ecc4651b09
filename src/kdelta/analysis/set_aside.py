# SPDX-License-Identifier: GPL-2.0-only
"""tables/set_aside.csv: how much each arm lost, and to which rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of
from kdelta.analysis.validity import Violation


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
                    "samples": sum(len(boot.places) for boot in ours),
                    "set_aside": samples[regime, arm],
                    **{rule: per_rule[regime, arm, rule] for rule in rules},
                }
            )
    return frame_of("tables/set_aside.csv", rows, rules=rules)
