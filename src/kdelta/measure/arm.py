# SPDX-License-Identifier: GPL-2.0-only
"""One arm of a block: what timed blocks and mechanism boots share."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta.cache import cache_root
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.boot import POWER_OFF_S, BootError, BootRequest, BootResult, LiveBoot
from kdelta.guest.pinning import Pinning
from kdelta.host.cpu_time import HostCpu
from kdelta.host.facts import guest_vcpus, load_average
from kdelta.kernel.image import KERNEL, sha256_file
from kdelta.measure.plan import block_timeout_s, boot_plan
from kdelta.measure.schedule import Schedule
from kdelta.plain import one_line
from kdelta.workload.guest_root import require_program, root_of
from kdelta.workload.readers import ReadError
from kdelta.workload.samples import values_of

Json = dict[str, Any]


@dataclass(frozen=True)
class GuestSource:
    """What every boot of a run is made from.

    Attributes:
        experiment: the experiment.
        protocol: name of the protocol.
        kernels: folder with `<arm>/vmlinuz` and `<arm>/image.json`.
        programs: folder of the programs that run in guests.
        acceleration: record written by `kdelta probe`.
        root: the project's root, where the workloads' own scripts lie.
    """

    experiment: Experiment
    protocol: str
    kernels: Path
    programs: Path
    acceleration: Json
    root: Path = Path()

    @functools.cached_property
    def guest_root(self) -> Path | None:
        """The guests' root file system; None: the host's.

        Raises:
            KdeltaError: it is gone from the cache.
        """
        return root_of(self.programs, cache_root())

    def vcpus(self, arm: str | None = None) -> int:
        """Virtual CPUs of a guest on this host; of an arm, or of those that say nothing else."""
        return guest_vcpus(self.experiment.vcpus(arm))

    def most_vcpus(self, arms: Iterable[str]) -> int:
        """Those of the arm that has the most."""
        return max(map(self.vcpus, arms))


@dataclass(frozen=True)
class ArmBoot:
    """A boot that is over: its records as far as they go, and its entry in host.json.

    Attributes:
        unpinned: its vCPUs were to be pinned, and were not.
        changed: how the guest did not stay as it was asked for, which sets its samples aside;
            None: it did.
        misread: why the output of its first sample was not understood; None: it was.
    """

    records: list[Json]
    entry: Json
    unpinned: bool = False
    changed: str | None = None
    misread: str | None = None

    @property
    def useful(self) -> bool:
        """Whether anything that counts could be measured in it."""
        usable = not (self.changed or self.misread)
        return usable and any(r.get("status") == "ok" for r in self.records)


@dataclass(frozen=True)
class BlockPlan:
    """What all boots of a block, or all mechanism boots of a regime, share.

    Attributes:
        schedule: arms, cells, turns.
        consoles: folder of the arms' consoles.
        label: how messages name the block.
        mechanism: the cells are traced instead of timed.
    """

    source: GuestSource
    schedule: Schedule
    consoles: Path
    label: str
    pinning: Pinning | None
    mechanism: bool

    @property
    def deadline_s(self) -> float:
        """After which a guest is killed, whatever it does: it lives as long as its whole block."""
        source, schedule = self.source, self.schedule
        guest_s = source.experiment.guest.boot_timeout_s + POWER_OFF_S
        guest_s += block_timeout_s(
            source.experiment,
            source.protocol,
            schedule.regime,
            len(schedule.cells) * len(schedule.rounds),
            mechanism=self.mechanism,
        )
        return len(schedule.arms) * guest_s


class LiveArm:
    """One arm of a block, from its launch to its entry in host.json; it runs until `close`.

    A guest that does not boot, dies or leaves the gate late is a finding about its kernel: it
    is recorded, with its reason, and not tried again. The others of its block go on.
    """

    def __init__(self, plan: BlockPlan, position: int) -> None:
        """Launch the arm at `position` (from 0) of the plan's schedule.

        Raises:
            KdeltaError: this host cannot run the guest.
        """
        source, schedule = plan.source, plan.schedule
        self._source = source
        experiment, mode = source.experiment, source.acceleration["mode"]
        self.arm = schedule.arms[position]
        folder = source.kernels / experiment.booted_arms()[self.arm]
        image = json.loads((folder / "image.json").read_text())
        require_configuration(image, folder, mode)
        console = plan.consoles / f"{self.arm}.console.log"
        # Left from an earlier try, they would look like this one's.
        console.with_suffix(".partial.jsonl").unlink(missing_ok=True)
        vcpus = source.vcpus(self.arm)
        request = BootRequest(
            label=f"{plan.label}, arm {self.arm}",
            kernel=ready_image(image) or folder / KERNEL,
            ready=bool(image.get("image")),
            programs=source.programs,
            arch=experiment.arch,
            root=source.guest_root,
            acceleration=mode,
            vcpus=vcpus,
            memory_mib=experiment.memory_mib(self.arm),
            plan=boot_plan(
                experiment,
                source.protocol,
                schedule,
                position,
                image,
                mode,
                vcpus,
                root=source.guest_root,
                mechanism=plan.mechanism,
            ),
            boot_timeout_s=experiment.guest.boot_timeout_s,
            deadline_s=plan.deadline_s,
            pinning=plan.pinning and plan.pinning.first(vcpus),
            cpu=source.acceleration.get("cpu"),
            boot_parameters=tuple(experiment.arm(self.arm).boot_parameters),
            disk_bytes=experiment.disk_bytes,
        )
        self._entry: Json = {
            "arm": self.arm,
            "order": position + 1,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "load_before": load_average(),
            "boot_s": None,
            "status": "ok",
            "reason": None,
            "image_key": image["key"],
            "vcpus": vcpus,
            "memory_mib": experiment.memory_mib(self.arm),
            "image_sha256": image["image_sha256"],
        }
        self._host_cpu: list[Json] = []
        self._pinned = plan.pinning is not None
        self._result: BootResult | None = None
        self._failure: BootError | None = None
        self._boot = LiveBoot(request, console)

    def close(self) -> None:
        """End its guest, whatever it does."""
        self._boot.close()

    @property
    def booting(self) -> bool:
        """Whether it is still on its way to be ready."""
        return self.failure is None and not self._boot.ready

    @property
    def failure(self) -> str | None:
        """Why there is nothing more to be had of it; None: there is nothing against it."""
        return None if self._failure is None else one_line(str(self._failure))

    def look(self, wait_s: float) -> None:
        """See how far it is, and stop it once it is ready.

        Raises:
            KdeltaError: it is not the guest that was asked for, or the host cannot run it.
        """
        with self._failing():
            self._boot.look(wait_s)
            if self._boot.ready:
                self._boot.stop()

    def run(self, cell: int, place: Json) -> None:
        """Let it run one cell; it is stopped before and after.

        Raises:
            KdeltaError: as `look` does.
        """
        if self.failure is not None:
            return
        with self._failing():
            self._boot.go_on()
            cpu = HostCpu(self._boot.cpu_s)
            self._boot.measure(cell, place)
            self._host_cpu.append(cpu.used())
            self._boot.stop()

    def finish(self) -> None:
        """Let it come to its end.

        Raises:
            KdeltaError: as `look` does.
        """
        if self.failure is None:
            with self._failing():
                self._boot.go_on()
                self._result = self._boot.finish()
        self.close()

    def over(self) -> ArmBoot:
        """What is left of it, once it is closed."""
        result, failure = self._result, self._failure
        records = result.records if result else failure.records if failure else []
        boot_s = result.boot_s if result else self._boot.boot_s
        entry = self._entry | {
            "boot_s": None if boot_s is None else round(boot_s, 3),
            "status": "failed" if failure else "ok",
            "reason": self.failure,
        }
        gate = (records[0].get("gate") or {}) if records else {}
        entry |= {name: gate[name] for name in ("page_kib", "mitigations") if gate.get(name)}
        measured = iter(self._host_cpu)
        return ArmBoot(
            [
                {**r, "host_cpu": next(measured, None)} if r["record"] == "sample" else r
                for r in records
            ],
            entry,
            unpinned=self._pinned and result is not None and not result.pinned,
            changed=result.changed if result else None,
            misread=misread(records, self._source),
        )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BootError as failure:
            self._failure = failure


def misread(records: list[Json], source: GuestSource) -> str | None:
    """Why nothing can be read of the first sample of a workload that ran well; None if it can.

    Args:
        records: of a boot.
        source: the workloads.
    """
    tried: set[str] = set()
    for record in records:
        if record["record"] != "sample" or record["status"] != "ok" or record["workload"] in tried:
            continue
        tried.add(record["workload"])
        chosen = source.experiment.workloads[record["workload"]]
        said = record["bench"] if "bench" in record else record.get("output")
        given = {**chosen.arguments, **record["cell"]}
        try:
            values_of(chosen.declaration, said, given, script=chosen.script(source.root))
        except ReadError as error:
            return str(error)
    return None


def require_cpus(source: GuestSource) -> None:
    """Check that guests of this host have the CPUs that workers are to be pinned to.

    Where `guest.vcpus` is a number, `kdelta check` has done so.

    Raises:
        KdeltaError: naming the key, the CPU and what to do.
    """
    fewest = min(source.vcpus(arm) for arm in source.experiment.booted_arms())
    for workload, chosen in source.experiment.workloads.items():
        for name, highest in chosen.named_cpus.items():
            if highest >= fewest:
                raise KdeltaError(
                    f"workloads.{workload}.{chosen.key_of(name)}: CPU {highest} is none of the "
                    f"guest's, which has {fewest} on this host, numbered from 0; set guest.vcpus "
                    f"to {highest + 1} or more, or name others"
                )


def ready_image(image: Json) -> Path | None:
    """Where a kernel that was built elsewhere lies, still the one that was looked at.

    Args:
        image: the arm's `image.json`.

    Returns:
        Its path; None of a kernel that was built here.

    Raises:
        KdeltaError: it is gone, or another one by now.
    """
    if not image.get("image"):
        return None
    path = Path(image["image"])
    if not path.is_file() or sha256_file(path) != image["image_sha256"]:
        raise KdeltaError(
            f"arms.{image['arm']}.image: {path} is gone or was changed since the run began; put "
            "it back, or run again to measure the new one"
        )
    return path


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
    # Kernels of before this was recorded are all the emulator's; those that were built elsewhere
    # are as their makers wanted them.
    configured = image.get("acceleration", "tcg")
    if configured != mode and not image.get("image"):
        raise KdeltaError(
            f"{folder}: this kernel was configured for {configured}, but guests run with {mode} "
            f"here (kernel-configs/*.{configured}.config); delete the folder and run again: the "
            "kernel is built for this host"
        )


def require_programs(experiment: Experiment, regime: str, root: Path | None = None) -> None:
    """Check that guests have what they will run.

    Args:
        experiment: theirs.
        regime: its name.
        root: their root; None: the host's.

    Raises:
        KdeltaError: naming the key, the program and its package.
    """
    chosen = experiment.regimes[regime]
    if chosen.stressor:
        program = chosen.stressor.command[0]
        require_program(f"regimes.{regime}.stressor.command", program, program, root)
    if chosen.swap:
        for program, package in (("mkswap", "util-linux"), ("swapon", "mount")):
            require_program(f"regimes.{regime}.swap", program, package, root)
