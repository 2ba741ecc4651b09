# SPDX-License-Identifier: GPL-2.0-only
"""Which CPUs of the host are threads of which core, and which of them vCPUs are pinned to.

Read from sysfs: Documentation/admin-guide/cputopology.rst in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_FOLDER = "sys/devices/system/cpu"
_NODE_FOLDER = "sys/devices/system/node"

# Cores with at least this share of the strongest core's capacity count as equal to it: favoured
# cores of one kind differ by a few per cent, efficiency cores by far more.
_SAME_KIND = 0.9


@dataclass(frozen=True)
class Core:
    """A physical core.

    Attributes:
        cpus: its online CPUs (SMT threads), ascending.
        package: number of its socket.
        node: number of its NUMA node.
        capacity: relative strength where the kernel tells (hybrid processors), else None.
    """

    cpus: tuple[int, ...]
    package: int
    node: int
    capacity: int | None = None


@dataclass(frozen=True)
class Choice:
    """CPUs that vCPUs are pinned to, in vCPU order; None with the reason if they cannot be."""

    cpus: tuple[int, ...] | None
    why_not: str = ""


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of a list such as ``0-3,8``, ascending.

    Raises:
        ValueError: it is not such a list.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The shortest list, as the kernel writes it: ``0-3,8``."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)


def parse_cpu_mask(text: str) -> tuple[int, ...]:
    """The CPUs of a mask such as ``00000000,0000000f``.

    Raises:
        ValueError: it is not such a mask.
    """
    bits = int(text.strip().replace(",", ""), 16)
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def format_cpu_mask(cpus: Iterable[int]) -> str:
    """A mask in groups of 32 bits, as the kernel reads it."""
    bits = sum(1 << cpu for cpu in set(cpus))
    groups = []
    while True:
        groups.append(f"{bits & 0xFFFFFFFF:x}" if bits < 1 << 32 else f"{bits & 0xFFFFFFFF:08x}")
        bits >>= 32
        if not bits:
            return ",".join(reversed(groups))


def online_cpus(root: Path = Path("/")) -> tuple[int, ...]:
    """CPUs that are online; empty if sysfs does not say."""
    return _cpus_of(root / CPU_FOLDER / "online")


def numa_nodes(root: Path = Path("/")) -> dict[int, tuple[int, ...]]:
    """CPUs by NUMA node; empty if the kernel shows no nodes."""
    folders = (root / _NODE_FOLDER).glob("node[0-9]*")
    return {int(folder.name[4:]): _cpus_of(folder / "cpulist") for folder in sorted(folders)}


def read_cores(root: Path = Path("/")) -> tuple[Core, ...]:
    """The host's cores, ordered by their first CPU; empty if the topology is not visible."""
    node_of = {cpu: node for node, cpus in numa_nodes(root).items() for cpu in cpus}
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in online_cpus(root):
        folder = root / CPU_FOLDER / f"cpu{cpu}"
        threads = _cpus_of(folder / "topology/core_cpus_list") or _cpus_of(
            folder / "topology/thread_siblings_list"  # its name before Linux 5.3
        )
        if cpu not in threads:
            return ()
        cores.setdefault(
            threads,
            Core(
                threads,
                _number(folder / "topology/physical_package_id") or 0,
                node_of.get(cpu, 0),
                _number(folder / "cpu_capacity"),
            ),
        )
    return tuple(sorted(cores.values(), key=lambda core: core.cpus))


def choose_cpus(cores: Sequence[Core], allowed: Iterable[int], vcpus: int) -> Choice:
    """One CPU for each vCPU, each on a physical core of its own, always the same ones.

    SMT siblings are left idle. In this order, as far as there are enough cores: cores of one
    kind, of one NUMA node, without the core of CPU 0, where much of the kernel's own work lands.

    Args:
        cores: the host's cores.
        allowed: CPUs that this process may use.
        vcpus: CPUs of the guest.
    """
    if not cores:
        return Choice(None, "not visible here (the kernel shows no CPU topology)")
    usable = set(allowed)
    free = [core for core in cores if usable & set(core.cpus)]
    if len(free) < vcpus:
        have = f"{len(free)} physical core" + ("s" if len(free) != 1 else "")
        return Choice(None, f"the guest has {vcpus} vCPUs, and {have} can be used here")
    strong = [core for core in free if _is_strong(core, free)]
    if len(strong) >= vcpus:
        free = strong
    chosen = next(group for group in _preferences(free) if len(group) >= vcpus)[:vcpus]
    return Choice(tuple(min(usable & set(core.cpus)) for core in chosen))


def _preferences(cores: Sequence[Core]) -> list[list[Core]]:
    nodes = [
        [core for core in cores if core.node == node] for node in sorted({c.node for c in cores})
    ]
    groups = [*nodes, list(cores)]
    without_first = [[core for core in group if 0 not in core.cpus] for group in groups]
    return [*without_first[:-1], *nodes, without_first[-1], list(cores)]


def _is_strong(core: Core, cores: Sequence[Core]) -> bool:
    most = max((other.capacity or 0 for other in cores), default=0)
    return core.capacity is None or core.capacity >= _SAME_KIND * most


def _cpus_of(path: Path) -> tuple[int, ...]:
    try:
        return parse_cpu_list(path.read_text())
    except (OSError, ValueError):
        return ()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
