# SPDX-License-Identifier: GPL-2.0-only
"""samples.csv: one row per sample, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.records import Cell, Gate
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import speeds_of
from kdelta.analysis.tables import frame_of_columns
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
    boots: Sequence[RawBoot], broken: frozenset[SampleKey], settings: AnalysisSettings
) -> pd.DataFrame:
    """One row per sample that was run, without its relative speed.

    Args:
        boots: in display order, as `boots_in_order` gives them.
        broken: samples that break a validity rule; they get valid=false.
        settings: names of the factors, and the workload.
    """
    fixed = fixed_parameters(settings)
    recorded = settings.workload.recorded
    columns: dict[str, list[Any]] = {}
    for boot in boots:
        ran, number = boot.ran, len(boot.ran.records)
        here = (boot.regime, boot.block, boot.arm)
        speeds = speeds_of([one.speed for one in ran.records])
        found: dict[str, Sequence[Any]] = {
            **{name: [value] * number for name, value in fixed.items()},
            **{name: ran.values.get(name, [None] * number) for name in recorded},
            **ran.counters,
            "speed_before": speeds[:, 0].tolist(),
            "speed_after": speeds[:, 1].tolist(),
            **{name: [value] * number for name, value in _boot_columns(boot).items()},
            **{name: [getattr(one, name) for one in ran.records] for name in _SLICE_COLUMNS},
            **dict(zip(settings.factors, zip(*ran.cells, strict=True), strict=bool(number))),
            "valid": [(*here, *place) not in broken for place in ran.places],
        }
        for name, column in found.items():
            columns.setdefault(name, []).extend(column)
    return frame_of_columns(
        "samples.csv",
        columns,
        settings.factors,
        parameters=tuple(fixed),
        values={name: _TYPES[value.type] for name, value in recorded.items()},
    )


_SLICE_COLUMNS = ("round", "slot", "cell_order", "status", "stressor_alive")
"""Of samples.csv, that are as the guest wrote them."""


def boots_in_order(boots: Iterable[RawBoot], settings: AnalysisSettings) -> list[RawBoot]:
    """The boots in display order: their slices are the rows of samples.csv."""
    places = settings.regimes.index, settings.arms.index
    return sorted(boots, key=lambda b: (places[0](b.regime), b.block, places[1](b.arm)))


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


def _memcg(gate: Gate | None) -> bool | None:
    """Whether the boot had a memory cgroup beside the root; None if nothing says so."""
    if gate is None:
        return None
    if gate.memcg is None and gate.memory_cgroups is not None:
        return gate.memory_cgroups > 1
    return gate.memcg
