# SPDX-License-Identifier: GPL-2.0-only
"""Which interval for a mean log ratio of few blocks keeps its promise?

Draws experiments with known truth (the generator of the calibration tests) and compares, for
cells and for overall effects, how often nominal 95 % intervals cover the truth, and how wide
they are: Student's t, the bootstrap of blocks with percentiles and with BCa (both scipy's), and
the studentised bootstrap. Missing blocks change the number of blocks and nothing else, so they
are left to the tests.

    PYTHONPATH=tests/unit/analysis .venv/bin/python benchmarks/calibration.py
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from simulation import World, log_ratios, overall, simulate

from kdelta.analysis.inference import t_interval

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]

CONFIDENCE = 0.95
SCENARIOS = {
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=1999)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=stats.DegenerateDataWarning)
    print(
        f"{args.experiments} simulated experiments a line, {args.resamples} resamples; "
        "nominal coverage 95 %"
    )
    error = 100 * np.sqrt(0.95 * 0.05 / args.experiments)
    print(f"coverage in % (standard error {error:.2f}), in brackets mean width in % (log scale)")
    print(f"{'scenario':<14} {'effect':<8} blocks" + "".join(f"{name:>16}" for name in METHODS))
    for blocks in (5, 10):
        for name, scenario in SCENARIOS.items():
            world = replace(scenario, blocks=blocks)
            ratios = log_ratios(simulate(world, args.experiments, seed=21), "control")[:, 0]
            # One cell of each experiment: cells of a boot are not independent.
            for effect, x in (("cell", ratios[:, 0]), ("overall", overall(ratios[:, None])[:, 0])):
                found = compare(x, args.resamples, seed=22)
                cells = (f"{100 * c:6.1f} [{100 * w:5.1f}]" for c, w in found.values())
                print(
                    f"{name:<14} {effect:<8} {blocks:>6}" + "".join(f"{c:>16}" for c in cells),
                    flush=True,
                )


if __name__ == "__main__":
    main()
