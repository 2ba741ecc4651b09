# SPDX-License-Identifier: GPL-2.0-only
"""The order of arms is balanced, that of cells random, and both stay the same from one seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.config import load_experiment
from kdelta.experiment import Experiment
from kdelta.measure.schedule import block_schedule, cells, schedule_record
from tests.conftest import CHECKOUT, SMALL

EXPERIMENT = Experiment.model_validate(SMALL)
ARMS = {"baseline": "baseline", "patched": "patched", "other": "other", "control": "baseline"}

FIRST_ARMS = ["other", "patched", "baseline", "control"]
FIRST_CELLS = [2, 1, 3, 0]
FIRST_TURN = ["baseline", "control", "patched", "other"]

SHIPPED = sorted((CHECKOUT / "config" / "experiments").glob("*.yaml"))
SEEDS = st.integers(0, 2**63 - 1)
REGIMES = st.sampled_from(["idle", "pressed"])


def with_seed(seed: int) -> Experiment:
    return Experiment.model_validate(SMALL | {"seed": seed})


def with_arms(count: int, seed: int = 7) -> Experiment:
    """An experiment of that many arms, the control among them."""
    names = ["baseline", *(f"v{i}" for i in range(1, count - 1))]
    arms = {name: {"title": name} for name in names}
    return Experiment.model_validate(SMALL | {"seed": seed, "arms": arms})


def orders(experiment: Experiment, regime: str, blocks: int) -> list[list[str]]:
    found = (block_schedule(experiment, regime, n) for n in range(1, blocks + 1))
    return [list(schedule.arms) for schedule in found]


def mean_positions(experiment: Experiment, regime: str, blocks: int) -> dict[str, float]:
    """Arm -> mean position in its block, counted from 1."""
    rows = orders(experiment, regime, blocks)
    return {a: sum(row.index(a) + 1 for row in rows) / blocks for a in experiment.booted_arms()}


def test_cells_are_the_matrix_the_last_factor_fastest() -> None:
    assert cells(EXPERIMENT) == [
        ("pipe_bench", {"writers": 1, "readers": 1}),
        ("pipe_bench", {"writers": 1, "readers": 3}),
        ("pipe_bench", {"writers": 2, "readers": 1}),
        ("pipe_bench", {"writers": 2, "readers": 3}),
    ]


def test_the_cells_of_several_workloads_follow_each_other_and_share_every_round() -> None:
    chosen = SMALL["workloads"]["pipe_bench"]
    other = {"program": "hackbench", "matrix": {"groups": [1, 2]}}
    experiment = Experiment.model_validate(
        SMALL | {"workloads": {"pipe_bench": chosen, "hack": other}}
    )
    schedule = block_schedule(experiment, "idle", 1, rounds=2)
    assert schedule.workloads == ("pipe_bench",) * 4 + ("hack",) * 2
    assert schedule.cells[4:] == ({"groups": 1}, {"groups": 2})
    assert all(sorted(turn.cell for turn in turns) == list(range(6)) for turns in schedule.rounds)
    alone = block_schedule(EXPERIMENT, "idle", 1)
    assert alone.arms == schedule.arms


def test_the_arms_and_the_control() -> None:
    assert EXPERIMENT.booted_arms() == ARMS
    assert list(EXPERIMENT.booted_arms()) == ["baseline", "patched", "other", "control"]
    assert "control" not in Experiment.model_validate(SMALL | {"control": False}).booted_arms()


@settings(deadline=None)
@given(seed=SEEDS, regime=REGIMES, block=st.integers(0, 200))
def test_a_block_is_a_permutation_of_everything(seed: int, regime: str, block: int) -> None:
    experiment = with_seed(seed)
    schedule = block_schedule(experiment, regime, block)
    assert sorted(schedule.arms) == sorted(ARMS)
    assert list(zip(schedule.workloads, schedule.cells, strict=True)) == cells(experiment)
    (turns,) = schedule.rounds
    assert sorted(turn.cell for turn in turns) == [0, 1, 2, 3]
    assert all(sorted(turn.arms) == sorted(ARMS) for turn in turns)
    assert schedule == block_schedule(with_seed(seed), regime, block)


def test_the_orders_of_one_seed_never_change() -> None:
    """A changed order would make published runs irreproducible."""
    schedule = block_schedule(EXPERIMENT, "idle", 1)
    assert schedule.seed == "7/idle/1"
    assert list(schedule.arms) == FIRST_ARMS
    assert [turn.cell for turn in schedule.rounds[0]] == FIRST_CELLS
    assert list(schedule.rounds[0][0].arms) == FIRST_TURN


def test_blocks_regimes_and_seeds_differ() -> None:
    def drawn(experiment: Experiment, regime: str) -> list[Any]:
        blocks = [block_schedule(experiment, regime, number) for number in range(1, 21)]
        return [(block.arms, block.rounds) for block in blocks]

    idle, pressed, other = (
        drawn(EXPERIMENT, "idle"),
        drawn(EXPERIMENT, "pressed"),
        drawn(with_seed(8), "idle"),
    )
    # 24 x 24 orders: twenty blocks can hardly share many
    assert len(set(idle)) >= 15
    assert idle != pressed
    assert idle != other


def test_every_square_is_drawn_anew() -> None:
    """Twenty squares of 4: with one draw for all, every fourth block would repeat itself."""
    rows = orders(EXPERIMENT, "idle", 80)
    squares = [tuple(map(tuple, rows[i : i + 4])) for i in range(0, 80, 4)]
    assert len(set(squares)) >= 15
    firsts = Counter(square[0][0] for square in squares)
    assert set(firsts) == set(ARMS)


def test_the_order_of_arms_in_the_file_does_not_count() -> None:
    arms = dict(reversed(list(SMALL["arms"].items())))
    turned = Experiment.model_validate(SMALL | {"arms": arms})
    assert orders(turned, "idle", 8) == orders(EXPERIMENT, "idle", 8)


@settings(deadline=None)
@given(arms=st.integers(2, 6), blocks=st.integers(1, 12), seed=SEEDS, regime=REGIMES)
def test_every_arm_comes_at_every_position_equally_often(
    arms: int, blocks: int, seed: int, regime: str
) -> None:
    """As far as the number of blocks allows: counts differ by one at most."""
    experiment = with_arms(arms, seed)
    rows = orders(experiment, regime, blocks)
    counts = Counter((arm, position) for row in rows for position, arm in enumerate(row))
    every = [counts[arm, position] for arm in experiment.booted_arms() for position in range(arms)]
    assert max(every) - min(every) <= 1
    assert blocks % arms or set(every) == {blocks // arms}


@settings(deadline=None)
@given(arms=st.integers(2, 6), blocks=st.integers(1, 12), seed=SEEDS, regime=REGIMES)
def test_every_arm_follows_every_other_one_equally_often(
    arms: int, blocks: int, seed: int, regime: str
) -> None:
    """By one at most for an even number of arms; for an odd one it takes both squares."""
    experiment = with_arms(arms, seed)
    counts = Counter(pair for row in orders(experiment, regime, blocks) for pair in pairwise(row))
    names = list(experiment.booted_arms())
    every = [counts[one, other] for one in names for other in names if one != other]
    odd = arms % 2
    assert max(every) - min(every) <= (2 if odd else 1)
    if blocks % (2 * arms if odd else arms) == 0:
        assert set(every) == {blocks // arms}


@settings(deadline=None)
@given(arms=st.integers(2, 6), blocks=st.integers(1, 12), seed=SEEDS, regime=REGIMES)
def test_the_mean_positions_are_level_where_they_can_be(
    arms: int, blocks: int, seed: int, regime: str
) -> None:
    means = mean_positions(with_arms(arms, seed), regime, blocks).values()
    spread = max(means) - min(means)
    assert spread <= (arms - 1) / blocks + 1e-9


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_trend_within_a_cells_run_moves_no_arm_of_a_shipped_protocol(path: Path) -> None:
    """2 % more per slice and no other effect: every arm's overall effect is within 0.3 %."""
    experiment = load_experiment(path, CHECKOUT)
    for name, protocol in experiment.protocols.items():
        for regime in protocol.duration_s:
            places: dict[str, list[int]] = {arm: [] for arm in experiment.booted_arms()}
            for block in range(1, protocol.blocks + 1):
                schedule = block_schedule(experiment, regime, block, protocol.rounds)
                for turn in (turn for turns in schedule.rounds for turn in turns):
                    for place, arm in enumerate(turn.arms):
                        places[arm].append(place)
            for arm, found in places.items():
                off = 1.02 ** (fmean(found) - fmean(places[experiment.baseline])) - 1
                assert abs(off) <= 0.003, f"{name}, {regime}, {arm}: off by {100 * off:.2f} %"


@settings(deadline=None, max_examples=30)
@given(arms=st.integers(2, 5), blocks=st.integers(1, 6), rounds=st.integers(1, 4), seed=SEEDS)
def test_within_a_cell_every_arm_runs_at_every_place_equally_often(
    arms: int, blocks: int, rounds: int, seed: int
) -> None:
    """Over all rounds of all blocks; and in every round every cell is run once by every arm."""
    experiment = with_arms(arms, seed)
    counts: Counter[tuple[int, str, int]] = Counter()
    for block in range(1, blocks + 1):
        schedule = block_schedule(experiment, "idle", block, rounds)
        assert len(schedule.rounds) == rounds
        for turns in schedule.rounds:
            assert sorted(turn.cell for turn in turns) == list(range(len(schedule.cells)))
            for turn in turns:
                assert sorted(turn.arms) == sorted(experiment.booted_arms())
                counts.update((turn.cell, arm, place) for place, arm in enumerate(turn.arms))
    every = [
        counts[cell, arm, place]
        for cell in range(len(cells(experiment)))
        for arm in experiment.booted_arms()
        for place in range(arms)
    ]
    assert max(every) - min(every) <= 1


def test_the_record_is_the_contracts() -> None:
    schedule = block_schedule(EXPERIMENT, "pressed", 2)
    record = schedule_record(schedule, EXPERIMENT, "quick")
    assert record == {
        "schema": 1,
        "experiment": "small",
        "protocol": "quick",
        "regime": "pressed",
        "block": 2,
        "seed": "7/pressed/2",
        "arms": list(schedule.arms),
        "workloads": ["pipe_bench"] * 4,
        "cells": list(schedule.cells),
        "rounds": [
            [{"cell": turn.cell, "arms": list(turn.arms)} for turn in turns]
            for turns in schedule.rounds
        ],
        "slice_s": 1,
        "warmup_s": 0.1,
    }
