# SPDX-License-Identifier: GPL-2.0-only
"""Mechanism boots: every arm of a regime once, traced and never timed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kdelta.guest.acceleration import require_here
from kdelta.guest.launch import require_tools
from kdelta.host.lock import host_lock
from kdelta.measure.arm import BlockPlan, GuestSource, require_cpus, require_programs
from kdelta.measure.progress import BlockProgress, pending
from kdelta.measure.schedule import block_schedule, traced_cells
from kdelta.measure.turns import take_turns
from kdelta.measure.write import write_lines

# Its order of arms and cells is drawn like a block's; blocks count from 1.
BLOCK = 0


def trace_regime(source: GuestSource, regime: str, out: Path) -> None:
    """Boot every arm of a regime once under tracing; writes `<arm>.jsonl` and its console.

    A boot that fails leaves its records and an end record that says why: what it would
    have explained is missing from the report, which says so.

    Args:
        source: experiment, protocol, kernels, workload, acceleration.
        regime: name of the regime.
        out: the regime's folder, `mechanism/<regime>`.

    Raises:
        KdeltaError: this host cannot run guests, or one was not the guest asked for.
    """
    experiment = source.experiment
    require_tools(experiment.arch)
    require_programs(experiment, regime, source.guest_root)
    require_cpus(source)
    schedule = block_schedule(experiment, regime, BLOCK, of=traced_cells(experiment))
    out.mkdir(parents=True, exist_ok=True)
    current = out.resolve()
    others = pending(experiment, source.protocol, current.parent.parent, current)
    with (
        host_lock(f"tracing {experiment.name}: {regime}", exclusive=True),
        tempfile.TemporaryDirectory(prefix=".writing-", dir=out) as folder,
        BlockProgress(experiment, source.protocol, regime, None, others) as progress,
    ):
        require_here(experiment.arch, source.acceleration)
        for leftover in set(out.glob(".writing-*")) - {Path(folder)}:
            shutil.rmtree(leftover, ignore_errors=True)
        taken = take_turns(
            BlockPlan(
                source=source,
                schedule=schedule,
                consoles=out,
                label=f"{regime}, mechanism boots",
                pinning=None,
                mechanism=True,
            ),
            progress.note,
            progress.arm_done,
        )
        for boot in taken.boots:
            records = boot.records
            if boot.entry["reason"]:
                end = {"record": "end", "samples": 0, "ok": False, "error": boot.entry["reason"]}
                records = [*records, end]
            write_lines(Path(folder) / f"{boot.entry['arm']}.jsonl", records)
        progress.block_done()
        for path in Path(folder).iterdir():
            path.replace(out / path.name)
