# SPDX-License-Identifier: GPL-2.0-only
"""samples.csv: one row per sample, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdelta.analysis.boots import RawBoot, RawSample, cell_key
from kdelta.analysis.records import Cell, Counters, Gate, Level
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import SampleSpeed, sample_speeds
from kdelta.analysis.tables import frame_of

SampleKey = tuple[str, int, str, Cell, int]
"""Regime, block, arm, cell, round: what identifies a slice."""

_TYPES = {"integer": "Int64", "number": "float64", "text": "str", "flag": "boolean"}


def fixed_parameters(settings: AnalysisSettings) -> dict[str, Level]:
    """Parameters that are the same in every cell, with their values, as far as they are known."""
    found: dict[str, Level] = {}
    for name, parameter in settings.workload.parameters.items():
        value = settings.arguments.get(name, parameter.default)
        if name not in settings.factors and value is not None:
            size = parameter.meaning(value) if parameter.type == "size" else None
            found[name] = size if isinstance(size, int) else value
    return found


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
    fixed = fixed_parameters(settings)
    rows = []
    for boot, sample in samples_in_order(boots, settings):
        key = (boot.regime, boot.block, boot.arm, *sample.place)
        rows.append(
            {
                **fixed,
                **sample.values,
                **_counter_columns(sample.record.before, sample.record.after),
                **_speed_columns(speeds.get(key)),
                **_boot_columns(boot, sample),
                **dict(zip(settings.factors, sample.cell, strict=True)),
                "valid": key not in broken,
            }
        )
    recorded = settings.workload.recorded
    return frame_of(
        "samples.csv",
        rows,
        settings.factors,
        parameters=tuple(fixed),
        values={name: _TYPES[value.type] for name, value in recorded.items()},
    )


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
