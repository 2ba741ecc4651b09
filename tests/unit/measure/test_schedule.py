# SPDX-License-Identifier: GPL-2.0-only
"""The order of arms and cells: complete, random, and the same for ever from one seed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.experiment import Experiment
from kdelta.measure.schedule import block_schedule, cells, schedule_record
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)
ARMS = {"baseline": "baseline", "patched": "patched", "other": "other", "control": "baseline"}

FIRST_ARMS = ["other", "patched", "control", "baseline"]
FIRST_CELLS = [(2, 3), (1, 3), (2, 1), (1, 1)]


def with_seed(seed: int) -> Experiment:
    return Experiment.model_validate(SMALL | {"seed": seed})


def test_cells_are_the_matrix_the_last_factor_fastest() -> None:
    assert cells(EXPERIMENT) == [
        {"writers": 1, "readers": 1},
        {"writers": 1, "readers": 3},
        {"writers": 2, "readers": 1},
        {"writers": 2, "readers": 3},
    ]


def test_the_arms_are_the_variants_and_the_control() -> None:
    assert EXPERIMENT.arms() == ARMS
    assert list(EXPERIMENT.arms()) == ["baseline", "patched", "other", "control"]
    assert "control" not in Experiment.model_validate(SMALL | {"control": False}).arms()


@given(
    seed=st.integers(0, 2**63 - 1),
    regime=st.sampled_from(["idle", "pressed"]),
    block=st.integers(1, 200),
)
def test_a_block_is_a_permutation_of_everything(seed: int, regime: str, block: int) -> None:
    experiment = with_seed(seed)
    schedule = block_schedule(experiment, regime, block)
    assert dict(schedule.arms) == ARMS
    assert len(schedule.arms) == len(ARMS)
    as_text = [json.dumps(cell) for cell in schedule.cells]
    assert sorted(as_text) == sorted(json.dumps(cell) for cell in cells(experiment))
    assert schedule == block_schedule(with_seed(seed), regime, block)


def test_the_orders_of_one_seed_never_change() -> None:
    """A changed shuffle would make published runs irreproducible."""
    schedule = block_schedule(EXPERIMENT, "idle", 1)
    assert schedule.seed == "7/idle/1"
    assert [arm for arm, _ in schedule.arms] == FIRST_ARMS
    assert [(cell["writers"], cell["readers"]) for cell in schedule.cells] == FIRST_CELLS


def test_blocks_regimes_and_seeds_differ() -> None:
    def orders(experiment: Experiment, regime: str) -> list[Any]:
        blocks = [block_schedule(experiment, regime, number) for number in range(1, 21)]
        return [(block.arms, tuple(map(str, block.cells))) for block in blocks]

    idle, pressed, other = (
        orders(EXPERIMENT, "idle"),
        orders(EXPERIMENT, "pressed"),
        orders(with_seed(8), "idle"),
    )
    # 24 x 24 orders: twenty blocks can hardly share many
    assert len(set(idle)) >= 15
    assert idle != pressed
    assert idle != other


@pytest.mark.parametrize("position", range(4))
def test_every_arm_comes_at_every_position(position: int) -> None:
    seen = {block_schedule(EXPERIMENT, "idle", n).arms[position][0] for n in range(1, 60)}
    assert seen == set(ARMS)


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
        "arms": [{"arm": arm, "variant": ARMS[arm]} for arm, _ in schedule.arms],
        "cells": list(schedule.cells),
        "duration_s": 1,
        "warmup_s": 0.1,
    }
