# SPDX-License-Identifier: GPL-2.0-only
"""The one word under each delta."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from kdelta.analysis.inference import MIN_BLOCKS
from kdelta.workload.declaration import Direction

Verdict = Literal["faster", "slower", "equivalent", "inconclusive", "invalid"]

DIFFERENT: tuple[Verdict, ...] = ("faster", "slower")
"""The verdicts that claim an effect."""


def mostly_set_aside(planned: int, used: int) -> bool:
    """Whether at least half of the planned pairs were set aside.

    What remains is then a selection that the arm itself may have made, for example by
    crashing wherever it is slow.
    """
    return used < planned and 2 * (planned - used) >= planned


def is_invalid(planned: int, used: int) -> bool:
    """Whether what was set aside forbids any word on a cell.

    Args:
        planned: pairs that the cell's blocks were to give.
        used: pairs that are left.
    """
    return mostly_set_aside(planned, used) or used < min(planned, MIN_BLOCKS)


def is_invalid_over_cells(planned: Sequence[int], used: Sequence[int]) -> bool:
    """Whether what was set aside forbids any word on an effect over several cells.

    That is so where it took at least half of all pairs, or left a cell fewer than two: an
    effect over the cells that are left is another quantity, and one pair says nothing of its
    own noise.

    Args:
        planned: pairs that each cell was to give.
        used: pairs that each has left.
    """
    return mostly_set_aside(sum(planned), sum(used)) or any(
        left < min(wanted, 2) for wanted, left in zip(planned, used, strict=True)
    )


def verdict(
    low: float,
    high: float,
    p_holm: float,
    *,
    direction: Direction,
    confidence: float,
    margin: float,
) -> Verdict:
    """What an interval and its adjusted p-value amount to, where all data are valid.

    `equivalent` comes first: an effect that is certain and smaller than the
    margin is, by the experiment's own words, none.

    Args:
        low: lower end of the interval of the ratio arm/baseline; NaN if there is none.
        high: its upper end.
        p_holm: p-value adjusted over the family's cells; NaN if there is none.
        direction: which way of the metric is better.
        confidence: 1 - level of the family of tests.
        margin: m of the equivalence range [1/(1+m), 1+m].
    """
    if math.isnan(low) or math.isnan(high) or math.isnan(p_holm):
        return "inconclusive"
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        return "equivalent"
    if p_holm < 1 - confidence and not low <= 1 <= high:
        return "faster" if (low > 1) == (direction == "higher") else "slower"
    return "inconclusive"
