# SPDX-License-Identifier: GPL-2.0-only
"""Simulated experiments with known truth: do the numbers keep their promises?

Each experiment has 10 blocks. A log ratio of a cell is the true effect, plus what a boot
of either arm brings to all of its cells, plus each sample's own luck; the host's mood in
a block falls out of the ratio. Seeds are fixed, so the figures below are, too.
"""

import math

import numpy as np
import pytest

from kdelta.analysis.inference import Floats, detectable_effect, holm, t_interval
from kdelta.analysis.verdict import verdict

BLOCKS = 10
CELLS = 9


def simulated(
    experiments: int, cells: int, *, boot_sd: float, sample_sd: float, effect: float, seed: int
) -> Floats:
    """Log ratios, shape (experiments, cells, BLOCKS)."""
    rng = np.random.default_rng(seed)

    def arm() -> Floats:
        boots = rng.normal(0, boot_sd, (experiments, 1, BLOCKS))
        return boots + rng.normal(0, sample_sd, (experiments, cells, BLOCKS))

    return effect + arm() - arm()


@pytest.mark.parametrize("effect", [0.0, math.log(1.2)])
@pytest.mark.parametrize(("boot_sd", "sample_sd"), [(0.0, 0.1), (0.1, 0.02)])
def test_coverage_of_the_interval(effect: float, boot_sd: float, sample_sd: float) -> None:
    x = simulated(4000, 1, boot_sd=boot_sd, sample_sd=sample_sd, effect=effect, seed=11)
    found = t_interval(x, 0.95)
    coverage = np.mean((found.low <= effect) & (effect <= found.high))
    assert 0.93 <= coverage <= 0.97


def any_cell_declared(x: Floats, margin: float) -> float:
    """Share of experiments with at least one cell faster or slower."""
    found = t_interval(x, 0.95)
    adjusted = holm(found.p_value)
    words = [
        [
            verdict(low, high, p, direction="higher", confidence=0.95, margin=margin)
            for low, high, p in zip(*row, strict=True)
        ]
        for row in zip(np.exp(found.low), np.exp(found.high), adjusted, strict=True)
    ]
    return float(np.mean([bool({"faster", "slower"} & set(row)) for row in words]))


@pytest.mark.parametrize(("boot_sd", "sample_sd"), [(0.0, 0.2), (0.2, 0.05)])
def test_false_verdicts_in_pure_a_a_experiments(boot_sd: float, sample_sd: float) -> None:
    experiments = 2000
    x = simulated(experiments, CELLS, boot_sd=boot_sd, sample_sd=sample_sd, effect=0.0, seed=12)
    rate = any_cell_declared(x, margin=0.03)
    error = math.sqrt(0.05 * 0.95 / experiments)
    assert rate <= 0.05 + 3 * error
    # Not by never deciding: independent cells must come close to the level they are allowed.
    assert rate >= (0.05 - 3 * error if boot_sd == 0 else 0.005)


def test_without_holm_the_same_data_would_fail() -> None:
    x = simulated(2000, CELLS, boot_sd=0.0, sample_sd=0.2, effect=0.0, seed=12)
    assert np.mean((t_interval(x, 0.95).p_value < 0.05).any(axis=-1)) > 0.3


def test_power_at_the_announced_effect() -> None:
    sd = 0.1 * math.sqrt(2)
    effect = detectable_effect(sd, blocks=BLOCKS, cells=CELLS, confidence=0.95, power=0.8)
    x = simulated(4000, 1, boot_sd=0.0, sample_sd=0.1, effect=effect, seed=13)
    found = t_interval(x, 0.95)
    power = np.mean((found.p_value < 0.05 / CELLS) & (found.mean > 0))
    assert power == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 4000))


def test_a_real_effect_is_found_with_its_sign() -> None:
    x = simulated(200, CELLS, boot_sd=0.02, sample_sd=0.05, effect=math.log(0.8), seed=14)
    found = t_interval(x, 0.95)
    for low, high, p in zip(
        np.exp(found.low).flat, np.exp(found.high).flat, holm(found.p_value).flat, strict=True
    ):
        word = verdict(low, high, p, direction="higher", confidence=0.95, margin=0.03)
        assert word in ("slower", "inconclusive")
