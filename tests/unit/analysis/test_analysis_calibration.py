# SPDX-License-Identifier: GPL-2.0-only
"""Thousands of simulated experiments with known truth: do the numbers keep their promises?

Most are put through the functions that the analysis is made of, many experiments at a time;
some through raw files and `analyse`, to show that both ways are one. Seeds are fixed, so the
figures are, too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulation import SCENARIOS, Found, World, intervals, log_ratios, overall, simulate
from synthetic import SETTINGS, Truth, write_simulated

from kdelta.analysis.control import control_frame
from kdelta.analysis.inference import Floats, holm
from kdelta.analysis.power import Design, Spread, pooled_spread, smallest_effect
from kdelta.analysis.run import AnalysisResult, analyse
from kdelta.analysis.settings import THROUGHPUT
from kdelta.analysis.verdict import is_invalid, verdict

EXPERIMENTS = 2000
MARGIN = 0.03
POWER = 0.8


def words(found: Found, adjusted: Floats) -> np.ndarray:
    """Verdict of every interval, on throughput."""
    flat = zip(found.low.flat, found.high.flat, adjusted.flat, strict=True)
    verdicts = [
        verdict(
            math.exp(low), math.exp(high), p, direction="higher", confidence=0.95, margin=MARGIN
        )
        for low, high, p in flat
    ]
    return np.array(verdicts).reshape(found.low.shape)


def holm_over_regimes(found: Found) -> Floats:
    """Adjusted p-values; the family is an experiment's cells of all regimes."""
    p = found.p_value
    return holm(p.reshape(len(p), -1)).reshape(p.shape)


def any_cell(declared: np.ndarray) -> float:
    """Share of experiments with a cell called faster or slower."""
    return float(np.isin(declared, ["faster", "slower"]).any(axis=(1, 2)).mean())


def error_of(share: float, experiments: int = EXPERIMENTS) -> float:
    """Three standard errors of a share that is counted in so many experiments."""
    return 3 * math.sqrt(share * (1 - share) / experiments)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("effect", [0.0, math.log(0.8)])
def test_coverage_of_the_interval(name: str, effect: float) -> None:
    world = replace(SCENARIOS[name], effect=effect)
    ratios = log_ratios(simulate(world, EXPERIMENTS, seed=11), "patched")
    for found in (intervals(ratios), intervals(overall(ratios))):
        there = ~np.isnan(found.low)
        assert there.mean() > 0.99
        covered = (found.low <= effect) & (effect <= found.high)
        assert 0.93 <= covered[there].mean() <= 0.97


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("regimes", [1, 2])
def test_pure_a_a_experiments_seldom_declare_any_cell(name: str, regimes: int) -> None:
    world = replace(SCENARIOS[name], regimes=regimes)
    found = intervals(log_ratios(simulate(world, EXPERIMENTS, seed=12), "patched"))
    rate = any_cell(words(found, holm_over_regimes(found)))
    assert rate <= 0.05 + error_of(0.05)
    if name == "samples differ":
        # Not by never deciding: independent cells come close to what they are allowed.
        assert rate >= 0.05 - error_of(0.05)


def test_families_of_one_regime_each_would_fail() -> None:
    world = replace(SCENARIOS["samples differ"], regimes=2)
    found = intervals(log_ratios(simulate(world, EXPERIMENTS, seed=12), "patched"))
    assert any_cell(words(found, holm(found.p_value))) > 0.05 + error_of(0.05)
    assert any_cell(words(found, found.p_value)) > 0.5


def announced(found: Found, regimes: int) -> Floats:
    """The control's noise floor in the first regime, as a log ratio, of every experiment.

    Interpolated between a few spreads: solving for each would take minutes.
    """
    blocks = np.full(found.sd.shape[-1], 10)
    spreads = np.array([pooled_spread(sds, blocks).log_sd for sds in found.sd[:, 0]])
    known = pooled_spread(found.sd[0, 0], blocks).df
    design = Design(10, found.sd.shape[-1] * regimes, 0.95, MARGIN)
    grid = np.linspace(spreads.min(), spreads.max(), 25)
    floors = [smallest_effect(Spread(sd, known), design, POWER) for sd in grid]
    return np.interp(spreads, grid, floors)


@pytest.mark.parametrize("name", ["clean", "boots differ", "samples differ", "drift", "outliers"])
@pytest.mark.parametrize("regimes", [1, 2])
def test_power_at_the_announced_effect(name: str, regimes: int) -> None:
    """One cell is changed by what another experiment announced; all others stay as they are."""
    world = replace(SCENARIOS[name], regimes=regimes)
    x = simulate(world, EXPERIMENTS, seed=13)
    floors = announced(intervals(log_ratios(x, "control")), regimes)
    ratios = log_ratios(x, "patched")
    ratios[:, 0, 0] += np.roll(floors, 1)[:, None]
    found = intervals(ratios)
    power = (words(found, holm_over_regimes(found))[:, 0, 0] == "faster").mean()
    assert power >= POWER - error_of(POWER)
    assert power <= 0.97  # and the floor is no alibi


def test_power_is_met_on_average_where_boots_are_all_that_differs() -> None:
    """The hardest case for a floor: the control's cells share one spread, known on 9 df."""
    world = World(cells=3, boot_sd=0.1, sample_sd=0.0)
    x = simulate(world, 8000, seed=15)
    floors = announced(intervals(log_ratios(x, "control")), 1)
    ratios = log_ratios(x, "patched")
    ratios[:, 0, 0] += np.roll(floors, 1)[:, None]
    found = intervals(ratios[:, :, :1])
    strictest = 3 * found.p_value  # nothing else is changed, so Holm helps nobody
    power = (words(found, strictest) == "faster").mean()
    assert power == pytest.approx(POWER, abs=error_of(POWER, 8000) + 0.005)


@pytest.mark.parametrize("effect", [math.log(0.8), math.log(1.3)])
def test_a_real_effect_is_found_with_its_sign(effect: float) -> None:
    found = intervals(log_ratios(simulate(World(effect=effect), 300, seed=14), "patched"))
    declared = words(found, holm_over_regimes(found))
    wrong, right = ("faster", "slower") if effect < 0 else ("slower", "faster")
    assert not (declared == wrong).any()
    assert (declared == right).mean() > 0.8
    assert found.mean.mean() == pytest.approx(effect, abs=0.01)


TRUTH = Truth(
    regimes=("idle", "memory-pressure"), factors={"writers": (1, 2, 5), "readers": (1, 5, 10)}
)
RAW = replace(SETTINGS, metrics=(THROUGHPUT,))


def analysed(folder: Path, logs: Floats, regimes: int = 2) -> AnalysisResult:
    """One simulated experiment, by way of its raw files."""
    truth = replace(TRUTH, regimes=TRUTH.regimes[:regimes])
    return analyse(write_simulated(folder / "raw", truth, logs), folder / "out", RAW)


COUNT = 24
SOME = replace(SCENARIOS["everything"], regimes=2, effect=math.log(1.25))


@pytest.fixture(scope="module")
def logs() -> Floats:
    """As raw files hold them: logarithms of MiB/s."""
    return simulate(SOME, COUNT, seed=16) + math.log(1000)


@pytest.fixture(scope="module")
def results(logs: Floats, tmp_path_factory: pytest.TempPathFactory) -> list[AnalysisResult]:
    """The same experiments in full, by way of raw files."""
    return [analysed(tmp_path_factory.mktemp("experiment"), one) for one in logs]


@pytest.mark.parametrize("arm", ["patched", "control"])
def test_cells_agree(logs: Floats, results: list[AnalysisResult], arm: str) -> None:
    found = intervals(log_ratios(logs, arm))
    adjusted = holm_over_regimes(found)
    declared = words(found, adjusted)
    seen = set()
    for place, result in enumerate(results):
        table = result.deltas[result.deltas["arm"] == arm]
        assert list(table["blocks"]) == list(found.blocks[place].flat)
        assert list(table["set_aside"]) == [10 - n for n in found.blocks[place].flat]
        for column, ours in (("ratio_low", found.low), ("ratio_high", found.high)):
            assert np.log(table[column]).to_numpy() == pytest.approx(
                ours[place].ravel(), abs=1e-9, nan_ok=True
            )
        assert table["p_holm"].to_numpy() == pytest.approx(
            adjusted[place].ravel(), rel=1e-9, nan_ok=True
        )
        expected = [
            "invalid" if is_invalid(10, blocks) else word
            for blocks, word in zip(found.blocks[place].flat, declared[place].flat, strict=True)
        ]
        assert list(table["verdict"]) == expected
        seen |= set(expected)
    assert "inconclusive" in seen
    assert arm == "control" or "faster" in seen


def test_overall_effects_agree(logs: Floats, results: list[AnalysisResult]) -> None:
    found = intervals(overall(log_ratios(logs, "patched")))
    for place, result in enumerate(results):
        table = result.overall[result.overall["arm"] == "patched"]
        assert list(table["blocks"]) == list(found.blocks[place])
        assert np.log(table["ratio_low"]).to_numpy() == pytest.approx(found.low[place])
        assert table["p_value"].to_numpy() == pytest.approx(found.p_value[place])


def test_noise_floors_agree(logs: Floats, results: list[AnalysisResult]) -> None:
    found = intervals(log_ratios(logs, "control"))
    for place, result in enumerate(results[:5]):
        again = control_frame(result.ratios, result.deltas, result.overall, RAW)
        pd.testing.assert_frame_equal(again, result.control)
        for regime in range(2):
            blocks = found.blocks[place, regime]
            there = blocks >= 3
            spread = pooled_spread(found.sd[place, regime][there], blocks[there])
            tests = int((found.blocks[place] >= 3).sum())
            design = Design(int(blocks[there].min()), tests, 0.95, MARGIN)
            floor = 100 * math.expm1(smallest_effect(spread, design, POWER))
            assert result.control["noise_floor_percent"].iloc[regime] == pytest.approx(floor)


@pytest.mark.parametrize("blocks", [1, 2])
def test_two_blocks_or_fewer_claim_nothing(blocks: int, tmp_path: Path) -> None:
    world = World(blocks=blocks, effect=1.0, boot_sd=0.001, sample_sd=0.001)
    result = analysed(tmp_path, simulate(world, 1, seed=17)[0], regimes=1)
    for table in (result.deltas, result.overall):
        assert set(table["verdict"]) == {"inconclusive"}
        assert (
            table[["ratio_low", "ratio_high", "p_value", "p_holm", "p_sign_flip"]]
            .isna()
            .all(axis=None)
        )
    assert result.control["noise_floor_percent"].isna().all()
    assert not result.control["differs"].any()
