# SPDX-License-Identifier: GPL-2.0-only
"""tables/position.csv: whether it matters as which of its block's boots an arm was run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from kdelta.analysis.inference import MIN_BLOCKS, Floats, holm
from kdelta.analysis.settings import THROUGHPUT, AnalysisSettings
from kdelta.analysis.table_columns import POSITION_DTYPES, table

# A position that blocks and arms explain but for less than this is explained; a slope and
# an error below it are rounding.
_ROUNDING = 1e-12

_Positions = NDArray[np.int64]


@dataclass(frozen=True)
class _Boots:
    """The boots of a regime that left a valid sample, in any order.

    Attributes:
        log: natural logarithm of the metric, shape (cells, boots), NaN where there is none.
        block, position: of each boot, shape (boots,).
        arm: index into the settings' arms, shape (boots,).
    """

    log: Floats
    block: _Positions
    position: _Positions
    arm: _Positions

    def only(self, kept: NDArray[np.bool_]) -> _Boots:
        return _Boots(self.log[:, kept], self.block[kept], self.position[kept], self.arm[kept])


def position_frame(samples: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """The effect of one position later in the block: columns of tables/position.csv.

    Per regime, the slope of log(throughput) over the boot's position, after what each arm is
    in each cell and each block is in each cell has been taken out: a least-squares fit of
    log = (arm, cell) + (block, cell) + slope x position. So a sample that is missing takes no
    effect of an arm, cell or block for one of position. The arms' effects cannot be told from
    a trend where all blocks have the same order: then there is no slope.

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
            rows.append({"regime": regime, **_row(_boots(ours, settings), settings)})
    adjusted = holm(np.array([row["p_value"] for row in rows], dtype=float))
    for row, p_holm in zip(rows, adjusted.tolist(), strict=True):
        row |= {"p_holm": p_holm, "differs": bool(p_holm < settings.alpha)}
    return table(rows, POSITION_DTYPES, after="regime")


def _boots(samples: pd.DataFrame, settings: AnalysisSettings) -> _Boots:
    """The boots of blocks that have at least two: one alone says nothing of positions."""
    samples = samples[samples["valid"] & (samples[THROUGHPUT.name] > 0)]
    levels = list(zip(*(samples[factor] for factor in settings.factors), strict=True))
    where = list(zip(samples["block"], samples["arm"], samples["boot_order"], strict=True))
    cells = {cell: row for row, cell in enumerate(dict.fromkeys(levels))}
    boots = {boot: column for column, boot in enumerate(dict.fromkeys(where))}
    log = np.full((len(cells), len(boots)), np.nan)
    rows, columns = [cells[cell] for cell in levels], [boots[boot] for boot in where]
    log[rows, columns] = np.log(samples[THROUGHPUT.name].to_numpy(dtype=float))
    found = _Boots(
        log,
        np.array([block for block, _, _ in boots], dtype=np.int64),
        np.array([position for _, _, position in boots], dtype=np.int64),
        np.array([settings.arms.index(arm) for _, arm, _ in boots], dtype=np.int64),
    )
    numbers, counts = np.unique(found.block, return_counts=True)
    return found.only(np.isin(found.block, numbers[counts > 1]))


def _row(boots: _Boots, settings: AnalysisSettings) -> dict[str, object]:
    blocks = np.unique(boots.block)
    slope = _slope(boots)
    low = high = p_value = math.nan
    if len(blocks) >= MIN_BLOCKS and math.isfinite(slope):
        without = np.array([_slope(boots.only(boots.block != block)) for block in blocks])
        freedom = len(blocks) - 1 - (len(np.unique(boots.arm)) == 2)
        error = float(without.std()) * math.sqrt(len(blocks) - 1)  # NaN if any slope is
        if error <= _ROUNDING:
            low, high, p_value = slope, slope, float(abs(slope) <= _ROUNDING)
        else:
            half = error * float(stats.t.isf(settings.alpha / 2, freedom))
            low, high = slope - half, slope + half
            p_value = 2 * float(stats.t.sf(abs(slope) / error, freedom))
    return {
        "metric": THROUGHPUT.name,
        "blocks": len(blocks),
        "position_percent": 100 * math.expm1(slope),
        "position_low_percent": 100 * math.expm1(low),
        "position_high_percent": 100 * math.expm1(high),
        "p_value": p_value,
        "largest_bias_percent": 100 * math.expm1(abs(slope) * _largest_distance(boots, settings)),
    }


def _slope(boots: _Boots) -> float:
    """Growth of the logarithm per position; NaN where blocks and arms explain all positions."""
    there = ~np.isnan(boots.log)
    if not there.any():
        return math.nan
    product = square = 0.0
    # Cells have no effect in common but the slope, so each is a fit of its own; cells with
    # samples of the same boots share its arithmetic.
    for pattern in np.unique(there, axis=0):
        here = boots.only(pattern)
        groups = [here.block == b for b in np.unique(here.block)]
        groups += [here.arm == a for a in np.unique(here.arm)]
        if not groups:
            continue
        design = np.column_stack(groups).astype(float)
        position = here.position.astype(float)
        left = position - design @ np.linalg.lstsq(design, position, rcond=None)[0]
        logs = here.log[(there == pattern).all(axis=1)]
        product += float((logs @ left).sum())
        square += len(logs) * float(left @ left)
    return product / square if square > _ROUNDING * max(1, there.size) else math.nan


def _largest_distance(boots: _Boots, settings: AnalysisSettings) -> float:
    """Most positions by which any arm was later than the baseline, or earlier, in any cell.

    On average over the blocks that the cell's delta rests on; NaN without any such pair.
    """
    there = ~np.isnan(boots.log)
    base = settings.arms.index(settings.baseline)
    place = {(b, a): i for i, (b, a) in enumerate(zip(boots.block, boots.arm, strict=True))}
    largest = [math.nan]
    for arm in set(boots.arm.tolist()) - {base}:
        pairs = [
            (column, place[block, base])
            for (block, other), column in place.items()
            if other == arm and (block, base) in place
        ]
        ours, theirs = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        both = there[:, ours] & there[:, theirs]
        both = both[both.any(axis=1)]
        distance = both @ (boots.position[ours] - boots.position[theirs])
        largest += np.abs(distance / both.sum(axis=1)).tolist()
    return float(np.fmax.reduce(largest))
