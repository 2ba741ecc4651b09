# SPDX-License-Identifier: GPL-2.0-only
"""How many blocks an experiment needs, from the spread of its block ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from kdelta.analysis.inference import MAX_BLOCKS_TO_SETTLE, MIN_BLOCKS, over_cells
from kdelta.analysis.power import (
    Design,
    Spread,
    chance_of_different,
    chance_of_equivalent,
    pooled_spread,
)
from kdelta.analysis.settings import AnalysisSettings
from kdelta.errors import KdeltaError

SLICE_LOG_SD = 0.15
"""Of the log ratio of two arms' slices: 14 % were found idle and 24 % beside a stressor of memory,
with slices of 0.4 s, emulated, on 2 CPUs. Taken where nothing has been measured yet."""

Question = Literal["a cell", "overall"]


@dataclass(frozen=True)
class RegimeSpread:
    """Spread of a regime's ratios of the primary metric over blocks.

    Attributes:
        cell: of one cell's log ratios.
        overall: of a block's value for all its cells together.
        source: where they are from, in words.
    """

    cell: Spread
    overall: Spread
    source: str


@dataclass(frozen=True)
class Need:
    """Blocks that one question about a regime needs.

    Attributes:
        question: an effect in a cell (one of a family of tests), or over the whole regime.
        spread: of log ratios, that the answer rests on.
        blocks: None if `MAX_BLOCKS_TO_SETTLE` are not enough.
    """

    regime: str
    question: Question
    spread: Spread
    source: str
    blocks: int | None


def within_margin(effect: float, margin: float) -> bool:
    """Whether a true log ratio lies within the margin of equivalence."""
    return abs(effect) <= math.log1p(margin)


def blocks_needed(effect: float, spread: Spread, design: Design, power: float) -> int | None:
    """Fewest blocks at which the right verdict on a true effect is likely enough.

    The right verdict is `equivalent` for an effect within the margin, else `faster` or
    `slower`, at Holm's strictest level: the same function as the noise floor's
    (`kdelta.analysis.power`), so that the floor of so many blocks is not above the effect,
    and the floor of one block fewer is.

    Args:
        effect: true log ratio.
        spread: of log ratios over blocks.
        design: family, levels and margin; its number of blocks is not looked at.
        power: wanted probability of the verdict.

    Returns:
        None if `MAX_BLOCKS_TO_SETTLE` blocks are not enough.
    """
    equivalent = within_margin(effect, design.margin)
    chance: Callable[[float, Spread, Design], float] = (
        chance_of_equivalent if equivalent else chance_of_different
    )

    def enough(blocks: int) -> bool:
        return chance(abs(effect), spread, replace(design, blocks=blocks)) >= power

    if enough(MIN_BLOCKS):
        return MIN_BLOCKS
    # Both chances grow with the blocks: bisection, too few below and enough above.
    few, many = MIN_BLOCKS, MAX_BLOCKS_TO_SETTLE
    if not enough(many):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def needs(
    effect: float,
    spreads: Mapping[str, RegimeSpread],
    design: Design,
    power: float,
) -> list[Need]:
    """What every regime needs: for a cell of the family, and for its overall effect.

    Args:
        effect: true log ratio.
        spreads: by regime.
        design: the family of cells over all regimes, levels and margin.
        power: wanted probability of the verdict.
    """
    found = []
    for regime, spread in spreads.items():
        questions: tuple[tuple[Question, Spread, int], ...] = (
            ("a cell", spread.cell, design.cells),
            ("overall", spread.overall, 1),
        )
        for question, one, cells in questions:
            blocks = blocks_needed(effect, one, replace(design, cells=cells), power)
            found.append(Need(regime, question, one, spread.source, blocks))
    return found


def pilot_spread(ratios: pd.DataFrame, regime: str, settings: AnalysisSettings) -> RegimeSpread:
    """The spread of a regime's ratios of the primary metric, from the pilot's control arm if any.

    Without a control arm, from all compared arms, each around its own effect.

    Args:
        ratios: as `ratios_frame` makes it.
        regime: which regime.
        settings: names of factors and arms.

    Raises:
        KdeltaError: fewer than `MIN_BLOCKS` blocks have a pair in any cell.
    """
    ours = _pilot_rows(ratios, regime, settings)
    ours = ours.assign(log_ratio=np.log(ours["ratio"]))
    cell = pooled_over_blocks(ours, ["arm", *settings.factors])
    overall = _overall(ours, settings)
    if cell is None or overall is None:
        blocks = ours["block"].nunique()
        raise KdeltaError(
            f"pilot: regime {regime} has {blocks} {'block' if blocks == 1 else 'blocks'} with a "
            f"valid pair of samples; a spread takes at least {MIN_BLOCKS} in one cell: measure "
            "more blocks, or give a spread with --spread"
        )
    names = list(dict.fromkeys(ours["arm"]))
    arms = "control arm" if names == [settings.control] else ", ".join(names)
    return RegimeSpread(cell, overall, f"{arms}, {ours['block'].nunique()} blocks")


def _pilot_rows(frame: pd.DataFrame, regime: str, settings: AnalysisSettings) -> pd.DataFrame:
    """Of a regime's primary metric, the control arm's rows if there are any, else all."""
    ours = frame[(frame["regime"] == regime) & (frame["metric"] == settings.primary)]
    control = ours[ours["arm"] == settings.control]
    return ours if control.empty else control


def with_rounds(spread: RegimeSpread, split: Split, rounds: int) -> RegimeSpread:
    """The spread that blocks of so many rounds would have.

    Args:
        spread: of the pilot, for its degrees of freedom and its source.
        split: of the pilot's variance.
        rounds: of a block that is planned.
    """
    return replace(
        spread,
        cell=replace(spread.cell, log_sd=math.sqrt(split.of_cell(rounds))),
        overall=replace(spread.overall, log_sd=math.sqrt(split.of_block(rounds))),
    )


def assumed_slices(rounds: int, cells: int) -> RegimeSpread:
    """The spread where nothing is known but how slices spread (`SLICE_LOG_SD`)."""
    split = Split(0.0, 0.0, SLICE_LOG_SD**2, cells)
    exact = RegimeSpread(
        Spread(0.0), Spread(0.0), f"assumed: {SLICE_LOG_SD:.0%} from slice to slice"
    )
    return with_rounds(exact, split, rounds)


def pilot_split(slices: pd.DataFrame, regime: str, settings: AnalysisSettings) -> Split:
    """How a pilot's variance splits, over the arms that `pilot_spread` takes.

    Args:
        slices: as `slice_ratios` makes them.
        regime: which regime.
        settings: names of factors and arms.
    """
    ours = _pilot_rows(slices, regime, settings)
    cell = ours.groupby(["arm", *settings.factors], sort=False).ngroup()
    split = variance_split(ours.assign(cell=cell))
    return replace(split, cells=split.cells // max(1, ours["arm"].nunique()))


def _overall(ours: pd.DataFrame, settings: AnalysisSettings) -> Spread | None:
    """The spread of the overall effects of a regime's arms, each around its own."""
    found = []
    for _, arm in ours.groupby("arm", sort=False):
        by_cell = arm.groupby(list(settings.factors), sort=False)
        cells = [dict(zip(t["block"], t["log_ratio"], strict=True)) for _, t in by_cell]
        one = over_cells(cells)
        if len(one.values) >= MIN_BLOCKS and not math.isnan(one.df):
            found.append((float(one.values.std(ddof=1)), one.df + 1))
    return pooled_spread(*np.array(found).T) if found else None


def pooled_over_blocks(ratios: pd.DataFrame, by: list[str]) -> Spread | None:
    """One spread of the log ratios of many cells over their blocks.

    Args:
        ratios: with a column `log_ratio`.
        by: the columns that tell a cell.

    Returns:
        None if no cell has `MIN_BLOCKS` blocks.
    """
    table = ratios.groupby(by, sort=False)["log_ratio"].agg(["std", "size"])
    table = table[table["size"] >= MIN_BLOCKS]
    if table.empty:
        return None
    return pooled_spread(table["std"].to_numpy(), table["size"].to_numpy())


@dataclass(frozen=True)
class Split:
    """Variance components of log ratios in one regime; each is 0 or more.

    Attributes:
        block: common to all cells of a block.
        cell: of a cell in a block, beyond that.
        slice: from round to round; NaN if no cell of a block has two rounds.
        cells: how many cells there are.
    """

    block: float
    cell: float
    slice: float
    cells: int

    def of_cell(self, rounds: int) -> float:
        """Variance of a cell's log ratio in a block of so many rounds."""
        return self.block + self.cell + self.slice / rounds

    def of_block(self, rounds: int) -> float:
        """Variance of a block's mean over its cells."""
        return self.block + (self.cell + self.slice / rounds) / self.cells


def variance_split(pairs: pd.DataFrame) -> Split:
    """The split, from slices' ratios: what goes on within a cell's run, and from boot to boot.

    The logarithm of a slice's ratio is taken for the sum of the cell's effect, of what the block's
    boots have in common in all cells, of what they have in one cell, and of what is left from
    round to round; a random-effects model, whose components are estimated by equating mean squares
    with what is expected of them (Searle, Casella, McCulloch, Variance Components, 1992, chapter
    4). More rounds shrink the last part alone, more blocks all of them.

    Args:
        pairs: one row per slice pair of one regime and metric: block, cell (numbered, another
            number for every arm), ratio. Blocks, cells and rounds may be missing here and there.

    Returns:
        NaN where there is too little to tell: `cell` and `block` need two blocks.
    """
    logs = pairs.assign(log=np.log(pairs["ratio"].to_numpy(dtype=float)))
    runs = logs.groupby(["cell", "block"], sort=False)["log"].agg(["mean", "size", "var"])
    within = int((runs["size"] - 1).sum())
    slice_ = float((runs["var"] * (runs["size"] - 1)).sum() / within) if within else math.nan
    table = runs["mean"].unstack("block")
    cells, blocks = table.shape
    if blocks < 2:
        return Split(math.nan, math.nan, slice_, cells)
    left = table.sub(table.mean(axis="columns"), axis="index")
    means = left.mean(axis="index")
    freedom = int(table.notna().to_numpy().sum()) - cells - blocks + 1
    # Rounds that a run rests on count by their harmonic mean.
    noise = 0.0 if math.isnan(slice_) else slice_ * float((1 / runs["size"]).mean())
    between = (
        float((left.sub(means, axis="columns") ** 2).to_numpy()[table.notna().to_numpy()].sum())
        / freedom
        if freedom > 0
        else math.nan
    )
    cell = max(0.0, between - noise) if math.isfinite(between) else 0.0
    common = float(means.var(ddof=1)) - (between if math.isfinite(between) else noise) / cells
    return Split(max(0.0, common), cell, slice_, cells)
