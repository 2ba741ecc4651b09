# SPDX-License-Identifier: GPL-2.0-only
"""Raw folders with a known truth, in the form of docs/contracts.md.

The model of a throughput: level of the cell x effect of the arm x host's mood in
the block x luck of the boot x luck of the sample, all but the first two log-normal.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdelta.analysis.settings import AnalysisSettings

WRITE_SIZE = 65536
BLOCK_WALL_S = 90.0
ARMS = {"baseline": "baseline", "patched": "patched", "control": "baseline"}
SETTINGS = AnalysisSettings(
    factors=("writers", "readers"),
    baseline="baseline",
    control="control",
    arms=("baseline", "patched", "control"),
    regimes=("idle", "memory-pressure"),
)


@dataclass(frozen=True)
class Truth:
    """What the raw folder is made from; spreads are standard deviations of logarithms."""

    effects: Mapping[str, float] = field(default_factory=lambda: {"patched": 1.2})
    regimes: tuple[str, ...] = ("idle",)
    blocks: int = 4
    factors: Mapping[str, tuple[Any, ...]] = field(
        default_factory=lambda: {"writers": (1, 2), "readers": (1, 5)}
    )
    block_sd: float = 0.2
    boot_sd: float = 0.01
    sample_sd: float = 0.01
    seed: int = 1

    def cells(self) -> list[dict[str, Any]]:
        return [
            dict(zip(self.factors, levels, strict=True))
            for levels in itertools.product(*self.factors.values())
        ]


def write_raw(raw: Path, truth: Truth) -> Path:
    """Writes `raw/<regime>/block-NNN/` and returns `raw`."""
    rng = np.random.default_rng(truth.seed)
    cells = truth.cells()
    for regime in truth.regimes:
        for block in range(1, truth.blocks + 1):
            arms = [str(arm) for arm in rng.permutation(list(ARMS))]
            order = [cells[i] for i in rng.permutation(len(cells))]
            mood = np.exp(rng.normal(0, truth.block_sd))
            rates = {}
            for arm in arms:
                luck = np.exp(rng.normal(0, truth.boot_sd))
                rates[arm] = [
                    float(
                        1000
                        * (1 + cells.index(cell)) ** 0.1
                        * truth.effects.get(arm, 1.0)
                        * mood
                        * luck
                        * np.exp(rng.normal(0, truth.sample_sd))
                    )
                    for cell in order
                ]
            write_block(raw, regime, block, order, rates, seed=truth.seed)
    return raw


def write_simulated(raw: Path, truth: Truth, logs: NDArray[np.float64]) -> Path:
    """The same of given throughputs, of which `truth` says only regimes and factors.

    Args:
        raw: the folder to write to.
        truth: regimes, factors, seed of the orders.
        logs: natural logarithms of MiB/s, shape (regimes, arms, blocks, cells), arms in the
            order of `ARMS`, cells in that of `truth.cells()`; NaN where a sample failed, and all
            of a boot where the boot did.
    """
    rng = np.random.default_rng(truth.seed)
    cells = truth.cells()
    for regime, table in zip(truth.regimes, logs, strict=True):
        for block in range(table.shape[1]):
            places = rng.permutation(len(cells))
            order = [cells[place] for place in places]
            arms = dict(zip(ARMS, np.exp(table[:, block, places]).tolist(), strict=True))
            rates = {str(arm): arms[str(arm)] for arm in rng.permutation(list(ARMS))}
            write_block(raw, regime, block + 1, order, rates, seed=truth.seed)
    return raw


def write_block(
    raw: Path,
    regime: str,
    block: int,
    order: list[dict[str, Any]],
    rates: Mapping[str, list[float]],
    *,
    seed: int = 1,
) -> Path:
    """One block's folder; `rates` in MiB/s by arm in boot order, NaN where a sample failed."""
    folder = raw / regime / f"block-{block:03d}"
    folder.mkdir(parents=True)
    schedule = {
        "schema": 1,
        "experiment": "synthetic",
        "protocol": "quick",
        "regime": regime,
        "block": block,
        "seed": seed,
        "arms": list(rates),
        "cells": order,
        "rounds": [[{"cell": cell, "arms": list(rates)} for cell in range(len(order))]],
        "slice_s": 1.0,
        "warmup_s": 0.2,
    }
    (folder / "schedule.json").write_text(json.dumps(schedule))
    boots = []
    for position, (arm, values) in enumerate(rates.items(), start=1):
        failed = all(math.isnan(value) for value in values)
        boots.append({"arm": arm, "status": "failed" if failed else "ok"})
        if not failed:
            records = boot_records(regime, block, arm, position, order, values)
            write_records(folder / f"{arm}.jsonl", records)
        (folder / f"{arm}.console.log").write_text(QUIET_CONSOLE)
    (folder / "host.json").write_text(
        json.dumps({"schema": 1, "wall_s": BLOCK_WALL_S, "boots": boots})
    )
    return folder


def boot_records(
    regime: str,
    block: int,
    arm: str,
    position: int,
    order: list[dict[str, Any]],
    rates: list[float],
) -> list[dict[str, Any]]:
    """A boot's records, clean but for failed samples; `rates` in MiB/s, NaN where one failed."""
    identity = {
        "regime": regime,
        "block": block,
        "arm": arm,
        "boot_order": position,
    }
    pressure = regime != "idle"
    boot = {
        "record": "boot",
        "schema": 1,
        **identity,
        "gate": {
            "kernel_release": "6.12.0",
            "config_sha256": "00",
            "vcpus": 2,
            "memory_total_kib": 1000448,
            "memory_controller": True,
            "swap_total_kib": 0,
            "acceleration": "tcg",
            "ok": True,
            "failures": [],
        },
        "self_check": {"ok": True},
        "stressor": {"name": "stress-ng", "command": [], "settled": True, "settle_s": 3.1}
        if pressure
        else None,
    }
    samples = [
        {
            "record": "sample",
            **identity,
            "cell_order": place,
            "cell": cell,
            **_outcome(cell, rate),
            "grown": growth(place),
            "stressor_alive": True if pressure else None,
        }
        for place, (cell, rate) in enumerate(zip(order, rates, strict=True), start=1)
    ]
    end = {
        "record": "end",
        "samples": len(samples),
        "ok": True,
        "stressor_alive": True if pressure else None,
        "uptime_s": 30.5,
    }
    return [boot, *samples, end]


def _outcome(cell: Mapping[str, Any], rate: float) -> dict[str, Any]:
    if math.isnan(rate):
        return {"status": "failed", "error": "pipe_bench: poll", "exit_status": 1, "bench": None}
    return {"status": "ok", "error": None, "exit_status": 0, "bench": bench(cell, rate)}


def bench(cell: Mapping[str, Any], rate_mib_s: float) -> dict[str, Any]:
    """pipe_bench's JSON for a cell that obeys the closed loop's identity."""
    writers = cell.get("writers", 1)
    size = cell.get("write_size", WRITE_SIZE)
    mean = writers * size / (rate_mib_s * 2**20) * 1e9
    writes = max(1, round(rate_mib_s * 2**20 / size))
    return {
        "program": "pipe_bench",
        "version": "1",
        "writers": writers,
        "readers": cell.get("readers", 1),
        "write_size": size,
        "read_size": size,
        "pipe_size": 1048576,
        "mode": "processes" if cell.get("processes") else "threads",
        "nonblock": cell.get("nonblock", False),
        "pin": "none",
        "verify": False,
        "duration_requested_s": 1.0,
        "warmup_s": 0.2,
        "elapsed_s": 1.00312,
        "writes": writes,
        "bytes_written": writes * size,
        "bytes_written_total": 2 * writes * size,
        "bytes_read_total": 2 * writes * size,
        "throughput_mib_s": rate_mib_s,
        "write_latency_ns": {
            "mean": mean,
            "min": round(mean / 4),
            "p50": round(mean * 0.9),
            "p90": round(mean * 1.5),
            "p99": round(mean * 3),
            "p99.9": round(mean * 5),
            "max": round(mean * 50),
        },
        "histogram": [[100, 101, writes]],
        "context_switches": {"voluntary": 12, "involuntary": 3},
        "cpu_s": {"user": 0.1, "system": 0.8},
        "eagain": 0,
        "short_writes": 0,
        "payload_errors": 0,
    }


def growth(by: int) -> dict[str, int]:
    """What kernel counters grew by over a slice; the interesting ones by `by`."""
    return {
        "vmstat.pgscan_direct": by,
        "vmstat.pgsteal_direct": by,
        "vmstat.pgscan_kswapd": 0,
        "vmstat.allocstall_dma": 0,
        "vmstat.allocstall_normal": by,
        "vmstat.allocstall_movable": 2 * by,
        "vmstat.oom_kill": 0,
        "vmstat.pswpin": 0,
        "vmstat.pswpout": 0,
        "vmstat.pgfault": 1000,
        "psi.memory.some": by,
        "psi.memory.full": 0,
        "psi.cpu.some": 0,
        "psi.cpu.full": 0,
        "stat.user": 1,
        "stat.steal": by,
    }


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def edit(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Applies `change` in place to the records of an arm's file."""
    records = read_records(path)
    change(records)
    write_records(path, records)


QUIET_CONSOLE = """\
Linux version 6.12.117 (root@vm) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0) #1 SMP
Command line: virtme_hostname=virtme-ng console=ttyS0 panic=-1 oops=panic loglevel=7
printk: legacy bootconsole [earlyser0] enabled
Spectre V2 : Mitigation: Retpolines
rcu: Hierarchical RCU implementation.
kasan: KernelAddressSanitizer initialized
random: crng init done
Run /init as init process
reboot: Power down
"""
