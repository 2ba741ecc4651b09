# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables from samples: ratios within blocks, effects over blocks.

The control arm is an arm like any other here: nothing below knows its name.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdelta.analysis.boots import RawBoot, cell_key
from kdelta.analysis.effects import cell_effects, effect_columns, overall_effect
from kdelta.analysis.nodes import Nodes, Place
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings, Metric
from kdelta.analysis.speed import at_equal_speed
from kdelta.analysis.tables import frame_of, numbered
from kdelta.schema import BY_PATH

PlannedPairs = Mapping[tuple[str, str, Cell], int]
"""(regime, arm, cell) -> number of blocks in which arm and baseline were to run the cell."""

Apart = Mapping[Place, Nodes]
"""(regime, arm) -> the nodes of its blocks, where effects differ between nodes."""


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one cell, arm and metric.

    Attributes:
        logs: block -> logarithm of the ratio.
        baseline: geometric mean of the baseline's values; NaN without any pair.
    """

    logs: dict[int, float] = field(default_factory=dict)
    baseline: float = math.nan


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
    numbers, first = numbered(sides, place[:-1])
    heads = sides[place[:-1]].iloc[first].reset_index(drop=True)
    measured = ["baseline", "value", "speed_ratio", "ratio"]
    tables = []
    for metric, used, columns in _by_metric(sides, settings):
        here = numbers[used]
        rounds = np.bincount(here, minlength=len(first))
        means = {name: _means(np.log(columns[name]), here, len(first)) for name in measured}
        table = heads.assign(metric=metric, rounds=rounds, **means)
        tables.append(table[rounds > 0])
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
    place = ["regime", "block", *settings.factors, "round", "arm"]
    tables = [
        sides.loc[used, place].assign(metric=metric, **columns)
        for metric, used, columns in _by_metric(sides, settings)
    ]
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


def _by_metric(
    sides: pd.DataFrame, settings: AnalysisSettings
) -> Iterator[tuple[str, NDArray[np.bool_], dict[str, NDArray[np.float64]]]]:
    """Metric, its pairs of which both values are positive, and these values with their ratios."""
    regimes, _ = numbered(sides, ["regime"])
    cells, _ = numbered(sides, ["arm", *settings.factors])
    blocks = sides["block"].to_numpy()
    speeds = (sides["relative_speed"] / sides["relative_speed base"]).to_numpy(dtype=float)
    for metric in settings.metrics:  # one after another: all of a million slices fill the memory
        baseline, value = (
            sides[name].to_numpy(dtype=float, na_value=math.nan)
            for name in (f"{metric.name} base", metric.name)
        )
        used = (baseline > 0) & (value > 0)
        baseline, value, speed_ratio = baseline[used], value[used], speeds[used]
        logs = at_equal_speed(
            np.log(value / baseline), np.log(speed_ratio), regimes[used], cells[used], blocks[used]
        )
        columns = {"baseline": baseline, "value": value, "speed_ratio": speed_ratio}
        yield metric.name, used, columns | {"ratio": np.exp(logs)}


def _means(
    values: NDArray[np.float64], groups: NDArray[np.int64], number: int
) -> NDArray[np.float64]:
    """Geometric mean of each group, from logarithms; those that are NaN are left out."""
    known = ~np.isnan(values)
    counts = np.bincount(groups[known], minlength=number)
    sums = np.bincount(groups[known], weights=values[known], minlength=number)
    means = np.divide(sums, counts, out=np.full(number, np.nan), where=counts > 0)
    return np.asarray(np.exp(means))


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
        found = [pairs.get((regime, arm, metric.name, cell), _Pairs()) for regime, cell in places]
        wanted = [
            _planned(planned, (regime, arm, cell), len(here.logs))
            for (regime, cell), here in zip(places, found, strict=True)
        ]
        effects = cell_effects(
            [here.logs for here in found],
            wanted,
            metric.direction,
            settings,
            apart=[apart.get((regime, arm)) for regime, _ in places] if apart else None,
        )
        for (regime, cell), here, pairs_planned, effect in zip(
            places, found, wanted, effects, strict=True
        ):
            rows.append(
                {
                    **_family_columns(regime, arm, metric),
                    **dict(zip(settings.factors, cell, strict=True)),
                    "blocks": len(here.logs),
                    "set_aside": pairs_planned - len(here.logs),
                    "baseline": here.baseline,
                    # Not a mean of its own: value / baseline is the ratio, to the last digit.
                    "value": here.baseline * effect.estimate.ratio,
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
                found = pairs.get((regime, arm, metric.name, cell), _Pairs()).logs
                used.append(len(found))
                wanted.append(_planned(planned, (regime, arm, cell), len(found)))
                logs.append(found)
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
    names = ("regime", "arm", "metric")
    numbers, first = numbered(ratios, [*names, *settings.factors])
    order = np.argsort(numbers, kind="stable")
    blocks = ratios["block"].to_numpy()[order].tolist()
    baselines, ratio_logs = (np.log(ratios[n].to_numpy())[order] for n in ("baseline", "ratio"))
    logs = ratio_logs.tolist()
    ends = np.cumsum(np.bincount(numbers)).tolist()
    keys = (ratios[name].to_numpy()[first].tolist() for name in names)
    cells = (ratios[factor].to_numpy()[first].tolist() for factor in settings.factors)
    pairs: dict[tuple[str, str, str, Cell], _Pairs] = {}
    begin = 0
    for end, cell, *key in zip(ends, zip(*cells, strict=True), *keys, strict=True):
        regime, arm, metric = key
        pairs[regime, arm, metric, cell] = _Pairs(
            dict(zip(blocks[begin:end], logs[begin:end], strict=True)),
            math.exp(baselines[begin:end].mean()),
        )
        begin = end
    return pairs


def _cells(frame: pd.DataFrame, settings: AnalysisSettings) -> tuple[NDArray[np.int64], list[Cell]]:
    """The cell of each row, numbered, and the levels of each cell."""
    factors = list(settings.factors)
    numbers, first = numbered(frame, factors)
    levels = (frame[factor].to_numpy()[first].tolist() for factor in factors)
    return numbers, list(zip(*levels, strict=True))
