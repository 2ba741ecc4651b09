# SPDX-License-Identifier: GPL-2.0-only
"""Kernel counters that moved with an arm: tables/counters.csv.

They explain an effect and prove none: of the hundreds that a kernel has, some move by chance, so
that a false discovery rate holds, over all counters of an arm in all regimes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.inference import MIN_BLOCKS
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of

FALSE_DISCOVERY_RATE = 0.05
UNITS = {"psi": "us/s", "sched": "ns/s", "stat": "ticks/s"}
_COUNTS = frozenset({"stat.intr", "stat.ctxt", "stat.processes", "stat.softirqs"})

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Pair:
    """A counter's rates per second in an arm and in the baseline, block by block."""

    regime: str
    arm: str
    counter: str
    base: Floats
    ours: Floats

    def p_value(self) -> float:
        """Of no change, paired by blocks: on log ratios where every rate is positive."""
        positive = bool((self.base > 0).all() and (self.ours > 0).all())
        change = np.log(self.ours / self.base) if positive else self.ours - self.base
        if np.ptp(change) <= 1e-12 * max(1.0, float(np.abs(change).max())):
            return float(abs(float(change[0])) <= 1e-12)
        return float(stats.ttest_1samp(change, 0.0).pvalue)


def counters_frame(boots: Sequence[RawBoot], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per regime, arm and counter that ever moved: columns of tables/counters.csv.

    Rates are sums over a boot's slices per second of their wall time, means over blocks. A
    counter that went down in some boot is none, but a level, and is left out.

    Args:
        boots: every planned boot.
        settings: names and order.
    """
    rates = {
        (boot.regime, boot.block, boot.arm): boot.rates
        for boot in boots
        if boot.rates and not boot.failed
    }
    pairs = [
        pair
        for regime in settings.regimes
        for arm in settings.compared_arms
        for pair in _pairs(regime, arm, rates, settings.baseline)
    ]
    rows = []
    for arm in settings.compared_arms:
        ours = [pair for pair in pairs if pair.arm == arm]
        p_values = np.array([pair.p_value() for pair in ours])
        q_values = multipletests(p_values, method="fdr_bh")[1] if len(ours) else p_values
        rows += [
            _row(pair, float(p), float(q))
            for pair, p, q in zip(ours, p_values, q_values, strict=True)
        ]
    rows.sort(key=lambda row: settings.regimes.index(str(row["regime"])))  # stable
    return frame_of("tables/counters.csv", rows)


def _pairs(
    regime: str,
    arm: str,
    rates: Mapping[tuple[str, int, str], Mapping[str, float]],
    baseline: str,
) -> list[_Pair]:
    blocks = sorted(
        block
        for where, block, name in rates
        if (where, name) == (regime, arm) and (regime, block, baseline) in rates
    )
    if len(blocks) < MIN_BLOCKS:
        return []
    base = [rates[regime, block, baseline] for block in blocks]
    ours = [rates[regime, block, arm] for block in blocks]
    shared = set.intersection(*(set(one) for one in (*base, *ours)))
    found = []
    for counter in sorted(shared):
        values = [np.array([one[counter] for one in side]) for side in (base, ours)]
        if all((side >= 0).all() for side in values) and any(side.any() for side in values):
            found.append(_Pair(regime, arm, counter, *values))
    return found


def _row(pair: _Pair, p_value: float, q_value: float) -> dict[str, object]:
    base, ours = float(pair.base.mean()), float(pair.ours.mean())
    kind = pair.counter.partition(".")[0]
    return {
        "regime": pair.regime,
        "arm": pair.arm,
        "counter": pair.counter,
        "unit": "1/s" if pair.counter in _COUNTS else UNITS.get(kind, "1/s"),
        "blocks": len(pair.base),
        "baseline": base,
        "baseline_sd_percent": _spread(pair.base),
        "value": ours,
        "value_sd_percent": _spread(pair.ours),
        "change_percent": 100 * (ours / base - 1) if base > 0 else math.nan,
        "p_value": p_value,
        "q_value": q_value,
        "moved": q_value < FALSE_DISCOVERY_RATE,
    }


def _spread(values: Floats) -> float:
    mean = float(values.mean())
    return 100 * float(values.std(ddof=1)) / mean if mean > 0 else math.nan
