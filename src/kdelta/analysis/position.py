# SPDX-License-Identifier: GPL-2.0-only
"""tables/position.csv: whether it matters at which place of its cell an arm is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from kdelta.analysis.inference import MIN_BLOCKS, Floats, holm
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import centred
from kdelta.analysis.tables import frame_of

# A position that blocks and arms explain but for less than this is explained; a slope and
# an error below it are rounding.
_ROUNDING = 1e-12
# Sums over slices are of the order of their number, or none at all.
_RANK = 1e-10

_Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Slices:
    """The valid slices of a regime, in any order; all arrays have shape (slices,).

    Attributes:
        log: natural logarithm of the metric.
        cell: numbered.
        block: number of the block.
        turn: which run of a cell by the arms one after the other it belongs to, numbered.
        position: place within that run.
        arm: index into the settings' arms.
    """

    log: Floats
    cell: _Numbers
    block: _Numbers
    turn: _Numbers
    position: _Numbers
    arm: _Numbers

    def only(self, kept: NDArray[np.bool_]) -> _Slices:
        return _Slices(*(values[kept] for values in vars(self).values()))


def position_frame(samples: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """The effect of one position later: columns of tables/position.csv.

    Per regime, the slope of log(primary metric) over the place at which an arm ran in its cell (in
    runs of before there were rounds: of its boot in the block), after what each arm is in each
    cell and what each round of each block is in each cell has been taken out: a least-squares fit
    of log = (arm, cell) + (block, round, cell) + slope x position. So a slice that is missing
    takes no effect of an arm, cell or round for one of position. The arms' effects cannot be told
    from a trend where the order is always the same: then there is no slope.

    The interval is a jackknife over blocks (each left out in turn) with Student's t, one
    degree of freedom fewer than blocks (and one fewer still with two arms, whose difference
    takes as much as the slope does). p_holm is adjusted over the regimes.

    Args:
        samples: as `samples_frame` makes it; invalid samples are left out.
        settings: names and order, confidence.
    """
    rows: list[dict[str, object]] = []
    for regime in settings.regimes:
        ours = samples[samples["regime"] == regime]
        if len(ours):
            rows.append({"regime": regime, **_row(_slices(ours, settings), settings)})
    adjusted = holm(np.array([row["p_value"] for row in rows], dtype=float))
    for row, p_holm in zip(rows, adjusted.tolist(), strict=True):
        row |= {"p_holm": p_holm, "differs": bool(p_holm < settings.alpha)}
    return frame_of("tables/position.csv", rows)


def _slices(samples: pd.DataFrame, settings: AnalysisSettings) -> _Slices:
    samples = samples[samples["valid"] & (samples[settings.primary] > 0)]
    # The arms of a cell run one after the other; before, their boots did.
    place = samples["slot"].fillna(samples["boot_order"])
    cell = samples.groupby(list(settings.factors), sort=False).ngroup()
    turn = samples.assign(cell=cell).groupby(["block", "round", "cell"], sort=False).ngroup()
    arm = pd.Index(settings.arms).get_indexer(pd.Index(samples["arm"]))
    return _Slices(
        log=np.log(samples[settings.primary].to_numpy(dtype=float)),
        cell=cell.to_numpy(dtype=np.int64),
        block=samples["block"].to_numpy(dtype=np.int64),
        turn=turn.to_numpy(dtype=np.int64),
        position=place.to_numpy(dtype=np.int64),
        arm=arm.astype(np.int64),
    )


def _row(slices: _Slices, settings: AnalysisSettings) -> dict[str, object]:
    blocks = _told_apart(slices)
    slope, *rest = _slopes(slices, blocks)
    low = high = p_value = math.nan
    if len(blocks) >= MIN_BLOCKS and math.isfinite(slope):
        without = np.array(rest)
        freedom = len(blocks) - 1 - (len(np.unique(slices.arm)) == 2)
        error = float(without.std()) * math.sqrt(len(blocks) - 1)  # NaN if any slope is
        if error <= _ROUNDING:
            low, high, p_value = slope, slope, float(abs(slope) <= _ROUNDING)
        else:
            half = error * float(stats.t.isf(settings.alpha / 2, freedom))
            low, high = slope - half, slope + half
            p_value = 2 * float(stats.t.sf(abs(slope) / error, freedom))
    return {
        "metric": settings.primary,
        "blocks": len(blocks),
        "position_percent": 100 * math.expm1(slope),
        "position_low_percent": 100 * math.expm1(low),
        "position_high_percent": 100 * math.expm1(high),
        "p_value": p_value,
        "largest_bias_percent": 100 * math.expm1(abs(slope) * _largest_distance(slices, settings)),
    }


def _told_apart(slices: _Slices) -> _Numbers:
    """Blocks in which something ran at two places: one place alone says nothing."""
    counts = np.bincount(slices.turn) if len(slices.turn) else np.zeros(0, dtype=np.int64)
    return np.unique(slices.block[counts[slices.turn] > 1])


def _slopes(slices: _Slices, blocks: _Numbers) -> list[float]:
    """Growth of the logarithm per position: of all slices, and without each of some blocks.

    NaN where rounds and arms explain all positions.
    """
    product, square = np.zeros(1 + len(blocks)), np.zeros(1 + len(blocks))
    left = np.full(1 + len(blocks), len(slices.log))
    # Cells have no effect in common but the slope, so each is a fit of its own.
    for cell in np.unique(slices.cell):
        here = slices.only(slices.cell == cell)
        arms = here.arm[:, np.newaxis] == np.unique(here.arm)
        design = np.column_stack([here.position.astype(float), arms])
        # Rounds are many: their effects go by subtracting means, the arms' by a fit of what is
        # left (Frisch, Waugh, Lovell). A round is of one block, so what a block adds to the sums
        # of the fit can be taken from them, and nothing else changes.
        columns = np.array([centred(column, here.turn) for column in design.T])
        with_log = np.vstack([columns, here.log])
        own = np.searchsorted(blocks, here.block)
        known = own < len(blocks)
        known[known] = blocks[own[known]] == here.block[known]
        added = np.zeros((len(blocks), len(columns), len(with_log)))
        np.add.at(added, own[known], np.einsum("ik,jk->kij", columns[:, known], with_log[:, known]))
        whole = columns @ with_log.T
        left[1:] -= np.bincount(own[known], minlength=len(blocks))
        sums = np.concatenate([whole[np.newaxis], whole - added])
        of_arms, of_position = sums[:, 1:, 1:-1], sums[:, 1:, :1]
        # Where every arm runs in every round, any of them follows from the others.
        fit = np.linalg.pinv(of_arms, rcond=_RANK, hermitian=True) @ of_position
        square += sums[:, 0, 0] - (sums[:, :1, 1:-1] @ fit)[:, 0, 0]
        product += sums[:, 0, -1] - (sums[:, 1:, -1:].transpose(0, 2, 1) @ fit)[:, 0, 0]
    told = square > _ROUNDING * np.maximum(1, left)
    return list(np.divide(product, square, out=np.full(len(square), np.nan), where=told).tolist())


def _largest_distance(slices: _Slices, settings: AnalysisSettings) -> float:
    """Most positions by which any arm was later than the baseline, or earlier, in any cell.

    On average over the rounds that the cell's delta rests on; NaN without any such pair.
    """
    frame = pd.DataFrame(vars(slices))
    ours = frame["arm"] == settings.arms.index(settings.baseline)
    base = frame[ours].set_index("turn")["position"]
    others = frame[~ours]
    distance = (others["position"] - others["turn"].map(base)).groupby(
        [others["arm"], others["cell"]]
    )
    return float(distance.mean().abs().max())
