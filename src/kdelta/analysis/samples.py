# SPDX-License-Identifier: GPL-2.0-only
"""samples.csv: one row per sample, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdelta.analysis.boots import BootKey, RawBoot
from kdelta.analysis.records import Cell, Gate
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import speeds_of
from kdelta.analysis.tables import Columns, arrays_of, order_of
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


def slice_columns(
    boots: Sequence[RawBoot], broken: Mapping[BootKey, set[tuple[Cell, int]]], s: AnalysisSettings
) -> Columns:
    """What of samples.csv differs between the slices of a boot: one value per slice that was run.

    The relative speed is not known yet.

    Args:
        boots: in display order, as `boots_in_order` gives them.
        broken: cell and round of the slices that break a validity rule; they get valid=false.
        s: names of the factors, and the workload.
    """
    recorded = s.workload.recorded
    columns: dict[str, list[Any]] = {}
    for boot in boots:
        ran, number = boot.ran, len(boot.ran.records)
        lost = broken.get(boot.key, set())
        speeds = speeds_of([one.speed for one in ran.records])
        found: dict[str, Sequence[Any]] = {
            **{name: ran.values.get(name, [None] * number) for name in recorded},
            **ran.counters,
            "speed_before": speeds[:, 0].tolist(),
            "speed_after": speeds[:, 1].tolist(),
            **{name: [getattr(one, name) for one in ran.records] for name in _SLICE_COLUMNS},
            **{name: [cell[n] for cell in ran.cells] for n, name in enumerate(s.factors)},
            "valid": [place not in lost for place in ran.places] if lost else [True] * number,
        }
        for name, column in found.items():
            columns.setdefault(name, []).extend(column)
    types = {name: _TYPES[value.type] for name, value in recorded.items()}
    return arrays_of("samples.csv", columns, values=types)


def samples_frame(
    slices: Sequence[Columns],
    boots: Sequence[RawBoot],
    rows: Sequence[int],
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """samples.csv: one row per slice, tidy.

    Args:
        slices: as `slice_columns` makes them, with the relative speeds. Their columns are taken
            out of them: a million rows are kept once.
        boots: all of these slices', in the order of the rows.
        rows: how many of them each boot has.
        settings: names of the factors, and the workload.
    """
    fixed = fixed_parameters(settings)
    place = np.repeat(np.arange(len(boots)), rows)
    of_boots = [{**fixed, **_boot_columns(boot)} for boot in boots]
    constants = arrays_of(
        "samples.csv",
        {name: [one[name] for one in of_boots] for name in of_boots[0]},
        values={},
    )
    columns: dict[str, Any] = {name: column.take(place) for name, column in constants.items()}
    for name in [*slices[0]]:
        parts = [part.pop(name) for part in slices]
        series = [pd.Series(part, copy=False) for part in parts]
        columns[name] = pd.concat(series, ignore_index=True).array
    order = order_of(
        "samples.csv",
        factors=settings.factors,
        parameters=[*fixed],
        values=[*settings.workload.recorded],
    )
    return pd.DataFrame({name: columns[name] for name in order}, copy=False)


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
