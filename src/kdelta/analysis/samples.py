# SPDX-License-Identifier: GPL-2.0-only
"""samples.csv: one row per sample, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdelta.analysis.boots import RawBoot, RawSample, cell_key
from kdelta.analysis.records import Cell, Gate, SampleRecord
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import speeds_of
from kdelta.analysis.tables import frame_of
from kdelta.workload.parameters import Level

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


def samples_of(
    run: Sequence[tuple[RawBoot, RawSample]],
    broken: frozenset[SampleKey],
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """One row per sample that was run, in the order given; without its relative speed.

    Args:
        run: samples with their boots.
        broken: samples that break a validity rule; they get valid=false.
        settings: names of the factors, and the workload.
    """
    fixed = fixed_parameters(settings)
    speeds = speeds_of([sample.record.speed for _, sample in run]).tolist()
    columns: dict[str, dict[str, object]] = {}
    rows = []
    for (boot, sample), (before, after) in zip(run, speeds, strict=True):
        if boot.name not in columns:
            columns[boot.name] = _boot_columns(boot)
        key = (boot.regime, boot.block, boot.arm, *sample.place)
        rows.append(
            {
                **fixed,
                **sample.values,
                **sample.counters,
                "speed_before": before,
                "speed_after": after,
                **columns[boot.name],
                **_slice_columns(sample.record),
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


def _boot_columns(boot: RawBoot) -> dict[str, object]:
    gate = boot.boot.gate if boot.boot else None
    kib = gate.memory_total_kib if gate else None
    return {
        "regime": boot.regime,
        "block": boot.block,
        "arm": boot.arm,
        "boot_order": boot.boot_order,
        "node": boot.node,
        "acceleration": gate.acceleration if gate else None,
        "vcpus": gate.vcpus if gate else None,
        "memory_mib": None if kib is None else round(kib / 1024),
        "memcg": _memcg(gate),
    }


def _slice_columns(record: SampleRecord) -> dict[str, object]:
    return {
        "round": record.round,
        "slot": record.slot,
        "cell_order": record.cell_order,
        "status": record.status,
        "stressor_alive": record.stressor_alive,
    }


def _memcg(gate: Gate | None) -> bool | None:
    """Whether the boot had a memory cgroup beside the root; None if nothing says so."""
    if gate is None:
        return None
    if gate.memcg is None and gate.memory_cgroups is not None:
        return gate.memory_cgroups > 1
    return gate.memcg
