# SPDX-License-Identifier: GPL-2.0-only
"""Two runs' effects beside each other: do they differ by more than their blocks do?

An effect is a log ratio arm/baseline, one value per block, as in the delta tables. Of two
runs the blocks have nothing to do with each other: Welch's interval for the difference of two
means. Two arms of one run share their blocks, and the host's mood in them: the difference is
taken within each block, and Student's interval is of its mean over blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from kdelta.analysis.inference import MIN_BLOCKS, Floats, holm, t_interval
from kdelta.analysis.verdict import mostly_set_aside

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
        [(a.blocks[place], b.blocks[place]) for place in places],
        [place in a.invalid or place in b.invalid for place in places],
        paired=paired,
        confidence=confidence,
    )


def compare_overall(
    a: Effects, b: Effects, places: Sequence[Place], *, paired: bool, confidence: float
) -> Difference:
    """The difference over all these cells: in each block the mean of its cells' log ratios."""
    if paired:
        # The same cells on both sides, block by block: else a missing one would be an effect.
        left, right = _common_blocks(a, b, places)
    else:
        left, right = ([effects.blocks[place] for place in places] for effects in (a, b))
    invalid = any(
        mostly_set_aside(sum(effects.planned[place] for place in places), sum(map(len, blocks)))
        for effects, blocks in ((a, left), (b, right))
    )
    (found,) = _family(
        [(_block_means(left), _block_means(right))],
        [invalid],
        paired=paired,
        confidence=confidence,
    )
    return found


def difference_interval(
    a: Floats, b: Floats, *, paired: bool, confidence: float
) -> tuple[float, float, float, float]:
    """Mean of b minus mean of a: mean, low, high, p-value; NaN where there is none.

    Args:
        a: log ratios, shape (blocks,), finite.
        b: likewise; paired ones are of the same blocks as `a`, in the same order.
        paired: Student's t on the differences; else Welch's t.
        confidence: of the interval.
    """
    if not len(a) or not len(b):
        return math.nan, math.nan, math.nan, math.nan
    mean = float(b.mean() - a.mean())
    if min(len(a), len(b)) < MIN_BLOCKS:
        return mean, math.nan, math.nan, math.nan
    if paired:
        found = t_interval(b - a, confidence)
        return mean, float(found.low), float(found.high), float(found.p_value)
    if max(a.std(), b.std()) <= _ROUNDING:
        return mean, mean, mean, float(abs(mean) <= _ROUNDING)
    with warnings.catch_warnings():
        # One run may well have no spread to speak of where the other has.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = stats.ttest_ind(b, a, equal_var=False)
    ends = test.confidence_interval(confidence)
    return mean, float(ends.low), float(ends.high), float(test.pvalue)


def _family(
    pairs: Sequence[tuple[Blocks, Blocks]],
    invalid: Sequence[bool],
    *,
    paired: bool,
    confidence: float,
) -> list[Difference]:
    found = []
    for a, b in pairs:
        shared = a.keys() & b.keys()
        left, right = (
            (_values(a, shared), _values(b, shared)) if paired else (_values(a, a), _values(b, b))
        )
        found.append(difference_interval(left, right, paired=paired, confidence=confidence))
    adjusted = holm(np.array([one[3] for one in found], dtype=float)).tolist()
    return [
        Difference(
            a=_change(_values(a, a), confidence),
            b=_change(_values(b, b), confidence),
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


def _change(logs: Floats, confidence: float) -> Change:
    """As in the delta tables, by the same function."""
    if len(logs) < MIN_BLOCKS:
        ratio = math.exp(logs.mean()) if len(logs) else math.nan
        return Change(len(logs), ratio, math.nan, math.nan)
    one = t_interval(logs, confidence)
    return Change(len(logs), *(math.exp(end) for end in (one.mean, one.low, one.high)))


def _word(low: float, high: float, p_holm: float, invalid: bool, confidence: float) -> Word:
    if invalid:
        return "invalid"
    if math.isnan(p_holm):
        return "too few blocks"
    differs = p_holm < 1 - confidence and not low <= 0 <= high
    return "differs" if differs else "same within noise"


def _values(blocks: Blocks, wanted: Iterable[int]) -> Floats:
    return np.array([blocks[block] for block in sorted(wanted)], dtype=float)


def _common_blocks(
    a: Effects, b: Effects, places: Sequence[Place]
) -> tuple[list[Blocks], list[Blocks]]:
    left: list[Blocks] = []
    right: list[Blocks] = []
    for place in places:
        shared = a.blocks[place].keys() & b.blocks[place].keys()
        left.append({block: a.blocks[place][block] for block in shared})
        right.append({block: b.blocks[place][block] for block in shared})
    return left, right


def _block_means(cells: Sequence[Blocks]) -> Blocks:
    values: dict[int, list[float]] = {}
    for cell in cells:
        for block, value in cell.items():
            values.setdefault(block, []).append(value)
    return {block: float(np.mean(found)) for block, found in values.items()}
