# SPDX-License-Identifier: GPL-2.0-only
"""The effect of a boot's position: a known trend is found, none is not, holes do not fool it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.analysis.deltas import deltas_frame, ratios_frame
from kdelta.analysis.position import position_frame
from kdelta.analysis.settings import AnalysisSettings
from kdelta.measure.schedule import arm_orders
from tests.workloads import METRICS

CELLS = [(writers, readers) for writers in (1, 2) for readers in (1, 5)]


def named(arms: int) -> tuple[str, ...]:
    return ("baseline", *(f"v{i}" for i in range(1, arms)))


def plan(arms: int, regimes: tuple[str, ...] = ("idle",)) -> AnalysisSettings:
    return AnalysisSettings(
        factors=("writers", "readers"), baseline="baseline", arms=named(arms), regimes=regimes
    )


def simulated(
    slope: float,
    *,
    arms: int = 4,
    blocks: int = 6,
    regimes: tuple[str, ...] = ("idle",),
    boot_sd: float = 0.03,
    walk_sd: float = 0.0,
    lost: float = 0.0,
    seed: int = 1,
) -> pd.DataFrame:
    """Samples in balanced order; the arms have unequal effects in unequal cells.

    Args:
        slope: of the logarithm, per position.
        arms: how many, the baseline counted.
        blocks: of each regime.
        regimes: their names.
        boot_sd: of a boot's luck.
        walk_sd: of the steps of a random walk from boot to boot of a block.
        lost: share of boots, and of samples besides, that are missing.
        seed: of orders, effects and luck.
    """
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.3, (arms, len(CELLS)))
    rows: list[dict[str, Any]] = []
    for regime in regimes:
        orders: list[tuple[str, ...]] = []
        while len(orders) < blocks:
            orders += arm_orders(named(arms), f"{seed}/{regime}/{len(orders)}")
        for block, order in enumerate(orders[:blocks], start=1):
            moods = rng.normal(0, 0.3, len(CELLS))
            walk = np.cumsum(rng.normal(0, walk_sd, arms))
            for position, arm in enumerate(order, start=1):
                luck = rng.normal(0, boot_sd) + walk[position - 1] + slope * position
                if rng.uniform() < lost:
                    continue
                for cell, (writers, readers) in enumerate(CELLS):
                    log = effects[named(arms).index(arm), cell] + moods[cell] + luck
                    rows.append(
                        {
                            "regime": regime,
                            "block": block,
                            "arm": arm,
                            "boot_order": position,
                            "round": 1,
                            "slot": None,
                            "writers": writers,
                            "readers": readers,
                            **{m.name: math.exp(5 + log) for m in METRICS},
                            "valid": bool(rng.uniform() >= lost),
                        }
                    )
    columns = ["regime", "block", "arm", "boot_order", "round", "slot"]
    columns += ["writers", "readers", "valid"]
    return pd.DataFrame(rows, columns=[*columns, *(m.name for m in METRICS)]).astype(
        {"valid": "bool", "slot": "Int64"}
    )


def found(samples: pd.DataFrame, arms: int = 4) -> pd.Series:
    table = position_frame(samples, plan(arms))
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize("arms", [2, 3, 4])
@pytest.mark.parametrize("lost", [0.0, 0.15])
def test_a_trend_without_noise_is_found_to_the_digit(arms: int, lost: float) -> None:
    """Whatever is missing, and however unequal the arms' effects are from cell to cell."""
    samples = simulated(math.log(1.02), arms=arms, blocks=8, boot_sd=0.0, lost=lost)
    row = found(samples, arms)
    for name in ("position_percent", "position_low_percent", "position_high_percent"):
        assert row[name] == pytest.approx(2, abs=1e-6)
    assert row["differs"]
    assert (row["p_value"], row["p_holm"]) == pytest.approx((0, 0), abs=1e-9)


def test_a_balanced_run_of_a_trend_moves_no_delta() -> None:
    """2 % per boot through the real ratios and deltas: all arms keep their effects."""
    flat, trend = (simulated(s, boot_sd=0.0) for s in (0.0, math.log(1.02)))
    ratios = []
    for samples in (flat, trend):
        table = deltas_frame(ratios_frame(samples, plan(4)), {"idle": CELLS}, plan(4))
        ratios.append(table["ratio"].to_numpy())
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-9)
    assert found(trend)["largest_bias_percent"] == pytest.approx(0, abs=1e-9)


def test_the_largest_bias_is_that_of_the_deltas() -> None:
    """Three blocks of four arms cannot be balanced: what the table says is what happens."""
    flat, trend = (simulated(s, blocks=3, boot_sd=0.0) for s in (0.0, math.log(1.02)))
    ratios = [
        deltas_frame(ratios_frame(s, plan(4)), {"idle": CELLS}, plan(4))["ratio"].to_numpy()
        for s in (flat, trend)
    ]
    worst = float(np.exp(np.abs(np.log(ratios[1] / ratios[0])).max()))
    assert worst > 1.005
    assert found(trend)["largest_bias_percent"] == pytest.approx(100 * (worst - 1), rel=1e-6)


@pytest.mark.parametrize("blocks", [1, 2, 3, 6])
@pytest.mark.parametrize("arms", [2, 3, 4])
def test_few_blocks_have_no_interval(arms: int, blocks: int) -> None:
    row = found(simulated(0.02, arms=arms, blocks=blocks), arms)
    assert row["blocks"] == blocks
    # One order alone cannot tell arms from positions.
    assert math.isnan(row["position_percent"]) == (blocks == 1)
    has_interval = blocks >= (4 if arms == 2 else 3)
    assert math.isfinite(row["position_low_percent"]) == has_interval
    assert math.isfinite(row["p_holm"]) == has_interval
    assert has_interval or not row["differs"]


@settings(max_examples=30, deadline=None)
@given(
    arms=st.integers(2, 5),
    blocks=st.integers(1, 5),
    lost=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_holes_never_raise(arms: int, blocks: int, lost: float, seed: int) -> None:
    samples = simulated(0.02, arms=arms, blocks=blocks, lost=lost, seed=seed)
    table = position_frame(samples, plan(arms))
    assert len(table) == (len(samples) > 0)
    for row in table.to_dict("records"):
        low, high = row["position_low_percent"], row["position_high_percent"]
        assert not low > row["position_percent"]
        assert not row["position_percent"] > high
        assert not row["differs"] or row["p_holm"] < 0.05


@pytest.mark.parametrize("world", ["boots differ", "random walk", "holes", "two arms"])
def test_it_holds_its_level_and_covers_the_truth(world: str) -> None:
    """200 experiments without a trend and as many with one, tests and intervals of 95 %."""
    more: dict[str, Any] = {
        "boots differ": {},
        "random walk": {"walk_sd": 0.03},
        "holes": {"lost": 0.06},
        "two arms": {"arms": 2},
    }[world]
    runs = 200
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    for slope in (0.0, 0.02):
        wrong = 0
        for seed in range(runs):
            row = found(simulated(slope, seed=seed, **more), more.get("arms", 4))
            low, high = (math.log1p(row[f"position_{x}_percent"] / 100) for x in ("low", "high"))
            wrong += not low <= slope <= high
            assert row["differs"] == (not low <= 0 <= high)
        assert wrong / runs <= allowed


def test_a_trend_is_called_one() -> None:
    """2 % per boot and boots that differ by 1 %: ten blocks see that nearly always."""
    seen = sum(
        found(simulated(0.02, blocks=10, boot_sd=0.01, seed=s))["differs"] for s in range(20)
    )
    assert seen >= 19


def test_p_values_are_adjusted_over_the_regimes() -> None:
    regimes = ("idle", "pressed", "reclaim")
    samples = simulated(0.01, blocks=5, regimes=regimes, seed=3)
    table = position_frame(samples, plan(4, regimes))
    assert list(table["regime"]) == list(regimes)
    assert table["p_holm"].min() == pytest.approx(3 * table["p_value"].min())
    assert list(table["differs"]) == list(table["p_holm"] < 0.05)
