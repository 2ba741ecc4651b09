# SPDX-License-Identifier: GPL-2.0-only
"""Two runs' effects beside each other: the statistics alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdelta.export.differences import (
    Difference,
    Effects,
    Place,
    compare_cells,
    compare_overall,
    difference_interval,
)

CELLS: tuple[Place, ...] = tuple(("idle", (("number", n),)) for n in range(4))
LOGS = st.floats(-2, 2).map(lambda x: round(x, 6))
TABLES = st.lists(
    st.dictionaries(st.integers(1, 12), LOGS, max_size=8), min_size=len(CELLS), max_size=len(CELLS)
)


def effects(tables: list[dict[int, float]]) -> Effects:
    return Effects(
        blocks=dict(zip(CELLS, tables, strict=True)),
        planned={cell: len(table) for cell, table in zip(CELLS, tables, strict=True)},
        invalid=frozenset(),
    )


def noisy(seed: int, effect: float, *, blocks: int = 8, sd: float = 0.02) -> Effects:
    rng = np.random.default_rng(seed)
    logs = math.log(effect) + rng.normal(0, sd, (len(CELLS), blocks))
    return effects([dict(enumerate(row, 1)) for row in logs.tolist()])


def both(a: Effects, b: Effects, *, paired: bool = False) -> list[Difference]:
    return [
        *compare_cells(a, b, CELLS, paired=paired, confidence=0.95),
        compare_overall(a, b, CELLS, paired=paired, confidence=0.95),
    ]


@settings(deadline=None)
@given(tables=TABLES, paired=st.booleans())
def test_a_run_is_the_same_as_itself(tables: list[dict[int, float]], paired: bool) -> None:
    for one in both(effects(tables), effects(tables), paired=paired):
        assert one.word != "differs"
        if one.a.blocks:
            assert one.ratio == pytest.approx(1, abs=1e-12)
        if not math.isnan(one.a.low):
            assert one.low <= 1 + 1e-12
            assert one.high >= 1 - 1e-12


@settings(deadline=None)
@given(a=TABLES, b=TABLES, paired=st.booleans())
def test_the_other_way_round_is_the_mirror_image(
    a: list[dict[int, float]], b: list[dict[int, float]], paired: bool
) -> None:
    forth = both(effects(a), effects(b), paired=paired)
    back = both(effects(b), effects(a), paired=paired)
    for one, other in zip(forth, back, strict=True):
        assert one.word == other.word
        assert one.a == other.b
        assert one.p_holm == pytest.approx(other.p_holm, nan_ok=True)
        if not math.isnan(one.ratio):
            assert one.ratio == pytest.approx(1 / other.ratio)
        if not math.isnan(one.low):
            assert one.low == pytest.approx(1 / other.high)


def difference(
    a: np.ndarray, b: np.ndarray, *, paired: bool, confidence: float
) -> tuple[float, float, float, float]:
    """Of effects in one cell."""
    left, right = (dict(enumerate(side.tolist())) for side in (a, b))
    return difference_interval([left], [right], paired=paired, confidence=confidence)


def test_welch_as_scipy_has_it() -> None:
    a, b = np.array([0.1, 0.2, 0.15, 0.3]), np.array([0.4, 0.5, 0.2])
    mean, low, high, p = difference(a, b, paired=False, confidence=0.9)
    test = stats.ttest_ind(b, a, equal_var=False)
    ends = test.confidence_interval(0.9)
    assert mean == pytest.approx(b.mean() - a.mean())
    assert (low, high, p) == pytest.approx((ends.low, ends.high, test.pvalue))


def test_pairs_are_compared_block_by_block() -> None:
    """What blocks share, a host's mood, is not noise of the difference."""
    mood = np.random.default_rng(3).normal(0, 1, 8)
    luck = np.random.default_rng(4).normal(0, 0.01, 8)
    a, b = mood, mood + 0.1 + luck
    mean, low, high, p = difference(a, b, paired=True, confidence=0.95)
    test = stats.ttest_rel(b, a)
    ends = test.confidence_interval(0.95)
    assert (mean, low, high, p) == pytest.approx((0.1 + luck.mean(), *ends, test.pvalue))
    assert p < 1e-6
    assert difference(a, b, paired=False, confidence=0.95)[3] > 0.5


def test_only_blocks_that_both_arms_have_make_a_pair() -> None:
    a = effects([{1: 0.0, 2: 0.1, 3: 0.2, 4: 9.0}] * 4)
    b = effects([{1: 0.1, 2: 0.2, 3: 0.3, 5: -9.0}] * 4)
    for one in both(a, b, paired=True):
        assert one.ratio == pytest.approx(math.exp(0.1))
        assert one.word == "differs"


def test_a_cell_missing_on_one_side_is_no_effect_of_a_pair() -> None:
    """Cells have levels of their own: a block's mean must be over the same cells."""
    whole = [dict.fromkeys(range(1, 6), 0.1 * cell) for cell in range(4)]
    partial = [dict(table) for table in whole]
    del partial[3][1]
    found = compare_overall(effects(whole), effects(partial), CELLS, paired=True, confidence=0.95)
    assert (found.ratio, found.word) == (pytest.approx(1), "same within noise")


@pytest.mark.parametrize("paired", [True, False])
def test_a_cell_that_lost_blocks_is_no_difference(paired: bool) -> None:
    """Cells of +0 and +50 %, the same in both runs, B without two blocks of the second."""
    luck = np.random.default_rng(6).normal(0, 0.001, (2, 2, 5))
    a, b = (
        [
            dict(enumerate((level + one).tolist()))
            for level, one in zip((0, 0.405), run, strict=True)
        ]
        for run in luck
    )
    for block in (0, 3):
        del b[1][block]
    sides = [
        Effects(dict(zip(CELLS, cells, strict=False)), dict.fromkeys(CELLS, 5), frozenset())
        for cells in (a, b)
    ]
    found = compare_overall(*sides, CELLS[:2], paired=paired, confidence=0.95)
    assert found.ratio == pytest.approx(1, abs=0.003)
    assert found.word == "same within noise"
    sides[1].blocks[CELLS[1]].clear()  # type: ignore[attr-defined]
    assert compare_overall(*sides, CELLS[:2], paired=paired, confidence=0.95).word == "invalid"


def test_the_family_is_what_was_planned() -> None:
    """Cells that lost their blocks make no other cell's difference easier."""
    a, b = noisy(1, 1.0), noisy(2, 1.02)
    (first, *others) = CELLS
    whole = compare_cells(a, b, CELLS, paired=False, confidence=0.95)[0]
    cut = {place: dict(list(b.blocks[place].items())[:2]) for place in others}
    less = Effects({first: b.blocks[first], **cut}, b.planned, frozenset(others))
    one, *rest = compare_cells(a, less, CELLS, paired=False, confidence=0.95)
    assert one.p_value == whole.p_value
    assert one.p_holm == pytest.approx(min(1, 4 * one.p_value))
    assert {other.word for other in rest} == {"invalid"}


def test_a_difference_is_found_and_has_the_right_size() -> None:
    found = both(noisy(1, 1.2), noisy(2, 1.1))
    assert [one.word for one in found] == ["differs"] * 5
    for one in found:
        assert one.low < 1.1 / 1.2 < one.high
        assert one.p_holm < 0.05


def test_cells_are_one_family() -> None:
    found = compare_cells(noisy(1, 1.0), noisy(2, 1.01), CELLS, paired=False, confidence=0.95)
    raw = sorted(one.p_value for one in found)
    assert sorted(one.p_holm for one in found)[0] == pytest.approx(min(1, 4 * raw[0]))


def test_false_differences_are_as_rare_as_the_confidence_says() -> None:
    wrong = sum(
        any(one.word == "differs" for one in both(noisy(n, 1.1), noisy(n + 5000, 1.1))[:-1])
        for n in range(300)
    )
    # 15 expected; 30 or more would happen in one of 2,000 right implementations.
    assert wrong < 30


def test_too_few_blocks() -> None:
    a, b = effects([{1: 0.1, 2: 0.2}] * 4), noisy(1, 1.0)
    for one in both(a, b):
        assert one.word == "too few blocks"
        assert math.isnan(one.low)
        assert not math.isnan(one.ratio)
    nothing = both(effects([{}] * 4), b)
    assert all(math.isnan(one.ratio) for one in nothing)


def test_what_was_set_aside_spoils_the_word() -> None:
    a = noisy(1, 1.2)
    b = Effects(noisy(2, 1.0).blocks, dict.fromkeys(CELLS, 8), frozenset(CELLS[:1]))
    words = [one.word for one in both(a, b)]
    assert words == ["invalid", "differs", "differs", "differs", "differs"]
    most = Effects(a.blocks, dict.fromkeys(CELLS, 16), frozenset())
    assert both(most, b)[-1].word == "invalid"


def test_no_spread_at_all() -> None:
    a, b = (effects([dict.fromkeys(range(1, 5), level)] * 4) for level in (0.1, 0.2))
    assert {one.word for one in both(a, b)} == {"differs"}
    assert {one.word for one in both(a, a)} == {"same within noise"}
