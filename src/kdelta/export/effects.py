# SPDX-License-Identifier: GPL-2.0-only
"""What one run says of one arm, ready to be laid beside another run's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kdelta.errors import KdeltaError
from kdelta.export.comparison import Effects, Place
from kdelta.export.run_folder import RunFolder
from kdelta.units import level_value

Labels = dict[Place, tuple[str, ...]]
"""Place -> the cell's levels as they are written, one per factor."""


def read_effects(
    run: RunFolder, arm: str, metric: str, factors: Sequence[str]
) -> tuple[Effects, Labels]:
    """The effects of an arm, from tables/deltas.csv and tables/ratios.csv.

    Args:
        run: the run.
        arm: one of its arms, not the baseline.
        metric: a column of samples.csv that has deltas.
        factors: that a cell is told by; those that this run's matrix has not are filled in
            from its workload's arguments, the same in every cell.

    Raises:
        KdeltaError: a table is missing or of another version.
    """
    deltas = _rows(run, "tables/deltas.csv", arm, metric, ("blocks", "set_aside", "verdict"))
    ratios = _rows(run, "tables/ratios.csv", arm, metric, ("block", "ratio"))
    places = _places(run, deltas, factors)
    blocks: dict[Place, dict[int, float]] = {place: {} for place in places}
    for place, block, ratio in zip(
        _places(run, ratios, factors), ratios["block"], ratios["ratio"], strict=True
    ):
        blocks.setdefault(place, {})[int(block)] = math.log(float(ratio))
    used = [int(a) + int(b) for a, b in zip(deltas["blocks"], deltas["set_aside"], strict=True)]
    spoilt = (deltas["verdict"] == "invalid").tolist()
    effects = Effects(
        blocks=blocks,
        planned=dict(zip(places, used, strict=True)),
        invalid=frozenset(p for p, bad in zip(places, spoilt, strict=True) if bad),
    )
    return effects, dict(zip(places, _labels(run, deltas, factors), strict=True))


def _rows(
    run: RunFolder, name: str, arm: str, metric: str, columns: tuple[str, ...]
) -> pd.DataFrame:
    frame = run.table(name)
    for column in ("regime", "arm", "metric", *run.factors, *columns):
        if column not in frame:
            raise KdeltaError(
                f"{run.path / name}: column {column} is missing; "
                "the file is from another version: run the analysis again"
            )
    return frame[(frame["arm"] == arm) & (frame["metric"] == metric)]


def _places(run: RunFolder, frame: pd.DataFrame, factors: Sequence[str]) -> list[Place]:
    cells = _labels(run, frame, factors)
    return [
        (regime, tuple(level_value(level) for level in cell))
        for regime, cell in zip(frame["regime"], cells, strict=True)
    ]


def _labels(run: RunFolder, frame: pd.DataFrame, factors: Sequence[str]) -> list[tuple[str, ...]]:
    columns = [
        frame[factor].tolist() if factor in run.factors else [_fixed(run, factor)] * len(frame)
        for factor in factors
    ]
    return list(zip(*columns, strict=True))


def _fixed(run: RunFolder, factor: str) -> str:
    """The level of a factor that this run does not vary."""
    parameter = run.workload.parameters.get(factor)
    default = parameter.default if parameter else None
    value = run.experiment.workload.arguments.get(factor, default)
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)
