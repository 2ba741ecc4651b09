# SPDX-License-Identifier: GPL-2.0-only
"""The plan that the driver finds in its shared folder: everything it needs, and no more."""

from __future__ import annotations

from typing import Any

from kdelta.experiment import Experiment, Level
from kdelta.guest.conditions import CHILD
from kdelta.guest.speed import DEADLINE_S, WORK
from kdelta.measure.schedule import Cell, Schedule
from kdelta.units import parse_size_bytes

Json = dict[str, Any]

# A short run of many threads, every byte checked, before anything is timed.
SELF_CHECK = ("--writers", "2", "--readers", "2", "--duration", "0.1", "--warmup", "0", "--verify")


def option_argv(options: dict[str, Level]) -> list[str]:
    """Workload options as arguments: `write_size: 65536` becomes ``--write-size 65536``.

    A true flag is given alone, a false one not at all.
    """
    argv: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            argv.append(flag)
        elif value is not False:
            argv += [flag, str(value)]
    return argv


def boot_plan(
    experiment: Experiment,
    protocol: str,
    schedule: Schedule,
    position: int,
    image: Json,
    acceleration: str,
    vcpus: int,
    *,
    mechanism: bool = False,
) -> Json:
    """The plan of the boot at `position` (from 0) of a block.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        schedule: the block's schedule.
        position: index into the schedule's arms.
        image: the variant's `image.json`.
        acceleration: `kvm` or `tcg`.
        vcpus: virtual CPUs.
        mechanism: trace the cells instead of timing them.
    """
    chosen = experiment.protocols[protocol]
    duration_s, warmup_s = chosen.duration_s[schedule.regime], chosen.warmup_s
    if mechanism and experiment.mechanism:
        duration_s, warmup_s = experiment.mechanism.duration_s, 0.0
    arm, variant = schedule.arms[position]
    regime = experiment.regimes[schedule.regime]
    stressor = regime.stressor
    swap_bytes = parse_size_bytes(regime.swap) if regime.swap else 0

    def cell_plan(cell: Cell) -> Json:
        timing: dict[str, Level] = {
            "duration": str(duration_s),
            "warmup": str(warmup_s),
            "format": "json",
        }
        return {
            "levels": cell,
            "argv": option_argv({**experiment.workload.arguments, **cell, **timing}),
        }

    fixed = {
        k: v for k, v in experiment.workload.arguments.items() if k not in ("writers", "readers")
    }
    return {
        "identity": {
            "regime": schedule.regime,
            "block": schedule.block,
            "arm": arm,
            "variant": variant,
            "boot_order": position + 1,
        },
        "expected": {
            "kernel_release": image["kernel_release"],
            "config_sha256": image["config_sha256"],
            "build_tag": image["key"][:12],
            "vcpus": vcpus,
            "memory_mib": experiment.memory_mib(),
            "memory_controller": True,
            # More than the root and the kernel's bulk allocator changes its
            # behaviour for accounted pages: the experiment must know.
            "memory_cgroups": 2 if regime.memcg else 1,
            "workload_cgroup": f"/{CHILD}" if regime.memcg else "/",
            "swap_total_kib": swap_bytes // 1024,
            "acceleration": acceleration,
        },
        "conditions": {"sysctl": regime.sysctl, "swap_bytes": swap_bytes, "memcg": regime.memcg},
        "mechanism": mechanism,
        "speed_work": WORK[acceleration],
        "self_check_argv": [*SELF_CHECK, *option_argv(fixed), "--format", "json"],
        "stressor": stressor.model_dump() if stressor else None,
        "cells": [cell_plan(cell) for cell in schedule.cells],
        "cell_deadline_s": duration_s + warmup_s + experiment.workload.timeout_s,
    }


def sweep_timeout_s(
    experiment: Experiment, protocol: str, regime: str, cells: int, *, mechanism: bool = False
) -> float:
    """How long a whole sweep may take: every cell to its own deadline would be hopeless."""
    chosen = experiment.protocols[protocol]
    per_cell = 2 * (chosen.duration_s[regime] + chosen.warmup_s) + 5 + 2 * DEADLINE_S
    if mechanism and experiment.mechanism:
        # Two runs, each up to five times, and traces to read that grow with the machine's speed.
        per_cell = 2 * (20 * experiment.mechanism.duration_s + 60) + 5
    stressor = experiment.regimes[regime].stressor
    settle = stressor.settle_timeout_s if stressor else 0.0
    return settle + cells * per_cell + experiment.workload.timeout_s + 60
