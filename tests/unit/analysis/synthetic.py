# SPDX-License-Identifier: GPL-2.0-only
"""Raw folders with a known truth, in the form of docs/contracts.md.

The model of a throughput: level of the cell x effect of the arm x host's mood in
the block x luck of the boot x luck of the sample, all but the first two log-normal.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdelta.analysis.settings import AnalysisSettings

WRITE_SIZE = 65536
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
            folder = raw / regime / f"block-{block:03d}"
            folder.mkdir(parents=True)
            arms = list(rng.permutation(list(ARMS)))
            order = [cells[i] for i in rng.permutation(len(cells))]
            schedule = {
                "schema": 1,
                "experiment": "synthetic",
                "protocol": "quick",
                "regime": regime,
                "block": block,
                "seed": truth.seed,
                "arms": [{"arm": arm, "variant": ARMS[arm]} for arm in arms],
                "cells": order,
                "duration_s": 1.0,
                "warmup_s": 0.2,
            }
            (folder / "schedule.json").write_text(json.dumps(schedule))
            mood = np.exp(rng.normal(0, truth.block_sd))
            for position, arm in enumerate(arms, start=1):
                luck = np.exp(rng.normal(0, truth.boot_sd))
                rates = [
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
                records = boot_records(regime, block, str(arm), position, order, rates)
                write_records(folder / f"{arm}.jsonl", records)
                (folder / f"{arm}.console.log").write_text(QUIET_CONSOLE)
            (folder / "host.json").write_text("{}")
    return raw


def boot_records(
    regime: str,
    block: int,
    arm: str,
    position: int,
    order: list[dict[str, Any]],
    rates: list[float],
) -> list[dict[str, Any]]:
    """A clean boot's records; `rates` in MiB/s, one per cell."""
    identity = {
        "regime": regime,
        "block": block,
        "arm": arm,
        "variant": ARMS[arm],
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
        "self_check": {"ok": True, "payload_errors": 0},
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
            "status": "ok",
            "error": None,
            "exit_status": 0,
            "bench": bench(cell, rate),
            "before": counters(0),
            "after": counters(place),
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
        "mode": cell.get("mode", "threads"),
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


def counters(growth: int) -> dict[str, Any]:
    """Kernel counters at a moment; the interesting ones are `growth` above their start."""
    return {
        "vmstat": {
            "pgscan_direct": 100 + growth,
            "pgsteal_direct": 50 + growth,
            "pgscan_kswapd": 10,
            "allocstall_dma": 1,
            "allocstall_normal": 5 + growth,
            "allocstall_movable": 7 + 2 * growth,
            "oom_kill": 0,
            "pswpin": 0,
            "pswpout": 0,
            "pgfault": 1000,
        },
        "psi": {"memory": {"some": 20 + growth, "full": 4}, "cpu": {"some": 9, "full": 0}},
        "stat": {"user": 1, "system": 2, "idle": 3, "steal": 10 + growth},
        "meminfo": {"MemFree": 1, "MemAvailable": 1, "SwapFree": 0},
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
