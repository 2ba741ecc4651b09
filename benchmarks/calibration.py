# SPDX-License-Identifier: GPL-2.0-only
"""Which intervals keep their promise, with few blocks, lost samples and a host that is not quiet?

Draws experiments with known truth (the generator of the calibration tests). Three tables, each
with coverage of nominal 95 % intervals and their width:

1. one mean log ratio of complete blocks: Student's t, the bootstrap of blocks with percentiles
   and with BCa (both scipy's), and the studentised bootstrap;
2. an effect over cells of which some pairs are lost: the mean of what each block has, complete
   blocks alone, an additive fit of cells and blocks with the jackknife over blocks, and the
   package's own `over_cells`;
3. the package as a whole, world by world: cells, overall effects, and how often a pure A/A
   experiment has any cell called faster or slower.

    PYTHONPATH=tests/unit/analysis .venv/bin/python benchmarks/calibration.py
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from simulation import ARMS, BURSTS, SCENARIOS, World, calibrate, simulate
from synthetic import SETTINGS

from kdelta.analysis.inference import over_cells, t_interval

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]

CONFIDENCE = 0.95
WHOLE = {
    "clean": World(),
    "boots differ": World(boot_sd=0.1, sample_sd=0.02),
    "drift": World(drift=0.5),
    "outliers": World(outliers=0.02),
    "many outliers": World(boot_sd=0.02, sample_sd=0.02, outliers=0.1),
}


def t(x: Floats, _resamples: int, _rng: np.random.Generator) -> Interval:
    """Student's t."""
    found = t_interval(x, CONFIDENCE)
    return found.low, found.high


def scipy_bootstrap(method: str) -> Callable[[Floats, int, np.random.Generator], Interval]:
    """One of scipy's bootstraps of the mean."""

    def interval(x: Floats, resamples: int, rng: np.random.Generator) -> Interval:
        found = stats.bootstrap(
            (x,),
            np.mean,
            n_resamples=resamples,
            axis=-1,
            confidence_level=CONFIDENCE,
            method=method,
            rng=rng,
        ).confidence_interval
        return found.low, found.high

    return interval


def studentised(x: Floats, resamples: int, rng: np.random.Generator) -> Interval:
    """Bootstrap of the t statistic: its quantiles take the place of Student's."""
    blocks = x.shape[-1]
    mean, error = x.mean(axis=-1), x.std(axis=-1, ddof=1) / np.sqrt(blocks)
    drawn = np.take_along_axis(
        x[:, None, :], rng.integers(blocks, size=(len(x), resamples, blocks)), axis=-1
    )
    errors = drawn.std(axis=-1, ddof=1) / np.sqrt(blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        ts = (drawn.mean(axis=-1) - mean[:, None]) / errors
    # A resample of one block over and over has no spread; it says nothing of t.
    ts = np.where(errors > 1e-12, ts, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(ts, [1 - tail, tail], axis=-1)
    return mean - low * error, mean - high * error


METHODS: dict[str, Callable[[Floats, int, np.random.Generator], Interval]] = {
    "t": t,
    "percentile": scipy_bootstrap("percentile"),
    "BCa": scipy_bootstrap("BCa"),
    "studentised": studentised,
}


def compare(x: Floats, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Method -> coverage of 0 and mean width, of intervals of every row of `x`.

    Args:
        x: log ratios, shape (intervals, blocks), whose true mean is 0.
        resamples: of the bootstraps.
        seed: of the bootstraps.
    """
    results = {}
    for name, method in METHODS.items():
        rng = np.random.default_rng(seed)
        parts = [method(x[i : i + 200], resamples, rng) for i in range(0, len(x), 200)]
        low = np.concatenate([part[0] for part in parts])
        high = np.concatenate([part[1] for part in parts])
        # BCa has no interval (NaN) where the blocks are too few for its correction.
        results[name] = (float(np.mean((low <= 0) & (high >= 0))), float(np.nanmean(high - low)))
    return results


def ratios_of(world: World, arm: str, experiments: int, seed: int) -> Floats:
    """Log ratios of an arm in the first regime, shape (experiments, blocks, cells)."""
    logs = simulate(world, experiments, seed)[:, 0]
    return logs[:, ARMS.index(arm)] - logs[:, ARMS.index("baseline")]


def print_methods(experiments: int, resamples: int) -> None:
    """The first table."""
    print(f"1. One mean of complete blocks, {resamples} resamples")
    print(f"{'world':<14} {'effect':<8} blocks" + "".join(f"{name:>16}" for name in METHODS))
    for blocks in (5, 10):
        for name, scenario in WHOLE.items():
            ratios = ratios_of(replace(scenario, blocks=blocks), "control", experiments, 21)
            # One cell of each experiment: cells of a boot are not independent.
            overall = np.array([over_cells(as_cells(one)).values for one in ratios])
            for effect, x in (("cell", ratios[:, :, 0]), ("overall", overall)):
                found = compare(x, resamples, seed=22)
                cells = (f"{100 * c:6.1f} [{100 * w:5.1f}]" for c, w in found.values())
                print(
                    f"{name:<14} {effect:<8} {blocks:>6}" + "".join(f"{c:>16}" for c in cells),
                    flush=True,
                )


Estimate = tuple[float, float, float]
"""Mean, standard error, degrees of freedom; NaN where there is none."""

NONE = (math.nan, math.nan, math.nan)


def as_cells(table: Floats) -> list[Mapping[int, float]]:
    """Block -> log ratio of each cell, of a table of shape (blocks, cells)."""
    return [{b: float(y) for b, y in enumerate(c) if not np.isnan(y)} for c in table.T]


def plain(values: Floats) -> Estimate:
    """One value per block."""
    if len(values) < 3:
        return NONE
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), error, len(values) - 1


def block_means(table: Floats) -> Estimate:
    """In each block, the mean of the cells that it has."""
    return plain(np.nanmean(table[~np.isnan(table).all(axis=1)], axis=1))


def complete_blocks(table: Floats) -> Estimate:
    """Only blocks that have every cell."""
    return plain(table[~np.isnan(table).any(axis=1)].mean(axis=1))


def additive(table: Floats) -> Estimate:
    """Cell + block by least squares, its error by leaving out one block after another."""
    table = table[~np.isnan(table).all(axis=1)]
    blocks = len(table)
    means = [
        _additive_mean(table[np.arange(blocks) != out]) if blocks > 1 else math.nan
        for out in range(blocks)
    ]
    whole = _additive_mean(table)
    error = math.sqrt((blocks - 1) / blocks * float(((np.array(means) - whole) ** 2).sum()))
    return whole, error, blocks - 1


def _additive_mean(table: Floats) -> float:
    block, cell = np.nonzero(~np.isnan(table))
    blocks, cells = table.shape
    if len(set(cell.tolist())) < cells:
        return math.nan
    design = np.zeros((len(block), cells + blocks - 1))
    design[np.arange(len(block)), cell] = 1
    # Block effects sum to zero.
    inner = block < blocks - 1
    design[np.flatnonzero(inner), cells + block[inner]] = 1
    design[np.flatnonzero(~inner), cells:] = -1
    fit, _, rank, _ = np.linalg.lstsq(design, table[block, cell], rcond=None)
    return float(fit[:cells].mean()) if rank == design.shape[1] else math.nan


def packaged(table: Floats) -> Estimate:
    """The package's."""
    found = over_cells(as_cells(table))
    if math.isnan(found.df):
        return NONE
    mean, error, _ = plain(found.values)
    return mean, error, found.df


SUMMARIES: dict[str, Callable[[Floats], Estimate]] = {
    "block means": block_means,
    "complete blocks": complete_blocks,
    "additive fit": additive,
    "over_cells": packaged,
}
LOSSES: dict[str, Callable[[Floats, np.random.Generator], NDArray[np.bool_]]] = {
    "nothing": lambda x, _rng: np.zeros(x.shape, bool),
    "one cell, 2 blocks": lambda x, _rng: _corner(x, 2, x.shape[2] - 1),
    "half the cells, 2 blocks": lambda x, _rng: _corner(x, 2, x.shape[2] // 2),
    "20 % at random": lambda x, rng: rng.uniform(size=x.shape) < 0.2,
}


def _corner(x: Floats, blocks: int, first: int) -> NDArray[np.bool_]:
    lost = np.zeros(x.shape, bool)
    lost[:, :blocks, first:] = True
    return lost


def print_summaries(experiments: int) -> None:
    """The second table."""
    print("\n2. An effect over cells, unequal effects (-30 to +30 %), some pairs lost")
    print("   in the last column the share of experiments in which each has an interval")
    head = f"{'world':<15} {'shape':<5} {'lost':<25}"
    print(head + "".join(f"{name:>24}" for name in SUMMARIES))
    worlds = {
        "samples differ": World(unequal=0.3, boot_sd=0.0),
        "boots differ": World(unequal=0.3, sample_sd=0.01),
        "unequal noise": World(unequal=0.3, boot_sd=0.02, noisier=2.7),
    }
    for name, scenario in worlds.items():
        for blocks, cells in ((5, 2), (5, 9), (10, 9)):
            world = replace(scenario, blocks=blocks, cells=cells)
            whole = ratios_of(world, "patched", experiments, 23)
            for lost, choose in LOSSES.items():
                tables = np.where(choose(whole, np.random.default_rng(24)), np.nan, whole)
                line = f"{name:<15} {blocks}x{cells:<3} {lost:<25}"
                for method in SUMMARIES.values():
                    found = np.array([method(table) for table in tables])
                    half = stats.t.isf((1 - CONFIDENCE) / 2, found[:, 2]) * found[:, 1]
                    there = ~np.isnan(half)
                    if not there.any():
                        line += f"{'none':>24}"
                        continue
                    covered = 100 * np.mean(np.abs(found[there, 0] - world.effect) <= half[there])
                    width = 100 * 2 * np.median(half[there])
                    line += f"{covered:11.1f} [{width:5.1f}] {100 * there.mean():3.0f}%"
                print(line, flush=True)


def print_worlds(experiments: int) -> None:
    """The third table."""
    print("\n3. The package, world by world, in %: intervals that hold the truth, A/A experiments")
    print("   with any cell called faster or slower, effects that are not invalid, median width of")
    print("   an overall interval (log scale)")
    print(f"{'world':<28} blocks   cells overall   false  worded   width")
    worlds: dict[str, tuple[World, bool]] = {
        **{name: (world, False) for name, world in SCENARIOS.items()},
        "bursts": (BURSTS, False),
        "bursts, slow samples aside": (BURSTS, True),
    }
    for blocks in (5, 10):
        for name, (scenario, rule) in worlds.items():
            world = replace(
                scenario, blocks=blocks, lost_blocks=min(scenario.lost_blocks, blocks - 3)
            )
            found = calibrate(world, SETTINGS, experiments, 25, cpu_speed=rule)
            shares = (found.cells, found.overall, found.false, found.worded, found.width)
            print(
                f"{name:<28} {blocks:>6}" + "".join(f"{100 * x:8.1f}" for x in shares), flush=True
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=4000, help="of the first table")
    parser.add_argument("--resamples", type=int, default=1999)
    parser.add_argument("--worlds", type=int, default=2000, help="experiments of the other two")
    parser.add_argument("--only", type=int, choices=(1, 2, 3), help="one table alone")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=stats.DegenerateDataWarning)
    print("coverage of nominal 95 % intervals in %, in brackets mean width in % (log scale);")
    for count in (args.experiments, args.worlds):
        error = 100 * np.sqrt(0.95 * 0.05 / count)
        print(f"{count} experiments a line: standard error {error:.2f}")
    if args.only in (None, 1):
        print_methods(args.experiments, args.resamples)
    if args.only in (None, 2):
        print_summaries(args.worlds)
    if args.only in (None, 3):
        print_worlds(args.worlds)


if __name__ == "__main__":
    main()
