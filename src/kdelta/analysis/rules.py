# SPDX-License-Identifier: GPL-2.0-only
"""The validity rules: on a sample, on its boot, and on the host meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kdelta import plain
from kdelta.analysis.boots import RawBoot
from kdelta.analysis.console import OOM_INVOKED, OOM_KILL
from kdelta.analysis.records import HostCpu, SampleRecord
from kdelta.analysis.settings import AnalysisSettings, Limits
from kdelta.workload.declaration import ELAPSED
from kdelta.workload.samples import check_all, without_ratio

USER_HZ = 100
"""Ticks per second of the times in /proc/stat: the kernel's ABI on every architecture but alpha."""


@dataclass(frozen=True)
class Breach:
    """A rule broken: what was found, what was allowed (None: no number to give), in words."""

    rule: str
    value: float | None
    limit: float | None
    detail: str

    def __post_init__(self) -> None:
        # Consoles and errors of a guest come in here, and go out to terminals and pages.
        object.__setattr__(self, "detail", plain.one_line(self.detail))


def one_line(text: str) -> str:
    """The text on one line, at most 200 characters."""
    return plain.one_line(text, 200)


def slice_breaches(boot: RawBoot, settings: AnalysisSettings) -> dict[int, list[Breach]]:
    """Rules that the slices of a boot break by themselves; `slow_breach` takes others' speed too.

    Args:
        boot: the boot.
        settings: limits of the rules, and the workload with its checks.

    Returns:
        A slice's number -> what it breaks; nothing of those that break no rule.
    """
    ran, limits = boot.ran, settings.limits
    checked = check_all(settings.workload, ran.values, ran.given, settings.workload_limits)
    primary, kills = ran.values[settings.primary], ran.counters["oom_kill"]
    elapsed = ran.values.get(ELAPSED) or [None] * len(ran.records)
    steal = guest_steal(boot)
    last = max((one.cell_order for one in ran.records), default=0)
    last = max(last, boot.last_order)
    found: dict[int, list[Breach]] = {}
    for number, record in enumerate(ran.records):
        breaches: list[Breach] = []
        understood = number not in ran.misread
        if record.status != "ok" or record.exit_status not in (0, None) or not understood:
            why = record.error or ran.misread.get(number) or "no result was recorded"
            breaches.append(Breach("failed", record.exit_status, 0, one_line(why)))
        if understood:
            lacking = without_ratio(settings.workload, primary[number])
            breaches += [Breach("failed", 0, 0, why) for why in lacking]
            if number in ran.strange:
                breaches.append(Breach("cell", None, None, ran.strange[number]))
            breaches += [
                Breach(one.rule, one.value, one.limit, one.detail)
                for one in checked.get(number, ())
            ]
        breaches += _clock_breaches(record, elapsed[number] if understood else None, limits)
        share = steal[number]
        if share is not None and share > limits.steal:
            stolen_s = (ran.counters["steal_ticks"][number] or 0) / USER_HZ
            told = f"{stolen_s:.2f} s stolen from {boot.vcpus} vCPUs within {record.wall_s:.2f} s"
            breaches.append(Breach("guest-steal", share, limits.steal, told))
        breaches += _stressor_breaches(boot, record, is_last=record.cell_order == last)
        if kills[number]:
            told = "the OOM killer ran during the sample"
            breaches.append(Breach("oom-kill", kills[number], 0, told))
        if breaches:
            found[number] = breaches
    return found


def _clock_breaches(
    record: SampleRecord, elapsed_s: float | None, limits: Limits
) -> Iterator[Breach]:
    wall_s = record.wall_s
    if wall_s is None:
        return
    if record.realtime_start_ns is not None and record.realtime_end_ns is not None:
        jump_ms = (record.realtime_end_ns - record.realtime_start_ns) / 1e6 - wall_s * 1e3
        if abs(jump_ms) > limits.clock_jump_ms:
            yield Breach(
                "clock-jump",
                jump_ms,
                limits.clock_jump_ms,
                "real time advanced by another amount than monotonic time",
            )
            return
    # The workload's window lies within the sample, by the same clock.
    excess_ms = 0.0 if elapsed_s is None else (elapsed_s - wall_s) * 1e3
    if excess_ms > limits.clock_jump_ms:
        yield Breach(
            "clock-jump",
            excess_ms,
            limits.clock_jump_ms,
            "the workload's own time is longer than the sample",
        )


def guest_steal(boot: RawBoot) -> list[float | None]:
    """Share of each slice's CPU time that a hypervisor took; None where not recorded."""
    ticks = boot.ran.counters["steal_ticks"]
    vcpus = boot.vcpus
    return [
        None
        if stolen is None or not vcpus or not wall_s or wall_s <= 0
        else stolen / USER_HZ / (vcpus * wall_s)
        for stolen, wall_s in zip(ticks, (one.wall_s for one in boot.ran.records), strict=True)
    ]


def slow_breach(relative: float, before: float, after: float, full: float, limit: float) -> Breach:
    """That the vCPUs were too slow around a sample.

    Args:
        relative: their speed, as a share of full speed.
        before: in millions of steps per second; NaN without a check.
        after: likewise.
        full: full speed, likewise.
        limit: of the share.
    """
    return Breach(
        "cpu-speed",
        relative,
        limit,
        f"the vCPUs did {_told(before)} million steps a second before the sample and "
        f"{_told(after)} after it, of {full:.0f}",
    )


class HostShares(NamedTuple):
    """The largest shares of CPU time that were taken from a boot, or from a slice of it.

    None where nothing was recorded.
    """

    other_cpu: float | None
    host_steal: float | None
    guest_steal: float | None


def host_shares(boot: RawBoot) -> HostShares:
    """What was taken from a boot; before there were slices, from the whole of it."""
    cpus = [boot.host_cpu, *(one.host_cpu for one in boot.ran.records)]
    return HostShares(
        highest(map(host_other_cpu, cpus)),
        highest(map(host_steal, cpus)),
        highest(guest_steal(boot)),
    )


def highest(values: Iterable[float | None]) -> float | None:
    """The largest of the values that are known; None without any."""
    return max((value for value in values if value is not None), default=None)


def _told(speed: float) -> str:
    return "an unknown number of" if math.isnan(speed) else f"{speed:.0f}"


def _stressor_breaches(boot: RawBoot, record: SampleRecord, *, is_last: bool) -> Iterator[Breach]:
    stressor = boot.boot.stressor if boot.boot else None
    if record.stressor_alive is False:
        yield Breach("stressor-dead", None, None, "the stressor was dead at the sample's end")
    elif stressor is None:
        return
    elif record.stressor_alive is None:
        yield Breach("stressor-dead", None, None, "nothing shows that the stressor was alive")
    elif is_last and boot.end is not None and boot.end.stressor_alive is False:
        # It died between its last check and the end: only the last sample is in doubt.
        yield Breach("stressor-dead", None, None, "the stressor was dead at the boot's end")


def boot_breaches(boot: RawBoot) -> Iterator[Breach]:
    """Rules that the boot as a whole breaks."""
    if not boot.failed:  # then the host says so, and why: that it is incomplete is no news
        yield from _completeness_breaches(boot)
    if boot.boot is not None:
        yield from _start_breaches(boot)
    yield from _console_breaches(boot)


def _completeness_breaches(boot: RawBoot) -> Iterator[Breach]:
    done, planned = len(boot.ran.records), boot.slices
    if boot.boot is None:
        yield Breach("incomplete-boot", done, planned, "the guest left no boot record")
    elif boot.end is None:
        yield Breach(
            "incomplete-boot", done, planned, f"no end record; {done} of {planned} slices were run"
        )
    elif boot.end.samples != (held := done + boot.others):
        yield Breach(
            "incomplete-boot",
            held,
            boot.end.samples,
            f"the end record counts {boot.end.samples} samples, the file holds {held}",
        )


def _start_breaches(boot: RawBoot) -> Iterator[Breach]:
    assert boot.boot is not None
    gate, check, stressor = boot.boot.gate, boot.boot.self_check, boot.boot.stressor
    if not gate.ok:
        yield Breach("gate", len(gate.failures), 0, one_line("; ".join(gate.failures)))
    elif boot.end is not None and not boot.end.ok:
        why = boot.end.error or "no reason was recorded"
        yield Breach("gate", 1, 0, one_line(f"the guest did not stay as it was asked for: {why}"))
    if check is None:
        # A driver that stops at the gate, or a boot that failed, has no self-check to show.
        if gate.ok and not boot.failed:
            yield Breach("self-check", None, None, "the self-check was not run")
    elif not check.ok or check.payload_errors:
        why = check.error or "the self-check found payload errors"
        yield Breach("self-check", check.payload_errors, 0, one_line(why))
    if stressor is not None and not stressor.settled:
        yield Breach(
            "stressor-not-settled",
            stressor.settle_s,
            None,
            one_line(
                f"{stressor.name} did not settle before the sweep: "
                f"{stressor.error or 'no reason was recorded'}"
            ),
        )


def _console_breaches(boot: RawBoot) -> Iterator[Breach]:
    found = boot.splats or ()
    kills = [splat for splat in found if splat.pattern == OOM_KILL]
    invoked = [splat for splat in found if splat.pattern == OOM_INVOKED]
    splats = [splat for splat in found if splat.pattern not in (OOM_KILL, OOM_INVOKED)]
    if splats:
        yield Breach(
            "kernel-splat",
            len(splats),
            0,
            f"console line {splats[0].line_number}: {splats[0].pattern}: {splats[0].text}",
        )
    if kills or invoked:
        first = (kills or invoked)[0]
        # The kernel limits how often it prints either line; the more frequent one is nearer.
        yield Breach(
            "oom-kill",
            max(len(kills), len(invoked)),
            0,
            f"console line {first.line_number}: {first.text}",
        )


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
