# SPDX-License-Identifier: GPL-2.0-only
"""What the delta tables say where pairs were set aside."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_tables import SETTINGS, Values, ratios_of, row, samples

from kdelta.analysis.boots import RawBoot, Slices, all_planned_cells, planned_cells
from kdelta.analysis.deltas import deltas_frame, overall_frame, planned_pairs, ratios_frame

NOISE = [0.0005, -0.0008, 0.0003, -0.0004, 0.0004]
LEVEL = {1: 100.0, 2: 150.0}
"""Cell -> the arm's value, over a baseline of 100 in both."""


def set_aside(used: int, planned: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Delta and overall tables of cells of +0 and +50 %, the second with fewer pairs."""
    nan = math.nan
    cells: dict[Any, Values] = {
        cell: {
            "baseline": [100] * 5,
            "patched": [level * (1 + e) if cell == 1 or i < used else nan for i, e in NOISES],
        }
        for cell, level in LEVEL.items()
    }
    plan = {("idle", arm, (cell,)): planned for arm in ("patched", "control") for cell in cells}
    where = {"idle": [(1,), (2,)]}
    return (
        deltas_frame(ratios_of(cells), where, SETTINGS, planned=plan),
        overall_frame(ratios_of(cells), where, SETTINGS, planned=plan),
    )


NOISES = list(enumerate(NOISE))


@pytest.mark.parametrize(
    ("used", "word", "whole"),
    [
        (5, "faster", "faster"),
        (3, "faster", "faster"),
        (2, "invalid", "faster"),
        (1, "invalid", "invalid"),  # whose noise is unknown
        (0, "invalid", "invalid"),
    ],
)
def test_set_aside_pairs_are_counted_and_make_invalid(used: int, word: str, whole: str) -> None:
    frame, total = set_aside(used, planned=5)
    one, other = row(frame, size=1), row(frame, size=2)
    assert (one["blocks"], one["set_aside"], one["verdict"]) == (5, 0, "equivalent")
    assert (other["blocks"], other["set_aside"], other["verdict"]) == (used, 5 - used, word)
    assert pd.isna(other["blocks_to_settle"])
    # The control has no sample at all: every planned pair of it is set aside.
    missing = row(frame, "control", size=1)
    assert (missing["blocks"], missing["set_aside"], missing["verdict"]) == (0, 5, "invalid")
    assert (row(total)["blocks"], row(total)["set_aside"]) == (5, 0)
    assert row(total)["verdict"] == whole
    assert row(total)["cells"] == (2 if used else 1)
    assert (row(total, "control")["set_aside"], row(total, "control")["verdict"]) == (5, "invalid")


@pytest.mark.parametrize(
    ("used", "word"), [((2, 2), "invalid"), ((2, 3), "inconclusive"), ((2,), "invalid")]
)
def test_cells_of_which_none_may_be_spoken_of_have_no_overall_effect(
    used: tuple[int, ...], word: str
) -> None:
    nan = math.nan
    cells: dict[Any, Values] = {
        cell: {
            "baseline": [100] * 3,
            "patched": [v if i < left else nan for i, v in enumerate((104.0, 97, 101))],
        }
        for cell, left in enumerate(used, start=1)
    }
    frame = overall_frame(
        ratios_of(cells),
        {"idle": [(cell,) for cell in cells]},
        SETTINGS,
        planned={("idle", "patched", (cell,)): 3 for cell in cells},
    )
    assert row(frame)["verdict"] == word


def test_lost_pairs_do_not_move_the_overall_effect() -> None:
    """Nor leave its interval as it was."""
    both = 100 * (math.sqrt(1.5) - 1)  # +22.5 %
    widths = []
    for used in (5, 4, 3, 2):
        found = row(set_aside(used, planned=5)[1])
        assert found["delta_percent"] == pytest.approx(both, abs=0.1)
        assert found["delta_low_percent"] < both < found["delta_high_percent"]
        widths.append(math.log(found["ratio_high"] / found["ratio_low"]))
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]
    assert widths[2] < 0.02


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_cell_that_lost_its_pairs_keeps_its_place_in_the_family(kept: int) -> None:
    nan = math.nan
    values = [104.0, 109, 103, 108, 101, 107]
    cells: dict[Any, Values] = {
        1: {"baseline": [100] * 6, "patched": values},
        2: {"baseline": [100] * 6, "patched": [100, 120, 90][:kept] + [nan] * (6 - kept)},
    }
    plan = {("idle", "patched", (cell,)): 6 for cell in cells}
    frame = deltas_frame(ratios_of(cells), {"idle": [(1,), (2,)]}, SETTINGS, planned=plan)
    assert row(frame, size=2)["verdict"] == "invalid"
    one = row(frame, size=1)
    assert one["p_holm"] == pytest.approx(2 * one["p_value"])
    assert one["p_value"] < 0.05


def test_nine_cells_of_which_eight_are_cut() -> None:
    """P = 0.0216 is not significant among nine cells, however many of them were lost."""
    nan = math.nan
    logs = np.array([0.02, 0.16, 0.09, 0.05, 0.13])
    p_value = stats.ttest_1samp(logs, 0).pvalue
    assert 0.02 < p_value < 0.03
    values = list(100 * np.exp(logs))
    luck = list(100 * np.exp(np.array([0.1, -0.12, 0.03, -0.09, 0.11])))
    for lost in (0, 3, 5):
        cells: dict[Any, Values] = {1: {"baseline": [100] * 5, "patched": values}}
        for cell in range(2, 10):
            cells[cell] = {"baseline": [100] * 5, "patched": luck[lost:] + [nan] * lost}
        frame = deltas_frame(
            ratios_of(cells),
            {"idle": [(cell,) for cell in cells]},
            SETTINGS,
            planned={("idle", "patched", (cell,)): 5 for cell in cells},
        )
        found = row(frame, size=1)
        assert found["p_holm"] == pytest.approx(9 * p_value)
        assert found["verdict"] == "inconclusive"
        assert found["blocks_to_settle"] > 5


def test_samples_that_broke_a_rule_are_taken_in_when_asked() -> None:
    frame = samples({1: {"baseline": [100] * 3, "patched": [110, 120, 130]}})
    frame.loc[frame["block"] == 2, "valid"] = False
    frame.loc[(frame["block"] == 3) & (frame["arm"] == "patched"), "throughput_mib_s"] = math.nan
    assert list(ratios_frame(frame, SETTINGS)["block"]) == [1]
    assert list(ratios_frame(frame, SETTINGS, include_set_aside=True)["block"]) == [1, 2]


def test_planned_pairs_count_blocks_that_planned_both_arms() -> None:
    def boot(block: int, arm: str, *cells: int) -> RawBoot:
        planned = tuple((cell,) for cell in cells)
        return RawBoot(
            regime="idle",
            block=block,
            arm=arm,
            boot_order=1,
            planned=planned,
            boot=None,  # it never ran, and was planned all the same
            ran=Slices(),
            end=None,
            splats=None,
        )

    boots = [boot(1, "baseline", 1, 2), boot(1, "patched", 1, 2), boot(2, "patched", 1, 2)]
    boots += [boot(3, "baseline", 1), boot(3, "patched", 1, 2), boot(3, "control", 1)]
    assert dict(planned_pairs(boots, SETTINGS)) == {
        ("idle", "patched", (1,)): 2,
        ("idle", "patched", (2,)): 1,
        ("idle", "control", (1,)): 1,
    }


def test_what_the_settings_plan_counts_where_no_folder_is_left() -> None:
    """A block, an arm and a regime of which nothing is there: two of five, all, all."""
    s = replace(SETTINGS, regimes=("idle", "full"), blocks=5, cells=((1,), (2,)))
    boots = [
        RawBoot("idle", block, arm, 1, ((1,), (2,)), None, (), None, None)
        for block in (1, 2, 4)
        for arm in ("baseline", "patched")
    ]
    plan = planned_pairs(boots, s)
    assert set(plan.values()) == {5}
    assert len(plan) == 2 * 2 * 2  # regimes x arms x cells
    cells = all_planned_cells(planned_cells(boots), s)
    assert cells == {"idle": ((1,), (2,)), "full": ((1,), (2,))}
    # Without a protocol, what is there says what was planned: four blocks of idle.
    s = replace(s, blocks=None)
    assert set(all_planned_cells(planned_cells(boots), s)) == {"idle"}
    assert planned_pairs(boots, s)["idle", "control", (2,)] == 4
