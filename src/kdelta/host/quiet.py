# SPDX-License-Identifier: GPL-2.0-only
"""Waiting, before a block's first boot, until other programs leave the host alone."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from kdelta.host.cpu_time import HostCpu

Json = dict[str, Any]

WINDOW_S = 1.0
QUIET_WINDOWS = 2
"""Windows in a row that must be below the limit: a pause of a second is no end."""

NAMED = 3
_LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Window:
    """What was seen of the host over some seconds.

    Attributes:
        other_share: of the host's CPU time that other programs took.
        steal_share: of it that a hypervisor took away.
        busiest: programs that took most of it and their shares, the largest first; those that
            ended within the window, and those of another PID namespace, cannot be seen.
    """

    other_share: float
    steal_share: float
    busiest: tuple[tuple[str, float], ...]

    @property
    def names(self) -> str:
        """The busiest programs for people: ``cc1 38 %, stress-ng 4 %``; empty if none is seen."""
        return ", ".join(f"{name} {share:.0%}" for name, share in self.busiest)


class HostWindow:
    """Watches the host from when it is made; ask it at the end of the window."""

    def __init__(self) -> None:
        self._programs = _cpu_by_process()
        self._watch = HostCpu()

    def seen(self) -> Window:
        """The window up to now."""
        used, programs = self._watch.used(), _cpu_by_process()
        capacity_s = used["elapsed_s"] * used["cpus"]
        others_s = used["busy_s"] - used["own_s"]
        return Window(
            # Busy time is counted in ticks: over a short window it can exceed the clock's.
            min(1.0, max(0.0, others_s) / capacity_s),
            used["steal_s"] / capacity_s,
            busiest(self._programs, programs, capacity_s),
        )


def one_window() -> Window:
    """The next `WINDOW_S` of the host."""
    watch = HostWindow()
    time.sleep(WINDOW_S)
    return watch.seen()


def wait_for_quiet(
    what: str,
    limit: float,
    at_most_s: float,
    *,
    look: Callable[[], Window] = one_window,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    clock: Callable[[], float] = time.monotonic,
) -> Json | None:
    """Wait until other programs take no more of the host's CPU time than `limit`.

    The caller holds the host's lock, so that none of what is seen is kdelta's.

    Args:
        what: is to be measured, heads the messages.
        limit: the experiment's `validity.host_other_cpu`.
        at_most_s: when to go on all the same; 0: do not even look.
        look: gives the next window.
        say: tells people.
        clock: seconds, monotonic.

    Returns:
        The entry `quiet` of host.json: seconds waited, share of the CPU time that others took
        in the last window, and whether it was quiet; None if nobody looked.
    """
    if at_most_s == 0:
        return None
    begun, calm, told = clock(), 0, False
    while True:
        window = look()
        calm = calm + 1 if window.other_share <= limit else 0
        waited_s = clock() - begun
        if calm == QUIET_WINDOWS or (waited_s >= at_most_s and calm == 0):
            break
        if calm == 0 and not told:
            told = True
            say(
                f"{what}: {_taken(window)}; waiting for at most {at_most_s:g} s until it is "
                f"{limit:.0%} or less (environment.wait_for_quiet_s)"
            )
    quiet = calm > 0
    if told and quiet:
        say(f"{what}: quiet after {waited_s:.0f} s")
    elif not quiet:
        say(
            f"{what}: not quiet after {waited_s:.0f} s, measuring all the same: {_taken(window)}; "
            f"slices beside which they take more than {limit:.0%} are disturbed"
        )
    return {
        "waited_s": round(waited_s, 1),
        "share": round(window.other_share, 4),
        "quiet": quiet,
    }


def _taken(window: Window) -> str:
    seen = f" ({window.names})" if window.busiest else ""
    return f"other programs take {window.other_share:.0%} of this host's CPU time{seen}"


def busiest(
    before: Mapping[tuple[int, float], tuple[str, float]],
    after: Mapping[tuple[int, float], tuple[str, float]],
    capacity_s: float,
) -> tuple[tuple[str, float], ...]:
    """The programs that took most CPU time between two looks, and their shares of it.

    Args:
        before: process id and start time to name and CPU seconds so far.
        after: the same, later; a process that is new has used all its time in between.
        capacity_s: CPU seconds that there were.
    """
    used: defaultdict[str, float] = defaultdict(float)
    for process, (name, seconds) in after.items():
        used[name] += seconds - before.get(process, ("", 0.0))[1]
    most = sorted(used.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
    shares = ((name, seconds / capacity_s) for name, seconds in most)
    return tuple((name, share) for name, share in shares if share >= _LEAST_SHARE)


def _cpu_by_process() -> dict[tuple[int, float], tuple[str, float]]:
    """All processes but this one; what cannot be read is left out."""
    own = os.getpid()
    return {
        (info["pid"], info["create_time"]): (info["name"], sum(info["cpu_times"][:2]))
        for process in psutil.process_iter(["pid", "name", "create_time", "cpu_times"])
        if (info := process.info)["pid"] != own and info["cpu_times"] and info["name"]
    }
