# SPDX-License-Identifier: GPL-2.0-only
"""What the delta tables say where pairs were set aside."""

import math
from typing import Any

import pandas as pd
import pytest
from small_tables import SETTINGS, Values, row, samples

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.deltas import deltas_frame, overall_frame, planned_pairs, ratios_frame


def set_aside(used: int, planned: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Delta and overall tables of two cells, one of them with fewer pairs than planned."""
    nan = math.nan
    measured = [150.0, 151, 149, 150, 152]
    cells: dict[Any, Values] = {
        1: {"baseline": [100, 101, 99, 100, 100], "patched": measured},
        2: {"baseline": [100] * 5, "patched": measured[:used] + [nan] * (5 - used)},
    }
    ratios = ratios_frame(samples(cells), SETTINGS)
    plan = {("idle", arm, (cell,)): planned for arm in ("patched", "control") for cell in cells}
    where = {"idle": [(1,), (2,)]}
    return (
        deltas_frame(ratios, where, SETTINGS, planned=plan),
        overall_frame(ratios, where, SETTINGS, planned=plan),
    )


@pytest.mark.parametrize(
    ("used", "word", "whole"),
    [
        (5, "faster", "faster"),
        (3, "faster", "faster"),
        (2, "invalid", "faster"),
        (0, "invalid", "invalid"),
    ],
)
def test_set_aside_pairs_are_counted_and_make_invalid(used: int, word: str, whole: str) -> None:
    frame, total = set_aside(used, planned=5)
    one, other = row(frame, size=1), row(frame, size=2)
    assert (one["blocks"], one["set_aside"], one["verdict"]) == (5, 0, "faster")
    assert (other["blocks"], other["set_aside"], other["verdict"]) == (used, 5 - used, word)
    assert pd.isna(other["blocks_to_settle"])
    # The control has no sample at all: every planned pair of it is set aside.
    missing = row(frame, "control", size=1)
    assert (missing["blocks"], missing["set_aside"], missing["verdict"]) == (0, 5, "invalid")
    assert (row(total)["blocks"], row(total)["set_aside"]) == (5, 0)
    assert row(total)["verdict"] == whole
    assert (row(total, "control")["set_aside"], row(total, "control")["verdict"]) == (5, "invalid")


def test_an_invalid_cell_keeps_its_place_in_the_family() -> None:
    frame, _ = set_aside(3, planned=6)  # of 6, half
    assert row(frame, size=2)["verdict"] == "invalid"
    ours = frame[frame["arm"] == "patched"]
    assert ours["p_holm"].min() == pytest.approx(2 * ours["p_value"].min())


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
            variant=arm,
            boot_order=1,
            planned=planned,
            boot=None,  # it never ran, and was planned all the same
            samples=(),
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
