# SPDX-License-Identifier: GPL-2.0-only
"""The split of a variance: known components come back, and missing slices do no harm."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.analysis.planning import variance_split


def simulated(
    block_sd: float,
    cell_sd: float,
    slice_sd: float,
    *,
    blocks: int = 40,
    cells: int = 9,
    rounds: int = 4,
    lost: float = 0.0,
    seed: int = 1,
) -> pd.DataFrame:
    """Slice pairs of cells with unequal effects; spreads are of the logarithm."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.3, cells)
    rows = []
    for block in range(1, blocks + 1):
        common = rng.normal(0, block_sd)
        for cell in range(cells):
            own = effects[cell] + common + rng.normal(0, cell_sd)
            for _ in range(rounds):
                log = own + rng.normal(0, slice_sd)
                if rng.uniform() >= lost:
                    rows.append((block, cell, math.exp(log)))
    return pd.DataFrame(rows, columns=["block", "cell", "ratio"])


@pytest.mark.parametrize("lost", [0.0, 0.1])
@pytest.mark.parametrize(
    ("block_sd", "cell_sd", "slice_sd"), [(0.02, 0.01, 0.06), (0.0, 0.0, 0.05), (0.05, 0.05, 0.01)]
)
def test_known_components_come_back(
    block_sd: float, cell_sd: float, slice_sd: float, lost: float
) -> None:
    """On average over experiments; a component is no variance of its own if it is small."""
    found = [
        variance_split(simulated(block_sd, cell_sd, slice_sd, lost=lost, seed=seed))
        for seed in range(20)
    ]
    for name, sd in (("block", block_sd), ("cell", cell_sd), ("slice", slice_sd)):
        mean = float(np.mean([getattr(split, name) for split in found]))
        assert mean == pytest.approx(sd**2, rel=0.2, abs=2e-4 * (sd == 0) + 3e-5), name


def test_more_rounds_spread_less_and_more_blocks_are_another_matter() -> None:
    """What the split says of blocks of 4 rounds is how blocks of 4 rounds spread."""
    pairs = simulated(0.02, 0.01, 0.06, blocks=200)
    split = variance_split(pairs)
    logs = pairs.assign(log=np.log(pairs["ratio"]))
    cells = logs.groupby(["cell", "block"])["log"].mean().unstack()
    assert split.of_cell(4) == pytest.approx(cells.var(axis=1, ddof=1).mean(), rel=0.1)
    assert split.of_block(4) == pytest.approx(cells.mean().var(ddof=1), rel=0.1)
    assert split.of_cell(1) > split.of_cell(2) > split.of_cell(8)


@settings(deadline=None, max_examples=40)
@given(
    blocks=st.integers(1, 4),
    cells=st.integers(1, 4),
    rounds=st.integers(1, 3),
    lost=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_few_and_missing_slices_never_raise(
    blocks: int, cells: int, rounds: int, lost: float, seed: int
) -> None:
    pairs = simulated(
        0.1, 0.1, 0.1, blocks=blocks, cells=cells, rounds=rounds, lost=lost, seed=seed
    )
    if pairs.empty:
        return
    split = variance_split(pairs)
    for part in (split.block, split.cell, split.slice):
        assert math.isnan(part) or part >= 0
