# SPDX-License-Identifier: GPL-2.0-only
"""How the variance of ratios splits: what goes on within a cell's run, and from boot to boot.

The logarithm of a slice's ratio is taken for the sum of the cell's effect, of what the block's
boots have in common in all cells, of what they have in one cell, and of what is left from round to
round; a random-effects model, whose components are estimated by equating mean squares with what is
expected of them (Searle, Casella, McCulloch, Variance Components, 1992, chapter 4). More rounds
shrink the last part alone, more blocks all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd


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
    """The split, from slices' ratios.

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
