# SPDX-License-Identifier: GPL-2.0-only
"""The control table: our own error, and what could have been seen."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_tables import SETTINGS, Values, deltas, overall, ratios_of, row

from kdelta.analysis.control import control_frame
from kdelta.analysis.power import Design, Spread, smallest_effect
from kdelta.analysis.settings import AnalysisSettings


def control(cells: dict[Any, Values], s: AnalysisSettings = SETTINGS) -> pd.DataFrame:
    return control_frame(ratios_of(cells, s), deltas(cells, s), overall(cells, s), s)


def test_control_goes_through_the_same_code() -> None:
    values = [104.0, 109.0, 103.0, 111.0]
    frame = deltas({1: {"baseline": [100] * 4, "patched": values, "control": values}})
    arms = [row(frame, arm).drop("arm") for arm in ("patched", "control")]
    pd.testing.assert_series_equal(arms[0], arms[1], check_names=False)


def test_control_table() -> None:
    rng = np.random.default_rng(7)
    cells = {
        cell: {"baseline": [100.0] * 10, "control": list(100 * np.exp(rng.normal(0, 0.1, 10)))}
        for cell in range(9)
    }
    frame = deltas(cells)
    found = control(cells).iloc[0]
    ours = frame[frame["arm"] == "control"]
    assert (found["regime"], found["metric"]) == ("idle", "throughput_mib_s")
    assert (found["cells"], found["blocks"]) == (9, 10)
    assert found["largest_delta_percent"] == pytest.approx(ours["delta_percent"].abs().max())
    assert found["false_verdicts"] == 0
    assert not found["differs"]
    # t(0.975, 9) x 0.1 / sqrt(10) = 7.2 %
    assert found["median_half_width_percent"] == pytest.approx(7.4, abs=1.5)
    sds = [np.log(np.array(arms["control"]) / 100).std(ddof=1) for arms in cells.values()]
    spread = Spread(math.sqrt(np.mean(np.square(sds))), df=9)
    floor = smallest_effect(spread, Design(10, 9, 0.95, 0.03), 0.8)
    assert found["noise_floor_percent"] == pytest.approx(100 * math.expm1(floor))


def test_a_control_that_comes_out_different_is_counted() -> None:
    cells = {
        1: {"baseline": [100] * 4, "control": [150, 151, 149, 150]},
        2: {"baseline": [100] * 4, "control": [50, 51, 49, 50]},
    }
    found = control(cells).iloc[0]
    assert (found["false_verdicts"], found["differs"]) == (2, True)


def test_a_control_may_differ_only_as_a_whole() -> None:
    # 5 % in every cell, under luck of 10 % that nearly cancels over the cells of a block.
    cells = {
        cell: {
            "baseline": [100.0] * 8,
            "control": [100 * math.exp(0.05 + 0.1 * (-1) ** (cell + block)) for block in range(8)],
        }
        for cell in range(9)
    }
    found = control(cells).iloc[0]
    assert row(overall(cells), "control")["verdict"] == "faster"
    assert (found["false_verdicts"], found["differs"]) == (0, True)


def test_without_control_arm_the_control_table_is_empty() -> None:
    s = replace(SETTINGS, control=None, arms=("baseline", "patched"))
    values = {1: {"baseline": [1.0] * 3, "patched": [2.0] * 3}}
    frame = control(values, s)
    assert frame.empty
    assert "noise_floor_percent" in frame.columns


@pytest.mark.filterwarnings("error")
def test_no_spread_at_all() -> None:
    values = {"baseline": [100.0] * 4, "patched": [101.0] * 4, "control": [100.0] * 4}
    frame = deltas({1: values})
    assert list(frame["verdict"]) == ["equivalent", "equivalent"]
    # Whatever is beyond the margin would have been seen.
    floor = control({1: values})["noise_floor_percent"]
    assert floor.tolist() == [pytest.approx(3)]


def test_one_of_many_regimes_that_stands_out_a_little_is_no_warning() -> None:
    whole = pd.DataFrame(
        {
            "regime": ["idle", "pressed", "full", "cold"],
            "arm": "control",
            "metric": "throughput_mib_s",
            "verdict": ["faster", "inconclusive", "inconclusive", "inconclusive"],
            "p_value": [0.03, 0.4, 0.6, 0.9],
        }
    )
    values = {"baseline": [100.0, 110.0, 90.0, 105.0], "control": [103.0, 100.0, 96.0, 101.0]}
    frame = deltas({1: values})
    ratios = ratios_of({1: values})
    assert not control_frame(ratios, frame, whole, SETTINGS)["differs"].any()
    # on its own, or clear enough for the four, it is
    assert control_frame(ratios, frame, whole[:1], SETTINGS)["differs"].any()
    assert control_frame(ratios, frame, whole.assign(p_value=0.003), SETTINGS)["differs"].any()
    # and a regime of which nothing is left stays one of four
    lost = whole.assign(p_value=[0.03, math.nan, math.nan, math.nan])
    assert not control_frame(ratios, frame, lost, SETTINGS)["differs"].any()


def test_cells_that_lost_their_data_lower_no_noise_floor() -> None:
    rng = np.random.default_rng(7)
    values = {"baseline": [100.0] * 5, "control": list(100 * np.exp(rng.normal(0, 0.1, 5)))}
    empty = {"baseline": [math.nan] * 5, "control": [math.nan] * 5}
    alone, among = (control(c).iloc[0] for c in ({1: values}, {1: values, 2: empty, 3: empty}))
    assert among["cells"] == 1
    assert among["noise_floor_percent"] > 1.2 * alone["noise_floor_percent"]
