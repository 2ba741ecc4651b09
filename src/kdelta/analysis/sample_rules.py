# SPDX-License-Identifier: GPL-2.0-only
"""Validity rules on one sample."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.breach import Breach, one_line
from kdelta.analysis.levels import wrong_level
from kdelta.analysis.records import Bench, SampleRecord
from kdelta.analysis.samples import counter_difference, identity_error, steal_ticks
from kdelta.analysis.settings import Limits
from kdelta.analysis.speed import SampleSpeed

USER_HZ = 100
"""Ticks per second of the times in /proc/stat: the kernel's ABI on every architecture but alpha."""


def sample_breaches(
    boot: RawBoot,
    record: SampleRecord,
    *,
    is_last: bool,
    limits: Limits,
    speed: SampleSpeed | None = None,
) -> Iterator[Breach]:
    """Rules that one sample breaks.

    Args:
        boot: the boot that ran it.
        record: the sample.
        is_last: no other sample of the boot ran after it.
        limits: of the rules.
        speed: what the vCPUs were worth around it; None without a check.
    """
    if record.status != "ok" or record.exit_status not in (0, None) or record.bench is None:
        why = record.error or "no result was recorded"
        yield Breach("failed", record.exit_status, 0, one_line(why))
    if record.bench is not None:
        wrong = wrong_level(record.bench, record.cell)
        if wrong is not None:
            yield Breach("cell", None, None, wrong)
        yield from _bytes_breaches(record.bench)
        yield from _identity_breaches(record.bench, limits)
    yield from _clock_breaches(record, limits)
    yield from _steal_breaches(boot, record, limits)
    if speed is not None and speed.relative < limits.cpu_speed:
        yield Breach(
            "cpu-speed",
            speed.relative,
            limits.cpu_speed,
            f"the vCPUs did {_told(speed.before)} million steps a second before the sample "
            f"and {_told(speed.after)} after it, of {speed.full:.0f}",
        )
    yield from _stressor_breaches(boot, record, is_last)
    kills = counter_difference(record.before, record.after, "oom_kill")
    if kills:
        yield Breach("oom-kill", kills, 0, "the OOM killer ran during the sample")


def _bytes_breaches(bench: Bench) -> Iterator[Breach]:
    lost = bench.bytes_written_total - bench.bytes_read_total
    uncounted = bench.bytes_written - bench.writes * bench.write_size
    if bench.writes == 0:
        yield Breach("bytes", 0, 1, "no write was measured")
    elif lost:
        yield Breach("bytes", lost, 0, "bytes written and never read, over the pipe's life")
    elif uncounted:
        yield Breach("bytes", uncounted, 0, "bytes written differ from writes x write size")
    elif bench.payload_errors:
        yield Breach("bytes", bench.payload_errors, 0, "payload errors")


def _identity_breaches(bench: Bench, limits: Limits) -> Iterator[Breach]:
    error = identity_error(bench)
    if math.isnan(error):
        yield Breach(
            "closed-loop-identity",
            None,
            limits.identity_error,
            "throughput or mean latency is not positive",
        )
        return
    # What the difference comes to between two writes of a writer: its loop's own time, if
    # the sample is sound. Taken from the throughput that the deltas use, and not from
    # writes and elapsed time, so that a throughput that is wrong cannot be explained away.
    # Writers with O_NONBLOCK are no exception: the latency of a write lasts until its last
    # byte is in the pipe, time in poll() included.
    gap_ns = error * bench.write_latency_ns.mean
    if abs(error) > limits.identity_error and not 0 <= gap_ns <= limits.identity_overhead_ns:
        yield Breach(
            "closed-loop-identity",
            error,
            limits.identity_error,
            "writers x write size / mean latency disagrees with the throughput, "
            f"by {gap_ns:.0f} ns per write",
        )


def _clock_breaches(record: SampleRecord, limits: Limits) -> Iterator[Breach]:
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
    excess_ms = (record.bench.elapsed_s - wall_s) * 1e3 if record.bench else 0.0
    if excess_ms > limits.clock_jump_ms:
        yield Breach(
            "clock-jump",
            excess_ms,
            limits.clock_jump_ms,
            "the workload's own time is longer than the sample",
        )


def _steal_breaches(boot: RawBoot, record: SampleRecord, limits: Limits) -> Iterator[Breach]:
    share = guest_steal(boot, record)
    if share is not None and share > limits.steal:
        stolen_s = (steal_ticks(record.before, record.after) or 0) / USER_HZ
        yield Breach(
            "guest-steal",
            share,
            limits.steal,
            f"{stolen_s:.2f} s stolen from {boot.vcpus} vCPUs within {record.wall_s:.2f} s",
        )


def guest_steal(boot: RawBoot, record: SampleRecord) -> float | None:
    """Share of a sample's CPU time that a hypervisor took; None if not recorded."""
    ticks, wall_s = steal_ticks(record.before, record.after), record.wall_s
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
