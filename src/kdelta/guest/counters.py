# SPDX-License-Identifier: GPL-2.0-only
"""Kernel counters: what all of them grow by while a sample runs.

Runs in the guest: standard library only. Before a sample the files are only read; they are
understood after it, when that costs nothing that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMINFO_NAMES = ("MemTotal", "MemAvailable", "SwapTotal")
STAT_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
SCHED_FIELDS = ("run_ns", "wait_ns", "timeslices")

Moment = dict[str, str]
"""File below /proc -> its content."""

FILES = ("vmstat", "stat", "softirqs", "schedstat")
PRESSURE = "pressure"


def moment(proc: Path = Path("/proc")) -> Moment:
    """What the kernel says of itself now; files that it does not have are absent."""
    files = [proc / name for name in FILES]
    if (proc / PRESSURE).is_dir():
        files += sorted((proc / PRESSURE).iterdir())
    return {str(path.relative_to(proc)): path.read_text() for path in files if path.exists()}


def grown(before: Moment, after: Moment) -> dict[str, int]:
    """What every counter grew by; one that the kernel has at one of the moments only is absent."""
    first = dict(_counters(before))
    return {name: value - first[name] for name, value in _counters(after) if name in first}


def parse_meminfo(text: str) -> dict[str, int]:
    """Memory in all and available, and swap in all, in KiB, from /proc/meminfo."""
    fields = (line.partition(":") for line in text.splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in fields if name in MEMINFO_NAMES}


def parse_vmstat(text: str) -> dict[str, int]:
    """All of /proc/vmstat."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs}


def _counters(files: Moment) -> Iterator[tuple[str, int]]:
    for file, text in files.items():
        kind = file.partition("/")[0]
        if kind == PRESSURE:
            for line in text.splitlines():
                which, *fields = line.split()
                told = dict(field.split("=", 1) for field in fields)
                yield f"psi.{file.removeprefix('pressure/')}.{which}", int(told["total"])
        elif kind == "vmstat":
            yield from ((f"vmstat.{name}", value) for name, value in parse_vmstat(text).items())
        elif kind == "stat":
            yield from _stat(text)
        elif kind == "softirqs":
            for line in text.splitlines()[1:]:
                name, *values = line.split()
                yield f"softirqs.{name.rstrip(':')}", sum(map(int, values))
        elif kind == "schedstat":
            cpus = [line.split() for line in text.splitlines() if line.startswith("cpu")]
            # The last three fields of a CPU, whatever the version has before them.
            for place, name in enumerate(SCHED_FIELDS, start=-3):
                yield f"sched.{name}", sum(int(cpu[place]) for cpu in cpus)


def _stat(text: str) -> Iterator[tuple[str, int]]:
    """Ticks of all CPUs by what they did, interrupts, switches and forks."""
    for line in text.splitlines():
        name, *values = line.split()
        if name == "cpu":
            for field, value in zip(STAT_FIELDS, values, strict=False):
                yield f"stat.{field}", int(value)
        elif name in ("intr", "ctxt", "processes", "softirq"):
            yield f"stat.{'softirqs' if name == 'softirq' else name}", int(values[0])
