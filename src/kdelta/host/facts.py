# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the host that numbers depend on.

Nothing that changes from minute to minute is a fact of the host: load and stolen time
belong to a boot (`cpu_time.py`). What cannot be seen is None, never an error.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from kdelta.guest import gate  # guests ask their kernel the same
from kdelta.host.topology import (
    CPU_FOLDER,
    numa_nodes,
    online_cpus,
    read_cores,
    usable_cores,
)

MAX_AUTO_VCPUS = 16


def host_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


# The schedulers of clusters, and where each says which job a process is of.
_JOBS = {
    "SLURM": "SLURM_JOB_ID",
    "PBS": "PBS_JOBID",
    "LSF": "LSB_JOBID",
    "HTCondor": "_CONDOR_SLOT",
}


def host_cores(root: Path = Path("/")) -> int:
    """Physical cores of the fastest kind that this process may use.

    Two vCPUs on the threads of one core would share its execution units, and vCPUs on cores of
    two kinds would have two speeds: the workload would measure that. The CPUs that it may use
    where the topology is not visible.
    """
    allowed = os.sched_getaffinity(0)
    kinds = usable_cores(read_cores(root), allowed)
    return len(next(iter(kinds.values()))) if kinds else len(allowed)


def guest_vcpus(asked: int | str) -> int:
    """Virtual CPUs of a guest: as asked, or for `auto` the host's (fast) cores, at most 16."""
    return min(host_cores(), MAX_AUTO_VCPUS) if asked == "auto" else int(asked)


def job() -> tuple[str, str] | None:
    """The scheduler of a cluster and its job that this process is of; None outside of one."""
    for scheduler, variable in _JOBS.items():
        if number := os.environ.get(variable):
            return scheduler, number
    return None


def node_name() -> str | None:
    """What a cluster calls this machine; None outside of a scheduler's job.

    One machine needs no name, and has no lasting one where it is a container. SLURM's own name of
    the node where there is one: several nodes can have one host name.
    """
    if job() is None:
        return None
    return os.environ.get("SLURMD_NODENAME") or platform.node() or None


def host_facts(
    root: Path = Path("/"), compiler: str = "gcc", qemu: str | None = None
) -> dict[str, Any]:
    """What this host is, for `host.json` and the manifest.

    Args:
        root: where /proc and /sys are read below; tests give another one.
        compiler: the compiler's command.
        qemu: QEMU's program; None: the one for guests of the host's own architecture.
    """
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    meminfo = read_text(root / "proc/meminfo") or ""
    return {
        "cpu_model": cpu_model(cpuinfo),
        "architecture": platform.machine(),
        "cpus": host_cpus(),
        **topology_facts(root),
        "governor": governor(root),
        "scaling_driver": _policy_values(root, "scaling_driver"),
        "turbo": turbo(root),
        "mitigations": mitigations(root),
        "memory_mib": meminfo_mib(meminfo, "MemTotal"),
        "swap_mib": meminfo_mib(meminfo, "SwapTotal"),
        "kernel": read_text(root / "proc/sys/kernel/osrelease"),
        "system": system_name(read_text(root / "etc/os-release") or ""),
        "hypervisor": hypervisor(root, cpuinfo),
        "qemu": first_line([qemu or f"qemu-system-{platform.machine()}", "--version"]),
        "virtme_ng": _version_of("virtme-ng"),
        "stress_ng": first_line(["stress-ng", "--version"]),
        "python": platform.python_version(),
        "compiler": first_line([compiler, "--version"]),
    }


def topology_facts(root: Path = Path("/")) -> dict[str, int | bool | None]:
    """Sockets, cores (all, and of the fastest kind), SMT and threads per core, NUMA nodes."""
    cores = read_cores(root)
    smt = read_text(root / CPU_FOLDER / "smt/active")
    return {
        "online_cpus": len(online_cpus(root)) or None,
        "sockets": len({core.package for core in cores}) or None,
        "cores": len(cores) or None,
        "fast_cores": sum(core.kind == 0 for core in cores) or None,
        "threads_per_core": max((len(core.cpus) for core in cores), default=None),
        "smt": smt == "1" if smt else any(len(c.cpus) > 1 for c in cores) if cores else None,
        "numa_nodes": len(numa_nodes(root)) or None,
    }


def governor(root: Path = Path("/")) -> str | None:
    """The CPU frequency governor, or all of them if CPUs differ."""
    return _policy_values(root, "scaling_governor")


def turbo(root: Path = Path("/")) -> bool | None:
    """Whether CPUs may clock above their nominal rate; None if that cannot be seen."""
    no_turbo = read_text(root / CPU_FOLDER / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = read_text(root / CPU_FOLDER / "cpufreq/boost")
    return None if boost is None else boost == "1"


def mitigations(root: Path = Path("/")) -> dict[str, str] | None:
    """The kernel's words on each hardware vulnerability, by its name."""
    folder = root / CPU_FOLDER / "vulnerabilities"
    return gate.mitigations(folder) if folder.is_dir() else None


def hypervisor(root: Path, cpuinfo: str) -> str | None:
    """What this host is itself a guest of, as far as it shows."""
    xen = read_text(root / "sys/hypervisor/type")
    if xen:
        return xen
    if not any("hypervisor" in line.split() for line in cpuinfo.splitlines()):
        return None
    firmware = (
        read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")
    )
    return " ".join(part for part in firmware if part) or "unnamed hypervisor"


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


def meminfo_mib(meminfo: str, field: str) -> int | None:
    """A field of /proc/meminfo in MiB; None if there is none."""
    for line in meminfo.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) // 1024
    return None


def system_name(os_release: str) -> str | None:
    """The distribution's name from the text of /etc/os-release."""
    values: Mapping[str, str] = dict(
        line.split("=", 1) for line in os_release.splitlines() if "=" in line
    )
    words = shlex.split(values.get("PRETTY_NAME", ""))
    return words[0] if words else None


def first_line(argv: list[str]) -> str | None:
    """The first line that a program prints, or None if there is no such program."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else None


def read_text(path: Path) -> str | None:
    """The text of a small file without its line end; None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def policy_folders(root: Path) -> list[Path]:
    """The folders of CPU frequency policies: groups of CPUs that share a clock."""
    return sorted(
        (root / CPU_FOLDER / "cpufreq").glob("policy[0-9]*"), key=lambda p: int(p.name[6:])
    )


def _policy_values(root: Path, name: str) -> str | None:
    values = (read_text(folder / name) for folder in policy_folders(root))
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
