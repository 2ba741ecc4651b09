# SPDX-License-Identifier: GPL-2.0-only
"""Results folders with known effects, in the form of docs/contracts.md, for the report's tests."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from kdelta.report.context import Arm, Factor, Regime, ReportContext, Variant

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
    # (regime, arm, cell values) without a single valid sample
    lost_cells: tuple[tuple[str, str, tuple[object, ...]], ...] = ()
    # (regime, block, arm, cell values, rule)
    broken: tuple[tuple[str, int, str, tuple[object, ...], str], ...] = field(default=())
    seed: int = 7

    @property
    def regimes(self) -> list[str]:
        return list(dict.fromkeys(regime for regime, _ in self.effects))

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
GAPS = replace(
    FLAGSHIP,
    noise=0.05,
    lost_boots=(
        ("idle", 2, "patched"),
        ("memory-pressure", 1, "baseline"),
        ("memory-pressure", 2, "baseline"),
    ),
    lost_cells=(("idle", "patched", (5, 10)),),
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
                continue
            boot = rng.normal(0, plan.noise / 2)
            for cell_order, levels in enumerate(itertools.product(*plan.matrix.values()), 1):
                cell = dict(zip(names, levels, strict=True))
                effect = plan.effects.get((regime, arm), 1.0)
                tilt = 1 - 0.02 * int(cell["writers"]) - 0.005 * int(cell["readers"])
                rate = plan.level * tilt * math.exp(shared + boot + rng.normal(0, plan.noise))
                rate *= 1 + (effect - 1) * rng.uniform(0.8, 1.2)
                latency = int(cell["writers"]) * WRITE_SIZE / (rate * 2**20) * 1e9
                broken = [r for *where, r in plan.broken if where == [regime, block, arm, levels]]
                broken += ["failed"] if (regime, arm, levels) in plan.lost_cells else []
                rows.append(
                    {
                        "regime": regime,
                        "block": block,
                        "arm": arm,
                        "variant": arm,
                        "boot_order": boot_order,
                        "cell_order": cell_order,
                        **cell,
                        "write_size": WRITE_SIZE,
                        "pipe_size": 1 << 20,
                        "status": "ok",
                        "throughput_mib_s": rate,
                        "latency_mean_ns": latency,
                        "latency_p50_ns": latency * 0.9,
                        "latency_p99_ns": latency * 3,
                        "valid": "false" if broken else "true",
                    }
                )
                rules += [
                    {
                        "regime": regime,
                        "block": block,
                        "arm": arm,
                        **cell,
                        "rule": rule,
                        "value": 1,
                        "limit": 0,
                        "detail": "made up",
                    }
                    for rule in broken
                ]
    columns = ["regime", "block", "arm", *names, "rule", "value", "limit", "detail"]
    return pd.DataFrame(rows), pd.DataFrame(rules, columns=columns)


def make_ratios(plan: Plan, samples: pd.DataFrame) -> pd.DataFrame:
    """``tables/ratios.csv``: every pair of valid samples of one block."""
    names = list(plan.matrix)
    valid = samples[samples["valid"] == "true"]
    parts = []
    for metric, _, _ in METRICS:
        base = valid[valid["arm"] == plan.baseline]
        base = base[["regime", "block", *names, metric]].rename(columns={metric: "baseline"})
        other = valid[valid["arm"] != plan.baseline]
        other = other[["regime", "block", "arm", *names, metric]].rename(columns={metric: "value"})
        pairs = other.merge(base, on=["regime", "block", *names])
        parts.append(pairs.assign(metric=metric, ratio=pairs["value"] / pairs["baseline"]))
    columns = ["regime", "block", "arm", *names, "metric", "baseline", "value", "ratio"]
    return pd.concat(parts)[columns]


def _effect(logs: np.ndarray, higher: bool, margin: float) -> dict[str, object]:
    n = len(logs)
    mean = logs.mean()
    half = math.nan
    if n > 2:
        half = stats.t.ppf(0.975, n - 1) * logs.std(ddof=1) / math.sqrt(n)
    low, high = mean - half, mean + half
    verdict = "inconclusive"
    if low > 0 or high < 0:
        verdict = "faster" if (low > 0) == higher else "slower"
    elif max(abs(low), abs(high)) < math.log1p(margin):
        verdict = "equivalent"
    ends = {"ratio": mean, "ratio_low": low, "ratio_high": high}
    out: dict[str, object] = {name: math.exp(v) for name, v in ends.items()}
    for name, value in zip(("delta", "delta_low", "delta_high"), ends.values(), strict=True):
        out[f"{name}_percent"] = math.expm1(value) * 100
    settle = 3 * n if verdict == "inconclusive" and n > 2 else ""
    return out | {"confidence": 0.95, "verdict": verdict, "blocks_to_settle": settle}


def make_tables(plan: Plan, ratios: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The files of ``tables/``."""
    names = list(plan.matrix)
    facts = {metric: (unit, direction) for metric, unit, direction in METRICS}
    deltas, overall, control = [], [], []
    for (regime, arm, metric), group in ratios.groupby(["regime", "arm", "metric"], sort=False):
        unit, direction = facts[metric]
        head = {
            "regime": regime,
            "arm": arm,
            "metric": metric,
            "unit": unit,
            "direction": direction,
        }
        cells = []
        for levels, cell in group.groupby(names, sort=False):
            effect = _effect(np.log(cell["ratio"].to_numpy()), direction == "higher", plan.margin)
            cells.append(
                {
                    "regime": regime,
                    "arm": arm,
                    **dict(zip(names, levels, strict=True)),
                    **head,
                    "blocks": len(cell),
                    "baseline": math.exp(np.log(cell["baseline"]).mean()),
                    "value": math.exp(np.log(cell["value"]).mean()),
                    **effect,
                }
            )
        logs = np.log(group["ratio"]).groupby(group["block"]).mean().to_numpy()
        effect = _effect(logs, direction == "higher", plan.margin)
        overall.append({**head, "cells": len(cells), "blocks": len(logs), **effect})
        deltas += cells
        if arm == plan.control:
            halves = [(c["delta_high_percent"] - c["delta_low_percent"]) / 2 for c in cells]
            control.append(
                {
                    "regime": regime,
                    "metric": metric,
                    "cells": len(cells),
                    "blocks": len(logs),
                    "largest_delta_percent": max((c["delta_percent"] for c in cells), key=abs),
                    "median_half_width_percent": np.median(halves),
                    "noise_floor_percent": np.median(halves) * 1.4,
                    "false_verdicts": sum(c["verdict"] in ("faster", "slower") for c in cells),
                }
            )
    return {
        "deltas": pd.DataFrame(deltas),
        "overall": pd.DataFrame(overall),
        "control": pd.DataFrame(control),
        "ratios": ratios,
    }


def write_results(plan: Plan, folder: Path) -> Path:
    """Write every CSV file of a results folder and return the folder."""
    samples, validity = make_samples(plan)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    samples.to_csv(folder / "samples.csv", index=False)
    validity.to_csv(folder / "validity.csv", index=False)
    for name, frame in make_tables(plan, make_ratios(plan, samples)).items():
        frame.to_csv(folder / "tables" / f"{name}.csv", index=False)
    return folder


def make_context(plan: Plan, **changes: object) -> ReportContext:
    """A context that fits the plan; any field can be replaced."""
    titles = {
        "idle": "No memory pressure",
        "memory-pressure": "Under memory pressure",
        "reclaim": "Direct reclaim",
        "memcg": "In a memory cgroup",
    }
    units = {"write_bytes": Factor("write_bytes", "write size", "B")}
    context = ReportContext(
        experiment="pipe-prealloc",
        title="fs/pipe: preallocate pages outside pipe->mutex",
        summary="Pages for a pipe write are allocated before the mutex is taken, so that an "
        "allocation that sleeps no longer stalls readers.",
        baseline=plan.baseline,
        arms=tuple(Arm(a, f"the kernel called {a}", a == plan.control) for a in plan.arms),
        factors=tuple(units.get(name, Factor(name, name)) for name in plan.matrix),
        row_factor="writers",
        column_factor="readers",
        regimes=tuple(
            Regime(
                r,
                titles[r],
                "The guest runs the benchmark and nothing else."
                if r == "idle"
                else "stress-ng --vm 2 --vm-bytes 50% --vm-keep beside it.",
            )
            for r in plan.regimes
        ),
        protocol="quick",
        blocks=plan.blocks,
        seconds_per_cell=dict.fromkeys(plan.regimes, 0.6),
        confidence=0.95,
        equivalence_margin=plan.margin,
        write_size=None if "write_bytes" in plan.matrix else WRITE_SIZE,
        pipe_size=1 << 20,
        acceleration="kvm",
        acceleration_reason="/dev/kvm boots the built kernel",
        vcpus=2,
        host_cpus=2,
        memory_mib=1024,
        environment={
            "Host CPU": "Example CPU @ 2.40 GHz",
            "Host kernel": "6.1.0-31-amd64",
            "QEMU": "7.2.15",
            "virtme-ng": "1.42",
        },
        provenance={
            "Source": "linux-source-6.12 6.12.117-1",
            "Source SHA-256": "3f" * 32,
            "Patch series SHA-256": "a7" * 32,
            "Compiler": "gcc (Debian 12.2.0-14+deb12u1) 12.2.0",
            "Seed": "20260515",
        },
        variants=(
            Variant("baseline", "baseline", ()),
            Variant(
                "patched",
                "patched",
                (
                    "fs/pipe: bulk pre-allocate pages outside pipe->mutex",
                    "selftests/pipe: add pipe_bench microbenchmark",
                ),
            ),
        ),
        reproduce="make report EXPERIMENT=pipe-prealloc",
        generated_from="the raw files of run 20260515-1 (16 files, hashes in manifest.json)",
    )
    return replace(context, **changes)
