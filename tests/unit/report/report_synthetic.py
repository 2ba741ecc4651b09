# SPDX-License-Identifier: GPL-2.0-only
"""Results folders with known effects, in the form of docs/contracts.md, for the report's tests."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from report_more import (
    claims_table,
    disturbance_table,
    expectations_table,
    latency_table,
    mechanism_table,
    negative_controls_table,
    pressure_table,
    set_aside_table,
)
from scipy import stats

from kdelta.schema import TABLES

METRICS = (
    ("throughput_mib_s", "MiB/s", "higher"),
    ("latency_mean_ns", "ns", "lower"),
    ("latency_p50_ns", "ns", "lower"),
    ("latency_p99_ns", "ns", "lower"),
)
WRITE_SIZE = 65536


@dataclass(frozen=True)
class Plan:
    """What to make up: the true effects by (regime, arm), the noise and what goes missing."""

    effects: dict[tuple[str, str], float]
    matrix: dict[str, tuple[object, ...]]
    baseline: str = "baseline"
    control: str = "control"
    blocks: int = 4
    noise: float = 0.02
    level: float = 1100.0
    margin: float = 0.02
    # (regime, block, arm) boots that never happened
    lost_boots: tuple[tuple[str, int, str], ...] = ()
    # (regime, arm, cell values) that were never sampled
    lost_cells: tuple[tuple[str, str, tuple[object, ...]], ...] = ()
    # (regime, block, arm, cell values, rule)
    broken: tuple[tuple[str, int, str, tuple[object, ...], str], ...] = field(default=())
    # What the regimes must do: (regime, counter, bound, limit, share) and whether they do
    expects: tuple[tuple[str, str, str, int, float], ...] = ()
    reclaims: bool = True
    traced: tuple[str, ...] = ()
    claimed: bool = False
    # Cells without effect: factor -> levels
    null_cells: dict[str, tuple[object, ...]] | None = None
    seed: int = 7

    @property
    def regimes(self) -> list[str]:
        return list(dict.fromkeys(regime for regime, _ in self.effects))

    @property
    def cells(self) -> list[dict[str, object]]:
        names = list(self.matrix)
        return [dict(zip(names, c, strict=True)) for c in itertools.product(*self.matrix.values())]

    @property
    def arms(self) -> list[str]:
        return [self.baseline, *dict.fromkeys(arm for _, arm in self.effects)]


FLAGSHIP = Plan(
    effects={
        ("idle", "patched"): 1.18,
        ("idle", "control"): 1.0,
        ("memory-pressure", "patched"): 1.03,
        ("memory-pressure", "control"): 1.0,
    },
    matrix={"writers": (1, 2, 5), "readers": (1, 5, 10)},
    expects=(
        ("memory-pressure", "pgscan_direct", "at_least", 1, 0.95),
        ("memory-pressure", "oom_kill", "at_most", 0, 1.0),
    ),
    traced=("idle", "memory-pressure"),
    claimed=True,
)
WIDE = Plan(
    effects={
        (regime, arm): effect
        for regime, shift in (("idle", 0.0), ("reclaim", 0.2), ("memcg", -0.05))
        for arm, effect in (("bulk", 1.15 + shift), ("loop", 1.08 + shift), ("control", 1.0))
    },
    matrix={
        "writers": (1, 2, 5),
        "readers": (1, 5, 10),
        "write_bytes": (1, 4096, 65536, 131072),
    },
    blocks=10,
)
AXES = Plan(
    effects={
        (regime, arm): effect
        for regime in ("idle", "idle-memcg")
        for arm, effect in (("bulk", 1.12), ("loop", 1.09), ("control", 1.0))
    },
    matrix={
        "write_size": (1, 4096, 8192, 32768, 65536, 131072),
        "nonblock": (False, True),
        "processes": (False, True),
    },
    blocks=6,
    traced=("idle", "idle-memcg"),
    null_cells={"write_size": (1, 4096)},
)
FOUR = Plan(
    effects={
        (regime, arm): effect
        for regime in ("idle", "memory-pressure", "idle-memcg", "reclaim")
        for arm, effect in (("bulk", 1.12), ("loop", 1.09), ("control", 1.0))
    },
    matrix=FLAGSHIP.matrix,
    blocks=5,
    noise=0.03,
    expects=(*FLAGSHIP.expects, ("reclaim", "allocstall", "at_least", 1, 0.95)),
    traced=("idle", "idle-memcg"),
    claimed=True,
    lost_boots=(("reclaim", 2, "loop"),),
)
GAPS = replace(
    FLAGSHIP,
    noise=0.05,
    lost_boots=(
        ("idle", 2, "patched"),
        ("memory-pressure", 1, "baseline"),
        ("memory-pressure", 2, "baseline"),
    ),
    lost_cells=(("idle", "patched", (5, 10)),),
    reclaims=False,
    null_cells={"writers": (1,), "readers": (1, 5)},
    broken=(
        ("idle", 1, "patched", (1, 1), "oom-kill"),
        ("idle", 1, "patched", (1, 1), "closed-loop-identity"),
        ("idle", 3, "control", (2, 5), "closed-loop-identity"),
        ("memory-pressure", 3, "baseline", (5, 1), "stressor-dead"),
    ),
)


def make_samples(plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``samples.csv`` and ``validity.csv``."""
    rng = np.random.default_rng(plan.seed)
    names = list(plan.matrix)
    rows, rules = [], []
    for regime, block in itertools.product(plan.regimes, range(1, plan.blocks + 1)):
        shared = rng.normal(0, plan.noise)
        order = rng.permutation(plan.arms)
        for boot_order, arm in enumerate(order, 1):
            if (regime, block, arm) in plan.lost_boots:
                rules += [
                    _breach(regime, block, arm, cell, "boot-failed", "no driver within 120 s")
                    for cell in plan.cells
                    if (regime, arm, tuple(cell.values())) not in plan.lost_cells
                ]
                continue
            boot = rng.normal(0, plan.noise / 2)
            for cell_order, cell in enumerate(plan.cells, 1):
                levels = tuple(cell.values())
                if (regime, arm, levels) in plan.lost_cells:
                    continue
                effect = plan.effects.get((regime, arm), 1.0)
                if _matches(cell, plan.null_cells):
                    effect = 1.0
                writers = int(cell.get("writers", 1))
                tilt = 1 - 0.02 * writers - 0.005 * int(cell.get("readers", 1))
                rate = plan.level * tilt * math.exp(shared + boot + rng.normal(0, plan.noise))
                rate *= 1 + (effect - 1) * rng.uniform(0.8, 1.2)
                latency = writers * WRITE_SIZE / (rate * 2**20) * 1e9
                broken = [r for *where, r in plan.broken if where == [regime, block, arm, levels]]
                rows.append(
                    {
                        "regime": regime,
                        "block": block,
                        "arm": arm,
                        "boot_order": boot_order,
                        "cell_order": cell_order,
                        "write_size": WRITE_SIZE,
                        "pipe_size": 1 << 20,
                        **cell,
                        "status": "ok",
                        "throughput_mib_s": rate,
                        "latency_mean_ns": latency,
                        "latency_p50_ns": latency * 0.9,
                        "latency_p99_ns": latency * 3,
                        "valid": "false" if broken else "true",
                    }
                )
                rules += [_breach(regime, block, arm, cell, r, "made up") for r in broken]
    columns = ["regime", "block", "arm", *names, "rule", "value", "limit", "detail"]
    return pd.DataFrame(rows), pd.DataFrame(rules, columns=columns)


def _breach(
    regime: str, block: int, arm: str, cell: dict[str, object], rule: str, detail: str
) -> dict[str, object]:
    head = {"regime": regime, "block": block, "arm": arm, **cell}
    return {**head, "rule": rule, "value": 1, "limit": 0, "detail": detail}


def _matches(cell: dict[str, object], levels: dict[str, tuple[object, ...]] | None) -> bool:
    return levels is not None and all(cell[name] in wanted for name, wanted in levels.items())


def make_ratios(plan: Plan, samples: pd.DataFrame, every: bool = False) -> pd.DataFrame:
    """``tables/ratios.csv``: every pair of valid samples of one block, or every pair at all."""
    names = list(plan.matrix)
    valid = samples if every else samples[samples["valid"] == "true"]
    parts = []
    for metric, _, _ in METRICS:
        base = valid[valid["arm"] == plan.baseline]
        base = base[["regime", "block", *names, metric]].rename(columns={metric: "baseline"})
        other = valid[valid["arm"] != plan.baseline]
        other = other[["regime", "block", "arm", *names, metric]].rename(columns={metric: "value"})
        pairs = other.merge(base, on=["regime", "block", *names])
        ratio = pairs["value"] / pairs["baseline"]
        parts.append(pairs.assign(metric=metric, speed_ratio=1.0, ratio=ratio))
    columns = ["regime", "block", "arm", *names, "metric", "baseline", "value"]
    return pd.concat(parts)[[*columns, "speed_ratio", "ratio"]]


def _effect(logs: np.ndarray, direction: str, margin: float) -> dict[str, object]:
    n = len(logs)
    mean = logs.mean()
    half = math.nan
    if n > 2:
        half = stats.t.ppf(0.975, n - 1) * logs.std(ddof=1) / math.sqrt(n)
    low, high = mean - half, mean + half
    verdict = "inconclusive"
    if low > 0 or high < 0:
        verdict = "faster" if (low > 0) == (direction == "higher") else "slower"
    elif max(abs(low), abs(high)) < math.log1p(margin):
        verdict = "equivalent"
    ends = {"ratio": mean, "ratio_low": low, "ratio_high": high}
    out: dict[str, object] = {name: math.exp(v) for name, v in ends.items()}
    for name, value in zip(("delta", "delta_low", "delta_high"), ends.values(), strict=True):
        out[f"{name}_percent"] = math.expm1(value) * 100
    settle = 3 * n if verdict == "inconclusive" and n > 2 else ""
    return out | {"confidence": 0.95, "verdict": verdict, "blocks_to_settle": settle}


def make_tables(
    plan: Plan, ratios: pd.DataFrame, planned: pd.DataFrame, every: bool = False
) -> dict[str, pd.DataFrame]:
    """``deltas``, ``overall`` and ``control`` of the pairs given.

    Args:
        plan: What was made up.
        ratios: The pairs used.
        planned: The pairs that were planned and, if not used, set aside.
        every: Whether pairs that broke a rule are among those used: nothing is then invalid.
    """
    nothing = {"ratio": math.nan, "verdict": "inconclusive", "blocks_to_settle": ""}
    keys = ["regime", "arm", *plan.matrix]
    # Grouped once: looking for each cell in the whole table takes seconds.
    pairs = dict(iter(ratios.groupby([*keys, "metric"])))
    plans = planned.groupby(keys).size().to_dict()
    deltas, overall, control = [], [], []
    for (regime, arm), (metric, unit, direction) in itertools.product(plan.effects, METRICS):
        head = {"regime": regime, "arm": arm}
        facts = {"metric": metric, "unit": unit, "direction": direction}
        group = _at(ratios, {**head, "metric": metric})
        cells = []
        for cell in plan.cells:
            key = (regime, arm, *cell.values())
            part = pairs.get((*key, metric), ratios.iloc[:0])
            aside = plans.get(key, 0) - len(part)
            values = {"baseline": math.nan, "value": math.nan}
            if len(part):
                values = {c: math.exp(np.log(part[c]).mean()) for c in ("baseline", "value")}
            effect = nothing
            if len(part):
                effect = _effect(np.log(part["ratio"].to_numpy()), direction, plan.margin)
            row = {**head, **cell, **facts, "blocks": len(part), "set_aside": aside}
            row |= {**values, **effect}
            if aside and not every and (2 * aside >= len(part) + aside or len(part) < 3):
                row |= {"verdict": "invalid", "blocks_to_settle": ""}
            cells.append(row)
        effect, blocks = nothing, 0
        if len(group):
            logs = np.log(group["ratio"]).groupby(group["block"]).mean().to_numpy()
            effect, blocks = _effect(logs, direction, plan.margin), len(logs)
        aside = len(_at(planned, head)["block"].unique()) - blocks
        measured = sum(c["blocks"] > 0 for c in cells)
        row = {**head, **facts, "cells": measured, "blocks": blocks, "set_aside": aside, **effect}
        lost = sum(c["set_aside"] for c in cells)
        if lost and not every and 2 * lost >= lost + len(group):
            row |= {"verdict": "invalid", "blocks_to_settle": ""}
        overall.append(row)
        deltas += cells
        if arm == plan.control:
            control.append(_control({"regime": regime, "metric": metric}, cells, row))
    return {
        "deltas": pd.DataFrame(deltas),
        "overall": pd.DataFrame(overall),
        "control": pd.DataFrame(control),
    }


def _at(frame: pd.DataFrame, values: dict[str, object]) -> pd.DataFrame:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return frame


def _control(
    head: dict[str, object], cells: list[dict[str, object]], overall: dict[str, object]
) -> dict[str, object]:
    known = [c for c in cells if c["blocks"] > 2]
    halves = [(c["delta_high_percent"] - c["delta_low_percent"]) / 2 for c in known] or [math.nan]
    different = [c["verdict"] in ("faster", "slower") for c in [overall, *known]]
    return {
        **head,
        "cells": len(known),
        "blocks": min((c["blocks"] for c in known), default=0),
        "largest_delta_percent": max((abs(c["delta_percent"]) for c in known), default=math.nan),
        "median_half_width_percent": np.median(halves),
        "noise_floor_percent": np.median(halves) * 1.4,
        "false_verdicts": sum(different[1:]),
        "differs": str(any(different)).lower(),
    }


def write_results(plan: Plan, folder: Path) -> Path:
    """Write every CSV file of a results folder and return the folder."""
    samples, validity = make_samples(plan)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    tables = {
        "samples.csv": samples,
        "validity.csv": validity,
        **{f"tables/{k}.csv": v for k, v in all_tables(plan, samples, validity).items()},
    }
    for table in TABLES:
        # What the report does not look at is not made up.
        frame = tables.get(table.path, pd.DataFrame())
        empty = [name for name in table.dtypes if name not in frame]
        assert not empty or not table.path.endswith("set_aside.csv"), "its rules come last"
        columns = [*frame.columns, *empty]
        filled = frame.reindex(columns=columns)
        if "round" in empty and table.path == "samples.csv":
            filled["round"] = 1
        filled.to_csv(folder / table.path, index=False)
    return folder


def all_tables(
    plan: Plan, samples: pd.DataFrame, validity: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Every file of ``tables/``."""
    ratios, pairs = make_ratios(plan, samples), make_ratios(plan, samples, every=True)
    lost = samples.iloc[:0] if validity.empty else validity[validity["rule"] == "boot-failed"]
    planned = planned_pairs(plan, pairs, lost)
    tables = make_tables(plan, ratios, planned)
    second = make_tables(plan, pairs, planned, every=True)
    for name in ("deltas", "overall"):
        tables[f"{name}_all"] = second[name] if len(validity) else second[name].iloc[:0]
    return {
        **tables,
        "position": position_table(plan, samples),
        "ratios": ratios,
        "latency": latency_table(plan, samples),
        "set_aside": set_aside_table(plan, validity),
        "disturbance": disturbance_table(plan, validity),
        "pressure": pressure_table(plan, samples),
        "expectations": expectations_table(plan, samples),
        "claims": claims_table(plan, tables["deltas"]),
        "negative_controls": negative_controls_table(plan, tables["deltas"]),
        "mechanism": mechanism_table(plan),
    }


def position_table(plan: Plan, samples: pd.DataFrame) -> pd.DataFrame:
    """``position.csv``: a trend that is no more than noise."""
    return pd.DataFrame(
        [
            {
                "regime": regime,
                "metric": "throughput_mib_s",
                "blocks": samples.loc[samples["regime"] == regime, "block"].nunique(),
                "position_percent": 0.4,
                "position_low_percent": -0.7,
                "position_high_percent": 1.5,
                "p_value": 0.42,
                "p_holm": 0.84,
                "largest_bias_percent": 0.1,
                "differs": "false",
            }
            for regime in plan.regimes
        ]
    )


def planned_pairs(plan: Plan, pairs: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """Regime, arm, block and cell of every pair that had both samples or lost a boot."""
    keys = ["regime", "arm", "block", *plan.matrix]
    of_baseline = lost[lost["arm"] == plan.baseline]
    compared = [of_baseline.assign(arm=arm) for arm in plan.arms if arm != plan.baseline]
    others = lost[lost["arm"] != plan.baseline]
    found = pd.concat([f[keys] for f in (pairs, others, *compared)], ignore_index=True)
    return found.drop_duplicates()
