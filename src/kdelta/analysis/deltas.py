# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables from samples: ratios within blocks, effects over blocks.

The control arm is an arm like any other here: nothing below knows its name.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdelta.analysis.boots import RawBoot, cell_key
from kdelta.analysis.effects import cell_effects, effect_columns, overall_effect
from kdelta.analysis.nodes import Nodes, Place
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings, Metric
from kdelta.analysis.speed import at_equal_speed
from kdelta.analysis.tables import frame_of
from kdelta.schema import BY_PATH

PlannedPairs = Mapping[tuple[str, str, Cell], int]
"""(regime, arm, cell) -> number of blocks in which arm and baseline were to run the cell."""

Apart = Mapping[Place, Nodes]
"""(regime, arm) -> the nodes of its blocks, where effects differ between nodes."""

_Pairs = dict[int, tuple[float, float]]  # block -> baseline's value and the ratio


def ratios_frame(
    samples: pd.DataFrame, settings: AnalysisSettings, *, include_set_aside: bool = False
) -> pd.DataFrame:
    """Every block's ratio arm/baseline at equal CPU speed: columns of tables/ratios.csv.

    In each round an arm's slice is compared with the baseline's of the same cell, which ran
    within seconds of it; a block's ratio is the geometric mean over its rounds. A block that has
    lost more than half of its rounds in a cell has no ratio there.

    Args:
        samples: as `samples_frame` makes it. A pair counts only if both its slices
            are valid and both values positive. Without the column of the speed, or
            where it did not run, a ratio is what was measured.
        settings: names and order of factors, arms, regimes and metrics.
        include_set_aside: take slices that break a rule too, wherever they hold a number.
    """
    factors = list(settings.factors)
    place = ["regime", "block", "arm", *factors, "metric"]
    sides = _beside_baseline(samples, settings, include_set_aside=include_set_aside)
    measured = ["baseline", "value", "speed_ratio", "ratio"]
    tables = []
    for metric in settings.metrics:  # one after another: all of a million slices fill the memory
        pairs = _of_metric(sides, metric.name, settings)
        pairs[measured] = np.log(pairs[measured].to_numpy(dtype=float))
        grouped = pairs.groupby(place, sort=False)
        means = grouped[measured].mean().apply(np.exp)
        tables.append(means.assign(rounds=grouped.size()).reset_index())
    ratios = pd.concat(tables, ignore_index=True)
    planned = samples.groupby("regime")["round"].max()
    ratios = ratios[2 * ratios["rounds"] >= ratios["regime"].map(planned)]
    numbers, cells = _cells(ratios, settings)
    ranks = np.argsort(sorted(range(len(cells)), key=lambda number: cell_key(cells[number])))
    order = [
        _places(ratios["regime"], settings.regimes),
        ratios["block"].to_numpy(),
        _places(ratios["arm"], settings.arms),
        ranks[numbers],
        _places(ratios["metric"], [metric.name for metric in settings.metrics]),
    ]
    ratios = ratios.iloc[np.lexsort(order[::-1])]
    blocks = ["regime", "block"]
    nodes = samples.reindex(columns=[*blocks, "node"]).drop_duplicates(blocks)
    found = ratios[[*place, *measured, "rounds"]].merge(nodes, on=blocks, how="left")
    return found.astype(BY_PATH["tables/ratios.csv"].dtypes)


def slice_ratios(
    samples: pd.DataFrame, settings: AnalysisSettings, *, include_set_aside: bool = False
) -> pd.DataFrame:
    """Slices beside the baseline's of the same cell and round: one row per pair and metric.

    Columns: regime, block, factors, round, arm, metric, baseline, value, speed_ratio, and ratio,
    at equal CPU speed. Arguments as for `ratios_frame`.
    """
    sides = _beside_baseline(samples, settings, include_set_aside=include_set_aside)
    tables = [_of_metric(sides, metric.name, settings) for metric in settings.metrics]
    return pd.concat(tables, ignore_index=True)


def _beside_baseline(
    samples: pd.DataFrame, settings: AnalysisSettings, *, include_set_aside: bool
) -> pd.DataFrame:
    """Slices with what the baseline's of the same cell and round has, in columns `... base`."""
    place = ["regime", "block", *settings.factors, "round"]
    names = [metric.name for metric in settings.metrics]
    # Of full speed, which is the same for both slices of a pair.
    taken = samples.reindex(columns=[*place, "arm", *names, "relative_speed"])
    taken = taken[samples["valid"] | include_set_aside]
    ours = taken["arm"] == settings.baseline
    return taken[~ours].merge(taken[ours].drop(columns="arm"), on=place, suffixes=("", " base"))


def _of_metric(sides: pd.DataFrame, name: str, settings: AnalysisSettings) -> pd.DataFrame:
    """Pairs of one metric, of which both values are positive, with their ratios."""
    found = sides[["regime", "block", *settings.factors, "round", "arm"]].assign(
        metric=name,
        baseline=sides[f"{name} base"].astype(float),
        value=sides[name].astype(float),
        speed_ratio=(sides["relative_speed"] / sides["relative_speed base"]).astype(float),
    )
    found = found[(found["baseline"] > 0) & (found["value"] > 0)].reset_index(drop=True)
    return at_equal_speed(found, settings.factors)


def planned_pairs(boots: Iterable[RawBoot], settings: AnalysisSettings) -> PlannedPairs:
    """In how many blocks each pair was to be measured, whatever became of it.

    What the settings plan counts where it is more than the boots say: an arm, a block or a
    regime of which not even a folder is left was planned all the same.

    Args:
        boots: every boot that a block planned, run or not.
        settings: arms, regimes, blocks and cells.
    """
    planned = {(boot.regime, boot.block, boot.arm): frozenset(boot.planned) for boot in boots}
    counts: Counter[tuple[str, str, Cell]] = Counter()
    for (regime, block, arm), cells in planned.items():
        if arm != settings.baseline:
            both = cells & planned.get((regime, block, settings.baseline), frozenset())
            counts.update((regime, arm, cell) for cell in both)
    for regime in settings.regimes:
        last = max((block for name, block, _ in planned if name == regime), default=0)
        blocks = last if settings.blocks is None else settings.blocks
        for arm, cell in itertools.product(settings.compared_arms, settings.cells or ()):
            counts[regime, arm, cell] = max(counts[regime, arm, cell], blocks)
    return counts


def deltas_frame(
    ratios: pd.DataFrame,
    cells: Mapping[str, Sequence[Cell]],
    settings: AnalysisSettings,
    *,
    planned: PlannedPairs | None = None,
    apart: Apart | None = None,
) -> pd.DataFrame:
    """The effect of every arm in every cell: columns of tables/deltas.csv.

    The cells of one arm and metric are one family of tests, over all regimes.

    Args:
        ratios: as `ratios_frame` makes it.
        cells: regime -> its planned cells. A cell without any pair gets a row that
            says so (blocks 0), and keeps its place in the family.
        settings: names and order, confidence and margin.
        planned: (regime, arm, cell) -> pairs planned; those that `ratios` lacks count as
            set aside. None: the ratios are all that was planned.
        apart: where effects differ between nodes; None: nowhere.
    """
    pairs = _pairs(ratios, settings)
    rows: list[dict[str, object]] = []
    for arm, metric in _families(settings):
        places = [
            (regime, cell)
            for regime in _regimes(cells, settings)
            for cell in sorted(cells[regime], key=cell_key)
        ]
        found = [pairs.get((regime, arm, metric.name, cell), {}) for regime, cell in places]
        wanted = [
            _planned(planned, (regime, arm, cell), len(found_pairs))
            for (regime, cell), found_pairs in zip(places, found, strict=True)
        ]
        effects = cell_effects(
            [_logs(one) for one in found],
            wanted,
            metric.direction,
            settings,
            apart=[apart.get((regime, arm)) for regime, _ in places] if apart else None,
        )
        for (regime, cell), found_pairs, pairs_planned, effect in zip(
            places, found, wanted, effects, strict=True
        ):
            baseline = _geometric_mean([pair[0] for pair in found_pairs.values()])
            rows.append(
                {
                    **_family_columns(regime, arm, metric),
                    **dict(zip(settings.factors, cell, strict=True)),
                    "blocks": len(found_pairs),
                    "set_aside": pairs_planned - len(found_pairs),
                    "baseline": baseline,
                    # Not a mean of its own: value / baseline is the ratio, to the last digit.
                    "value": baseline * effect.estimate.ratio,
                    **effect_columns(effect, settings.confidence),
                }
            )
    rows.sort(key=lambda row: settings.regimes.index(str(row["regime"])))  # stable
    return frame_of("tables/deltas.csv", rows, settings.factors)


def overall_frame(
    ratios: pd.DataFrame,
    cells: Mapping[str, Sequence[Cell]],
    settings: AnalysisSettings,
    *,
    planned: PlannedPairs | None = None,
    apart: Apart | None = None,
) -> pd.DataFrame:
    """The effect of every arm in a whole regime: columns of tables/overall.csv.

    The geometric mean over cells of each cell's effect, so that a lost pair moves it by no
    more than its cell; the interval is `over_cells`'. A row is a family of its own, so
    p_holm = p_value.

    Args:
        ratios: as `ratios_frame` makes it.
        cells: regime -> its planned cells.
        settings: names and order, confidence and margin.
        planned: as for `deltas_frame`.
        apart: likewise.
    """
    pairs = _pairs(ratios, settings)
    rows: list[dict[str, object]] = []
    for regime in _regimes(cells, settings):
        for arm, metric in _families(settings):
            logs: list[dict[int, float]] = []
            wanted: list[int] = []
            used: list[int] = []
            for cell in sorted(cells[regime], key=cell_key):
                found = pairs.get((regime, arm, metric.name, cell), {})
                used.append(len(found))
                wanted.append(_planned(planned, (regime, arm, cell), len(found)))
                logs.append(_logs(found))
            here = apart.get((regime, arm)) if apart else None
            effect = overall_effect(logs, wanted, metric.direction, settings, apart=here)
            blocks = effect.estimate.blocks
            rows.append(
                {
                    **_family_columns(regime, arm, metric),
                    "cells": sum(map(bool, used)),
                    "blocks": blocks,
                    # Every block plans every cell, so any cell says how many blocks there are.
                    "set_aside": max(0, max(wanted, default=0) - blocks),
                    **effect_columns(effect, settings.confidence),
                }
            )
    return frame_of("tables/overall.csv", rows)


def _places(values: pd.Series, known: Sequence[str]) -> NDArray[np.int64]:
    """At which place of what is known each value stands."""
    return pd.Index(known).get_indexer(pd.Index(values)).astype(np.int64)


def _planned(planned: PlannedPairs | None, key: tuple[str, str, Cell], used: int) -> int:
    return used if planned is None else max(used, planned.get(key, 0))


def _regimes(cells: Mapping[str, Sequence[Cell]], settings: AnalysisSettings) -> list[str]:
    return [regime for regime in settings.regimes if regime in cells]


def _families(settings: AnalysisSettings) -> list[tuple[str, Metric]]:
    return [(arm, metric) for arm in settings.compared_arms for metric in settings.metrics]


def _family_columns(regime: str, arm: str, metric: Metric) -> dict[str, object]:
    return {
        "regime": regime,
        "arm": arm,
        "metric": metric.name,
        "unit": metric.unit,
        "direction": metric.direction,
    }


def _pairs(
    ratios: pd.DataFrame, settings: AnalysisSettings
) -> dict[tuple[str, str, str, Cell], _Pairs]:
    pairs: dict[tuple[str, str, str, Cell], _Pairs] = {}
    numbers, cells = _cells(ratios, settings)
    names = ("regime", "arm", "metric", "block", "baseline", "ratio")
    columns = (ratios[name].to_numpy().tolist() for name in names)
    for number, regime, arm, metric, block, baseline, ratio in zip(
        numbers.tolist(), *columns, strict=True
    ):
        pairs.setdefault((regime, arm, metric, cells[number]), {})[block] = (baseline, ratio)
    return pairs


def _cells(frame: pd.DataFrame, settings: AnalysisSettings) -> tuple[NDArray[np.int64], list[Cell]]:
    """The cell of each row, numbered, and the levels of each cell."""
    factors = list(settings.factors)
    numbers = np.asarray(frame.groupby(factors, sort=False).ngroup(), dtype=np.int64)
    _, first = np.unique(numbers, return_index=True)
    levels = (frame[factor].to_numpy()[first].tolist() for factor in factors)
    return numbers, list(zip(*levels, strict=True))


def _logs(pairs: _Pairs) -> dict[int, float]:
    return {block: math.log(ratio) for block, (_, ratio) in pairs.items()}


def _geometric_mean(values: list[float]) -> float:
    return math.exp(np.log(values).mean()) if values else math.nan
