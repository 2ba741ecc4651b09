# SPDX-License-Identifier: GPL-2.0-only
"""The plan that the driver finds in its shared folder: everything it needs, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdelta.experiment import Experiment
from kdelta.guest.conditions import CHILD, DISK
from kdelta.guest.driver import PROGRAMS
from kdelta.guest.speed import DEADLINE_S, PROGRAM, WORK
from kdelta.measure.schedule import Schedule
from kdelta.probes.inside import PROBES
from kdelta.units import parse_size_bytes
from kdelta.workload.build import built_programs, package_program
from kdelta.workload.chosen import Chosen
from kdelta.workload.parameters import Level

Json = dict[str, Any]

# A workload may kill a cell at its timeout, and say why: the driver leaves it time for that.
GRACE_S = 10.0
# The driver's own work between two records, on a guest that is slow and short of memory.
BETWEEN_RECORDS_S = 60.0


def boot_plan(
    experiment: Experiment,
    protocol: str,
    schedule: Schedule,
    position: int,
    image: Json,
    acceleration: str,
    vcpus: int,
    *,
    root: Path | None = None,
    mechanism: bool = False,
) -> Json:
    """The plan of the boot at `position` (from 0) of a block.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        schedule: the block's schedule.
        position: index into the schedule's arms.
        image: the arm's `image.json`.
        acceleration: `kvm` or `tcg`.
        vcpus: virtual CPUs.
        root: the guest's root file system; None: the host's.
        mechanism: trace the cells instead of timing them.
    """
    duration_s, warmup_s = _cell_times(experiment, protocol, schedule.regime, mechanism)
    name = schedule.arms[position]
    regime, arm = experiment.regimes[schedule.regime], experiment.arm(name)
    stressor = regime.stressor
    swap_bytes = parse_size_bytes(regime.swap) if regime.swap else 0

    def argv(chosen: Chosen, words: tuple[str, ...], given: dict[str, Level]) -> list[str]:
        return chosen.declaration.argv(
            words,
            given,
            program=str(_program(chosen, root)),
            disk=str(DISK),
            seconds=duration_s,
            warmup=warmup_s,
            # A default of the program's own would end a cell that the experiment gives longer.
            timeout=chosen.timeout_s,
        )

    workloads = {name: experiment.workloads[name] for name in dict.fromkeys(schedule.workloads)}
    return {
        "identity": {
            "regime": schedule.regime,
            "block": schedule.block,
            "arm": name,
            "boot_order": position + 1,
        },
        "expected": {
            "kernel_release": image["kernel_release"],
            # A kernel that was not built here may not tell its configuration.
            "config_sha256": image.get("config_sha256"),
            "build_id": image.get("build_id"),
            "version_has": image.get("version_has") or [image["key"][:12]],
            "vcpus": vcpus,
            "memory_mib": experiment.memory_mib(name),
            "memory_controller": True,
            # More than the root and the kernel's bulk allocator changes its
            # behaviour for accounted pages: the experiment must know.
            "memory_cgroups": 2 if regime.memcg else 1,
            "workload_cgroup": f"/{CHILD}" if regime.memcg else "/",
            "swap_total_kib": swap_bytes // 1024,
            "disk_bytes": experiment.disk_bytes,
            "acceleration": acceleration,
            "page_kib": experiment.page_kib,
            "machines": list(experiment.arch.machines),
            "boot_parameters": arm.boot_parameters,
        },
        "conditions": {
            "sysctl": {**regime.sysctl, **arm.sysctl},
            "files": arm.files,
            "swap_bytes": swap_bytes,
            "disk_bytes": experiment.disk_bytes,
            "modules_root": image.get("modules_root"),
            "memcg": regime.memcg,
        },
        "evidence": [one.model_dump() for one in experiment.arch.evidence],
        "mechanism": mechanism,
        "probes": list(experiment.probes) if mechanism else [],
        "slices": len(schedule.cells) * len(schedule.rounds),
        "speed_work": WORK[acceleration],
        "programs": [
            *(name for chosen in workloads.values() for name in built_programs(chosen.declaration)),
            *([] if mechanism else [PROGRAM]),
        ],
        "self_checks": [
            {
                "workload": name,
                "argv": argv(chosen, chosen.declaration.self_check, chosen.arguments),
                "deadline_s": _cell_deadline_s(chosen, 1.0, 0.0),
            }
            for name, chosen in workloads.items()
            if chosen.declaration.self_check
        ],
        "stressor": stressor.model_dump() if stressor else None,
        "cells": [
            {
                "workload": name,
                "levels": cell,
                "argv": argv(chosen, chosen.declaration.command, {**chosen.arguments, **cell}),
                "json": chosen.declaration.output == "json",
                "deadline_s": _cell_deadline_s(chosen, duration_s, warmup_s),
            }
            for name, cell in zip(schedule.workloads, schedule.cells, strict=True)
            for chosen in [workloads[name]]
        ],
        "silence_s": _silence_s(experiment, protocol, schedule.regime, mechanism),
    }


def _program(chosen: Chosen, root: Path | None) -> Path:
    """Where the guest has a workload's program."""
    program = chosen.declaration.program
    if built_programs(chosen.declaration):
        return PROGRAMS / program.name
    return package_program(chosen.declaration, root)


def block_timeout_s(
    experiment: Experiment, protocol: str, regime: str, slices: int, *, mechanism: bool = False
) -> float:
    """How long guests that take turns may take for so many slices, settling of one included.

    That is as long as all of them may by their own deadlines. A guest that hangs is given up
    much earlier: when a record does not come (`silence_s`).
    """
    stressor = experiment.regimes[regime].stressor
    settle = stressor.settle_timeout_s if stressor else 0.0
    self_checks = sum(_cell_deadline_s(w, 1.0, 0.0) for w in experiment.workloads.values())
    each = _record_s(experiment, protocol, regime, mechanism)
    return settle + self_checks + slices * each + BETWEEN_RECORDS_S


def _cell_times(
    experiment: Experiment, protocol: str, regime: str, mechanism: bool
) -> tuple[float, float]:
    """Seconds that a slice is measured, and warmed up before."""
    if mechanism and experiment.mechanism:
        return experiment.mechanism.duration_s, 0.0
    chosen = experiment.protocols[protocol]
    return chosen.slice_s(regime), chosen.warmup_s


def _cell_deadline_s(chosen: Chosen, duration_s: float, warmup_s: float) -> float:
    return duration_s + warmup_s + chosen.timeout_s + GRACE_S


def _silence_s(experiment: Experiment, protocol: str, regime: str, mechanism: bool) -> float:
    """The longest time between two records of a guest that lives, be it for settling."""
    stressor = experiment.regimes[regime].stressor
    settle = stressor.settle_timeout_s + BETWEEN_RECORDS_S if stressor else 0.0
    return max(settle, _record_s(experiment, protocol, regime, mechanism))


def _record_s(experiment: Experiment, protocol: str, regime: str, mechanism: bool) -> float:
    """The longest time that the record of a cell may take to come."""
    duration_s, warmup_s = _cell_times(experiment, protocol, regime, mechanism)
    deadline_s = max(
        _cell_deadline_s(chosen, duration_s, warmup_s) for chosen in experiment.workloads.values()
    )
    if mechanism:
        # Runs, each up to five times, and traces to read that grow with the machine's speed.
        runs = sum(PROBES[name].runs for name in experiment.probes)
        deadline_s += runs * (20 * duration_s + BETWEEN_RECORDS_S)
    else:
        deadline_s += 2 * DEADLINE_S  # of the speed checks
    return deadline_s + BETWEEN_RECORDS_S
