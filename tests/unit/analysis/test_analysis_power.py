# SPDX-License-Identifier: GPL-2.0-only
"""Chances of verdicts: against textbooks, against draws, against each other."""

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from kdelta.analysis.power import (
    Design,
    Spread,
    chance_of_different,
    chance_of_equivalent,
    pooled_spread,
    smallest_effect,
)

USUAL = Design(blocks=10, cells=9, confidence=0.95, margin=0.03)
KNOWN = Spread(0.1, df=9)


@pytest.mark.parametrize(("blocks", "cells"), [(10, 1), (10, 9), (30, 9)])
def test_without_margin_it_is_the_t_tests_power(blocks: int, cells: int) -> None:
    design = replace(USUAL, blocks=blocks, cells=cells, margin=0.0)
    theirs = TTestPower().solve_power(nobs=blocks, alpha=0.05 / cells, power=0.8)
    assert smallest_effect(Spread(1.0), design, 0.8) == pytest.approx(theirs, rel=1e-3)


def drawn(effect: float, spread: Spread, design: Design) -> tuple[float, float]:
    """Shares of 200,000 drawn cells that are called faster, and equivalent."""
    rng = np.random.default_rng(1)
    draws, n = 200_000, design.blocks
    sigma = np.full(draws, spread.log_sd)
    if math.isfinite(spread.df):
        sigma *= np.sqrt(spread.df / rng.chisquare(spread.df, draws))
    mean = effect + rng.normal(size=draws) * sigma / math.sqrt(n)
    error = sigma * np.sqrt(rng.chisquare(n - 1, draws) / (n - 1) / n)
    low, high = mean - design.t_interval * error, mean + design.t_interval * error
    equivalent = (low >= -math.log1p(design.margin)) & (high <= math.log1p(design.margin))
    return np.mean((mean > design.t_strictest * error) & ~equivalent), np.mean(equivalent)


@pytest.mark.parametrize("blocks", [3, 10])
@pytest.mark.parametrize("sd", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("df", [math.inf, 4.0])
@pytest.mark.parametrize("effect", [0.01, 0.028, 0.06])
def test_chances_are_those_of_draws(blocks: int, sd: float, df: float, effect: float) -> None:
    spread, design = Spread(sd, df), replace(USUAL, blocks=blocks)
    different, equivalent = drawn(effect, spread, design)
    assert chance_of_different(effect, spread, design) == pytest.approx(different, abs=0.004)
    assert chance_of_equivalent(effect, spread, design) == pytest.approx(equivalent, abs=0.004)
    assert chance_of_equivalent(-effect, spread, design) == pytest.approx(equivalent, abs=0.004)


def test_smallest_effect_shrinks_with_blocks_and_grows_with_everything_else() -> None:
    def effect(spread: Spread = KNOWN, power: float = 0.8, **design: float) -> float:
        return smallest_effect(spread, replace(USUAL, **design), power)

    usual = effect()
    assert chance_of_different(usual, KNOWN, USUAL) == pytest.approx(0.8)
    assert effect(blocks=20) < usual
    assert effect(Spread(0.2, 9)) > usual
    assert effect(Spread(0.1, 3)) > usual > effect(Spread(0.1))
    assert effect(cells=36) > usual
    assert effect(power=0.9) > usual
    assert effect(margin=0.3) > usual
    assert usual < effect(Spread(0.1, 2), blocks=3, cells=36) < math.inf


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sd", [0.0, 1e-12, 1e-6, 3.0])
@pytest.mark.parametrize("df", [2.0, 9.0, math.inf])
@pytest.mark.parametrize("blocks", [3, 10, 1000])
def test_extreme_spreads(sd: float, df: float, blocks: int) -> None:
    design = replace(USUAL, blocks=blocks)
    found = smallest_effect(Spread(sd, df), design, 0.8)
    assert math.isfinite(found)
    if sd < 1e-4:  # what lies beyond the margin is seen, and nothing else
        assert found == pytest.approx(math.log(1.03), rel=1e-3)


def test_pooling_weighs_by_degrees_of_freedom_and_trusts_the_least() -> None:
    found = pooled_spread(np.array([0.1, 0.2]), np.array([3, 9]))
    assert found.log_sd == pytest.approx(math.sqrt((2 * 0.01 + 8 * 0.04) / 10))
    assert found.df == 2
