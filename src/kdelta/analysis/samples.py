# SPDX-License-Identifier: GPL-2.0-only
"""samples.csv: one row per sample, tidy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from kdelta.analysis.boots import RawBoot, RawSample, cell_key
from kdelta.analysis.columns import SAMPLE_DTYPES
from kdelta.analysis.records import Bench, Cell, Counters, Gate
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import SampleSpeed, sample_speeds

SampleKey = tuple[str, int, str, Cell, int]
"""Regime, block, arm, cell, round: what identifies a slice."""

_IDENTITY = ("regime", "block", "arm", "variant", "boot_order", "round", "slot", "cell_order")


def sample_columns(settings: AnalysisSettings) -> list[str]:
    """Columns of samples.csv in order; a factor takes the place of its namesake."""
    rest = [
        name for name in SAMPLE_DTYPES if name not in _IDENTITY and name not in settings.factors
    ]
    return [*_IDENTITY, *settings.factors, *rest]


def samples_frame(
    boots: Sequence[RawBoot], broken: frozenset[SampleKey], settings: AnalysisSettings
) -> pd.DataFrame:
    """One row per sample that was run, in display order.

    Args:
        boots: what the raw folder holds.
        broken: samples that break a validity rule; they get valid=false.
        settings: names and order of the factors, arms and regimes.
    """
    speeds = sample_speeds(boots)
    rows = []
    for boot, sample in samples_in_order(boots, settings):
        key = (boot.regime, boot.block, boot.arm, *sample.place)
        rows.append(
            {
                **_bench_columns(sample.record.bench),
                **_counter_columns(sample.record.before, sample.record.after),
                **_speed_columns(speeds.get(key)),
                **_boot_columns(boot, sample),
                **dict(zip(settings.factors, sample.cell, strict=True)),
                "valid": key not in broken,
            }
        )
    frame = pd.DataFrame(rows, columns=sample_columns(settings))
    return frame.astype({k: v for k, v in SAMPLE_DTYPES.items() if k not in settings.factors})


def samples_in_order(
    boots: Iterable[RawBoot], settings: AnalysisSettings
) -> list[tuple[RawBoot, RawSample]]:
    """Every sample that was run, with its boot, in display order: the rows of samples.csv."""
    return [
        (boot, sample)
        for boot in sorted(
            boots,
            key=lambda b: (settings.regimes.index(b.regime), b.block, settings.arms.index(b.arm)),
        )
        for sample in sorted(boot.samples, key=lambda s: (cell_key(s.cell), s.record.round))
    ]


def identity_error(bench: Bench) -> float:
    """How far a sample is off the closed loop's identity; 0 is exact.

    Every writer has one write in flight at any time, so by Little's law
    throughput = writers x write size / mean latency. Returns that rate over the
    reported throughput, minus 1; NaN where throughput or latency is not positive.
    """
    mean_s = bench.write_latency_ns.mean * 1e-9
    if mean_s <= 0 or bench.throughput_mib_s <= 0:
        return math.nan
    rate_mib_s = bench.writers * bench.write_size / mean_s / 2**20
    return rate_mib_s / bench.throughput_mib_s - 1


def counter_difference(before: Counters | None, after: Counters | None, name: str) -> int | None:
    """Growth of one /proc/vmstat counter over a sample; None if not recorded twice."""
    if before is None or after is None:
        return None
    return _grown(before.vmstat, after.vmstat, name)


def steal_ticks(before: Counters | None, after: Counters | None) -> int | None:
    """Ticks that a hypervisor took from all vCPUs over a sample; None if not recorded twice."""
    if before is None or after is None:
        return None
    return _grown(before.stat, after.stat, "steal")


def _grown(before: dict[str, int] | None, after: dict[str, int] | None, name: str) -> int | None:
    if before is None or after is None or name not in before or name not in after:
        return None
    return after[name] - before[name]


def _boot_columns(boot: RawBoot, sample: RawSample) -> dict[str, object]:
    gate = boot.boot.gate if boot.boot else None
    kib = gate.memory_total_kib if gate else None
    return {
        "regime": boot.regime,
        "block": boot.block,
        "arm": boot.arm,
        "variant": boot.variant,
        "boot_order": boot.boot_order,
        "round": sample.record.round,
        "slot": sample.record.slot,
        "cell_order": sample.record.cell_order,
        "acceleration": gate.acceleration if gate else None,
        "vcpus": gate.vcpus if gate else None,
        "memory_mib": None if kib is None else round(kib / 1024),
        "memcg": _memcg(gate),
        "status": sample.record.status,
        "stressor_alive": sample.record.stressor_alive,
    }


def _memcg(gate: Gate | None) -> bool | None:
    """Whether the boot had a memory cgroup beside the root; None if nothing says so."""
    if gate is None:
        return None
    if gate.memcg is None and gate.memory_cgroups is not None:
        return gate.memory_cgroups > 1
    return gate.memcg


def _bench_columns(bench: Bench | None) -> dict[str, object]:
    if bench is None:
        return {}
    latency = bench.write_latency_ns
    return {
        "write_size": bench.write_size,
        "pipe_size": bench.pipe_size,
        "mode": bench.mode,
        "nonblock": bench.nonblock,
        "duration_requested_s": bench.duration_requested_s,
        "elapsed_s": bench.elapsed_s,
        "writes": bench.writes,
        "bytes_written": bench.bytes_written,
        "throughput_mib_s": bench.throughput_mib_s,
        "latency_mean_ns": latency.mean,
        "latency_p50_ns": latency.p50,
        "latency_p90_ns": latency.p90,
        "latency_p99_ns": latency.p99,
        "latency_p99_9_ns": latency.p99_9,
        "latency_max_ns": latency.max,
        "identity_error": identity_error(bench),
        "voluntary_switches": bench.context_switches.voluntary,
        "involuntary_switches": bench.context_switches.involuntary,
        "user_s": bench.cpu_s.user,
        "system_s": bench.cpu_s.system,
        "eagain": bench.eagain,
        "short_writes": bench.short_writes,
    }


def _speed_columns(speed: SampleSpeed | None) -> dict[str, object]:
    if speed is None:
        return {}
    return {
        "speed_before": speed.before,
        "speed_after": speed.after,
        "relative_speed": speed.relative,
    }


def _counter_columns(before: Counters | None, after: Counters | None) -> dict[str, object]:
    if before is None or after is None:
        return {}
    columns: dict[str, object] = {
        name: counter_difference(before, after, name)
        for name in (
            "pgscan_direct",
            "pgsteal_direct",
            "pgscan_kswapd",
            "oom_kill",
            "pswpin",
            "pswpout",
        )
    }
    # One counter per zone; which zones exist depends on the kernel.
    stalls = [
        grown
        for name in after.vmstat
        if name.startswith("allocstall")
        and (grown := counter_difference(before, after, name)) is not None
    ]
    columns["allocstall"] = sum(stalls) if stalls else None
    for resource, kind in (("memory", "some"), ("memory", "full"), ("cpu", "some")):
        columns[f"psi_{resource}_{kind}_us"] = _grown(
            before.psi.get(resource), after.psi.get(resource), kind
        )
    columns["steal_ticks"] = steal_ticks(before, after)
    return columns
