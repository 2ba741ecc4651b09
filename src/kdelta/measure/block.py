# SPDX-License-Identifier: GPL-2.0-only
"""Measuring one block: every arm booted once, all of them alive together, on this host alone."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta.cache import file_lock
from kdelta.errors import KdeltaError
from kdelta.guest.acceleration import require_here
from kdelta.guest.launch import require_tools
from kdelta.guest.pinning import Pinning
from kdelta.host.environment import HostEnvironment, host_environment
from kdelta.host.facts import host_cpus, host_facts, node_name
from kdelta.host.lock import host_lock
from kdelta.host.quiet import wait_for_quiet
from kdelta.kernel.toolchain import compiler_for
from kdelta.measure import attempts
from kdelta.measure.arm import ArmBoot, BlockPlan, GuestSource, require_cpus, require_programs
from kdelta.measure.progress import CHANGED, BlockProgress, pending
from kdelta.measure.same_guest import guest_of, require_same_guest
from kdelta.measure.schedule import Schedule, block_schedule, schedule_record
from kdelta.measure.turns import Taken, take_turns
from kdelta.measure.write import write_json, write_lines

Json = dict[str, Any]


@dataclass(frozen=True)
class BlockRequest:
    """One block to measure.

    Attributes:
        source: experiment, protocol, kernels, workload, acceleration.
        regime: name of the regime.
        block: number of the block, from 1.
        key: identity of the regime's settings, recorded with the data.
        out: the block's folder, `raw/<regime>/block-NNN`.
    """

    source: GuestSource
    regime: str
    block: int
    key: str
    out: Path


def measure_block(request: BlockRequest) -> None:
    """Measure a block and write its raw files; all of them, or none.

    A boot that fails is part of the block's data. A block in which nothing at all could
    be measured is none: it fails.

    Raises:
        KdeltaError: no arm could be measured, or this host cannot run guests; consoles
            and partial records are kept, and the try is remembered.
    """
    experiment, protocol = request.source.experiment, request.source.protocol
    require_tools(experiment.arch)
    require_programs(experiment, request.regime, request.source.guest_root)
    require_cpus(request.source)
    rounds = experiment.protocols[protocol].rounds
    schedule = block_schedule(experiment, request.regime, request.block, rounds)
    request.out.mkdir(parents=True, exist_ok=True)
    name = f"{request.regime}, block {request.block}"
    out = request.out.resolve()
    # Under the lock, and before the environment is set: the host as it is by itself, and not as
    # another run has set it.
    facts: Json = {}
    guest = guest_of(
        {
            "vcpus": request.source.vcpus(),
            "memory_mib": experiment.memory_mib(),
            "acceleration": request.source.acceleration,
        }
    )
    # Before anything is waited for. Blocks measured meanwhile on other hosts: the analysis looks.
    require_same_guest(out, request.key, guest)
    with (
        _alone(request, name),
        attempts.remembered(request.out, _remove_leftovers(request.out)) as earlier,
        contextlib.nullcontext(_wait_for_quiet(request, name)) as quiet,
        host_environment(
            experiment.environment,
            request.source.most_vcpus(schedule.arms),
            before=lambda: facts.update(
                host_facts(
                    compiler=compiler_for(
                        experiment.compiler_of(experiment.baseline), experiment.arch
                    ),
                    qemu=experiment.arch.qemu,
                )
            ),
        ) as environment,
        tempfile.TemporaryDirectory(prefix=".writing-", dir=request.out) as folder,
        BlockProgress(  # what was waited for is no time of the block's
            experiment,
            protocol,
            request.regime,
            request.block,
            pending(experiment, protocol, out.parent.parent.parent, out),
        ) as progress,
    ):
        scratch = Path(folder)
        cpus = environment.cpus_for_vcpus
        begun = time.monotonic()
        taken = take_turns(
            BlockPlan(
                source=request.source,
                schedule=schedule,
                consoles=request.out,
                label=name,
                pinning=Pinning(cpus, environment.cpus_for_rest) if cpus else None,
                mechanism=False,
            ),
            progress.note,
            progress.arm_done,
        )
        boots = taken.boots
        for boot in boots:
            write_lines(scratch / f"{boot.entry['arm']}.jsonl", boot.records)
            if boot.unpinned:
                arm = boot.entry["arm"]
                environment.pinning_failed(f"QEMU's vCPU threads were not found (arm {arm})")
        _require_some_sample(request, schedule, boots)
        write_json(scratch / "schedule.json", schedule_record(schedule, experiment, protocol))
        progress.block_done()
        host = _host_record(request, facts, taken, environment, earlier, quiet)
        host["wall_s"] = round(time.monotonic() - begun, 3)
        write_json(scratch / "host.json", host)
        _publish(scratch, request.out)


def _wait_for_quiet(request: BlockRequest, name: str) -> Json | None:
    experiment = request.source.experiment
    # Where guests cannot run, there is nothing to wait for.
    require_here(experiment.arch, request.source.acceleration)
    return wait_for_quiet(
        name, experiment.validity.host_other_cpu, experiment.environment.wait_for_quiet_s
    )


@contextlib.contextmanager
def _alone(request: BlockRequest, name: str) -> Iterator[None]:
    """Have the host and the block to oneself; a try that is ended while it waits is remembered."""
    with contextlib.ExitStack() as stack:
        with attempts.told(request.out, "while it waited"):
            purpose = f"measuring {request.source.experiment.name}: {name}"
            stack.enter_context(host_lock(purpose, exclusive=True))
            stack.enter_context(_block_lock(request.out, name))
        yield


@contextlib.contextmanager
def _block_lock(out: Path, name: str) -> Iterator[None]:
    """Keep the jobs of other nodes from the block; this node's are kept from it by the host's lock.

    A file system without locks does without: two jobs of a block would be the scheduler's mistake.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(out.with_name(f".{out.name}.lock"), name))
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield


def _remove_leftovers(out: Path) -> int:
    """Delete what killed processes left and count them. The block's lock is held: none lives."""
    leftovers = list(out.glob(".writing-*"))
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return len(leftovers)


def _publish(scratch: Path, out: Path) -> None:
    """Move a block's files to their place.

    An old `host.json` goes first and the new one comes last: while there is one,
    all the other files are there too, and they are of one measurement.
    """
    mark = scratch / "host.json"
    (out / mark.name).unlink(missing_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path == mark):
        path.replace(out / path.name)
    # What a failed boot had measured is in its arm's file now.
    for partial in out.glob("*.partial.jsonl"):
        partial.unlink()


def _require_some_sample(request: BlockRequest, schedule: Schedule, boots: list[ArmBoot]) -> None:
    """A block in which no arm could be measured says nothing of kernels, but of the set-up."""
    if any(boot.useful for boot in boots):
        return
    for boot in boots:
        if boot.records:
            write_lines(_partial(request.out, boot.entry["arm"]), boot.records)
    failed = next((boot for boot in boots if boot.entry["reason"]), None)
    if failed:
        kept = f" Records: {_partial(request.out, failed.entry['arm'])}" if failed.records else ""
        raise KdeltaError(f"{failed.entry['reason']}{kept}")
    arm = schedule.arms[0]
    if boots[0].changed:
        console = request.out / f"{arm}.console.log"
        raise KdeltaError(
            f"{request.regime}, block {request.block}: {CHANGED}, in no arm; {arm}: "
            f"{boots[0].changed}. Console: {console}"
        )
    if boots[0].misread:
        raise KdeltaError(
            f"{request.regime}, block {request.block}, arm {arm}: the workload ran, but its output "
            f"was not understood: {boots[0].misread}. Records: {_partial(request.out, arm)}"
        )
    samples = [record for record in boots[0].records if record["record"] == "sample"]
    killed = samples[-1]["grown"].get("vmstat.oom_kill", 0)
    advice = (
        f" The guest ran out of memory ({killed} OOM kills): raise guest.memory"
        f" (now {request.source.experiment.guest.memory})."
        if killed
        else ""
    )
    raise KdeltaError(
        f"{request.regime}, block {request.block}, arm {arm}: the workload failed in every cell; "
        f"first: {samples[0]['error']}.{advice} Records: {_partial(request.out, arm)}"
    )


def _partial(out: Path, arm: str) -> Path:
    return out / f"{arm}.console.partial.jsonl"


def _host_record(
    request: BlockRequest,
    facts: Json,
    taken: Taken,
    environment: HostEnvironment,
    earlier: list[Json],
    quiet: Json | None,
) -> Json:
    source = request.source
    return {
        "schema": 1,
        "key": request.key,
        "node": node_name(),
        "host": facts,
        "acceleration": source.acceleration,
        "vcpus": source.vcpus(),
        "overcommitted": source.vcpus() > host_cpus(),
        "memory_mib": source.experiment.memory_mib(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment.record(),
        "earlier_attempts": earlier,
        "together": taken.together,
        "boots": [boot.entry for boot in taken.boots],
        "quiet": quiet,
    }
