# SPDX-License-Identifier: GPL-2.0-only
"""tables/nodes.csv: what each node of a run measured, and whether effects differ between nodes.

Ratios are taken within blocks, so a node that is slower than another one does no harm. What can
is an effect that is another one there. Blocks are nested in nodes, so that is a one-way analysis
of variance of the blocks' log ratios; why, and what it is worth: docs/methodology.md, "Nodes".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.inference import MIN_BLOCKS, ROUNDING, Estimate, Floats, holm
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import mean_speed
from kdelta.analysis.tables import frame_of

Place = tuple[str, str]
"""Regime and arm."""

Nodes = Mapping[int, str]
"""Block of a regime -> the node that measured it, in the order in which nodes are told."""

DIFFER, NOT_SEEN, UNKNOWN = "yes", "not seen", "cannot be told"

# The permutation test enumerates all orders of 7 blocks, and draws as many of more.
_ORDERS = math.factorial(7)
_SEED = 20260718


@dataclass(frozen=True)
class NodeEffects:
    """The effect on each node; arrays have shape (nodes,), NaN where nothing can be said.

    Attributes:
        names: of the nodes.
        blocks: of each.
        mean: their mean log ratios.
        low, high: ends of intervals that hold the effects of all nodes at once.
        p_value: t test of no effect on this node.
        sd: standard deviation of log ratios between blocks of a node, taken to be alike on all.
        df: degrees of freedom of that.
    """

    names: tuple[str, ...]
    blocks: Floats
    mean: Floats
    low: Floats
    high: Floats
    p_value: Floats
    sd: float
    df: int

    @property
    def between(self) -> int:
        """Degrees of freedom between nodes."""
        return max(0, int((self.blocks > 0).sum()) - 1)

    @property
    def tested(self) -> bool:
        """Whether there are nodes to compare, and blocks enough to know their spread."""
        return self.between > 0 and math.isfinite(self.sd)


@dataclass(frozen=True)
class Comparison:
    """Whether the nodes' effects differ.

    Attributes:
        effects: of the nodes.
        values: block -> log ratio that these are means of.
        p_value: F test of equal effects; NaN where it cannot be told.
        p_holm: adjusted over the arms and regimes of the run.
        visible: log ratio by which one node must differ from all others to be found to, with
            `settings.power`; NaN likewise.
        differ: one of `DIFFER`, `NOT_SEEN` and `UNKNOWN`; empty where there is one node.
    """

    effects: NodeEffects
    values: Mapping[int, float]
    p_value: float
    p_holm: float
    visible: float
    differ: str


def block_values(cells: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """What each block says of an effect over cells: the mean of its cells.

    A block that lost cells is not moved by their level: each cell's mean is taken out first.

    Args:
        cells: block -> log ratio, for each cell.
    """
    blocks = sorted({block for cell in cells for block in cell})
    if not blocks:
        return {}
    rows = [[cell.get(block, math.nan) for cell in cells if cell] for block in blocks]
    table = np.array(rows, dtype=float)
    means = np.nanmean(table, axis=0)
    values = means.mean() + np.nanmean(table - means, axis=1)
    return dict(zip(blocks, values.tolist(), strict=True))


def node_effects(values: Mapping[int, float], nodes: Nodes, confidence: float) -> NodeEffects:
    """The effect on every node, with the spread within nodes taken from all of them.

    Args:
        values: block -> log ratio.
        nodes: of these blocks, and perhaps of others.
        confidence: that the intervals hold the truth of all nodes at once (Bonferroni).
    """
    names = tuple(dict.fromkeys(nodes.values()))
    groups = _groups(values, nodes)
    blocks = np.array([len(group) for group in groups], dtype=float)
    mean = np.array([group.mean() if len(group) else math.nan for group in groups])
    df = int(blocks.sum() - (blocks > 0).sum())
    sd = math.nan
    if df >= MIN_BLOCKS - 1:
        inner = [group - group.mean() for group in groups if len(group)]
        sd = math.sqrt(float(np.concatenate(inner) @ np.concatenate(inner)) / df)
        sd = 0.0 if sd <= ROUNDING else sd
    error = sd / np.sqrt(np.where(blocks > 0, blocks, math.nan))
    half = -special.stdtrit(max(df, 1), (1 - confidence) / 2 / max(1, len(names))) * error
    distance = np.abs(mean)
    certain = np.where(np.isnan(error), np.nan, np.where(distance <= ROUNDING, 0.0, np.inf))
    t = np.divide(distance, error, out=certain, where=error > 0)
    return NodeEffects(
        names, blocks, mean, mean - half, mean + half, 2 * special.stdtr(max(df, 1), -t), sd, df
    )


def over_nodes(
    pooled: Estimate, values: Mapping[int, float], nodes: Nodes, confidence: float
) -> Estimate:
    """An effect whose nodes differ: what can be said of it on every one of them.

    The interval reaches over those of all nodes, and the p-value is the largest of theirs (an
    intersection-union test): so it is faster or slower only if it is on each node, and equivalent
    likewise. There is neither where a node has no block, or blocks are too few.

    Args:
        pooled: the effect over all blocks; its ratio is kept.
        values: block -> log ratio.
        nodes: of the regime's blocks.
        confidence: of the interval.
    """
    found = node_effects(values, nodes, confidence)
    return replace(
        pooled,
        low=float(np.exp(np.min(found.low))),
        high=float(np.exp(np.max(found.high))),
        log_sd=math.nan,  # more blocks settle nothing that differs from node to node
        p_value=float(np.max(found.p_value)),
    )


def compare_nodes(
    cells: Mapping[Place, Sequence[Mapping[int, float]]],
    nodes: Mapping[str, Nodes],
    settings: AnalysisSettings,
) -> dict[Place, Comparison]:
    """Whether the overall effects of the primary metric differ between nodes.

    Args:
        cells: block -> log ratio, for each cell of each regime and arm: one family of tests.
        nodes: of the blocks, by regime.
        settings: confidence and power.
    """
    values = {place: block_values(found) for place, found in cells.items()}
    effects = {
        place: node_effects(found, nodes[place[0]], settings.confidence)
        for place, found in values.items()
    }
    p_values = np.array([_difference_p(found) for found in effects.values()], dtype=float)
    level = settings.alpha / max(1, len(p_values))  # Holm's first step
    return {
        place: Comparison(
            effects=found,
            values=values[place],
            p_value=p_value,
            p_holm=p_holm,
            visible=_visible(found, level, settings.power),
            differ=_word(found, p_holm, settings.alpha),
        )
        for (place, found), p_value, p_holm in zip(
            effects.items(), p_values.tolist(), holm(p_values).tolist(), strict=True
        )
    }


def differing(found: Mapping[Place, Comparison]) -> list[Place]:
    """Where effects differ between nodes beyond chance."""
    return [place for place, one in found.items() if one.differ == DIFFER]


def _word(found: NodeEffects, p_holm: float, alpha: float) -> str:
    if len(found.names) < 2:
        return ""
    if not found.tested:
        return UNKNOWN
    return DIFFER if p_holm < alpha else NOT_SEEN


def _difference_p(found: NodeEffects) -> float:
    """F test of the nodes' means against the spread within nodes."""
    if not found.tested:
        return math.nan
    there = found.blocks > 0
    blocks, mean = found.blocks[there], found.mean[there]
    distance = mean - blocks @ mean / blocks.sum()
    square = float(blocks @ distance**2) / found.between
    if found.sd == 0:
        return float(square <= ROUNDING**2)
    return float(special.fdtrc(found.between, found.df, square / found.sd**2))


def _visible(found: NodeEffects, level: float, power: float) -> float:
    """Difference of a node, the one with the fewest blocks, that the F test would have found."""
    if not found.tested:
        return math.nan
    every, few = found.blocks.sum(), found.blocks[found.blocks > 0].min()
    limit = float(special.fdtri(found.between, found.df, 1 - level))
    noncentral = special.ncfdtrinc(found.between, found.df, 1 - power, limit)
    # It is found by trial, to four digits: more would differ from processor to processor.
    return round(found.sd * math.sqrt(noncentral * every / (few * (every - few))), 4)


def permutation_p(values: Mapping[int, float], nodes: Nodes) -> float:
    """The same question without normality: were the blocks dealt otherwise to nodes, how often?

    Exact up to 7 blocks; beyond, as many orders of them are drawn with a fixed seed. It cannot
    decide: with four blocks on each of two nodes its smallest value is 0.03.

    Returns:
        NaN with fewer than two nodes or no two blocks of one node.
    """
    groups = [group for group in _groups(values, nodes) if len(group)]
    sizes = np.array(list(map(len, groups)))
    if len(groups) < 2 or sizes.max() == 1:
        return math.nan
    every = np.concatenate(groups)
    every = every - every.mean()
    if np.abs(every).max() <= ROUNDING:
        return 1.0
    first = np.cumsum(sizes) - sizes

    def between(dealt: Floats, axis: int) -> Floats:
        # With the sum of all squares given, that is as good as F. Rounded, so that what is as
        # large as the observed one does not hang on rounding errors.
        sums = np.add.reduceat(dealt, first, axis=axis)
        return np.asarray(np.round((sums**2 / sizes).sum(axis=axis), 10))

    found: Any = stats.permutation_test(
        (every / np.abs(every).max(),),
        between,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_ORDERS,
        batch=1024,
        alternative="greater",
        axis=-1,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def _groups(values: Mapping[int, float], nodes: Nodes) -> list[Floats]:
    names = dict.fromkeys(nodes.values())
    return [
        np.array([values[block] for block in sorted(values) if nodes[block] == name], dtype=float)
        for name in names
    ]


def nodes_of(boots: Sequence[RawBoot], settings: AnalysisSettings) -> dict[str, Nodes]:
    """Regime -> its blocks' nodes, blocks in order."""
    return {
        regime: {boot.block: boot.node for boot in boots if boot.regime == regime}
        for regime in settings.regimes
    }


def compared(
    ratios: pd.DataFrame, nodes: Mapping[str, Nodes], settings: AnalysisSettings
) -> dict[Place, Comparison]:
    """`compare_nodes` of a run's ratios.

    Args:
        ratios: as `ratios_frame` makes it.
        nodes: of the blocks, by regime; a regime without blocks has its place in the family.
        settings: regimes and arms, factors, primary metric.
    """
    cells: dict[Place, dict[tuple[Any, ...], dict[int, float]]] = {
        (regime, arm): {} for regime in settings.regimes for arm in settings.compared_arms
    }
    ours = ratios[ratios["metric"] == settings.primary]
    logs = np.log(ours["ratio"].to_numpy(dtype=float)).tolist()
    place = ("regime", "arm", "block", *settings.factors)
    columns = (ours[name].to_numpy().tolist() for name in place)
    for log, regime, arm, block, *cell in zip(logs, *columns, strict=True):
        cells[regime, arm].setdefault(tuple(cell), {})[block] = log
    found = {place: list(here.values()) for place, here in cells.items()}
    return compare_nodes(found, nodes, settings)


def nodes_frame(
    boots: Sequence[RawBoot],
    samples: pd.DataFrame,
    found: Mapping[Place, Comparison],
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """One row per measured regime, arm that is compared, and node: columns of tables/nodes.csv.

    Args:
        boots: every planned boot.
        samples: as `samples_frame` makes it of these.
        found: as `compared` makes it.
        settings: display order, the primary metric.
    """
    speeds, levels = _cpu_speeds(samples), _levels(samples, settings)
    nodes = nodes_of(boots, settings)
    there: dict[Place, list[RawBoot]] = {}
    for boot in boots:
        there.setdefault((boot.regime, boot.node), []).append(boot)
    machines = {place: _machine(ours) for place, ours in there.items()}
    rows: list[dict[str, object]] = []
    for (regime, arm), one in found.items():
        test = {
            "p_value": one.p_value,
            "p_holm": one.p_holm,
            "p_permutation": permutation_p(one.values, nodes[regime]),
            "visible_percent": 100 * math.expm1(one.visible),
            "differ": one.differ or None,
        }
        effects = one.effects
        ends = {"delta": effects.mean, "delta_low": effects.low, "delta_high": effects.high}
        for place, node in enumerate(effects.names):
            deltas = {f"{n}_percent": 100 * math.expm1(logs[place]) for n, logs in ends.items()}
            rows.append(
                {
                    "regime": regime,
                    "arm": arm,
                    "node": node,
                    **machines[regime, node],
                    "cpu_speed": speeds.get((regime, node)),
                    "metric": settings.primary,
                    "baseline": levels.get((regime, node)),
                    "blocks": int(effects.blocks[place]),
                    **deltas,
                    **test,
                }
            )
    return frame_of("tables/nodes.csv", rows)


def _machine(boots: Sequence[RawBoot]) -> dict[str, object]:
    """What the node is: more than one processor where its name moved to another machine."""
    gates = [boot.boot.gate for boot in boots if boot.boot]
    models = [boot.host.host.cpu_model for boot in boots if boot.host]
    modes = [gate.acceleration for gate in gates]
    vcpus = [boot.vcpus for boot in boots]
    return {
        "processor": "; ".join(dict.fromkeys(filter(None, models))) or None,
        "acceleration": next(filter(None, modes), None),
        "vcpus": next((count for count in vcpus if count is not None), None),
    }


def _cpu_speeds(samples: pd.DataFrame) -> dict[Place, float]:
    """Regime and node -> geometric mean of the speed checks."""
    checks = mean_speed(samples[["speed_before", "speed_after"]].to_numpy(dtype=float))
    logs = samples[["regime", "node"]].assign(log=np.log(checks))
    return _means(logs.groupby(["regime", "node"], sort=False)["log"].mean())


def _levels(samples: pd.DataFrame, settings: AnalysisSettings) -> dict[Place, float]:
    """Regime and node -> the baseline's primary metric, geometric mean of its cells'."""
    ours = samples[(samples["arm"] == settings.baseline) & samples["valid"]]
    ours = ours[ours[settings.primary] > 0]
    logs = ours.assign(log=np.log(ours[settings.primary].to_numpy(dtype=float)))
    place = ["regime", "node"]
    cells = logs.groupby([*place, *settings.factors], sort=False)["log"].mean()
    return _means(cells.groupby(level=[0, 1], sort=False).mean())


def _means(logs: pd.Series) -> dict[Place, float]:
    places: list[Any] = logs.index.to_list()
    return {tuple(place): math.exp(log) for place, log in zip(places, logs, strict=True)}
