# SPDX-License-Identifier: GPL-2.0-only
"""Estimates, intervals and tests on log ratios, one value per block.

The block is the unit: the samples of one boot share its memory layout and its
host's mood, so only ratios of different blocks count as independent. Logarithms
make the ratio symmetric: swapping the two arms mirrors every result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

MIN_BLOCKS = 3
"""Fewest blocks with an interval; two have one degree of freedom and prove nothing."""

MAX_BLOCKS_TO_SETTLE = 1000
"""Above this many blocks, "measure more" is no advice."""

# Sign-flip tests enumerate all 2^n sign patterns up to n = 12, and draw as many beyond.
_SIGN_PATTERNS = 2**12
_SIGN_SEED = 20260515

ROUNDING = 1e-12
"""Log ratios that differ by less are the same number after rounding."""


@dataclass(frozen=True)
class TInterval:
    """t interval and test of log ratios; arrays of the input's shape without its last axis.

    Attributes:
        mean: mean log ratio.
        low, high: ends of the interval for the mean.
        sd: standard deviation over blocks (n - 1 in the denominator).
        p_value: two-sided t test of mean = 0.
    """

    mean: Floats
    low: Floats
    high: Floats
    sd: Floats
    p_value: Floats


@dataclass(frozen=True)
class Estimate:
    """An effect over blocks. With fewer than `MIN_BLOCKS`, all but `blocks` and `ratio` are NaN.

    Attributes:
        blocks: how many ratios it rests on.
        ratio: their geometric mean; NaN if there are none.
        low, high: ends of the ratio's interval.
        log_sd: standard deviation of the log ratios.
        p_value: t test on log ratios.
        p_sign_flip: sign-flip permutation test on log ratios.
    """

    blocks: int
    ratio: float
    low: float
    high: float
    log_sd: float
    p_value: float
    p_sign_flip: float


def t_interval(log_ratios: Floats, confidence: float, df: float | None = None) -> TInterval:
    """Student's t over the last axis.

    Args:
        log_ratios: shape (..., blocks), finite, at least 2 blocks.
        confidence: of the interval.
        df: degrees of freedom that the spread is known on, at most blocks - 1; None: just those.

    Without any spread the interval has no width, and the p-value is 0, or 1 if
    every ratio is 1.
    """
    blocks = log_ratios.shape[-1]
    mean = np.asarray(log_ratios.mean(axis=-1))
    sd = np.asarray(log_ratios.std(axis=-1, ddof=1))
    sd = np.where(sd <= ROUNDING, 0.0, sd)
    error = sd / math.sqrt(blocks)
    df = blocks - 1 if df is None else df
    # scipy.stats.t itself takes ten times as long, and gives the same.
    half = -special.stdtrit(df, (1 - confidence) / 2) * error
    distance = np.abs(mean)
    certain = np.where(distance <= ROUNDING, 0.0, np.inf)
    t = np.divide(distance, error, out=certain, where=error > 0)
    return TInterval(mean, mean - half, mean + half, sd, 2 * special.stdtr(df, -t))


def sign_flip_p(log_ratios: Floats) -> Floats:
    """Two-sided sign-flip test of a distribution symmetric about 0, over the last axis.

    Exact (all 2^n sign patterns) up to 12 blocks; beyond, as many patterns are
    drawn with a fixed seed, the same for every cell, so that a cell's result does not
    depend on its neighbours. Needs no normality; its smallest p-value is 2/2^n.

    Which sums are as large as the observed one must not hang on rounding errors, which differ
    from processor to processor: sums that agree to ten digits of the largest value are the same.

    Args:
        log_ratios: shape (..., blocks), finite.
    """
    blocks = log_ratios.shape[-1]
    largest = np.max(np.abs(log_ratios), axis=-1, keepdims=True)
    scaled = log_ratios / np.where(largest > 0, largest, 1.0)
    patterns = _sign_patterns(blocks)
    observed = np.round(scaled.sum(axis=-1), 10)[..., np.newaxis]
    flipped = np.round(scaled @ patterns.T, 10)
    # Of patterns that were drawn, the observed one counts as one more (Phipson and Smyth, 2010).
    more = int(len(patterns) < 2**blocks)
    tails = [(flipped <= observed).sum(axis=-1), (flipped >= observed).sum(axis=-1)]
    p_value = 2 * (np.minimum(*tails) + more) / (len(patterns) + more)
    return np.asarray(np.minimum(p_value, 1.0))


@lru_cache(maxsize=32)
def _sign_patterns(blocks: int) -> Floats:
    """The patterns of signs that scipy's test goes through, shape (patterns, blocks).

    Kept, and told apart from the test itself: they are the same for every cell, so that all cells
    of a family are one product of matrices, in place of copies of the table by the thousand.
    """
    result = stats.permutation_test(
        (np.ones(blocks),),
        lambda values, axis: values,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_SIGN_PATTERNS,
        batch=1024,
        axis=-1,
        rng=np.random.default_rng(_SIGN_SEED),
    )
    return np.asarray(result.null_distribution, dtype=float)


@dataclass(frozen=True)
class BlockValues:
    """An effect over several cells, as one value per block.

    Attributes:
        values: shape (blocks,); their mean is the effect, and their standard deviation over
            the square root of their number its standard error.
        df: degrees of freedom of that; NaN if there is no standard error.
    """

    values: Floats
    df: float


def over_cells(cells: Sequence[Mapping[int, float]]) -> BlockValues:
    """The mean over cells of each cell's mean over its blocks, and what each block adds to it.

    A cell counts by its own mean, however many blocks it has left: a lost pair makes the
    interval wider and moves nothing by the level of its cell. Where nothing is lost, a block's
    value is the mean of its cells, with blocks - 1 degrees of freedom.

    Else the error is the root of the sum over blocks of the square of what each block adds to
    it: the sum of its cells' residuals, each over sqrt(n (n - 1)) of its cell's n blocks, so
    that one cell's variance is found without bias (a sandwich estimate with the blocks as
    clusters, and a correction of the CR2 kind). Its degrees of freedom follow from how evenly
    the blocks are expected to add to it (Satterthwaite). Chosen by simulation: see
    docs/methodology.md, "Overall effect".

    Args:
        cells: block -> log ratio, for each cell; cells without any block are left out.

    Returns:
        No values without any cell. NaN as `df` where a cell has one block of several: its
        noise is unknown, the mean is not.
    """
    cells = [cell for cell in cells if cell]
    blocks = sorted({block for cell in cells for block in cell})
    rows = [[cell.get(block, np.nan) for cell in cells] for block in blocks]
    table = np.array(rows, dtype=float).reshape(len(blocks), len(cells))
    if not np.isnan(table).any():
        return BlockValues(table.mean(axis=1) if cells else np.empty(0), len(blocks) - 1.0)
    table = table.T
    there = ~np.isnan(table)
    counts = there.sum(axis=1)
    means = np.nansum(table, axis=1) / counts
    if counts.min() < 2:
        return BlockValues(np.full(len(blocks), means.mean()), math.nan)
    residuals = np.where(there, table - means[:, np.newaxis], 0.0)
    weights = 1 / np.sqrt(counts * (counts - 1))
    added = weights @ residuals / len(cells)
    # Scaled so that the t interval of these values has this error.
    values = means.mean() + math.sqrt(len(blocks) * (len(blocks) - 1)) * added
    variances = (residuals**2).sum(axis=1) / (counts - 1)
    expected = (variances / counts**2) @ there
    if expected.max() <= ROUNDING**2:  # no noise at all: what counts is how many there are
        expected = (1 / counts**2) @ there
    return BlockValues(values, float(expected.sum() ** 2 / (expected**2).sum() - 1))


def estimate_over_cells(
    found: BlockValues, confidence: float, *, sign_flip: bool = True
) -> Estimate:
    """What there is to say of an effect over several cells.

    Args:
        found: as `over_cells` makes it.
        confidence: of the interval.
        sign_flip: as for `estimates`.
    """
    if math.isnan(found.df):
        ratio, nan = math.exp(found.values.mean()), math.nan
        return Estimate(len(found.values), ratio, nan, nan, nan, nan, nan)
    return _alike(found.values[np.newaxis], confidence, sign_flip, found.df)[0]


def estimates(
    cells: Sequence[Floats], confidence: float, *, sign_flip: bool = True
) -> list[Estimate]:
    """Everything there is to say of each effect on its own.

    Args:
        cells: one array per effect, shape (blocks,) each, blocks may differ and be 0:
            natural logarithms of arm/baseline, finite.
        confidence: of the intervals.
        sign_flip: that test too, which takes nearly all of the time and decides nothing; NaN
            without it.
    """
    found: list[Estimate | None] = [None] * len(cells)
    # Cells of as many blocks go together: one call costs little more than one cell.
    for blocks in {len(cell) for cell in cells}:
        places = [place for place, cell in enumerate(cells) if len(cell) == blocks]
        table = np.array([cells[place] for place in places], dtype=float)
        for place, one in zip(places, _alike(table, confidence, sign_flip), strict=True):
            found[place] = one
    return [one for one in found if one is not None]


def _alike(
    table: Floats, confidence: float, sign_flip: bool, df: float | None = None
) -> list[Estimate]:
    """Estimates of effects with the same number of blocks; shape (effects, blocks)."""
    blocks = table.shape[1]
    if blocks < MIN_BLOCKS:
        nan = math.nan
        ratios = [math.exp(row.mean()) if blocks else nan for row in table]
        return [Estimate(blocks, ratio, nan, nan, nan, nan, nan) for ratio in ratios]
    result = t_interval(table, confidence, df)
    columns = (
        np.exp(result.mean),
        np.exp(result.low),
        np.exp(result.high),
        result.sd,
        result.p_value,
        sign_flip_p(table) if sign_flip else np.full(len(table), np.nan),
    )
    return [Estimate(blocks, *map(float, row)) for row in zip(*columns, strict=True)]


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjustment; a test that gave no p-value (NaN) counts as one with p = 1.

    The family is what was planned: data that is lost makes no other test easier.

    Not statsmodels' multipletests, which runs the garbage collector in every call
    (tens of milliseconds in a process that has loaded pandas, once per table) and takes
    one family at a time; the tests hold this one to it.

    Args:
        p_values: shape (..., tests); the last axis is one family.

    Returns:
        The same shape; NaN where there was no p-value.
    """
    counted = np.where(np.isnan(p_values), 1.0, p_values)
    order = np.argsort(counted, axis=-1)
    ascending = np.take_along_axis(counted, order, axis=-1)
    tests = p_values.shape[-1]
    weighted = ascending * (tests - np.arange(tests))
    stepped = np.minimum(np.maximum.accumulate(weighted, axis=-1), 1.0)
    adjusted = np.empty_like(counted)
    np.put_along_axis(adjusted, order, stepped, axis=-1)
    return np.where(np.isnan(p_values), np.nan, adjusted)


def blocks_to_settle(
    found: Estimate, *, cells: int, confidence: float, margin: float
) -> int | None:
    """Blocks in all at which the verdict would be settled, with this mean and spread.

    The smallest n, above the blocks there are, whose interval would exclude 1 at
    Bonferroni's level for `cells` tests (Holm's first step), or lie within
    [1/(1+margin), 1+margin]. A forecast from noisy numbers, not a promise.

    Returns:
        None if unknown (no interval yet), or more than `MAX_BLOCKS_TO_SETTLE`.
    """
    if found.blocks < MIN_BLOCKS:
        return None
    mean = abs(math.log(found.ratio))
    n = np.arange(found.blocks + 1, MAX_BLOCKS_TO_SETTLE + 1)
    error = found.log_sd / np.sqrt(n)
    alpha = 1 - confidence
    different = mean > _t_quantiles(alpha / cells / 2)[n - 2] * error
    equivalent = mean + _t_quantiles(alpha / 2)[n - 2] * error <= math.log1p(margin)
    settled = n[different | equivalent]
    return int(settled[0]) if settled.size else None


@lru_cache(maxsize=64)
def _t_quantiles(tail: float) -> Floats:
    """Student's t that leaves ``tail`` above it, for 1 degree of freedom and more.

    Kept: a thousand of them take a millisecond, and every cell of a family asks for the same.
    """
    return np.asarray(stats.t.isf(tail, np.arange(1, MAX_BLOCKS_TO_SETTLE)))
