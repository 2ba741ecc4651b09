# SPDX-License-Identifier: GPL-2.0-only
"""Measuring one block: every arm booted once, back to back, on this host alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.boot import BootRequest, BootResult, boot_arm
from kdelta.guest.launch import require_tools
from kdelta.measure.host import guest_vcpus, host_cpus, host_facts, load_average
from kdelta.measure.hostlock import host_lock
from kdelta.measure.plan import boot_plan, sweep_timeout_s
from kdelta.measure.progress import BlockProgress, blocks_left
from kdelta.measure.schedule import Schedule, block_schedule, schedule_record

Json = dict[str, Any]


@dataclass(frozen=True)
class BlockRequest:
    """One block to measure.

    Attributes:
        experiment: the experiment.
        protocol: name of the protocol.
        regime: name of the regime.
        block: number of the block, from 1.
        key: identity of the regime's settings, recorded with the data.
        kernels: folder with `<variant>/bzImage` and `<variant>/image.json`.
        workload: the static benchmark binary.
        acceleration: record written by `kdelta probe`.
        out: the block's folder, `raw/<regime>/block-NNN`.
    """

    experiment: Experiment
    protocol: str
    regime: str
    block: int
    key: str
    kernels: Path
    workload: Path
    acceleration: Json
    out: Path


def measure_block(request: BlockRequest) -> None:
    """Measure a block and write its raw files; all of them, or none.

    Raises:
        KdeltaError: a boot failed; consoles and partial records are kept.
    """
    require_tools()
    _require_stressor(request)
    schedule = block_schedule(request.experiment, request.regime, request.block)
    request.out.mkdir(parents=True, exist_ok=True)
    name = f"{request.regime}, block {request.block}"
    out = request.out.resolve()
    left = blocks_left(request.experiment, request.protocol, out.parents[1], out)
    progress = BlockProgress(
        request.experiment, request.protocol, request.regime, request.block, left
    )
    with (
        host_lock(f"measuring {request.experiment.name}: {name}", exclusive=True),
        tempfile.TemporaryDirectory(prefix=".writing-", dir=request.out) as folder,
    ):
        scratch = Path(folder)
        _remove_leftovers(request.out, scratch)
        boots = []
        for position, (arm, _variant) in enumerate(schedule.arms):
            boots.append(_measure_arm(request, schedule, position, scratch, progress))
            progress.arm_done(arm, boots[-1])
        _write_json(
            scratch / "schedule.json",
            schedule_record(schedule, request.experiment, request.protocol),
        )
        _write_json(scratch / "host.json", _host_record(request, boots))
        _publish(scratch, request.out)


def _remove_leftovers(out: Path, scratch: Path) -> None:
    """Delete what a killed process left. The host's lock is held: nobody writes there now."""
    for folder in out.glob(".writing-*"):
        if folder != scratch:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(scratch: Path, out: Path) -> None:
    """Move a block's files to their place.

    An old `host.json` goes first and the new one comes last: while there is one,
    all the other files are there too, and they are of one measurement.
    """
    mark = scratch / "host.json"
    (out / mark.name).unlink(missing_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path == mark):
        path.replace(out / path.name)


def _measure_arm(
    request: BlockRequest,
    schedule: Schedule,
    position: int,
    scratch: Path,
    progress: BlockProgress,
) -> Json:
    experiment = request.experiment
    arm, variant = schedule.arms[position]
    image = json.loads((request.kernels / variant / "image.json").read_text())
    vcpus = guest_vcpus(experiment.guest.vcpus)
    console = request.out / f"{arm}.console.log"
    # Left from an earlier try, they would look like this one's.
    console.with_suffix(".partial.jsonl").unlink(missing_ok=True)
    load = load_average()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    result = boot_arm(
        BootRequest(
            label=f"{request.regime}, block {request.block}, arm {arm}",
            kernel=request.kernels / variant / "bzImage",
            workload=request.workload,
            acceleration=request.acceleration["mode"],
            vcpus=vcpus,
            memory_mib=experiment.memory_mib(),
            plan=boot_plan(
                experiment,
                request.protocol,
                schedule,
                position,
                image,
                request.acceleration["mode"],
                vcpus,
            ),
            boot_timeout_s=experiment.guest.boot_timeout_s,
            sweep_timeout_s=sweep_timeout_s(
                experiment, request.protocol, request.regime, len(schedule.cells)
            ),
        ),
        console,
        on_progress=progress.sample_done,
    )
    _require_some_sample(request, arm, result, console)
    _write_lines(scratch / f"{arm}.jsonl", result.records)
    return {
        "arm": arm,
        "variant": variant,
        "order": position + 1,
        "started": started,
        "boot_s": round(result.boot_s, 3),
        "wall_s": round(result.wall_s, 3),
        "status": "ok",
        "load_before": load,
        "image_key": image["key"],
        "bzimage_sha256": image["bzimage_sha256"],
    }


def _require_some_sample(
    request: BlockRequest, arm: str, result: BootResult, console: Path
) -> None:
    """A boot in which nothing at all could be measured is a failure, not data."""
    samples = [record for record in result.records if record["record"] == "sample"]
    if any(sample["status"] == "ok" for sample in samples):
        return
    kept = console.with_suffix(".partial.jsonl")
    _write_lines(kept, result.records)
    killed = samples[-1]["after"]["vmstat"].get("oom_kill", 0)
    advice = (
        f" The guest ran out of memory ({killed} OOM kills): raise guest.memory"
        f" (now {request.experiment.guest.memory})."
        if killed
        else ""
    )
    raise KdeltaError(
        f"{request.regime}, block {request.block}, arm {arm}: the workload failed in every cell; "
        f"first: {samples[0]['error']}.{advice} Records: {kept}"
    )


def _require_stressor(request: BlockRequest) -> None:
    stressor = request.experiment.regimes[request.regime].stressor
    if stressor and shutil.which(stressor.command[0]) is None:
        program = stressor.command[0]
        raise KdeltaError(
            f"regimes.{request.regime}.stressor.command: {program} is not installed on this host "
            f"(guests use the host's programs); apt-get install {program}"
        )


def _host_record(request: BlockRequest, boots: list[Json]) -> Json:
    vcpus = guest_vcpus(request.experiment.guest.vcpus)
    return {
        "schema": 1,
        "key": request.key,
        "host": host_facts(),
        "acceleration": request.acceleration,
        "vcpus": vcpus,
        "overcommitted": vcpus > host_cpus(),
        "memory_mib": request.experiment.memory_mib(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "boots": boots,
    }


def _write_json(path: Path, value: Json) -> None:
    _write_synced(path, json.dumps(value, indent=1) + "\n")


def _write_lines(path: Path, records: list[Json]) -> None:
    _write_synced(path, "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))


def _write_synced(path: Path, text: str) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KdeltaError(f"{path}: cannot be written: {error}") from error
