# SPDX-License-Identifier: GPL-2.0-only
"""One family of effects: estimates, adjusted tests, and the one word under each delta."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kdelta.analysis.inference import (
    MIN_BLOCKS,
    Estimate,
    blocks_to_settle,
    estimate_over_cells,
    estimates,
    holm,
    over_cells,
)
from kdelta.analysis.nodes import Nodes, block_values, over_nodes
from kdelta.analysis.settings import AnalysisSettings
from kdelta.workload.declaration import Direction

Verdict = Literal["faster", "slower", "equivalent", "inconclusive", "invalid"]

DIFFERENT: tuple[Verdict, ...] = ("faster", "slower")
"""The verdicts that claim an effect."""


@dataclass(frozen=True)
class Effect:
    """One effect and what may be said of it.

    Attributes:
        estimate: on its own.
        p_holm: its p-value adjusted over the family; NaN if there is none.
        verdict: the word.
        blocks_to_settle: blocks in all that would settle an inconclusive one; None if it is
            settled, invalid, or nobody can tell.
    """

    estimate: Estimate
    p_holm: float
    verdict: Verdict
    blocks_to_settle: int | None


Blocks = Mapping[int, float]
"""Block -> log ratio of one cell."""


def cell_effects(
    cells: Sequence[Blocks],
    planned: Sequence[int],
    direction: Direction,
    settings: AnalysisSettings,
    *,
    apart: Sequence[Nodes | None] | None = None,
    sign_flip: bool = True,
) -> list[Effect]:
    """The effects of one arm and metric in every planned cell: one family of tests.

    Args:
        cells: what is left of each, which may be nothing.
        planned: pairs that each was to give.
        direction: which way of the metric is better.
        settings: confidence and margin.
        apart: for each cell the nodes of its regime's blocks if effects differ between them, or
            None; None: nowhere.
        sign_flip: as for `estimates`.
    """
    logs = [np.array([cell[block] for block in sorted(cell)], dtype=float) for cell in cells]
    found = estimates(logs, settings.confidence, sign_flip=sign_flip)
    if apart is not None:
        found = [
            one if nodes is None else over_nodes(one, cell, nodes, settings.confidence)
            for one, cell, nodes in zip(found, cells, apart, strict=True)
        ]
    return family(
        found,
        [is_invalid(wanted, len(cell)) for wanted, cell in zip(planned, cells, strict=True)],
        direction,
        settings,
    )


def overall_effect(
    cells: Sequence[Blocks],
    planned: Sequence[int],
    direction: Direction,
    settings: AnalysisSettings,
    *,
    apart: Nodes | None = None,
    sign_flip: bool = True,
) -> Effect:
    """The effect of one arm and metric over all cells of a regime: a family of its own.

    Args:
        cells: as for `cell_effects`, those of one regime.
        planned: likewise.
        direction: likewise.
        settings: likewise.
        apart: the nodes of the regime's blocks if effects differ between them.
        sign_flip: likewise.
    """
    found = estimate_over_cells(over_cells(cells), settings.confidence, sign_flip=sign_flip)
    if apart is not None:
        found = over_nodes(found, block_values(cells), apart, settings.confidence)
    invalid = is_invalid_over_cells(planned, list(map(len, cells)))
    return family([found], [invalid], direction, settings)[0]


def family(
    found: Sequence[Estimate],
    invalid: Sequence[bool],
    direction: Direction,
    settings: AnalysisSettings,
) -> list[Effect]:
    """The effects of one family of tests.

    Every planned effect is given, one without any block too: an effect that is invalid or
    has no p-value keeps its place in the family, so that losing data makes no other test
    easier.

    Args:
        found: every effect on its own.
        invalid: whether too much of the effect's data was set aside for any word on it.
        direction: which way of the metric is better.
        settings: confidence and margin.
    """
    confidence, margin = settings.confidence, settings.equivalence_margin
    adjusted = holm(np.array([one.p_value for one in found], dtype=float))
    effects = []
    for one, p_holm, spoilt in zip(found, adjusted.tolist(), invalid, strict=True):
        word: Verdict = (
            "invalid"
            if spoilt
            else verdict(
                one.low,
                one.high,
                p_holm,
                direction=direction,
                confidence=confidence,
                margin=margin,
            )
        )
        more = (
            blocks_to_settle(one, cells=len(found), confidence=confidence, margin=margin)
            if word == "inconclusive"
            else None
        )
        effects.append(Effect(one, p_holm, word, more))
    return effects


def effect_columns(effect: Effect, confidence: float) -> dict[str, object]:
    """The columns from ratio to blocks_to_settle that deltas.csv and overall.csv share."""
    one = effect.estimate
    return {
        "ratio": one.ratio,
        "ratio_low": one.low,
        "ratio_high": one.high,
        "delta_percent": 100 * (one.ratio - 1),
        "delta_low_percent": 100 * (one.low - 1),
        "delta_high_percent": 100 * (one.high - 1),
        "confidence": confidence,
        "p_value": one.p_value,
        "p_holm": effect.p_holm,
        "p_sign_flip": one.p_sign_flip,
        "verdict": effect.verdict,
        "blocks_to_settle": effect.blocks_to_settle,
    }


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
    own noise. And where it forbids a word on every cell.

    Args:
        planned: pairs that each cell was to give.
        used: pairs that each has left.
    """
    cells = list(zip(planned, used, strict=True))
    return (
        mostly_set_aside(sum(planned), sum(used))
        or any(left < min(wanted, 2) for wanted, left in cells)
        or (bool(cells) and all(is_invalid(wanted, left) for wanted, left in cells))
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
