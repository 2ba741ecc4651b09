# SPDX-License-Identifier: GPL-2.0-only
"""Nodes: slow ones do no harm, effects that differ are seen, and what is said then holds."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from simulation import NODE_WORLDS, World, calibrate_nodes, simulate, simulate_all
from synthetic import SETTINGS, Truth, read_records, write_records, write_simulated

from kdelta.analysis.inference import Estimate, Floats, estimates, t_interval
from kdelta.analysis.nodes import (
    Comparison,
    block_values,
    compare_nodes,
    node_effects,
    over_nodes,
    permutation_p,
)
from kdelta.analysis.run import AnalysisResult, analyse

EXPERIMENTS = 200
PLACE = ("idle", "patched")

# Log ratios of blocks, on one to four nodes with one to five blocks each.
LOG = st.integers(-1000, 1000).map(lambda x: x / 1000)
GROUPS = st.lists(st.lists(LOG, min_size=1, max_size=5), min_size=1, max_size=4)


def dealt(groups: list[list[float]]) -> tuple[dict[int, float], dict[int, str]]:
    """Groups of log ratios as block -> value and block -> node."""
    pairs = [(f"n{n}", value) for n, group in enumerate(groups) for value in group]
    return (
        {block: value for block, (_, value) in enumerate(pairs, start=1)},
        {block: node for block, (node, _) in enumerate(pairs, start=1)},
    )


def compared(groups: list[list[float]]) -> Comparison:
    values, nodes = dealt(groups)
    return compare_nodes({PLACE: [values]}, {"idle": nodes}, SETTINGS)[PLACE]


@given(GROUPS)
def test_the_test_of_equal_effects_is_scipys(groups: list[list[float]]) -> None:
    found = compared(groups)
    blocks, nodes = sum(map(len, groups)), len(groups)
    if nodes < 2 or blocks - nodes < 2:
        assert math.isnan(found.p_value)
        assert found.differ == ("" if nodes < 2 else "cannot be told")
        return
    inner = sum(np.var(group) for group in groups)
    if inner < 1e-9:
        return  # scipy gives nan or a warning; see below
    # Of means that are equal to rounding its F may be negative, and p nan.
    expected = float(np.nan_to_num(stats.f_oneway(*groups).pvalue, nan=1.0))
    assert found.p_value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.p_holm == found.p_value, "a family of one"
    assert found.differ == ("yes" if expected < 0.05 else "not seen")


def test_without_any_noise_what_differs_is_certain() -> None:
    assert compared([[0.1, 0.1], [0.1, 0.1]]).p_value == 1
    assert compared([[0.1, 0.1], [0.2, 0.2]]).differ == "yes"


@given(st.lists(LOG, min_size=3, max_size=8))
def test_one_node_has_the_interval_of_its_blocks(values: list[float]) -> None:
    found = compared([values]).effects
    expected = t_interval(np.array(values), 0.95)
    assert (found.low[0], found.high[0]) == pytest.approx(
        (float(expected.low), float(expected.high)), abs=1e-9
    )
    assert found.p_value[0] == pytest.approx(float(expected.p_value), abs=1e-9)


def test_the_permutation_test_of_two_nodes_that_are_apart() -> None:
    found = permutation_p(*dealt([[0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4]]))
    assert found == pytest.approx(2 / 70, abs=0.008), "drawn"
    assert permutation_p(*dealt([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]])) == 2 / 20
    assert permutation_p(*dealt([[0.1, 0.1], [0.1, 0.1]])) == 1


@given(st.lists(st.lists(LOG, min_size=1, max_size=2), min_size=2, max_size=3))
def test_the_permutation_test_counts_all_ways_to_deal_the_blocks(
    groups: list[list[float]],
) -> None:
    values, nodes = dealt(groups)
    sizes = list(map(len, groups))
    found = permutation_p(values, nodes)
    if sum(sizes) == len(sizes):
        assert math.isnan(found)
        return
    every = np.array(list(values.values()))
    ends = np.cumsum(sizes)[:-1]

    def between(order: tuple[int, ...]) -> float:
        return sum(len(p) * (p.mean() - every.mean()) ** 2 for p in np.split(every[[*order]], ends))

    observed = between(tuple(range(len(every))))
    ways = [between(order) for order in itertools.permutations(range(len(every)))]
    expected = np.mean([way >= observed - 1e-9 for way in ways])
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_lost_cell_moves_no_block_by_its_level() -> None:
    cells = [{1: 0.0, 2: 0.0, 3: 0.0}, {1: 0.5, 2: 0.5}]
    assert block_values(cells) == pytest.approx({1: 0.25, 2: 0.25, 3: 0.25})
    assert block_values([{}, {}]) == {}
    whole = [{1: 0.1, 2: 0.4}, {1: 0.3, 2: 0.2}]
    assert block_values(whole) == pytest.approx({1: 0.2, 2: 0.3})


@given(GROUPS)
def test_the_interval_of_all_nodes_is_as_wide_as_theirs_and_no_surer(
    groups: list[list[float]],
) -> None:
    values, nodes = dealt(groups)
    (pooled,) = estimates([np.array(list(values.values()))], 0.95, sign_flip=False)
    found, each = over_nodes(pooled, values, nodes, 0.95), node_effects(values, nodes, 0.95)
    assert found.ratio == pooled.ratio or math.isnan(pooled.ratio)
    if math.isnan(each.sd):
        assert np.isnan([found.low, found.high, found.p_value]).all()
        return
    assert np.log(found.low) == pytest.approx(each.low.min())
    assert np.log(found.high) == pytest.approx(each.high.max())
    assert (each.p_value <= found.p_value).all()
    assert found.low <= found.ratio <= found.high


def test_a_node_without_a_block_leaves_no_interval_for_all() -> None:
    values, nodes = dealt([[0.1, 0.2, 0.15], [0.3, 0.35, 0.4]])
    pooled = Estimate(6, 1.2, 1.1, 1.3, 0.1, 0.01, 0.03)
    found = over_nodes(pooled, values, nodes | {7: "broken"}, 0.95)
    assert (found.blocks, found.ratio) == (6, 1.2)
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_what_is_said_to_be_visible_is_seen_as_often_as_said() -> None:
    """Of unequal nodes, the one with the fewest blocks."""
    rng = np.random.default_rng(5)
    sizes, sd = (4, 4, 2), 0.02
    exact = [np.linspace(-1, 1, size) for size in sizes]
    scale = sd / math.sqrt(sum(float(g @ g) for g in exact) / (sum(sizes) - len(sizes)))
    visible = compared([(scale * g).tolist() for g in exact]).visible
    drawn = [[rng.normal(0, sd, size).tolist() for size in sizes] for _ in range(2000)]
    shifted = [[*groups[:2], [y + visible for y in groups[2]]] for groups in drawn]
    seen = np.mean([compared(groups).differ == "yes" for groups in shifted])
    assert seen == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 2000))


def test_p_values_are_adjusted_over_arms_and_regimes() -> None:
    rng = np.random.default_rng(2)
    nodes = {block: f"n{block % 2}" for block in range(1, 9)}
    cells = {
        (regime, arm): [{block: rng.normal(0.1 * (block % 2), 0.05) for block in nodes}]
        for regime in ("idle", "memory-pressure")
        for arm in ("patched", "control")
    }
    found = compare_nodes(cells, dict.fromkeys(("idle", "memory-pressure"), nodes), SETTINGS)
    smallest = min(one.p_value for one in found.values())
    assert min(one.p_holm for one in found.values()) == pytest.approx(min(1, 4 * smallest))
    # A regime of which nothing is there makes no other test easier.
    cells["memory-pressure", "patched"] = []
    lost = compare_nodes(cells, dict.fromkeys(("idle", "memory-pressure"), nodes), SETTINGS)
    assert lost["memory-pressure", "patched"].differ == "cannot be told"
    assert lost["idle", "patched"].p_holm >= lost["idle", "patched"].p_value


@pytest.mark.parametrize("name", NODE_WORLDS)
def test_promises_are_kept_on_several_nodes(name: str) -> None:
    world = NODE_WORLDS[name]
    found = calibrate_nodes(world, SETTINGS, EXPERIMENTS, seed=21)
    error = 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
    assert found.mean >= 0.95 - error
    assert found.cells >= 0.93 - error / 2
    assert math.isnan(found.every) or found.every >= 0.95 - error
    assert found.false <= 0.05 + error
    assert found.control <= 0.05 + error
    if not world.node_effect_sd and name != "a noisy node":
        assert found.patched <= 0.05 + error
    if name == "effects differ":
        assert found.patched > 0.7
    if name == "effects differ, a node a block":
        assert found.patched == 0, "cannot be told"


def test_the_speed_of_nodes_changes_nothing() -> None:
    ours, slow = (
        calibrate_nodes(NODE_WORLDS[name], SETTINGS, 20, seed=3)
        for name in ("alike", "other speed")
    )
    assert vars(ours) == pytest.approx(vars(slow), nan_ok=True)


TRUTH = Truth(regimes=("idle", "memory-pressure"), factors={"writers": (1, 2), "readers": (1, 5)})
ONE = replace(SETTINGS, only=("throughput_mib_s",))
WORK, FULL_NS = 2_400_000, 24_000_000
Json = dict[str, Any]


def analysed(
    folder: Path,
    logs: Floats,
    node_of: Mapping[int, str] | None = None,
    speed: Callable[[str], float] = lambda node: 1.0,
    model: Callable[[str], str] = lambda node: "A Processor",
) -> AnalysisResult:
    """An experiment by way of its raw files, block by block on a node.

    Args:
        folder: for raw files and tables.
        logs: of throughputs at full speed, as `write_simulated` takes them.
        node_of: block -> node; None: of before nodes were recorded.
        speed: of a node's CPUs, of throughput and speed check alike.
        model: a node's processor.
    """
    nodes = node_of or dict.fromkeys(range(1, logs.shape[2] + 1), "")
    slower = np.log([speed(nodes[block + 1]) for block in range(logs.shape[2])])
    raw = write_simulated(folder / "raw", TRUTH, logs + slower[:, None])
    for path in sorted(raw.glob("*/block-*/host.json")):
        node = nodes[int(path.parent.name[6:])]
        host = json.loads(path.read_text()) | {"host": {"cpu_model": model(node)}}
        path.write_text(json.dumps(host | ({"node": node} if node else {})))
        for arm in path.parent.glob("*.jsonl"):
            records = read_records(arm)
            for record in records[1:-1]:
                record["speed"] = check(speed(node))
            write_records(arm, records)
    return analyse(raw, folder / "out", ONE)


def check(speed: float) -> Json:
    times = {"wall_ns": [10**9] * 2, "cpu_ns": [round(FULL_NS / speed)] * 2}
    return {"work": WORK, "before": times, "after": times, "reason": None}


SMALL = World(regimes=2, cells=4, blocks=8, nodes=2, boot_sd=0.01, sample_sd=0.01)


def logs_of(world: World, seed: int = 5) -> Floats:
    return simulate(world, 1, seed=seed)[0] + math.log(1000)


def rows(table: pd.DataFrame, arm: str = "patched", regime: str = "idle") -> pd.DataFrame:
    return table[(table["arm"] == arm) & (table["regime"] == regime)]


def test_a_slow_node_is_no_disturbance_and_moves_no_ratio(tmp_path: Path) -> None:
    logs = logs_of(replace(SMALL, effect=math.log(1.2)))
    alike = analysed(tmp_path / "alike", logs, SMALL.node_of)
    slow = analysed(
        tmp_path / "slow", logs, SMALL.node_of, lambda node: 0.4 if node == "n1" else 1.0
    )
    assert slow.validity.empty
    assert slow.disturbance["boots_disturbed"].sum() == 0
    for name in ("ratio", "ratio_low", "ratio_high", "p_value"):
        assert slow.overall[name].to_numpy() == pytest.approx(alike.overall[name].to_numpy())
    assert slow.nodes["p_value"].to_numpy() == pytest.approx(alike.nodes["p_value"].to_numpy())
    assert list(slow.nodes["differ"]) == list(alike.nodes["differ"])
    table = rows(slow.nodes)
    assert table["node"].tolist() == ["n0", "n1"]
    assert table["blocks"].tolist() == [4, 4]
    assert table["cpu_speed"].tolist() == pytest.approx([100.0, 40.0])
    assert table["baseline"].iloc[1] == pytest.approx(0.4 * table["baseline"].iloc[0], rel=0.5)
    assert set(table["processor"]) == {"A Processor"}
    assert set(slow.samples["node"]) == set(slow.ratios["node"]) == {"n0", "n1"}


def test_effects_that_differ_are_said_with_an_interval_over_all_nodes(tmp_path: Path) -> None:
    logs = logs_of(SMALL)
    # In one regime, on the nodes of even and odd blocks (counted from 1): +30 % and +5 %.
    logs[0, 1] += np.log(np.where(np.arange(8) % 2 == 0, 1.3, 1.05))[:, None]
    found = analysed(tmp_path, logs, SMALL.node_of)
    told = found.nodes.groupby(["regime", "arm"])["differ"].unique().map(list).to_dict()
    assert told.pop(("idle", "patched")) == ["yes"]
    assert list(told.values()) == [["not seen"]] * 3
    nodes, overall = rows(found.nodes), rows(found.overall).iloc[0]
    assert nodes["delta_percent"].tolist() == pytest.approx([30, 5], abs=3)
    assert overall["delta_low_percent"] == pytest.approx(nodes["delta_low_percent"].min())
    assert overall["delta_high_percent"] == pytest.approx(nodes["delta_high_percent"].max())
    assert overall["verdict"] == "faster", "it is, on every node"
    assert overall["blocks"] == 8
    cells = rows(found.deltas)
    assert (cells["delta_low_percent"] < 8).all()
    assert (cells["delta_high_percent"] > 27).all()
    assert cells["blocks_to_settle"].isna().all()
    assert set(rows(found.deltas, regime="memory-pressure")["blocks"]) == {8}


def test_faster_on_one_node_and_slower_on_the_other_is_neither(tmp_path: Path) -> None:
    logs = logs_of(SMALL)
    logs[0, 1] += np.log(np.where(np.arange(8) % 2 == 0, 1.4, 0.9))[:, None]
    found = analysed(tmp_path, logs, SMALL.node_of)
    overall = rows(found.overall).iloc[0]
    assert overall["delta_percent"] == pytest.approx(12, abs=3)
    assert overall["verdict"] == "inconclusive"
    assert set(rows(found.deltas)["verdict"]) == {"inconclusive"}


def test_the_name_of_one_node_changes_nothing_else(tmp_path: Path) -> None:
    """And a run without names is told apart by processors."""
    logs = logs_of(SMALL)
    named = analysed(tmp_path / "named", logs, dict.fromkeys(range(1, 9), "a node"))
    old = analysed(tmp_path / "old", logs)
    for name, table in named.files().items():
        assert table.drop(columns="node", errors="ignore").equals(
            old.files()[name].drop(columns="node", errors="ignore")
        ), name
    assert set(old.samples["node"]) == {"A Processor"}
    assert named.nodes["differ"].isna().all()
    assert named.nodes["p_holm"].isna().all()
    overall, node = rows(named.overall).iloc[0], rows(named.nodes).iloc[0]
    for end in ("delta_percent", "delta_low_percent", "delta_high_percent"):
        assert node[end] == pytest.approx(overall[end])


def test_a_node_that_lost_all_of_an_arm_is_in_the_table(tmp_path: Path) -> None:
    logs = logs_of(SMALL)
    logs[0, 1, 1::2] = np.nan
    table = rows(analysed(tmp_path, logs, SMALL.node_of).nodes)
    assert table["blocks"].tolist() == [4, 0]
    assert table["delta_percent"].isna().tolist() == [False, True]
    assert set(table["differ"]) == {"cannot be told"}


def test_node_effects_are_drawn_around_the_effect() -> None:
    world = replace(NODE_WORLDS["effects differ"], boot_sd=0, sample_sd=0)
    drawn = simulate_all(world, 50, seed=1)
    ratios = (drawn.logs[:, :, 1] - drawn.logs[:, :, 0]).mean(axis=-1)
    expected = world.effect + drawn.node_effects[..., np.arange(world.blocks) % world.nodes]
    assert 0.05 < drawn.node_effects.std() < 0.15
    assert ratios == pytest.approx(expected)
