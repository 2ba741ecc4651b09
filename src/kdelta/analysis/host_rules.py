# SPDX-License-Identifier: GPL-2.0-only
"""Validity rules on the host during a boot: failed boots, load, steal, other programs."""

from __future__ import annotations

from collections.abc import Iterator

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.breach import Breach, one_line
from kdelta.analysis.records import HostCpu
from kdelta.analysis.settings import Limits


def host_breaches(boot: RawBoot, limits: Limits) -> Iterator[Breach]:
    """Rules that what the host recorded of a boot breaks; facts not recorded break none."""
    seen = boot.host_boot
    if seen is None:
        return
    if boot.failure is not None:
        yield Breach("boot-failed", None, None, one_line(boot.failure))
    yield from _load_breaches(boot, limits)
    cpu, capacity_s = boot.host_cpu, _capacity_s(boot.host_cpu)
    for rule, share, limit, who in (
        ("host-steal", host_steal(cpu), limits.steal, "a hypervisor"),
        ("host-other-cpu", host_other_cpu(cpu), limits.host_other_cpu, "other programs"),
    ):
        if share is not None and capacity_s is not None and share > limit:
            took = f"{share * capacity_s:.1f} of {capacity_s:.1f}"
            yield Breach(rule, share, limit, f"{who} took {took} CPU seconds of the host")


def host_steal(cpu: HostCpu | None) -> float | None:
    """Share of the host's CPU time that a hypervisor took; None if not recorded."""
    capacity_s = _capacity_s(cpu)
    if cpu is None or cpu.steal_s is None or capacity_s is None:
        return None
    return cpu.steal_s / capacity_s


def host_other_cpu(cpu: HostCpu | None) -> float | None:
    """Share of it that other programs than kdelta's guest took; None if not recorded."""
    capacity_s = _capacity_s(cpu)
    if cpu is None or cpu.busy_s is None or cpu.own_s is None or capacity_s is None:
        return None
    return (cpu.busy_s - cpu.own_s) / capacity_s


def _capacity_s(cpu: HostCpu | None) -> float | None:
    """CPU seconds that the host had meanwhile; None if not recorded."""
    if cpu is None or not cpu.cpus or not cpu.elapsed_s:
        return None
    return cpu.cpus * cpu.elapsed_s


def _load_breaches(boot: RawBoot, limits: Limits) -> Iterator[Breach]:
    seen, vcpus, cpus = boot.host_boot, boot.vcpus, boot.host_cpus
    if seen is None or seen.load_before is None or vcpus is None or cpus is None:
        return
    # The boot before this one has kept as many CPUs busy as the guest has: that is no load.
    excess = (seen.load_before - vcpus) / cpus
    if excess > limits.host_load:
        yield Breach(
            "host-load",
            excess,
            limits.host_load,
            f"load average {seen.load_before:.2f} before the boot, on {cpus} CPUs, "
            f"{vcpus} of which the boot before may have kept busy",
        )
