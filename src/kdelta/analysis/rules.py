# SPDX-License-Identifier: GPL-2.0-only
"""Validity rules on one sample."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kdelta.analysis.boots import RawBoot, RawSample
from kdelta.analysis.breach import Breach, one_line
from kdelta.analysis.records import SampleRecord
from kdelta.analysis.settings import AnalysisSettings, Limits
from kdelta.analysis.speed import SampleSpeed
from kdelta.workload.declaration import ELAPSED
from kdelta.workload.samples import broken_checks

USER_HZ = 100
"""Ticks per second of the times in /proc/stat: the kernel's ABI on every architecture but alpha."""


def sample_breaches(
    boot: RawBoot,
    sample: RawSample,
    *,
    is_last: bool,
    settings: AnalysisSettings,
    speed: SampleSpeed | None = None,
) -> Iterator[Breach]:
    """Rules that one sample breaks.

    Args:
        boot: the boot that ran it.
        sample: the sample.
        is_last: no other sample of the boot ran after it.
        settings: limits of the rules, and the workload with its checks.
        speed: what the vCPUs were worth around it; None without a check.
    """
    record, limits = sample.record, settings.limits
    if record.status != "ok" or record.exit_status not in (0, None) or not sample.values:
        why = record.error or sample.misread or "no result was recorded"
        yield Breach("failed", record.exit_status, 0, one_line(why))
    primary = settings.workload.primary
    if sample.values and not float(sample.values[primary] or 0) > 0:
        yield Breach("failed", 0, 0, f"{primary} is not above zero: it has no ratio to another")
    if sample.strange is not None:
        yield Breach("cell", None, None, sample.strange)
    if sample.values:
        given = {**settings.arguments, **record.cell}
        for broken in broken_checks(
            settings.workload, sample.values, given, settings.workload_limits
        ):
            yield Breach(broken.rule, broken.value, broken.limit, broken.detail)
    yield from _clock_breaches(sample, limits)
    yield from _steal_breaches(boot, sample, limits)
    if speed is not None and speed.relative < limits.cpu_speed:
        yield Breach(
            "cpu-speed",
            speed.relative,
            limits.cpu_speed,
            f"the vCPUs did {_told(speed.before)} million steps a second before the sample "
            f"and {_told(speed.after)} after it, of {speed.full:.0f}",
        )
    yield from _stressor_breaches(boot, record, is_last)
    kills = sample.counters.get("oom_kill")
    if kills:
        yield Breach("oom-kill", kills, 0, "the OOM killer ran during the sample")


def _clock_breaches(sample: RawSample, limits: Limits) -> Iterator[Breach]:
    record, wall_s = sample.record, sample.record.wall_s
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
    elapsed_s = sample.values.get(ELAPSED)
    excess_ms = 0.0 if elapsed_s is None else (elapsed_s - wall_s) * 1e3
    if excess_ms > limits.clock_jump_ms:
        yield Breach(
            "clock-jump",
            excess_ms,
            limits.clock_jump_ms,
            "the workload's own time is longer than the sample",
        )


def _steal_breaches(boot: RawBoot, sample: RawSample, limits: Limits) -> Iterator[Breach]:
    share = guest_steal(boot, sample)
    if share is not None and share > limits.steal:
        stolen_s = (sample.counters.get("steal_ticks") or 0) / USER_HZ
        yield Breach(
            "guest-steal",
            share,
            limits.steal,
            f"{stolen_s:.2f} s stolen from {boot.vcpus} vCPUs within {sample.record.wall_s:.2f} s",
        )


def guest_steal(boot: RawBoot, sample: RawSample) -> float | None:
    """Share of a sample's CPU time that a hypervisor took; None if not recorded."""
    ticks, wall_s = sample.counters.get("steal_ticks"), sample.record.wall_s
    if ticks is None or not boot.vcpus or wall_s is None or wall_s <= 0:
        return None
    return ticks / USER_HZ / (boot.vcpus * wall_s)


def _told(speed: float) -> str:
    return "an unknown number of" if math.isnan(speed) else f"{speed:.0f}"


def _stressor_breaches(boot: RawBoot, record: SampleRecord, is_last: bool) -> Iterator[Breach]:
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
