# SPDX-License-Identifier: GPL-2.0-only
"""tables/disturbance.csv: whether the host was quiet, and what its disturbances came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kdelta.analysis.rules import highest
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import centred, speed_shares
from kdelta.analysis.tables import frame_of
from kdelta.analysis.validity import Violation
from kdelta.schema import DISTURBANCE_RULES

if TYPE_CHECKING:
    from kdelta.analysis.blocks import Blocks

SLOW = 0.8
"""Share of full speed below which a sample's CPUs were disturbed: bursts of other work that are
worth the name take 20 to 50 %, and on a quiet host checks spread by a few per cent.

Such a sample is used: `at_equal_speed` corrects what it comes to. Rule `cpu-speed` sets those
aside that are too slow to be corrected.
"""
QUIET_SPREAD = 0.05
"""Standard deviation of a cell's log ratio between two boots of one kernel on a quiet host.

Measured under emulation, 2 vCPUs on 2 cores, cells of 0.6 s: 4.5 to 5.5 %. Longer cells and
hardware spread by less, so that it errs towards saying nothing.
"""
UNEXPLAINED = 3.0
"""Times `QUIET_SPREAD` from which the control's spread is too large for a quiet host.

Known disturbed runs have 4 to 7 times in all but one regime, quiet ones 0.9 to 1.1.
"""


def disturbance_frame(
    blocks: Sequence[Blocks],
    samples: pd.DataFrame,
    found: Sequence[Violation],
    ratios: pd.DataFrame,
    ratios_all: pd.DataFrame,
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """One row per measured regime: columns of tables/disturbance.csv.

    A boot is disturbed if any of its planned slices breaks a rule on the host (on other
    programs, load, steal or the speed of the vCPUs), or ran beside more of others' work than
    those rules allow a boot, or was `SLOW`. What slowed a whole round falls out of its ratios,
    so that such slices are not set aside for it.

    Args:
        blocks: every block.
        samples: of all of them, with their relative speeds.
        found: every violation.
        ratios: pairs of valid samples, as `ratios_frame` makes them.
        ratios_all: the same with the samples that were set aside.
        settings: display order, the control arm's name.
    """
    limits = settings.limits
    shares = speed_shares(ratios_all, settings.factors, settings.primary)
    spreads = control_spreads(ratios, settings)
    rows: list[dict[str, object]] = []
    for regime in settings.regimes:
        here = {
            (boot.block, boot.arm): (boot, some.host[boot.regime, boot.block, boot.arm])
            for some in blocks
            for boot in some.boots
            if boot.regime == regime
        }
        if not here:
            continue
        run = samples[samples["regime"] == regime]
        checked = run[np.isfinite(run["relative_speed"])]
        slow = checked[checked["relative_speed"] < SLOW]
        ours = [v for v in found if v.regime == regime and v.breach.rule in DISTURBANCE_RULES]
        seen = {
            rule: {(v.block, v.arm) for v in ours if v.breach.rule == rule}
            for rule in DISTURBANCE_RULES
        }
        for key, (_, taken) in here.items():
            for rule, share, limit in (
                ("host-other-cpu", taken.other_cpu, limits.host_other_cpu),
                ("host-steal", taken.host_steal, limits.steal),
            ):
                if share is not None and share > limit:
                    seen[rule].add(key)
        slow_boots = set(zip(slow["block"], slow["arm"], strict=True))
        spread = spreads.get(regime)
        rows.append(
            {
                "regime": regime,
                "boots": len(here),
                "boots_disturbed": len(slow_boots.union(*seen.values())),
                "samples": sum(boot.slices for boot, _ in here.values()),
                "samples_disturbed": len({v.key for v in ours}),
                "samples_run": len(run),
                "samples_checked": len(checked),
                **{f"boots_{rule.replace('-', '_')}": len(hit) for rule, hit in seen.items()},
                "boots_slow": len(slow_boots),
                "other_cpu_highest": highest(taken.other_cpu for _, taken in here.values()),
                "steal_highest": highest(
                    share
                    for _, taken in here.values()
                    for share in (taken.host_steal, taken.guest_steal)
                ),
                "relative_speed_lowest": min(checked["relative_speed"], default=None),
                "speed_variance_share": shares.get(regime),
                "control_spread_percent": None if spread is None else 100 * spread,
                "times_quiet": None if spread is None else spread / QUIET_SPREAD,
                "unexplained": spread is not None and spread > UNEXPLAINED * QUIET_SPREAD,
            }
        )
    return frame_of("tables/disturbance.csv", rows)


def control_spreads(ratios: pd.DataFrame, settings: AnalysisSettings) -> dict[str, float]:
    """Regime -> standard deviation over blocks of the control's log ratio, pooled over cells.

    Of the primary metric. A regime without control arm, or without a cell that has two blocks, has
    none.
    """
    ours = ratios[(ratios["metric"] == settings.primary) & (ratios["arm"] == settings.control)]
    found = {}
    for regime, rows in ours.groupby("regime", sort=False):
        logs = np.log(rows["ratio"].to_numpy())
        cells = rows.groupby(list(settings.factors), sort=False).ngroup().to_numpy()
        df = len(logs) - len(set(cells))
        if df > 0:
            found[str(regime)] = math.sqrt(float((centred(logs, cells) ** 2).sum()) / df)
    return found
