# SPDX-License-Identifier: GPL-2.0-only
"""Booting one arm of a schedule: what timed blocks and mechanism boots share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.boot import BootError, BootRequest, boot_arm
from kdelta.guest.pinning import Pinning
from kdelta.measure.cpu_time import HostCpu
from kdelta.measure.host import guest_vcpus, load_average
from kdelta.measure.plan import boot_plan, sweep_timeout_s
from kdelta.measure.schedule import Schedule
from kdelta.plain import one_line
from kdelta.workload_options import highest_cpu

Json = dict[str, Any]


@dataclass(frozen=True)
class GuestSource:
    """What every boot of a run is made from.

    Attributes:
        experiment: the experiment.
        protocol: name of the protocol.
        kernels: folder with `<variant>/bzImage` and `<variant>/image.json`.
        workload: the static benchmark binary.
        acceleration: record written by `kdelta probe`.
    """

    experiment: Experiment
    protocol: str
    kernels: Path
    workload: Path
    acceleration: Json

    @property
    def vcpus(self) -> int:
        """Virtual CPUs of a guest on this host."""
        return guest_vcpus(self.experiment.guest.vcpus)


@dataclass(frozen=True)
class ArmBoot:
    """A boot that is over: its records as far as they go, and its entry in host.json.

    Attributes:
        unpinned: its vCPUs were to be pinned, and were not.
        changed: how the guest did not stay as it was asked for, which sets its samples aside;
            None: it did.
    """

    records: list[Json]
    entry: Json
    unpinned: bool = False
    changed: str | None = None

    @property
    def useful(self) -> bool:
        """Whether anything that counts could be measured in it."""
        return not self.changed and any(r.get("status") == "ok" for r in self.records)


def boot_of(
    source: GuestSource,
    schedule: Schedule,
    position: int,
    console: Path,
    *,
    label: str,
    pinning: Pinning | None = None,
    mechanism: bool = False,
    on_progress: Callable[[int], None] = lambda samples: None,
) -> ArmBoot:
    """Boot the arm at `position` (from 0) of a schedule.

    A guest that does not boot, dies or leaves the gate late is a finding about its kernel: it
    is recorded, with its reason, and not tried again.

    Raises:
        KdeltaError: this host cannot run the guest, or it was not the one asked for.
    """
    experiment = source.experiment
    arm, variant = schedule.arms[position]
    image = json.loads((source.kernels / variant / "image.json").read_text())
    require_configuration(image, source.kernels / variant, source.acceleration["mode"])
    # Left from an earlier try, they would look like this one's.
    console.with_suffix(".partial.jsonl").unlink(missing_ok=True)
    mode = source.acceleration["mode"]
    request = BootRequest(
        label=label,
        kernel=source.kernels / variant / "bzImage",
        workload=source.workload,
        acceleration=mode,
        vcpus=source.vcpus,
        memory_mib=experiment.memory_mib(),
        plan=boot_plan(
            experiment,
            source.protocol,
            schedule,
            position,
            image,
            mode,
            source.vcpus,
            mechanism=mechanism,
        ),
        boot_timeout_s=experiment.guest.boot_timeout_s,
        sweep_timeout_s=sweep_timeout_s(
            experiment,
            source.protocol,
            schedule.regime,
            len(schedule.cells),
            mechanism=mechanism,
        ),
        pinning=pinning,
        cpu=experiment.guest.cpu,
    )
    entry: Json = {
        "arm": arm,
        "variant": variant,
        "order": position + 1,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": load_average(),
    }
    cpu = HostCpu()
    try:
        result = boot_arm(request, console, on_progress)
        records, pinned = result.records, result.pinned
        reason, changed = None, result.changed
        entry["boot_s"] = round(result.boot_s, 3)
    except BootError as failure:
        records, pinned = failure.records, True
        reason, changed = one_line(str(failure)), None
        entry["boot_s"] = None
    used = cpu.used()
    entry |= {
        "wall_s": used["elapsed_s"],
        "status": "failed" if reason else "ok",
        "reason": reason,
        "host_cpu": used,
        "image_key": image["key"],
        "bzimage_sha256": image["bzimage_sha256"],
    }
    return ArmBoot(records, entry, unpinned=pinning is not None and not pinned, changed=changed)


def require_cpus(source: GuestSource) -> None:
    """Check that a guest of this host has the CPUs that workers are to be pinned to.

    Where `guest.vcpus` is a number, `kdelta check` has done so.

    Raises:
        KdeltaError: naming the key, the CPU and what to do.
    """
    experiment = source.experiment
    pins = [experiment.workload.arguments.get("pin"), *experiment.matrix.get("pin", [])]
    highest = max((highest_cpu(pin) or 0 for pin in pins), default=0)
    if highest >= source.vcpus:
        raise KdeltaError(
            f"{'matrix' if 'pin' in experiment.matrix else 'workload.arguments'}.pin: CPU "
            f"{highest} is none of the guest's, which has {source.vcpus} on this host, numbered "
            f"from 0; set guest.vcpus to {highest + 1} or more, or pin to others"
        )


def require_configuration(image: Json, folder: Path, mode: str) -> None:
    """Check that a kernel was configured for what is going to execute it.

    Emulation cannot bear what a kernel for KVM has, and with KVM a kernel without it would be
    measured as nobody runs it.

    Args:
        image: the kernel's image.json.
        folder: where it lies.
        mode: `kvm` or `tcg`.

    Raises:
        KdeltaError: it was configured for the other one.
    """
    # Kernels of before this was recorded are all the emulator's.
    configured = image.get("acceleration", "tcg")
    if configured != mode:
        raise KdeltaError(
            f"{folder}: this kernel was configured for {configured}, but guests run with {mode} "
            f"here (kernel-configs/*.{configured}.config); delete the folder and run again: the "
            "kernel is built for this host"
        )


def require_programs(experiment: Experiment, regime: str) -> None:
    """Check that the host has what its guests will run.

    Raises:
        KdeltaError: naming the key, the program and its package.
    """
    chosen = experiment.regimes[regime]
    if chosen.stressor and shutil.which(chosen.stressor.command[0]) is None:
        program = chosen.stressor.command[0]
        raise KdeltaError(
            f"regimes.{regime}.stressor.command: {program} is not installed on this host "
            f"(guests use the host's programs); apt-get install {program}"
        )
    for program, package in (("mkswap", "util-linux"), ("swapon", "mount")):
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if chosen.swap and found is None:
            raise KdeltaError(
                f"regimes.{regime}.swap: {program} is not installed on this host (guests use the "
                f"host's programs); apt-get install {package}"
            )
