# SPDX-License-Identifier: GPL-2.0-only
"""Which CPUs of the host are threads of which core, and which of them vCPUs are pinned to.

Read from sysfs: Documentation/admin-guide/cputopology.rst in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_FOLDER = "sys/devices/system/cpu"
_NODE_FOLDER = "sys/devices/system/node"

# Intel's hybrid processors: one list of CPUs for each kind, the fastest first.
_KIND_LISTS = ("cpu_core", "cpu_atom", "cpu_lowpower")
# Where there are none: arm64's relative capacity, else the highest clock rate. (ACPI's
# highest_perf is no help: on some processors it ranks cores that are all of one kind.)
_STRENGTHS = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")

# Cores with at least this share of the strongest core's strength are of its kind: favoured cores
# of one kind differ by a few per cent, other kinds by far more.
_SAME_KIND = 0.9


@dataclass(frozen=True)
class Core:
    """A physical core.

    Attributes:
        cpus: its online CPUs (SMT threads), ascending.
        package: number of its socket.
        node: number of its NUMA node.
        kind: 0 for the fastest kind of core that the host has; 1 and up for slower ones.
    """

    cpus: tuple[int, ...]
    package: int
    node: int
    kind: int = 0


@dataclass(frozen=True)
class Choice:
    """CPUs that vCPUs are pinned to, in vCPU order; None with the reason if they cannot be.

    Attributes:
        remark: what is to be known of these CPUs; empty if nothing is.
    """

    cpus: tuple[int, ...] | None
    why_not: str = ""
    remark: str = ""


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
    online = online_cpus(root)
    kinds = _kinds(online, root)
    for cpu in online:
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
                kinds[cpu],
            ),
        )
    return tuple(sorted(cores.values(), key=lambda core: core.cpus))


def usable_cores(cores: Iterable[Core], allowed: Iterable[int]) -> dict[int, list[Core]]:
    """Cores with a CPU that this process may use, by their kind, the fastest first."""
    usable = set(allowed)
    found = [core for core in cores if usable & set(core.cpus)]
    kinds = sorted({core.kind for core in found})
    return {kind: [core for core in found if core.kind == kind] for kind in kinds}


def choose_cpus(cores: Sequence[Core], allowed: Iterable[int], vcpus: int) -> Choice:
    """One CPU for each vCPU, each on a physical core of its own, always the same ones.

    All cores are of one kind, the fastest that there are enough of: vCPUs of two speeds would
    make a benchmark's result a matter of which thread lands where. SMT siblings are left idle. In
    this order, as far as there are enough cores: cores of one NUMA node, without the core of
    CPU 0, where much of the kernel's own work lands.

    Args:
        cores: the host's cores.
        allowed: CPUs that this process may use.
        vcpus: CPUs of the guest.
    """
    if not cores:
        return Choice(None, "not visible here (the kernel shows no CPU topology)")
    usable = set(allowed)
    kinds = usable_cores(cores, usable)
    enough = [kind for kind, group in kinds.items() if len(group) >= vcpus]
    have = _counted(kinds)
    if not enough:
        why = f"the guest has {vcpus} vCPUs, and {have} can be used here"
        if sum(map(len, kinds.values())) >= vcpus:
            why += "; vCPUs of different speeds would blur every number"
        return Choice(None, why)
    free = kinds[enough[0]]
    chosen = next(group for group in _preferences(free) if len(group) >= vcpus)[:vcpus]
    slower = enough[0] != min(kinds)
    remark = f"slower cores: of {have}, {vcpus} of one kind are only these" if slower else ""
    return Choice(tuple(min(usable & set(core.cpus)) for core in chosen), remark=remark)


def _counted(kinds: Mapping[int, Sequence[Core]]) -> str:
    """How many cores of each kind: `8 fast and 4 slow physical cores`."""
    total = sum(map(len, kinds.values()))
    ending = "physical core" if total == 1 else "physical cores"
    if len(kinds) <= 1:
        return f"{total} {ending}"
    names = ("fast", "slow") if len(kinds) == 2 else ("fast", "slower", *["slow"] * len(kinds))
    parts = [f"{len(kinds[kind])} {name}" for kind, name in zip(kinds, names, strict=False)]
    return f"{', '.join(parts[:-1])} and {parts[-1]} {ending}"


def _kinds(online: Sequence[int], root: Path) -> dict[int, int]:
    """CPU -> kind of its core, 0 the fastest; all 0 where nothing tells them apart."""
    lists = [set(_cpus_of(root / f"sys/devices/{name}/cpus")) for name in _KIND_LISTS]
    place = {cpu: next((n for n, group in enumerate(lists) if cpu in group), -1) for cpu in online}
    strength = dict.fromkeys(online, 1)
    for name in _STRENGTHS:
        read = {cpu: _number(root / CPU_FOLDER / f"cpu{cpu}" / name) for cpu in online}
        known = {cpu: value for cpu, value in read.items() if value}
        if len(known) == len(online):
            strength = known
            break
    return _by_strength(place if -1 not in place.values() else {}, strength)


def _by_strength(place: Mapping[int, int], strength: Mapping[int, int]) -> dict[int, int]:
    """Kinds by a CPU's place among the lists, and in each list by its strength."""
    kinds: dict[int, int] = {}
    kind, first = -1, (-1, 0)
    for cpu in sorted(strength, key=lambda cpu: (place.get(cpu, 0), -strength[cpu], cpu)):
        here = place.get(cpu, 0), strength[cpu]
        if here[0] != first[0] or here[1] < _SAME_KIND * first[1]:
            kind, first = kind + 1, here
        kinds[cpu] = kind
    return kinds


def _preferences(cores: Sequence[Core]) -> list[list[Core]]:
    nodes = [
        [core for core in cores if core.node == node] for node in sorted({c.node for c in cores})
    ]
    groups = [*nodes, list(cores)]
    without_first = [[core for core in group if 0 not in core.cpus] for group in groups]
    return [*without_first[:-1], *nodes, without_first[-1], list(cores)]


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
