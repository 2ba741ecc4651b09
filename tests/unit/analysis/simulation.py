# SPDX-License-Identifier: GPL-2.0-only
"""Simulated experiments with a known truth, many at a time.

The logarithm of a sample is the sum of
  the host's mood in the block (shared by its arms) + drift, boot after boot
  + the arm's true effect + the boot's luck (shared by its cells) + the sample's luck,
and now and then an outlier. Boots fail, and single samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kdelta.analysis.inference import MIN_BLOCKS, Floats, t_interval

ARMS = ("baseline", "patched", "control")


@dataclass(frozen=True)
class World:
    """What experiments are drawn from; spreads are standard deviations of logarithms.

    Attributes:
        effect: true log ratio of the arm "patched"; the control's is 0.
        drift: growth of the logarithm from the first boot of a regime to its last.
        outliers: share of samples that are off by a factor between 0.5 and 2.
        failing_boots, failing_samples: shares.
    """

    regimes: int = 1
    cells: int = 9
    blocks: int = 10
    effect: float = 0.0
    block_sd: float = 0.2
    boot_sd: float = 0.05
    sample_sd: float = 0.05
    drift: float = 0.0
    outliers: float = 0.0
    failing_boots: float = 0.0
    failing_samples: float = 0.0


SCENARIOS = {
    "clean": World(),
    "boots differ": World(boot_sd=0.1, sample_sd=0.02),
    "samples differ": World(boot_sd=0.0, sample_sd=0.1),
    "drift": World(drift=0.5),
    "outliers": World(outliers=0.02),
    "failures": World(failing_boots=0.06, failing_samples=0.02),
    "everything": World(drift=0.3, outliers=0.02, failing_boots=0.05, failing_samples=0.02),
}


def simulate(world: World, experiments: int, seed: int) -> Floats:
    """Logarithms of throughputs, NaN where there is none.

    Returns:
        shape (experiments, regimes, arms, blocks, cells), arms as in `ARMS`.
    """
    rng = np.random.default_rng(seed)
    outer = (experiments, world.regimes)
    arms, blocks, cells = len(ARMS), world.blocks, world.cells
    x = rng.normal(0, world.block_sd, (*outer, 1, blocks, 1)) + np.zeros((arms, blocks, cells))
    # Arms are booted in random order, so the drift within a block differs from block to block.
    order = rng.permuted(np.broadcast_to(np.arange(arms)[:, None], (*outer, arms, blocks)), axis=2)
    boot = order + arms * np.arange(blocks)
    x += (world.drift * boot / (arms * blocks - 1))[..., None]
    x += rng.normal(0, world.boot_sd, (*outer, arms, blocks, 1))
    x += rng.normal(0, world.sample_sd, x.shape)
    x += np.where(
        rng.uniform(size=x.shape) < world.outliers, rng.uniform(-1, 1, x.shape) * np.log(2), 0
    )
    x[:, :, ARMS.index("patched")] += world.effect
    failed_boot = rng.uniform(size=(*outer, arms, blocks, 1)) < world.failing_boots
    failed = failed_boot | (rng.uniform(size=x.shape) < world.failing_samples)
    return np.where(failed, np.nan, x)


def log_ratios(x: Floats, arm: str) -> Floats:
    """Log ratios of an arm; shape (experiments, regimes, cells, blocks)."""
    ratios = x[:, :, ARMS.index(arm)] - x[:, :, ARMS.index("baseline")]
    return np.swapaxes(ratios, -1, -2)


def overall(ratios: Floats) -> Floats:
    """Mean log ratio of each block over the cells that it has; (experiments, regimes, blocks)."""
    there = ~np.isnan(ratios)
    with np.errstate(invalid="ignore"):  # a block without any pair is NaN again
        return np.asarray(np.nansum(ratios, axis=-2) / there.sum(axis=-2))


@dataclass(frozen=True)
class Found:
    """t intervals with NaN where there are too few blocks; arrays without the last axis."""

    mean: Floats
    low: Floats
    high: Floats
    sd: Floats
    p_value: Floats
    blocks: NDArray[np.int64] = field(repr=False)


def intervals(ratios: Floats, confidence: float = 0.95) -> Found:
    """The package's t interval of every row, each on the blocks that it has.

    Args:
        ratios: shape (..., blocks), NaN where there is no pair.
        confidence: of the intervals.
    """
    rows = ratios.reshape(-1, ratios.shape[-1])
    counts = (~np.isnan(rows)).sum(axis=-1)
    packed = np.take_along_axis(rows, np.argsort(np.isnan(rows), axis=-1, kind="stable"), axis=-1)
    out = np.full((5, len(rows)), np.nan)
    for count in np.unique(counts):
        if count >= MIN_BLOCKS:
            here = counts == count
            one = t_interval(packed[here, :count], confidence)
            out[:, here] = (one.mean, one.low, one.high, one.sd, one.p_value)
    shape = ratios.shape[:-1]
    return Found(*(part.reshape(shape) for part in out), counts.reshape(shape))
