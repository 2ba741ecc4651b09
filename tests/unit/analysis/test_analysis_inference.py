# SPDX-License-Identifier: GPL-2.0-only
"""Intervals, tests and forecasts: against textbooks, other libraries and their own symmetries."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kdelta.analysis.effects import is_invalid, mostly_set_aside, verdict
from kdelta.analysis.inference import (
    Estimate,
    blocks_to_settle,
    estimate_over_cells,
    estimates,
    holm,
    over_cells,
    sign_flip_p,
    t_interval,
)


def estimate(x: np.ndarray, confidence: float) -> Estimate:
    (found,) = estimates([x], confidence)
    return found


logs = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=8).map(np.array)


def test_t_interval_is_scipys() -> None:
    x = np.random.default_rng(1).normal(0.1, 0.2, size=(5, 8))
    ours = t_interval(x, 0.9)
    theirs = stats.ttest_1samp(x, 0, axis=-1)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.low == pytest.approx(theirs.confidence_interval(0.9).low)
    assert ours.high == pytest.approx(theirs.confidence_interval(0.9).high)


def test_estimate_worked_by_hand() -> None:
    # Ratios 1.1, 1.2, 1.3: mean and spread of their logarithms, t(0.975, 2) = 4.302653.
    x = np.log([1.1, 1.2, 1.3])
    half = 4.302653 * x.std(ddof=1) / math.sqrt(3)
    found = estimate(x, 0.95)
    assert found.blocks == 3
    assert found.ratio == pytest.approx((1.1 * 1.2 * 1.3) ** (1 / 3))
    assert math.log(found.low) == pytest.approx(x.mean() - half, rel=1e-6)
    assert math.log(found.high) == pytest.approx(x.mean() + half, rel=1e-6)
    assert found.p_sign_flip == pytest.approx(2 / 2**3)


@pytest.mark.parametrize("ratios", [[], [1.5], [1.5, 1.6]])
def test_two_blocks_or_fewer_have_no_interval(ratios: list[float]) -> None:
    found = estimate(np.log(np.array(ratios, dtype=float)), 0.95)
    assert found.blocks == len(ratios)
    assert found.ratio == pytest.approx(stats.gmean(ratios) if ratios else math.nan, nan_ok=True)
    rest = (found.low, found.high, found.log_sd, found.p_value, found.p_sign_flip)
    assert all(math.isnan(value) for value in rest)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("ratio", "p"), [(1.0, 1.0), (1.25, 0.0), (0.8, 0.0)])
def test_no_spread_gives_no_width_and_no_warning(ratio: float, p: float) -> None:
    found = estimate(np.full(5, math.log(ratio)), 0.95)
    assert (found.low, found.high) == (pytest.approx(ratio), pytest.approx(ratio))
    assert (found.log_sd, found.p_value) == (0.0, p)


@pytest.mark.filterwarnings("error")
@settings(max_examples=40, deadline=None)
@given(x=logs)
def test_interval_contains_the_estimate(x: np.ndarray) -> None:
    found = estimate(x, 0.95)
    assert found.low <= found.ratio * (1 + 1e-12)
    assert found.ratio <= found.high * (1 + 1e-12)
    assert 0 <= found.p_value <= 1
    assert 2 / 2 ** len(x) * (1 - 1e-12) <= found.p_sign_flip <= 1


@settings(max_examples=40, deadline=None)
@given(x=logs)
def test_swapped_arms_mirror_everything(x: np.ndarray) -> None:
    one, other = estimate(x, 0.95), estimate(-x, 0.95)
    assert other.ratio == pytest.approx(1 / one.ratio)
    assert other.low == pytest.approx(1 / one.high)
    assert other.high == pytest.approx(1 / one.low)
    assert other.p_value == pytest.approx(one.p_value)
    assert other.p_sign_flip == pytest.approx(one.p_sign_flip)


@settings(max_examples=40, deadline=None)
@given(x=logs)
def test_interval_excludes_one_exactly_if_the_test_rejects(x: np.ndarray) -> None:
    found = estimate(x, 0.95)
    if not 0.0499 < found.p_value < 0.0501:
        assert (found.p_value < 0.05) == (not found.low <= 1 <= found.high)


def test_sign_flip_by_counting() -> None:
    x = np.array([0.3, 0.1, -0.05, 0.2])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    means = (signs.T * x).mean(axis=1)
    assert sign_flip_p(x) == pytest.approx(np.mean(np.abs(means) >= x.mean() - 1e-12))


def test_cells_together_are_as_each_alone() -> None:
    rng = np.random.default_rng(4)
    cells = [rng.normal(0.1, 0.2, blocks) for blocks in (5, 20, 0, 5, 3, 2, 20, 1)]
    together = estimates(cells, 0.95)
    for cell, found in zip(cells, together, strict=True):
        assert repr(found) == repr(estimate(cell, 0.95))


def test_sign_flip_beyond_enumeration_repeats_itself() -> None:
    x = np.random.default_rng(3).normal(0.1, 0.2, 30)
    assert sign_flip_p(x) == sign_flip_p(x)
    assert sign_flip_p(x) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.01)


@settings(max_examples=20, deadline=None)  # statsmodels' side of this is slow
@given(
    p=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=12).map(np.array)
)
def test_holm_is_statsmodels_with_the_missing_as_one(p: np.ndarray) -> None:
    adjusted = holm(p)
    tested = ~np.isnan(p)
    assert np.isnan(adjusted[~tested]).all()
    whole = multipletests(np.where(tested, p, 1.0), method="holm")[1]
    assert adjusted[tested] == pytest.approx(whole[tested])


CELLS_OF_BLOCKS = st.integers(3, 8).flatmap(
    lambda n: st.lists(st.lists(st.floats(-2, 2), min_size=n, max_size=n), min_size=1, max_size=5)
)


@settings(deadline=None)
@given(cells=CELLS_OF_BLOCKS)
def test_over_whole_cells_a_blocks_value_is_its_mean(cells: list[list[float]]) -> None:
    found = over_cells([dict(enumerate(cell)) for cell in cells])
    assert found.values == pytest.approx(np.mean(cells, axis=0))
    assert found.df == len(cells[0]) - 1
    (plain,) = estimates([np.mean(cells, axis=0)], 0.95)
    assert repr(estimate_over_cells(found, 0.95)) == repr(plain)


@settings(deadline=None)
@given(
    cells=CELLS_OF_BLOCKS,
    lost=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=12),
    shift=st.floats(-3, 3),
)
def test_over_cells_is_the_mean_of_the_cells(
    cells: list[list[float]], lost: set[tuple[int, int]], shift: float
) -> None:
    kept = [
        {block: y for block, y in enumerate(cell) if (place, block) not in lost}
        for place, cell in enumerate(cells)
    ]
    found = over_cells(kept)
    means = [np.mean(list(cell.values())) for cell in kept if cell]
    if means:
        assert found.values.mean() == pytest.approx(np.mean(means), abs=1e-9)
    # What one cell's level is has nothing to do with the interval.
    kept[0] = {block: y + shift for block, y in kept[0].items()}
    moved = over_cells(kept)
    assert moved.df == pytest.approx(found.df, nan_ok=True, rel=1e-3)
    if len(found.values):
        assert np.std(moved.values) == pytest.approx(np.std(found.values), abs=1e-6)


def test_the_interval_over_cells_shows_what_was_lost() -> None:
    rng = np.random.default_rng(1)
    cells = [dict(enumerate(rng.normal(level, 0.05, 5))) for level in (0.0, 0.4)]
    whole = over_cells(cells)
    for block in (0, 1):
        del cells[1][block]
    less = over_cells(cells)
    assert whole.df == 4
    assert 2 < less.df < 4
    # One of two cells with three blocks left: s^2 / 4 x (1/5 + 1/3), by hand.
    residuals = [np.array(list(c.values())) - np.mean(list(c.values())) for c in cells]
    added = np.zeros(5)
    added += residuals[0] / math.sqrt(5 * 4)
    added[2:] += residuals[1] / math.sqrt(3 * 2)
    error = less.values.std(ddof=1) / math.sqrt(5)
    assert error == pytest.approx(math.sqrt(((added / 2) ** 2).sum()))
    del cells[1][2], cells[1][3]
    assert math.isnan(over_cells(cells).df)  # one block says nothing of its own noise


def test_holm_takes_many_families_at_once() -> None:
    p = np.random.default_rng(2).uniform(size=(20, 9)) ** 3
    assert (holm(p) == np.array([holm(row) for row in p])).all()


def _found(ratio: float, sd: float, blocks: int) -> Estimate:
    return Estimate(blocks, ratio, math.nan, math.nan, sd, math.nan, math.nan)


@pytest.mark.parametrize(
    ("ratio", "sd", "cells"), [(1.05, 0.1, 1), (1.05, 0.1, 9), (0.9, 0.2, 9), (1.0, 0.05, 9)]
)
def test_blocks_to_settle_is_the_first_that_does(ratio: float, sd: float, cells: int) -> None:
    def settled(blocks: int) -> bool:
        error, mean = sd / math.sqrt(blocks), abs(math.log(ratio))
        strict = stats.t.ppf(1 - 0.05 / cells / 2, blocks - 1) * error
        plain = stats.t.ppf(1 - 0.05 / 2, blocks - 1) * error
        return bool(mean - strict > 0 or mean + plain <= math.log(1.03))

    n = blocks_to_settle(_found(ratio, sd, 4), cells=cells, confidence=0.95, margin=0.03)
    assert n is not None
    assert settled(n)
    assert n == 5 or not settled(n - 1)


def test_blocks_to_settle_is_unknown_or_too_many() -> None:
    def settle(found: Estimate) -> int | None:
        return blocks_to_settle(found, cells=9, confidence=0.95, margin=0.03)

    assert settle(_found(1.2, math.nan, 2)) is None
    assert settle(_found(1.03, 0.5, 5)) is None  # at the margin's edge, and noisy
    assert settle(_found(1.2, 0.2, 5)) is not None


NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "higher", "lower"),
    [
        (1.1, 1.3, 0.01, "faster", "slower"),
        (0.7, 0.9, 0.01, "slower", "faster"),
        (1.1, 1.3, 0.06, "inconclusive", "inconclusive"),  # adjusted for the table's cells
        (0.9, 1.3, 0.50, "inconclusive", "inconclusive"),
        (0.98, 1.02, 0.5, "equivalent", "equivalent"),
        (1.01, 1.02, 0.001, "equivalent", "equivalent"),  # certain, and too small to matter
        (1.01, 1.04, 0.001, "faster", "slower"),  # not wholly within the margin
        (1 / 1.03, 1.03, 0.5, "equivalent", "equivalent"),
        (0.97, 1.0, 0.5, "inconclusive", "inconclusive"),  # 0.97 is below 1/1.03
        (1.2, 1.2, 0.0, "faster", "slower"),
        (1.0, 1.0, 1.0, "equivalent", "equivalent"),
        (NAN, NAN, NAN, "inconclusive", "inconclusive"),
    ],
)
def test_verdict(low: float, high: float, p_holm: float, higher: str, lower: str) -> None:
    for direction, expected in (("higher", higher), ("lower", lower)):
        found = verdict(low, high, p_holm, direction=direction, confidence=0.95, margin=0.03)
        assert found == expected


@pytest.mark.parametrize(
    ("planned", "used", "invalid", "mostly"),
    [
        (10, 10, False, False),
        (10, 6, False, False),
        (10, 5, True, True),  # half
        (10, 0, True, True),
        (5, 3, False, False),
        (5, 2, True, True),
        (4, 3, False, False),
        (3, 2, True, False),  # leaves too few for an interval
        (2, 2, False, False),  # too few from the start is not invalid, but inconclusive
        (2, 1, True, True),
        (1, 0, True, True),
        (0, 0, False, False),
    ],
)
def test_what_is_set_aside_makes_invalid(
    planned: int, used: int, invalid: bool, mostly: bool
) -> None:
    assert is_invalid(planned, used) == invalid
    assert mostly_set_aside(planned, used) == mostly


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(-100_000, 100_000), min_size=2, max_size=6),
    left=st.integers(1, 9),
    unit=st.floats(1e-7, 1e-6, allow_subnormal=False),
)
def test_the_sign_flip_test_counts_equal_sums_as_equal(
    values: list[int], left: int, unit: float
) -> None:
    """Rounding tells sums apart that are the same, and another processor rounds another way.

    The more so, the closer the values' sum is to 0.
    """
    values = [*values, left - sum(values)]
    flipped = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    expected = sum(total >= abs(sum(values)) for total in flipped) / len(flipped)
    logs = np.array([value * unit for value in values])
    assert float(sign_flip_p(logs)) == expected
    # As another processor might have rounded them.
    noise = 1 + np.finfo(float).eps * np.arange(-3, len(values) - 3)
    assert float(sign_flip_p(logs * noise)) == expected
