# SPDX-License-Identifier: GPL-2.0-only
"""The tables beside the deltas, made up to fit a ``Plan`` of report_synthetic."""

from __future__ import annotations

import itertools
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from report_synthetic import Plan

REASON = "one page or less is allocated either way"
_PER_SAMPLE = {"pgscan_direct": 3000, "allocstall": 40, "oom_kill": 0}


def _rng(*names: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def set_aside_table(plan: Plan, validity: pd.DataFrame) -> pd.DataFrame:
    """``set_aside.csv``."""
    rules = sorted(validity["rule"].unique())
    rows = []
    for regime, arm in itertools.product(plan.regimes, plan.arms):
        part = validity[(validity["regime"] == regime) & (validity["arm"] == arm)]
        failed = part[part["rule"] == "boot-failed"]["block"].nunique()
        rows.append(
            {
                "regime": regime,
                "arm": arm,
                "boots": plan.blocks,
                "boots_failed": failed,
                "samples": plan.blocks * len(plan.cells),
                "set_aside": len(part[["block", *plan.matrix]].drop_duplicates()),
                **{rule: int((part["rule"] == rule).sum()) for rule in rules},
            }
        )
    return pd.DataFrame(rows)


def disturbance_table(plan: Plan, validity: pd.DataFrame) -> pd.DataFrame:
    """``disturbance.csv`` of a run whose every sample was checked."""
    rules = ("host-load", "host-steal", "host-other-cpu", "guest-steal", "cpu-speed")
    rows = []
    for regime in plan.regimes:
        part = validity[(validity["regime"] == regime) & validity["rule"].isin(rules)]
        samples = plan.blocks * len(plan.cells) * len(plan.arms)
        rows.append(
            {
                "regime": regime,
                "boots": plan.blocks * len(plan.arms),
                "boots_disturbed": len(part[["block", "arm"]].drop_duplicates()),
                "samples": samples,
                "samples_disturbed": len(part[["block", "arm", *plan.matrix]].drop_duplicates()),
                "samples_run": samples,
                "samples_checked": samples,
                **{
                    f"boots_{rule.replace('-', '_')}": len(
                        part.loc[part["rule"] == rule, ["block", "arm"]].drop_duplicates()
                    )
                    for rule in rules
                },
                "boots_slow": 0,
                "other_cpu_highest": 0.01 if part.empty else 0.38,
                "steal_highest": 0.001,
                "relative_speed_lowest": 0.93 if part.empty else 0.45,
                "speed_variance_share": 0.02 if part.empty else 0.81,
                "control_spread_percent": 141 * plan.noise,
                "times_quiet": 28.2 * plan.noise,
                "unexplained": "false",
            }
        )
    return pd.DataFrame(rows)


def _reclaims(plan: Plan, regime: str) -> bool:
    return plan.reclaims and not regime.startswith("idle")


def pressure_table(plan: Plan, samples: pd.DataFrame) -> pd.DataFrame:
    """``pressure.csv``: no counter moves in an idle regime; swap is one the kernel lacks."""
    rows = []
    for regime, arm, cell in itertools.product(plan.regimes, plan.arms, plan.cells):
        taken = samples[(samples["regime"] == regime) & (samples["arm"] == arm)]
        for name, level in cell.items():
            taken = taken[taken[name] == level]
        size = _rng(regime, arm, *cell.values()).uniform(0.8, 1.2) * _reclaims(plan, regime)
        rows.append(
            {
                "regime": regime,
                "arm": arm,
                **cell,
                "samples": len(taken),
                "with_direct_reclaim": len(taken) if size else 0,
                "pgscan_direct_per_s": 113000 * size,
                "pgsteal_direct_per_s": 90000 * size,
                "pgscan_kswapd_per_s": 50000 * size,
                "allocstall_per_s": 140 * size,
                "pswpin_per_s": "" if regime.startswith("idle") else 800 * size,
                "pswpout_per_s": "" if regime.startswith("idle") else 900 * size,
                "psi_memory_some_percent": 31 * size,
                "psi_memory_full_percent": 4.2 * size,
                "psi_cpu_some_percent": 48.0,
                "oom_kill": 0,
            }
        )
    return pd.DataFrame(rows)


QUANTILES = (*(percent / 100 for percent in range(1, 100)), 0.999)


def latency_table(plan: Plan, samples: pd.DataFrame) -> pd.DataFrame:
    """``latency.csv``: log-normal around the cell's mean; its end is known for one arm only."""
    names = ["regime", "arm", *plan.matrix, "quantile", "latency_us", "blocks"]
    levels = stats.norm.ppf(QUANTILES)
    rows = []
    valid = samples[samples["valid"] == "true"]
    for (regime, arm, *cell), part in valid.groupby(["regime", "arm", *plan.matrix], sort=False):
        middle = part["latency_mean_ns"].mean() / 1e3
        wide = 0.35 + 0.3 * _reclaims(plan, regime)
        for quantile, level in zip(QUANTILES, levels, strict=True):
            known = quantile < 0.99 or arm == plan.arms[1]
            latency = middle * np.exp(wide * level) if known else np.nan
            rows.append((regime, arm, *cell, quantile, latency, len(part)))
    return pd.DataFrame(rows, columns=names)


def expectations_table(plan: Plan, samples: pd.DataFrame) -> pd.DataFrame:
    """``expectations.csv``; a regime that does not reclaim breaks its ``at_least``."""
    names = ["regime", "arm", "counter", "bound", "limit", "share_wanted", "samples"]
    names += ["samples_met", "share_met", "met", "median", "lowest", "highest"]
    rows = []
    for (regime, counter, bound, limit, share), arm in itertools.product(plan.expects, plan.arms):
        taken = int(((samples["regime"] == regime) & (samples["arm"] == arm)).sum())
        typical = _PER_SAMPLE[counter] * _reclaims(plan, regime)
        met = typical >= limit if bound == "at_least" else typical <= limit
        values = (typical, typical // 2, typical * 2)
        counts = (taken, taken if met else 0, float(met), str(met).lower())
        rows.append((regime, arm, counter, bound, limit, share, *counts, *values))
    return pd.DataFrame(rows, columns=names)


def claims_table(plan: Plan, deltas: pd.DataFrame) -> pd.DataFrame:
    """``claims.csv``: the first arm, both main metrics; each cell claims a gain of 15 %."""
    names = ["regime", "arm", "metric", "unit", *plan.matrix, "claimed_baseline", "claimed_value"]
    names += ["claimed_delta_percent", "blocks", "delta_percent", "delta_low_percent"]
    names += ["delta_high_percent", "verdict", "status"]
    rows = []
    if plan.claimed:
        shown = deltas[deltas["metric"].isin(["throughput_mib_s", "latency_mean_ns"])]
        for row in shown[shown["arm"] == plan.arms[1]].to_dict("records"):
            up = row["metric"] == "throughput_mib_s"
            claim = 15 if up else -13
            low, high = (row.get(f"delta_{e}_percent", np.nan) for e in ("low", "high"))
            status = "not settled"
            if (low > 0) if up else (high < 0):
                status = "reproduced" if low <= claim <= high else "same direction"
            elif (high < 0) if up else (low > 0):
                status = "contradicted"
            rows.append(
                {
                    **{name: row.get(name) for name in names},
                    "claimed_baseline": 1119 if up else 55814,
                    "claimed_value": 1287 if up else 48558,
                    "claimed_delta_percent": claim,
                    "status": status,
                }
            )
    return pd.DataFrame(rows, columns=names)


def negative_controls_table(plan: Plan, deltas: pd.DataFrame) -> pd.DataFrame:
    """``negative_controls.csv``."""
    names = ["regime", "arm", *plan.matrix, "delta_percent", "delta_low_percent"]
    names += ["delta_high_percent", "verdict", "status", "reason"]
    status = {"equivalent": "held", "inconclusive": "not settled", "invalid": "invalid"}
    rows = []
    if plan.null_cells:
        shown = deltas[(deltas["metric"] == "throughput_mib_s") & (deltas["arm"] != plan.control)]
        for row in shown.to_dict("records"):
            if all(row[name] in levels for name, levels in plan.null_cells.items()):
                verdict = str(row["verdict"])
                kept = {name: row.get(name) for name in names}
                rows.append({**kept, "status": status.get(verdict, "broken"), "reason": REASON})
    return pd.DataFrame(rows, columns=names)


def mechanism_table(plan: Plan) -> pd.DataFrame:
    """``mechanism.csv``: baselines allocate under the lock, ``bulk`` gets one page in a cgroup."""
    names = ["regime", "arm", *plan.matrix, "status", "writes", "pages_before_lock_per_write"]
    names += ["pages_under_lock_per_write", "bulk_calls", "bulk_pages_requested_per_call"]
    names += ["bulk_pages_per_call", "reclaims_before_lock", "reclaims_under_lock"]
    names += ["contention_writes", "waits_per_write", "wait_us_per_write", "wait_mean_us"]
    names += ["wait_p50_us", "wait_p99_us", "wait_max_us", "lost_events"]
    rows = []
    for regime, arm, cell in itertools.product(plan.traced, plan.arms, plan.cells):
        pages = int(cell.get("write_size", 65536)) / 4096
        before = 0.0
        if arm not in (plan.baseline, plan.control) and pages >= 2:
            before = min(pages, 8)
            if regime.endswith("memcg") and arm != "loop":
                before = 1.0
        under = pages - before
        bulk = arm not in (plan.baseline, plan.control, "loop") and before > 0
        writers = int(cell.get("writers", 1))
        wait = (30 + 8 * under * writers) * _rng(regime, arm, *cell.values()).uniform(0.9, 1.1)
        values = (
            *("ok", 210, before, under, 210 if bulk else 0),
            *((min(pages, 8), before) if bulk else (np.nan, np.nan)),
            *(0, 0, 230, 1.5, wait, wait / 1.5, wait / 2, wait * 6, wait * 9, 0),
        )
        rows.append((regime, arm, *cell.values(), *values))
    return pd.DataFrame(rows, columns=names)
