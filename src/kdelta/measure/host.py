# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the host that numbers depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

MAX_AUTO_VCPUS = 16


def host_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def guest_vcpus(asked: int | str) -> int:
    """Virtual CPUs of a guest: as asked, or for `auto` the host's, at most 16."""
    return min(host_cpus(), MAX_AUTO_VCPUS) if asked == "auto" else int(asked)


def host_facts() -> dict[str, Any]:
    """What this host is, for `host.json` and the manifest."""
    return {
        "cpu_model": cpu_model(Path("/proc/cpuinfo").read_text()),
        "architecture": platform.machine(),
        "cpus": host_cpus(),
        "memory_mib": memory_total_mib(Path("/proc/meminfo").read_text()),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": _read("/sys/hypervisor/type") or _hypervisor_flag(),
        "qemu": first_line(["qemu-system-x86_64", "--version"]),
        "virtme_ng": metadata.version("virtme-ng"),
        "stress_ng": first_line(["stress-ng", "--version"]),
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Runnable processes over the last minute."""
    return os.getloadavg()[0]


def cpu_model(cpuinfo: str) -> str:
    """The processor's name from the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def memory_total_mib(meminfo: str) -> int:
    """MemTotal in MiB from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def first_line(argv: list[str]) -> str | None:
    """The first line that a program prints, or None if there is no such program."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _hypervisor_flag() -> str | None:
    flags = Path("/proc/cpuinfo").read_text()
    return "unnamed hypervisor" if " hypervisor" in flags else None
