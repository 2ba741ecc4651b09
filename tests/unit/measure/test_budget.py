# SPDX-License-Identifier: GPL-2.0-only
"""Protocols that are planned for a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.experiment import Experiment
from kdelta.measure.budget import budget_seconds, protocol_name, with_protocol
from kdelta.measure.progress import block_seconds
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)


def changed(**quick: Any) -> Experiment:
    data = copy.deepcopy(SMALL)
    data["protocols"]["quick"] |= quick
    return Experiment.model_validate(data)


def test_names_and_seconds() -> None:
    assert (budget_seconds("30m"), budget_seconds("2h")) == (1800, 7200)
    assert protocol_name("quick", None) == "quick"
    assert protocol_name("quick", "30m") == "quick-30m"


@settings(deadline=None)  # scipy is loaded when it is first needed
@given(minutes=st.integers(5, 600))
def test_as_many_blocks_as_fit(minutes: int) -> None:
    name = f"quick-{minutes}m"
    experiment = with_protocol(EXPERIMENT, name)
    protocol = experiment.protocols[name]
    blocks = protocol.blocks
    assert protocol.rounds >= EXPERIMENT.protocols["quick"].rounds
    for regime in protocol.duration_s:
        assert protocol.slice_s(regime) == EXPERIMENT.protocols["quick"].slice_s(regime)
    each = sum(block_seconds(experiment, name, r) for r in experiment.protocol_regimes(name))
    assert blocks * each <= 60 * minutes
    assert blocks == 200 or (blocks + 1) * each > 60 * minutes
    assert list(experiment.protocols) == [name]


def test_a_time_that_is_too_short_says_how_long_it_takes() -> None:
    with pytest.raises(ValueError, match=r"1m are too few for protocol long: .* take about \d+m"):
        with_protocol(EXPERIMENT, "long-1m")


@pytest.mark.parametrize("name", ["none", "none-30m", "quick-0m", "quick-30s", "quick-"])
def test_what_is_no_protocol(name: str) -> None:
    with pytest.raises(ValueError, match="defines quick, long"):
        with_protocol(EXPERIMENT, name)


def test_a_protocol_of_that_name_goes_first() -> None:
    data = copy.deepcopy(SMALL)
    data["protocols"]["quick-30m"] = {"blocks": 7, "duration_s": {"idle": 1}}
    experiment = with_protocol(Experiment.model_validate(data), "quick-30m")
    assert experiment.protocols["quick-30m"].blocks == 7


def test_a_protocol_of_some_arms() -> None:
    """Baseline and control are always there; what is of another arm goes."""
    experiment = with_protocol(changed(arms=["other"]), "quick")
    assert list(experiment.booted_arms()) == ["baseline", "other", "control"]
    assert list(with_protocol(changed(arms=["other"]), "long").arms) == list(SMALL["arms"])
    with pytest.raises(ValueError, match=r"protocols\.quick\.arms: nobody: no such arm"):
        changed(arms=["nobody"])


def test_a_protocol_of_many_rounds_keeps_them() -> None:
    experiment = with_protocol(changed(rounds=40, duration_s={"idle": 4}), "quick-8h")
    assert experiment.protocols["quick-8h"].rounds == 40


def test_more_rounds_where_boots_take_the_time() -> None:
    """Short slices do not pay for a boot; where they take minutes, blocks are worth more."""

    def rounds(slice_s: float) -> int:
        experiment = with_protocol(changed(rounds=2, duration_s={"idle": 2 * slice_s}), "quick-8h")
        return experiment.protocols["quick-8h"].rounds

    assert rounds(0.1) > 2
    assert rounds(30) == 2
