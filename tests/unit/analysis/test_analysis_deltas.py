# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables from sample frames: pairing, means, families, symmetries, degenerate data."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import ONE_CELL, SETTINGS, Values, deltas, overall, ratios_of, row, samples

from kdelta.analysis.control import control_frame
from kdelta.analysis.deltas import deltas_frame, overall_frame, ratios_frame
from kdelta.errors import KdeltaError


def test_ratio_is_paired_within_blocks() -> None:
    # The host halves its speed in block 2: paired, the effect is 1.1 in every block.
    found = row(deltas({1: {"baseline": [100, 50, 200, 80], "patched": [110, 55, 220, 88]}}))
    assert found["blocks"] == 4
    assert found["ratio"] == pytest.approx(1.1)
    assert found["ratio_low"] == pytest.approx(1.1)
    assert found["delta_percent"] == pytest.approx(10)
    assert found["baseline"] == pytest.approx((100 * 50 * 200 * 80) ** 0.25)
    assert found["verdict"] == "faster"


def test_only_blocks_with_both_arms_count_also_in_the_means() -> None:
    nan = math.nan
    found = row(
        deltas({1: {"baseline": [100, nan, 100, 100, 900], "patched": [110, 900, 120, 130, nan]}})
    )
    assert found["blocks"] == 3
    assert found["baseline"] == pytest.approx(100)
    assert found["value"] == pytest.approx((110 * 120 * 130) ** (1 / 3))
    assert found["value"] / found["baseline"] == pytest.approx(found["ratio"], rel=1e-15)


def test_a_value_that_is_not_positive_makes_no_pair() -> None:
    frame = samples({1: {"baseline": [100, 0.0, 100], "patched": [110, 110, 0.0]}})
    ratios = ratios_frame(frame, SETTINGS)
    assert list(ratios["block"]) == [1]


def test_latency_is_better_when_lower() -> None:
    latency = replace(SETTINGS, only=("latency_mean_ns",))
    frame = samples({1: {"baseline": [100, 100, 100], "patched": [80, 81, 79]}}).rename(
        columns={"throughput_mib_s": "latency_mean_ns"}
    )
    found = row(deltas_frame(ratios_frame(frame, latency), ONE_CELL, latency))
    assert (found["direction"], found["unit"], found["verdict"]) == ("lower", "ns", "faster")


@pytest.mark.filterwarnings("error")
def test_missing_cells_and_arms_get_rows_that_say_so() -> None:
    nan = math.nan
    cells = {
        1: {"baseline": [100, 101, 102], "patched": [130, 131, 133]},
        2: {"baseline": [nan] * 3, "patched": [nan] * 3},
    }
    frame = deltas(cells)
    assert len(frame) == 4
    for found in (row(frame, size=2), row(frame, "control", size=1)):
        assert (found["blocks"], found["verdict"]) == (0, "inconclusive")
        assert math.isnan(found["ratio"])
        assert pd.isna(found["blocks_to_settle"])
    whole = overall(cells)
    assert (row(whole)["cells"], row(whole)["blocks"]) == (1, 3)
    assert row(whole)["ratio"] == pytest.approx(row(frame, size=1)["ratio"])
    assert (row(whole, "control")["cells"], row(whole, "control")["blocks"]) == (0, 0)
    control = control_frame(ratios_of(cells), frame, whole, SETTINGS).iloc[0]
    assert (control["cells"], control["blocks"], control["false_verdicts"]) == (0, 0, 0)
    assert math.isnan(control["noise_floor_percent"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("blocks", [1, 2])
def test_few_blocks_are_inconclusive(blocks: int) -> None:
    values = {"baseline": [100.0] * blocks, "patched": [200.0] * blocks}
    for frame in (deltas({1: values}), overall({1: values})):
        found = row(frame)
        assert found["ratio"] == pytest.approx(2)
        assert found["verdict"] == "inconclusive"
        assert found[["ratio_low", "delta_high_percent", "p_value", "p_holm"]].isna().all()


def test_missing_cells_count_as_tests() -> None:
    values = {"baseline": [100, 100, 100, 100], "patched": [104, 109, 103, 108]}
    alone = row(deltas({1: values}))
    with_empty = row(deltas({1: values, 2: {"baseline": [math.nan] * 4}}), size=1)
    with_other = row(deltas({1: values, 2: values}), size=1)
    assert alone["p_holm"] == alone["p_value"]
    assert with_empty["p_holm"] == pytest.approx(2 * alone["p_value"])
    assert with_other["p_holm"] == pytest.approx(2 * alone["p_value"])


def test_each_arm_is_a_family_of_its_own() -> None:
    found = deltas(
        {
            1: {
                "baseline": [100] * 4,
                "patched": [104, 109, 103, 108],
                "control": [101, 99, 100, 103],
            }
        }
    )
    assert (found["p_holm"] == found["p_value"]).all()


def test_a_family_spans_the_regimes() -> None:
    s = replace(SETTINGS, regimes=("idle", "loaded"))
    frame = samples({1: {"baseline": [100] * 4, "patched": [104, 109, 103, 108]}})
    both = pd.concat([frame, frame.assign(regime="loaded")])
    cells = {"loaded": [(1,)], "idle": [(1,)]}
    found = deltas_frame(ratios_frame(both, s), cells, s)
    assert list(found["regime"]) == ["idle", "idle", "loaded", "loaded"]
    assert list(found["arm"]) == ["patched", "control"] * 2
    ours = found[found["arm"] == "patched"]
    assert ours["p_holm"].to_numpy() == pytest.approx(2 * ours["p_value"].to_numpy())
    whole = overall_frame(ratios_frame(both, s), cells, s)
    ours = whole[whole["arm"] == "patched"]
    assert (ours["p_holm"] == ours["p_value"]).all()


def test_overall_is_the_geometric_mean_of_the_cells_effects() -> None:
    nan = math.nan
    cells = {
        1: {"baseline": [100, 100, 100], "patched": [110, 120, nan]},
        2: {"baseline": [100, 100, 100], "patched": [130, nan, 140]},
    }
    found = row(overall(cells))
    assert (found["cells"], found["blocks"]) == (2, 3)
    assert found["ratio"] == pytest.approx((1.1 * 1.2 * 1.3 * 1.4) ** (1 / 4))
    each = [row(deltas(cells), size=size)["ratio"] for size in (1, 2)]
    assert found["ratio"] == pytest.approx(math.sqrt(math.prod(each)))
    assert found["p_holm"] == found["p_value"]


def test_inconclusive_rows_forecast_and_settled_rows_do_not() -> None:
    noisy = row(deltas({1: {"baseline": [100] * 4, "patched": [100, 125, 95, 115]}}))
    assert noisy["verdict"] == "inconclusive"
    assert noisy["blocks_to_settle"] > 4
    settled = row(deltas({1: {"baseline": [100] * 4, "patched": [150, 151, 149, 150]}}))
    assert pd.isna(settled["blocks_to_settle"])


def test_text_factors_sort_after_numbers_and_by_letter() -> None:
    values = {"baseline": [1.0] * 3, "patched": [2.0] * 3}
    found = deltas({"threads": values, 10: values, 9: values, "processes": values})
    patched = found[found["arm"] == "patched"]
    assert list(patched["size"]) == [9, 10, "processes", "threads"]
    assert set(patched["blocks"]) == {3}


luck = st.floats(50, 200)
tables = st.integers(3, 6).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            cell: st.fixed_dictionaries(
                {arm: st.lists(luck, min_size=n, max_size=n) for arm in SETTINGS.arms}
            )
            for cell in (1, 2)
        }
    )
)
EFFECT = ["ratio", "ratio_low", "ratio_high", "p_value", "p_holm", "p_sign_flip"]


def same(one: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> None:
    for name in columns:
        assert one[name].to_numpy() == pytest.approx(other[name].to_numpy(), rel=1e-6, abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(table=tables, factor=st.floats(0.01, 100))
def test_scaling_every_arm_leaves_the_ratios(table: dict[int, Values], factor: float) -> None:
    scaled = {
        cell: {arm: [value * factor for value in values] for arm, values in arms.items()}
        for cell, arms in table.items()
    }
    for make in (deltas, overall):
        one, other = make(table), make(scaled)
        same(one, other, EFFECT)
        if make is deltas:
            assert other["value"].to_numpy() == pytest.approx(one["value"].to_numpy() * factor)


@settings(max_examples=12, deadline=None)
@given(table=tables)
def test_swapping_baseline_and_arm_inverts_ratio_and_interval(table: dict[int, Values]) -> None:
    swapped = replace(SETTINGS, baseline="patched")
    opposite = {"faster": "slower", "slower": "faster"}
    make: Callable[..., pd.DataFrame]
    for make in (deltas, overall):
        there, back = make(table), make(table, swapped)
        there = there[there["arm"] == "patched"]
        back = back[back["arm"] == "baseline"]
        assert back["ratio"].to_numpy() == pytest.approx(1 / there["ratio"].to_numpy())
        assert back["ratio_low"].to_numpy() == pytest.approx(1 / there["ratio_high"].to_numpy())
        assert back["ratio_high"].to_numpy() == pytest.approx(1 / there["ratio_low"].to_numpy())
        same(there, back, ["p_value", "p_holm", "p_sign_flip"])
        words = [opposite.get(word, word) for word in there["verdict"]]
        assert list(back["verdict"]) == words


@settings(max_examples=12, deadline=None)
@given(table=tables, shuffle=st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(table: dict[int, Values], shuffle: Any) -> None:
    frame = samples(table)
    order = list(range(len(frame)))
    shuffle.shuffle(order)
    ratios = ratios_frame(frame.iloc[order], SETTINGS)
    pd.testing.assert_frame_equal(ratios, ratios_frame(frame, SETTINGS))
    assert not ratios.duplicated(["regime", "block", "arm", "size", "metric"]).any()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"factors": ()}, "factors"),
        ({"factors": ("size", "size")}, "factors"),
        ({"factors": ("block",)}, "'block' is the name of a column"),
        ({"factors": ("verdict",)}, "'verdict' is the name of a column"),
        ({"baseline": "main"}, "baseline: 'main'"),
        ({"control": "baseline"}, "control: 'baseline'"),
        ({"control": "a-a"}, "control: 'a-a'"),
        ({"confidence": 95}, "confidence: 95"),
        ({"equivalence_margin": math.nan}, "equivalence_margin"),
    ],
)
def test_settings_that_contradict_themselves(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(KdeltaError, match="analysis settings") as caught:
        replace(SETTINGS, **change)
    assert expected in str(caught.value)
