# SPDX-License-Identifier: GPL-2.0-only
"""What this host's CPUs are worth, second by second, with the program that guests check it with."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.cache import cache_root
from kdelta.errors import KdeltaError
from kdelta.guest.speed import DEADLINE_S, WORK, check_speed
from kdelta.host.quiet import HostWindow, Window
from kdelta.workload.build import SPEED_SOURCE, cached_program

Json = dict[str, Any]

LEAST_CHECKS = 16
"""Taken even where these last longer than they were to."""


@dataclass(frozen=True)
class SpeedSeries:
    """Speed checks of the host, one right after the other.

    Attributes:
        work: steps on each CPU in each check.
        ended_s: when each check was over, seconds since the first began; shape (checks,).
        wall_ns: what the work took; shape (checks, CPUs). An idle machine gives equal values;
            whoever else uses a CPU, above or below this system, makes some of its larger.
        host: who else used the host meanwhile.
    """

    work: int
    ended_s: tuple[float, ...]
    wall_ns: tuple[tuple[int, ...], ...]
    host: Window


def measure_speed(seconds: float) -> SpeedSeries:
    """Run the speed check again and again for so long.

    Raises:
        KdeltaError: it cannot be built or run here.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = cached_program(SPEED_SOURCE, Path(folder) / "log", cache_root())
    work = WORK["kvm"]  # its code runs natively here too
    check_speed(program, work, _run)  # brings the program into memory
    watch = HostWindow()
    begun = time.monotonic()
    ended_s: list[float] = []
    wall_ns: list[tuple[int, ...]] = []
    while len(ended_s) < LEAST_CHECKS or ended_s[-1] < seconds:
        times, error = check_speed(program, work, _run)
        if times is None:
            raise KdeltaError(f"{program}: the speed check failed: {error}")
        ended_s.append(time.monotonic() - begun)
        wall_ns.append(tuple(times["wall_ns"]))
    return SpeedSeries(work, tuple(ended_s), tuple(wall_ns), watch.seen())


def _run(argv: list[str]) -> tuple[Json | None, str | None]:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60 * DEADLINE_S
    )
    if done.returncode:
        return None, done.stderr.strip() or f"exit status {done.returncode}"
    result: Json = json.loads(done.stdout)
    return result, None
