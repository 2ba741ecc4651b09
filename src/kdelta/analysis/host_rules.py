# SPDX-License-Identifier: GPL-2.0-only
"""Validity rules on the host during a boot: failed boots, load, steal, other programs."""

from __future__ import annotations

from collections.abc import Iterator

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.breach import Breach, one_line
from kdelta.analysis.settings import Limits


def host_breaches(boot: RawBoot, limits: Limits) -> Iterator[Breach]:
    """Rules that what the host recorded of a boot breaks; facts not recorded break none."""
    seen = boot.host_boot
    if seen is None:
        return
    if boot.failure is not None:
        yield Breach("boot-failed", None, None, one_line(boot.failure))
    yield from _load_breaches(boot, limits)
    cpu = seen.host_cpu
    if cpu is None or not cpu.cpus or not cpu.elapsed_s:
        return
    capacity_s = cpu.cpus * cpu.elapsed_s
    if cpu.steal_s is not None and cpu.steal_s / capacity_s > limits.steal:
        yield Breach(
            "host-steal",
            cpu.steal_s / capacity_s,
            limits.steal,
            f"a hypervisor took {cpu.steal_s:.1f} of {capacity_s:.1f} CPU seconds of the host",
        )
    if cpu.busy_s is None or cpu.own_s is None:
        return
    other_s = cpu.busy_s - cpu.own_s
    if other_s / capacity_s > limits.host_other_cpu:
        yield Breach(
            "host-other-cpu",
            other_s / capacity_s,
            limits.host_other_cpu,
            f"other programs took {other_s:.1f} of {capacity_s:.1f} CPU seconds of the host",
        )


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
