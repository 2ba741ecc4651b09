# SPDX-License-Identifier: GPL-2.0-only
"""Kernel counters, as they are taken before and after every sample.

Runs in the guest: standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Without these, /proc/vmstat is 200 lines a sample; all of them bear on reclaim.
VMSTAT_PREFIXES = ("allocstall_", "pgscan_", "pgsteal_", "pgalloc_", "workingset_refault_")
VMSTAT_NAMES = ("oom_kill", "pswpin", "pswpout", "pgfault", "pgmajfault", "pgfree", "pgreuse")
MEMINFO_NAMES = ("MemFree", "MemAvailable", "AnonPages", "SwapFree")
STAT_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def parse_vmstat(text: str) -> dict[str, int]:
    """The counters of /proc/vmstat that bear on allocation and reclaim."""
    counters = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith(VMSTAT_PREFIXES) or name in VMSTAT_NAMES:
            counters[name] = int(value)
    return counters


def parse_psi(text: str) -> dict[str, int]:
    """Total stall time in microseconds by kind (some, full) of a /proc/pressure file."""
    totals = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields)
        totals[kind] = int(values["total"])
    return totals


def parse_stat(text: str) -> dict[str, int]:
    """CPU time of all CPUs from /proc/stat, in USER_HZ ticks."""
    fields = text.split("\n", 1)[0].split()[1:]
    return {name: int(value) for name, value in zip(STAT_FIELDS, fields, strict=False)}


def parse_meminfo(text: str) -> dict[str, int]:
    """Chosen fields of /proc/meminfo in KiB, and MemTotal, SwapTotal."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in MEMINFO_NAMES or name in ("MemTotal", "SwapTotal"):
            found[name] = int(rest.split()[0])
    return found


def counters(proc: Path = Path("/proc")) -> Json:
    """All counters that are taken before and after a sample."""
    psi = {
        name: parse_psi((proc / "pressure" / name).read_text())
        for name in ("memory", "cpu")
        if (proc / "pressure" / name).exists()
    }
    meminfo = parse_meminfo((proc / "meminfo").read_text())
    return {
        "vmstat": parse_vmstat((proc / "vmstat").read_text()),
        "psi": psi,
        "stat": parse_stat((proc / "stat").read_text()),
        "meminfo": {name: meminfo[name] for name in MEMINFO_NAMES if name in meminfo},
    }
