# SPDX-License-Identifier: GPL-2.0-only
"""The validity rules: on a sample, on its boot, and on the host meanwhile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kdelta import plain
from kdelta.analysis.boots import Floats, RawBoot
from kdelta.analysis.console import OOM_INVOKED, OOM_KILL
from kdelta.analysis.records import HostCpu
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
    found: dict[int, list[Breach]] = {}
    for number, breach in itertools.chain(
        _output_breaches(boot, settings),
        _clock_breaches(boot, settings.limits),
        _steal_breaches(boot, settings.limits),
        _stressor_breaches(boot),
        _kill_breaches(boot),
    ):
        found.setdefault(number, []).append(breach)
    return found


def _output_breaches(boot: RawBoot, settings: AnalysisSettings) -> Iterator[tuple[int, Breach]]:
    """Slices that failed, were not understood or ran something else, or break a check."""
    ran, workload = boot.ran, settings.workload
    for number, record in enumerate(ran.records):
        if record.status != "ok" or record.exit_status not in (0, None) or number in ran.misread:
            why = record.error or ran.misread.get(number) or "no result was recorded"
            yield number, Breach("failed", record.exit_status, 0, one_line(why))
    for number, value in enumerate(ran.values[settings.primary]):
        if not (value and value > 0) and number not in ran.misread:
            for why in without_ratio(workload, value):
                yield number, Breach("failed", 0, 0, why)
    for number, why in ran.strange.items():
        yield number, Breach("cell", None, None, why)
    checked = check_all(workload, ran.values, ran.given, settings.workload_limits)
    for number, broken in checked.items():
        if number not in ran.misread:
            yield from ((number, Breach(b.rule, b.value, b.limit, b.detail)) for b in broken)


def _clock_breaches(boot: RawBoot, limits: Limits) -> Iterator[tuple[int, Breach]]:
    ran, limit = boot.ran, limits.clock_jump_ms
    realtime_ms = [
        math.nan
        if one.realtime_start_ns is None or one.realtime_end_ns is None
        else (one.realtime_end_ns - one.realtime_start_ns) / 1e6
        for one in ran.records
    ]
    jumps = np.array(realtime_ms, dtype=float) - ran.wall_s * 1e3
    # The workload's window lies within the sample, by the same clock. None are of misread output.
    elapsed_s = np.array(ran.values.get(ELAPSED, [None] * len(ran.records)), dtype=float)
    excesses = (elapsed_s - ran.wall_s) * 1e3
    jumped = np.abs(jumps) > limit
    for number in np.flatnonzero(jumped | (excesses > limit)).tolist():
        value, told = (
            (jumps[number], "real time advanced by another amount than monotonic time")
            if jumped[number]
            else (excesses[number], "the workload's own time is longer than the sample")
        )
        yield number, Breach("clock-jump", float(value), limit, told)


def _steal_breaches(boot: RawBoot, limits: Limits) -> Iterator[tuple[int, Breach]]:
    ran, shares = boot.ran, guest_steal(boot)
    for number in np.flatnonzero(shares > limits.steal).tolist():
        stolen_s = ran.counters["steal_ticks"][number] / USER_HZ
        wall_s = ran.wall_s[number]
        told = f"{stolen_s:.2f} s stolen from {boot.vcpus} vCPUs within {wall_s:.2f} s"
        yield number, Breach("guest-steal", float(shares[number]), limits.steal, told)


def _stressor_breaches(boot: RawBoot) -> Iterator[tuple[int, Breach]]:
    stressor = boot.boot.stressor if boot.boot else None
    records = boot.ran.records
    last = max((boot.last_order, *(one.cell_order for one in records)))
    died = boot.end is not None and boot.end.stressor_alive is False
    for number, record in enumerate(records):
        if record.stressor_alive is False:
            told = "the stressor was dead at the sample's end"
        elif stressor is None:
            continue
        elif record.stressor_alive is None:
            told = "nothing shows that the stressor was alive"
        elif died and record.cell_order == last:
            # It died between its last check and the end: only the last sample is in doubt.
            told = "the stressor was dead at the boot's end"
        else:
            continue
        yield number, Breach("stressor-dead", None, None, told)


def _kill_breaches(boot: RawBoot) -> Iterator[tuple[int, Breach]]:
    for number, kills in enumerate(boot.ran.counters["oom_kill"]):
        if kills:
            yield number, Breach("oom-kill", kills, 0, "the OOM killer ran during the sample")


def guest_steal(boot: RawBoot) -> Floats:
    """Share of each slice's CPU time that a hypervisor took; NaN where not recorded."""
    stolen = np.array(boot.ran.counters["steal_ticks"], dtype=float)
    wall_s = np.where(boot.ran.wall_s > 0, boot.ran.wall_s, np.nan)
    return np.asarray(stolen / USER_HZ / ((boot.vcpus or math.nan) * wall_s))


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
    taken = _taken([boot.host_cpu, *(one.host_cpu for one in boot.ran.records)])
    return HostShares(
        _largest(taken.other_cpu), _largest(taken.host_steal), _largest(guest_steal(boot))
    )


class _Taken(NamedTuple):
    """CPU seconds that the host had, and the shares of them that were taken; NaN: not recorded."""

    capacity_s: Floats
    other_cpu: Floats
    host_steal: Floats


def _taken(cpus: Iterable[HostCpu | None]) -> _Taken:
    """What others than kdelta's guest took of the host over some slices or boots."""
    rows = [
        (math.nan,) * 5 if c is None else (c.cpus, c.elapsed_s, c.busy_s, c.own_s, c.steal_s)
        for c in cpus
    ]
    number, elapsed_s, busy_s, own_s, steal_s = np.array(rows, dtype=float).T
    capacity_s = number * np.where(elapsed_s > 0, elapsed_s, np.nan)
    return _Taken(capacity_s, (busy_s - own_s) / capacity_s, steal_s / capacity_s)


def _largest(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else None


def highest(values: Iterable[float | None]) -> float | None:
    """The largest of the values that are known; None without any."""
    return max((value for value in values if value is not None), default=None)


def _told(speed: float) -> str:
    return "an unknown number of" if math.isnan(speed) else f"{speed:.0f}"


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
    capacity_s, other_cpu, steal = (float(value[0]) for value in _taken([boot.host_cpu]))
    for rule, share, limit, who in (
        ("host-steal", steal, limits.steal, "a hypervisor"),
        ("host-other-cpu", other_cpu, limits.host_other_cpu, "other programs"),
    ):
        if share > limit:
            took = f"{share * capacity_s:.1f} of {capacity_s:.1f}"
            yield Breach(rule, share, limit, f"{who} took {took} CPU seconds of the host")


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
