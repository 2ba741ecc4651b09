# SPDX-License-Identifier: GPL-2.0-only
"""The arms of a block alive together, one of them running at any moment.

What slows a host for a while slows the arms of one cell alike, since they run within seconds of
each other, and falls out of their ratio. Boots that follow each other share nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from kdelta.guest.disk import require_room
from kdelta.host.facts import host_cpus
from kdelta.measure.arm import ArmBoot, BlockPlan, LiveArm

Note = Callable[[str, int], None]
"""Told what is being done and how many slices are done."""

# What QEMU needs beside the guest's memory, and what is left for everything else.
GUEST_OVERHEAD_MIB = 200
SPARE_MIB = 512

_LOOK_S = 0.05


@dataclass(frozen=True)
class Taken:
    """What a block gave.

    Attributes:
        boots: in the order in which they were booted.
        together: how many guests were alive at the same time.
    """

    boots: list[ArmBoot]
    together: int


def memory_needed_mib(guests_mib: Sequence[int]) -> int:
    """What guests of these sizes take while they live together, and what else runs then."""
    return sum(guests_mib) + len(guests_mib) * GUEST_OVERHEAD_MIB + SPARE_MIB


def memory_for(guests_mib: Sequence[int]) -> bool:
    """Whether the host has the memory for guests of these sizes at once."""
    return bool(memory_needed_mib(guests_mib) * 2**20 <= psutil.virtual_memory().available)


def take_turns(plan: BlockPlan, note: Note, done: Callable[[ArmBoot], None]) -> Taken:
    """Boot the arms of a block, and run its rounds.

    Where there is too little memory for all of them at once, one guest after the other runs all
    of its rounds.

    Args:
        plan: the block.
        note: told how it goes on.
        done: told each boot that is over.

    Raises:
        KdeltaError: a guest was not the one asked for, or the host cannot run guests: it has no
            room for their disks, say.
    """
    arms = len(plan.schedule.arms)
    experiment = plan.source.experiment
    together = arms if memory_for([experiment.memory_mib(a) for a in plan.schedule.arms]) else 1
    require_room(together, experiment.disk_bytes)
    boots = []
    for first in range(0, arms, together):
        found = _run_group(plan, range(first, first + together), note)
        for boot in found:
            done(boot)
        boots += found
    return Taken(boots, together)


def _run_group(plan: BlockPlan, positions: Sequence[int], note: Note) -> list[ArmBoot]:
    """Boot the arms at these positions of the schedule, and let them take their turns."""
    with contextlib.ExitStack() as stack:
        arms = _boot_all(plan, positions, stack, note)
        taken = 0
        for number, turns in enumerate(plan.schedule.rounds, start=1):
            for turn in turns:
                living = [arm for arm in turn.arms if arm in arms and not arms[arm].failure]
                for slot, arm in enumerate(living, start=1):
                    note(f"round {number} of {len(plan.schedule.rounds)}", taken)
                    arms[arm].run(turn.cell, {"round": number, "slot": slot})
                    taken += 1
        note("guests switch off", taken)
        for live in arms.values():
            live.finish()
    return [live.over() for live in arms.values()]


def _boot_all(
    plan: BlockPlan, positions: Sequence[int], stack: contextlib.ExitStack, note: Note
) -> dict[str, LiveArm]:
    """The guests, each stopped as soon as it was ready.

    As many boot at once as have CPUs of their own: vCPUs that share one wait for each other's
    locks, and two stressors side by side took five times as long to settle as one after the other.
    """
    at_once = max(1, host_cpus() // plan.source.most_vcpus(plan.schedule.arms))
    arms: dict[str, LiveArm] = {}
    waiting = list(positions)
    while waiting or any(live.booting for live in arms.values()):
        booting = [live for live in arms.values() if live.booting]
        if waiting and len(booting) < at_once:
            live = stack.enter_context(contextlib.closing(LiveArm(plan, waiting.pop(0))))
            arms[live.arm] = live
            continue
        note(f"{len(arms) - len(booting)} of {len(positions)} guests ready", 0)
        for live in booting:
            live.look(_LOOK_S / len(booting))
    return arms
