# SPDX-License-Identifier: GPL-2.0-only
"""Pinning the vCPUs of a running guest to CPUs of the host.

QEMU names its threads when it is started with `DEBUG_THREADS`; a thread of one's own may be
pinned without any privilege. virtme-ng's `--pin` is not used: it opens QEMU's monitor, which
can start programs, to everybody on the host (an unprotected TCP port, and always the same one),
and when it fails it only says so on the console.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdelta.guest.supervise import descendants

DEBUG_THREADS = ("-name", "virtme-ng,debug-threads=on")
_VCPU_THREAD = re.compile(r"CPU (\d+)/[A-Z]+")


@dataclass(frozen=True)
class Pinning:
    """Host CPUs of a guest: one for each vCPU, and those for everything else of it."""

    cpus: tuple[int, ...]
    rest: tuple[int, ...]

    def first(self, vcpus: int) -> Pinning:
        """The same for a guest of fewer vCPUs: the first ones, so that arms share what they can."""
        return Pinning(self.cpus[:vcpus], self.rest)


def pin_vcpus(
    pid: int, cpus: Sequence[int], rest: Sequence[int] = (), proc: Path = Path("/proc")
) -> bool:
    """Pin the vCPUs of the guest below a process, if all of them run already.

    Args:
        pid: a process that QEMU descends from.
        cpus: host CPU of each vCPU.
        rest: host CPUs for QEMU's other threads, those it starts later included; empty: all
            that this process may use and no vCPU does.
        proc: where the threads' names are read.

    Returns:
        Whether every vCPU is pinned. False: there are no such threads yet; try again soon.
    """
    allowed = os.sched_getaffinity(0)
    others = set(rest) or allowed - set(cpus) or allowed
    for process in descendants(pid):
        threads = _threads(proc / str(process))
        vcpus = {
            int(match[1]): thread
            for thread, name in threads.items()
            if (match := _VCPU_THREAD.fullmatch(name))
        }
        if sorted(vcpus) != list(range(len(cpus))):
            continue
        try:
            for thread in threads.keys() - vcpus.values():
                _move(thread, others)
            for number, thread in vcpus.items():
                os.sched_setaffinity(thread, {cpus[number]})
        except ProcessLookupError:
            return False
        return True
    return False


def _threads(process: Path) -> dict[int, str]:
    """Name of each thread by its number."""
    names: dict[int, str] = {}
    try:  # listed, not globbed, as in supervise.py
        tasks = list((process / "task").iterdir())
    except OSError:  # the process has ended meanwhile
        return names
    for task in tasks:
        try:
            names[int(task.name)] = (task / "comm").read_text().rstrip("\n")
        except OSError:  # it has
            continue
    return names


def _move(thread: int, cpus: set[int]) -> None:
    # A worker thread may end at any time; the vCPUs' may not.
    try:
        os.sched_setaffinity(thread, cpus)
    except ProcessLookupError:
        return
