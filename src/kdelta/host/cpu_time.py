# SPDX-License-Identifier: GPL-2.0-only
"""CPU time of the host over a slice: how much, how much of it ours, how much stolen.

What is neither ours nor idle is somebody else's work on the host, beside which a
number is doubtful.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Columns of a `cpu` line: proc(5). Guest time is contained in user and nice.
_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ, _STEAL = 0, 1, 2, 5, 6, 7


@dataclass(frozen=True)
class StatTimes:
    """Of all CPUs since boot, in seconds: at work, and taken away by a hypervisor."""

    cpus: int
    busy_s: float
    steal_s: float


def parse_stat(text: str, ticks_per_s: int) -> StatTimes:
    """CPU times from the text of /proc/stat.

    Args:
        text: of the file.
        ticks_per_s: USER_HZ, the unit of the file.
    """
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    total = [int(field) for field in next(line for line in lines if line[0] == "cpu")[1:]]
    busy = sum(total[column] for column in (_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ))
    return StatTimes(
        sum(line[0] != "cpu" for line in lines), busy / ticks_per_s, total[_STEAL] / ticks_per_s
    )


def own_cpu_s() -> float:
    """CPU seconds of this process and of all its descendants that have ended.

    A descendant counts once every ancestor up to this process has waited for it. Guests do
    arrive: their supervisor reaps whatever its command leaves behind.
    """
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class HostCpu:
    """A stopwatch for the host's CPUs; it runs from when it is made."""

    def __init__(self, guest: Callable[[], float] = lambda: 0.0, root: Path = Path("/")) -> None:
        """Start it.

        Args:
            guest: CPU seconds so far of a guest that lives, which is ours too; without one, its
                guest must have ended before the stopwatch is asked.
            root: where /proc is.
        """
        self._guest = guest
        self._stat_file = root / "proc/stat"
        self._start = self._now()

    def used(self) -> dict[str, int | float]:
        """The record `host_cpu` of a slice, up to now.

        Returns:
            `cpus` (online), and in seconds `elapsed_s`, `busy_s` (all CPUs together), `own_s`
            (of it kdelta's and its guest's) and `steal_s`.
        """
        (clock, own, before), (now, own_now, after) = self._start, self._now()
        return {
            "cpus": after.cpus,
            "elapsed_s": round(now - clock, 3),
            "busy_s": round(after.busy_s - before.busy_s, 3),
            "own_s": round(own_now - own, 3),
            "steal_s": round(after.steal_s - before.steal_s, 3),
        }

    def _now(self) -> tuple[float, float, StatTimes]:
        stat = parse_stat(self._stat_file.read_text(), os.sysconf("SC_CLK_TCK"))
        return time.monotonic(), own_cpu_s() + self._guest(), stat
