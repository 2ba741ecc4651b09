# SPDX-License-Identifier: GPL-2.0-only
"""Simulated experiments with known truth: do the numbers keep their promises?

Two hundred of each world go through the functions that the delta tables are made with, some
through raw files and
`analyse`, to show that both ways are one. Seeds are fixed, so the figures are, too. Many more:
`benchmarks/calibration.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulation import (
    ARMS,
    BURSTS,
    SCENARIOS,
    Effects,
    World,
    calibrate,
    effects,
    simulate,
    simulate_all,
)
from synthetic import SETTINGS, Truth, write_simulated

from kdelta.analysis.effects import Effect
from kdelta.analysis.inference import Floats
from kdelta.analysis.power import Design, Spread, pooled_spread, smallest_effect
from kdelta.analysis.run import AnalysisResult, analyse

EXPERIMENTS = 200
MARGIN = 0.03
POWER = 0.8


def error_of(share: float, experiments: int = EXPERIMENTS) -> float:
    """Three standard errors of a share that is counted in so many experiments."""
    return 3 * math.sqrt(share * (1 - share) / experiments)


@pytest.mark.parametrize("name", SCENARIOS)
def test_intervals_hold_the_truth_and_a_a_cells_are_left_alone(name: str) -> None:
    found = calibrate(SCENARIOS[name], SETTINGS, EXPERIMENTS, seed=11)
    # Cells of an experiment share their boots, so they say little more than one does.
    for share in (found.cells, found.overall):
        assert 0.93 - error_of(0.05) / 2 <= share <= 0.97 + error_of(0.05) / 2
    assert found.false <= 0.05 + error_of(0.05)
    assert found.worded > 0.95


def test_not_by_never_deciding() -> None:
    """Independent cells come close to what they are allowed, over two regimes as over one."""
    world = replace(SCENARIOS["samples differ"], regimes=2)
    rate = calibrate(world, SETTINGS, EXPERIMENTS, seed=12).false
    assert 0.05 - error_of(0.05) <= rate <= 0.05 + error_of(0.05)


def test_bursts_of_other_work_are_not_taken_for_effects() -> None:
    """Intervals grow with them and err on the safe side; set aside by speed, they are narrow."""
    blind = calibrate(BURSTS, SETTINGS, EXPERIMENTS, seed=13)
    checked = calibrate(BURSTS, SETTINGS, EXPERIMENTS, seed=13, cpu_speed=True)
    for found in (blind, checked):
        assert min(found.cells, found.overall) >= 0.93 - error_of(0.05)
        assert found.false <= 0.05 + error_of(0.05)
    assert checked.width < blind.width / 2
    assert checked.worded < 1  # what too few pairs are left of is called invalid


@pytest.mark.parametrize("blocks", [5, 10])
def test_arms_that_take_turns_keep_their_promises_in_bursts(blocks: int) -> None:
    """Of which hardly anything is left in the ratios of neighbouring slices."""
    world = replace(BURSTS, rounds=2, blocks=blocks)
    found = calibrate(world, SETTINGS, EXPERIMENTS, seed=13, cpu_speed=True)
    assert found.overall >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / EXPERIMENTS)
    assert found.false <= 0.05 + 3 * math.sqrt(0.95 * 0.05 / EXPERIMENTS)
    alone = calibrate(replace(BURSTS, blocks=blocks), SETTINGS, EXPERIMENTS, seed=13)
    assert found.width < alone.width / 5


def test_a_trend_from_slice_to_slice_moves_no_overall_effect() -> None:
    still = World(rounds=2, blocks=5, boot_sd=0, sample_sd=0, block_sd=0)
    logs = simulate(replace(still, trend=0.02), 5, seed=4)
    ratios = (logs[:, :, 1] - logs[:, :, 0]).mean(axis=(-1, -2))
    assert np.abs(ratios).max() < 0.003


def test_the_speed_of_a_sample_in_a_burst_tells_of_it() -> None:
    drawn = simulate_all(replace(BURSTS, boot_sd=0, sample_sd=0, block_sd=0), 20, seed=1)
    slow = drawn.speeds.min(axis=-1) < 0.9
    assert 0.1 < slow.mean() < 0.4
    base = drawn.logs[:, :, ARMS.index("baseline")]
    hit = slow[:, :, ARMS.index("baseline")]
    assert (base[~hit] > -0.2).all()
    assert np.median(base[hit]) == pytest.approx(math.log(0.65), abs=0.1)


def announced(controls: Sequence[Effects], regimes: int) -> Floats:
    """The control's noise floor in the first regime, as a log ratio, of every experiment.

    Interpolated between a few spreads: solving for each would take minutes.
    """
    cells = len(controls[0].cells) // regimes
    blocks = np.full(cells, 10)
    sds = [np.array([one.estimate.log_sd for one in c.cells[:cells]]) for c in controls]
    pooled = [pooled_spread(one, blocks) for one in sds]
    spreads = np.array([one.log_sd for one in pooled])
    design = Design(10, cells * regimes, 0.95, MARGIN)
    grid = np.linspace(spreads.min(), spreads.max(), 25)
    floors = [smallest_effect(Spread(sd, pooled[0].df), design, POWER) for sd in grid]
    return np.interp(spreads, grid, floors)


def power_at_the_floor(world: World, experiments: int, seed: int) -> float:
    """One cell is changed by what another experiment announced; all others stay as they are."""
    logs = simulate(world, experiments, seed)
    floors = announced([effects(one, "control", SETTINGS) for one in logs], world.regimes)
    logs[:, 0, ARMS.index("patched"), :, 0] += np.roll(floors, 1)[:, None]
    found = [effects(one, "patched", SETTINGS).cells[0].verdict for one in logs]
    return found.count("faster") / experiments


@pytest.mark.parametrize("name", ["clean", "boots differ", "samples differ", "trend"])
def test_power_at_the_announced_effect(name: str) -> None:
    power = power_at_the_floor(SCENARIOS[name], EXPERIMENTS, seed=13)
    assert power >= POWER - error_of(POWER)
    assert power <= 0.97 + error_of(0.03)  # and the floor is no alibi


def test_power_is_met_on_average_where_boots_are_all_that_differs() -> None:
    """The hardest case for a floor: the control's cells share one spread, known on 9 df."""
    world = World(cells=3, boot_sd=0.1, sample_sd=0.0)
    power = power_at_the_floor(world, 500, seed=15)
    assert power == pytest.approx(POWER, abs=error_of(POWER, 500))


@pytest.mark.parametrize("effect", [math.log(0.8), math.log(1.3)])
def test_a_real_effect_is_found_with_its_sign(effect: float) -> None:
    wrong, right = ("faster", "slower") if effect < 0 else ("slower", "faster")
    cells = [
        one
        for logs in simulate(World(effect=effect), 40, seed=14)
        for one in effects(logs, "patched", SETTINGS).cells
    ]
    words = [one.verdict for one in cells]
    assert wrong not in words
    assert words.count(right) > 0.8 * len(words)
    assert np.mean(np.log([one.estimate.ratio for one in cells])) == pytest.approx(effect, abs=0.03)


TRUTH = Truth(
    regimes=("idle", "memory-pressure"), factors={"writers": (1, 2, 5), "readers": (1, 5, 10)}
)
RAW = replace(SETTINGS, only=("throughput_mib_s",))


def analysed(folder: Path, logs: Floats, regimes: int = 2) -> AnalysisResult:
    """One simulated experiment, by way of its raw files."""
    truth = replace(TRUTH, regimes=TRUTH.regimes[:regimes])
    return analyse(write_simulated(folder / "raw", truth, logs), folder / "out", RAW)


COUNT = 4
SOME = replace(SCENARIOS["everything"], regimes=2, effect=math.log(1.25), failing_samples=0.1)


@pytest.fixture(scope="module")
def logs() -> Floats:
    """As raw files hold them: logarithms of MiB/s."""
    return simulate(SOME, COUNT, seed=16) + math.log(1000)


@pytest.fixture(scope="module")
def results(logs: Floats, tmp_path_factory: pytest.TempPathFactory) -> list[AnalysisResult]:
    """The same experiments in full, by way of raw files."""
    return [analysed(tmp_path_factory.mktemp("experiment"), one) for one in logs]


@pytest.mark.parametrize("arm", ["patched", "control"])
def test_raw_files_give_the_same(logs: Floats, results: list[AnalysisResult], arm: str) -> None:
    seen = set()
    for one, result in zip(logs, results, strict=True):
        found = effects(one, arm, RAW)
        for table, ours in ((result.deltas, found.cells), (result.overall, found.overall)):
            rows = table[table["arm"] == arm]
            assert list(rows["blocks"]) == [effect.estimate.blocks for effect in ours]
            assert list(rows["verdict"]) == [effect.verdict for effect in ours]
            for column, values in columns(ours).items():
                assert rows[column].to_numpy() == pytest.approx(values, rel=1e-9, nan_ok=True)
            seen |= set(rows["verdict"])
    assert "inconclusive" in seen
    assert arm == "control" or "faster" in seen


def row_of(overall: pd.DataFrame, regime: str = "idle") -> pd.Series:
    """The overall effect of "patched"."""
    return overall[(overall["arm"] == "patched") & (overall["regime"] == regime)].iloc[0]


def columns(found: Sequence[Effect]) -> dict[str, list[float]]:
    return {
        "ratio": [one.estimate.ratio for one in found],
        "ratio_low": [one.estimate.low for one in found],
        "ratio_high": [one.estimate.high for one in found],
        "p_value": [one.estimate.p_value for one in found],
        "p_holm": [one.p_holm for one in found],
    }


def test_noise_floors_agree(logs: Floats, results: list[AnalysisResult]) -> None:
    for one, result in zip(logs[:2], results, strict=False):
        cells = effects(one, "control", RAW).cells
        for regime in range(2):
            there = [
                effect.estimate
                for effect in cells[9 * regime : 9 * regime + 9]
                if effect.estimate.blocks >= 3
            ]
            blocks = np.array([estimate.blocks for estimate in there])
            spread = pooled_spread(np.array([estimate.log_sd for estimate in there]), blocks)
            design = Design(int(blocks.min()), len(cells), 0.95, MARGIN)
            floor = 100 * math.expm1(smallest_effect(spread, design, POWER))
            assert result.control["noise_floor_percent"].iloc[regime] == pytest.approx(floor)


def test_what_is_lost_on_disk_makes_nothing_easier(tmp_path: Path) -> None:
    """Raw folders: a cell, a block, a whole regime; the family and the overall effect stay."""
    world = World(regimes=2, blocks=5, unequal=0.2, boot_sd=0.001, sample_sd=0.001)
    logs = simulate(world, 1, seed=18)[0] + math.log(1000)
    planned = replace(RAW, blocks=5, cells=tuple(itertools.product((1, 2, 5), (1, 5, 10))))
    whole = analyse(write_simulated(tmp_path / "a/raw", TRUTH, logs), tmp_path / "a", planned)
    lost = logs.copy()
    lost[0, ARMS.index("patched"), :2, -1] = np.nan
    less = analyse(write_simulated(tmp_path / "b/raw", TRUTH, lost), tmp_path / "b", planned)
    first, second = (row_of(result.overall) for result in (whole, less))
    assert second["delta_percent"] == pytest.approx(first["delta_percent"], abs=0.1)
    assert second["ratio_low"] < 1 < second["ratio_high"]

    kept = tmp_path / "c/raw/idle"
    kept.mkdir(parents=True)
    for block in (1, 2, 4):
        name = f"block-{block:03d}"
        (tmp_path / "b/raw/idle" / name).rename(kept / name)
    rest = analyse(kept.parent, tmp_path / "c", planned)
    ours = rest.deltas[rest.deltas["arm"] == "patched"]
    assert list(ours["regime"]) == ["idle"] * 9 + ["memory-pressure"] * 9
    assert ours["set_aside"].tolist() == [2] * 8 + [4] + [5] * 9
    assert set(ours["verdict"][8:]) == {"invalid"}
    smallest = ours["p_value"].min()
    assert ours["p_holm"].min() == pytest.approx(18 * smallest)
    assert "blocks are not there (3, 5)" in " ".join(rest.notes)
    assert row_of(rest.overall, "memory-pressure")["verdict"] == "invalid"


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
