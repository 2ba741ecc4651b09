# SPDX-License-Identifier: GPL-2.0-only
"""Two runs' effects beside each other: do they differ by more than their blocks do?

An effect is a log ratio arm/baseline, one value per block, as in the delta tables. Of two
runs the blocks have nothing to do with each other: Welch's interval for the difference of two
means. Two arms of one run share their blocks, and the host's mood in them: the difference is
taken within each block, and Student's interval is of its mean over blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from kdelta.analysis.effects import is_invalid_over_cells
from kdelta.analysis.inference import (
    MIN_BLOCKS,
    BlockValues,
    holm,
    over_cells,
    t_interval,
)

Place = tuple[str, tuple[tuple[str, object], ...]]
"""Regime, and the cell's levels by what they mean, factor by factor."""

Blocks = Mapping[int, float]
"""Block -> log ratio."""

Word = Literal["same within noise", "differs", "too few blocks", "invalid"]

# Log ratios that differ by less are the same number after rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Effects:
    """What one run says of one arm and metric.

    Attributes:
        blocks: place -> log ratios; every planned cell has its place, perhaps without blocks.
        planned: place -> pairs planned.
        invalid: places of which the run's own table says that too much was set aside.
    """

    blocks: Mapping[Place, Blocks]
    planned: Mapping[Place, int]
    invalid: frozenset[Place]


@dataclass(frozen=True)
class Change:
    """An effect in one run: the ratio arm/baseline and its interval, NaN where there is none."""

    blocks: int
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One effect in both runs, and B's over A's.

    Attributes:
        a, b: the effect in each.
        ratio: B's ratio over A's; NaN without blocks.
        low, high: ends of its interval; NaN if there is none.
        p_value: of no difference; NaN likewise.
        p_holm: adjusted over the family.
        word: the verdict.
    """

    a: Change
    b: Change
    ratio: float
    low: float
    high: float
    p_value: float
    p_holm: float
    word: Word

    @property
    def unchanged(self) -> bool:
        """Whether both runs have the very same effect, or both none."""
        if not self.a.blocks and not self.b.blocks:
            return True
        ends = (self.ratio, *(end for end in (self.low, self.high) if not math.isnan(end)))
        return self.a.blocks == self.b.blocks and all(abs(end - 1) <= _ROUNDING for end in ends)


def compare_cells(
    a: Effects, b: Effects, places: Sequence[Place], *, paired: bool, confidence: float
) -> list[Difference]:
    """One difference per place; together they are one family of tests.

    Args:
        a: the effects in the first run.
        b: those in the second.
        places: cells that both have.
        paired: whether blocks of the same number are the same blocks.
        confidence: of the intervals; 1 - confidence is the level of the family.
    """
    return _family(
        [([a.blocks[place]], [b.blocks[place]]) for place in places],
        [place in a.invalid or place in b.invalid for place in places],
        paired=paired,
        confidence=confidence,
    )


def compare_overall(
    a: Effects, b: Effects, places: Sequence[Place], *, paired: bool, confidence: float
) -> Difference:
    """The difference over all these cells, of effects as `over_cells` makes them."""
    left, right = ([effects.blocks[place] for place in places] for effects in (a, b))
    if paired:
        # The same cells on both sides, block by block: else a missing one would be an effect.
        left, right = map(list, _shared(left, right))
    invalid = any(
        is_invalid_over_cells([effects.planned[place] for place in places], list(map(len, blocks)))
        for effects, blocks in ((a, left), (b, right))
    )
    (found,) = _family([(left, right)], [invalid], paired=paired, confidence=confidence)
    return found


def difference_interval(
    a: Sequence[Blocks], b: Sequence[Blocks], *, paired: bool, confidence: float
) -> tuple[float, float, float, float]:
    """The effect in b minus the effect in a: mean, low, high, p-value; NaN where there is none.

    Args:
        a: log ratios of each cell that the effect is over.
        b: likewise, the same cells.
        paired: Student's t on the differences within blocks; else Welch's t.
        confidence: of the interval.
    """
    if paired:
        left, right = _shared(a, b)
        cells = zip(left, right, strict=True)
        return _student([{block: y[block] - x[block] for block in x} for x, y in cells], confidence)
    return welch(over_cells(a), over_cells(b), confidence)


def welch(a: BlockValues, b: BlockValues, confidence: float) -> tuple[float, float, float, float]:
    """Mean of b minus mean of a: mean, low, high, p-value; NaN where there is none.

    Not scipy's, which takes each side's degrees of freedom to be those of its number of values.

    Args:
        a: the first effect.
        b: the other, of other blocks.
        confidence: of the interval.
    """
    nan = math.nan
    if not len(a.values) or not len(b.values):
        return nan, nan, nan, nan
    mean = float(b.values.mean() - a.values.mean())
    if min(len(a.values), len(b.values)) < MIN_BLOCKS or math.isnan(a.df + b.df):
        return mean, nan, nan, nan
    squares = [float(one.values.var(ddof=1)) / len(one.values) for one in (a, b)]
    error = math.sqrt(sum(squares))
    if error <= _ROUNDING:
        return mean, mean, mean, float(abs(mean) <= _ROUNDING)
    df = error**4 / sum(square**2 / one.df for square, one in zip(squares, (a, b), strict=True))
    half = float(stats.t.isf((1 - confidence) / 2, df)) * error
    return mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, df))


def _family(
    pairs: Sequence[tuple[Sequence[Blocks], Sequence[Blocks]]],
    invalid: Sequence[bool],
    *,
    paired: bool,
    confidence: float,
) -> list[Difference]:
    """Differences of effects over cells; an effect of one cell is one over it alone."""
    found = [difference_interval(a, b, paired=paired, confidence=confidence) for a, b in pairs]
    adjusted = holm(np.array([one[3] for one in found], dtype=float)).tolist()
    return [
        Difference(
            a=_change(a, confidence),
            b=_change(b, confidence),
            ratio=math.exp(mean),
            low=math.exp(low),
            high=math.exp(high),
            p_value=p_value,
            p_holm=p_holm,
            word=_word(low, high, p_holm, spoilt, confidence),
        )
        for (a, b), (mean, low, high, p_value), p_holm, spoilt in zip(
            pairs, found, adjusted, invalid, strict=True
        )
    ]


def _change(cells: Sequence[Blocks], confidence: float) -> Change:
    """As in the delta tables, by the same function."""
    mean, low, high, _ = _student(cells, confidence)
    blocks = len({block for cell in cells for block in cell})
    # The same NaN, so that effects without an interval are equal to themselves.
    ends = (math.nan if math.isnan(end) else math.exp(end) for end in (mean, low, high))
    return Change(blocks, *ends)


def _student(cells: Sequence[Blocks], confidence: float) -> tuple[float, float, float, float]:
    """Mean, low, high, p-value of an effect over cells; NaN where there is none."""
    one = over_cells(cells)
    nan = math.nan
    if len(one.values) < MIN_BLOCKS or math.isnan(one.df):
        return (float(one.values.mean()) if len(one.values) else nan), nan, nan, nan
    found = t_interval(one.values, confidence, one.df)
    return float(found.mean), float(found.low), float(found.high), float(found.p_value)


def _word(low: float, high: float, p_holm: float, invalid: bool, confidence: float) -> Word:
    if invalid:
        return "invalid"
    if math.isnan(p_holm):
        return "too few blocks"
    differs = p_holm < 1 - confidence and not low <= 0 <= high
    return "differs" if differs else "same within noise"


def _shared(a: Sequence[Blocks], b: Sequence[Blocks]) -> tuple[Sequence[Blocks], Sequence[Blocks]]:
    """Of each cell, the blocks that both have."""
    common = [x.keys() & y.keys() for x, y in zip(a, b, strict=True)]
    left, right = (
        [
            {block: cell[block] for block in blocks}
            for cell, blocks in zip(side, common, strict=True)
        ]
        for side in (a, b)
    )
    return left, right
