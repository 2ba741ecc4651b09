# SPDX-License-Identifier: GPL-2.0-only
"""Published deltas against ours, and cells that must not change."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SETTINGS, Truth, write_raw

from kdelta.analysis.claims import STATUS, claim_status, claims_frame, negative_controls_frame
from kdelta.analysis.run import analyse
from kdelta.analysis.settings import AnalysisSettings, Claim, NegativeControl
from kdelta.analysis.tables import csv_text

STATUSES = {"reproduced", "same direction", "not settled", "contradicted", "not measured"}
THROUGHPUT = "throughput_mib_s"


@pytest.mark.parametrize(
    ("claimed", "low", "high", "status"),
    [
        (21, 15, 25, "reproduced"),
        (21, 21.4, 25, "reproduced"),  # 21 stands for anything from 20.5 to 21.5
        (21, 21.6, 25, "same direction"),
        (21, 10, 20.6, "reproduced"),
        (21, 10, 20.4, "same direction"),
        (20.6, 10, 20.5, "same direction"),  # not rounded, so it stands for itself
        (21, -1, 25, "not settled"),
        (21, -25, 25, "not settled"),
        (21, -9, -1, "contradicted"),
        (21, -1, 2, "contradicted"),  # nothing, by the margin
        (21, 1, 2, "contradicted"),  # on its side, and nothing by the margin
        (21, 1, 3.5, "same direction"),
        (2, -1, 2, "not settled"),  # the claim itself lies within the margin
        (2, 0.5, 2.9, "reproduced"),
        (3.4, 1, 2.95, "contradicted"),
        (-18, -20, -15, "reproduced"),
        (-18, -12, -9, "same direction"),
        (-18, 1, 2, "contradicted"),
        (-18, -1, 2, "contradicted"),
        (-18, -30, 1, "not settled"),
        (-18, 0, 30, "not settled"),
        (0, -2, 2, "reproduced"),
        (0, 1, 2, "same direction"),
        (0, 1, 9, "contradicted"),
        (0, -9, 9, "not settled"),
        (21, math.nan, math.nan, "not settled"),
    ],
)
def test_status_of_a_claim(claimed: float, low: float, high: float, status: str) -> None:
    assert claim_status(claimed, low, high, invalid=False, margin=0.03) == status
    assert claim_status(claimed, low, high, invalid=True, margin=0.03) == "not settled"


@given(
    claimed=st.integers(-60, 60) | st.floats(-60, 60),
    ends=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    margin=st.floats(0.001, 0.2),
)
def test_statuses_are_exhaustive_and_mean_what_they_say(
    claimed: float, ends: tuple[float, float], margin: float
) -> None:
    low, high = sorted(ends)
    status = claim_status(claimed, low, high, invalid=False, margin=margin)
    assert status in STATUSES - {"not measured"}
    if status == "reproduced":
        assert low - 0.5 <= claimed <= high + 0.5
        assert claimed == 0 or low > 0 or high < 0
    if low <= 0 <= high and (high > 100 * margin or low < 100 * (1 / (1 + margin) - 1)):
        assert status == "not settled"


@pytest.fixture(scope="module")
def deltas(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("claims")
    raw = write_raw(folder / "raw", Truth(blocks=8, effects={"patched": 1.2}))
    return analyse(raw, folder / "out", SETTINGS).deltas


def claim(delta: float = 21, *, writers: Any = 1, readers: Any = 5, **changes: Any) -> Claim:
    fields = {"regime": "idle", "arm": "patched", "metric": THROUGHPUT, **changes}
    fields.setdefault("levels", {"writers": writers, "readers": readers})
    return Claim(baseline=1132.0, value=1195.0, delta_percent=delta, **fields)


def claimed(deltas: pd.DataFrame, *claims: Claim) -> list[dict[str, Any]]:
    frame = claims_frame(deltas, replace(SETTINGS, claims=claims))
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def test_a_claim_beside_our_delta(deltas: pd.DataFrame) -> None:
    (row,) = claimed(deltas, claim())
    ours = deltas.query("arm == 'patched' and writers == 1 and readers == 5").iloc[0]
    assert row["status"] == "reproduced"
    assert (row["unit"], row["blocks"], row["verdict"]) == ("MiB/s", 8, "faster")
    assert (row["claimed_baseline"], row["claimed_value"]) == (1132.0, 1195.0)
    assert row["claimed_delta_percent"] == 21
    assert row["delta_percent"] == ours["delta_percent"]
    assert row["delta_low_percent"] < 20 < row["delta_high_percent"]


@pytest.mark.parametrize(
    "other",
    [
        {"writers": 10},
        {"regime": "memory-pressure"},
        {"regime": "elsewhere"},
        {"arm": "stranger"},
        {"metric": "latency_p42_ns"},
        {"levels": {"writers": 1}},
        {"levels": {"writers": 1, "readers": 5, "write_size": 4096}},
    ],
)
def test_cells_that_this_run_has_not(deltas: pd.DataFrame, other: dict[str, Any]) -> None:
    (row,) = claimed(deltas, claim(**other))
    assert (row["status"], row["blocks"]) == ("not measured", 0)
    assert pd.isna(row["delta_percent"])
    assert pd.isna(row["verdict"])
    assert row["claimed_delta_percent"] == 21


def test_levels_of_claims_are_compared_by_value(deltas: pd.DataFrame) -> None:
    (row,) = claimed(deltas, claim(writers="1", readers="5"))
    assert row["status"] == "reproduced"


def test_claims_are_in_display_order(deltas: pd.DataFrame) -> None:
    rows = claimed(
        deltas,
        claim(regime="memory-pressure"),
        claim(writers=2, metric="latency_mean_ns", delta=-17),
        claim(writers=2),
        claim(-5),
    )
    assert [(r["regime"], r["metric"], r["writers"]) for r in rows] == [
        ("idle", THROUGHPUT, 1),
        ("idle", THROUGHPUT, 2),
        ("idle", "latency_mean_ns", 2),
        ("memory-pressure", THROUGHPUT, 1),
    ]
    assert [r["status"] for r in rows] == [
        "contradicted",
        "reproduced",
        "reproduced",
        "not measured",
    ]
    assert claimed(deltas) == []


def test_an_invalid_cell_settles_no_claim(deltas: pd.DataFrame) -> None:
    spoilt = deltas.assign(verdict="invalid")
    (row,) = claimed(spoilt, claim())
    assert (row["verdict"], row["status"]) == ("invalid", "not settled")


def test_two_blocks_settle_no_claim(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=2))
    settings = replace(SETTINGS, claims=(claim(),))
    assert list(analyse(raw, tmp_path / "out", settings).claims["status"]) == ["not settled"]


def held(deltas: pd.DataFrame, **levels: tuple[Any, ...]) -> pd.DataFrame:
    control = NegativeControl(levels=levels, reason="one page is allocated one way only")
    return negative_controls_frame(deltas, replace(SETTINGS, negative_controls=(control,)))


def test_negative_controls_take_their_cells_of_every_arm_but_the_control(
    deltas: pd.DataFrame,
) -> None:
    table = held(deltas, writers=(1,))
    assert csv_text(table[["regime", "arm", "writers", "readers"]]).splitlines()[1:] == [
        "idle,patched,1,1",
        "idle,patched,1,5",
    ]
    assert set(table["status"]) == {"broken"}
    assert set(table["reason"]) == {"one page is allocated one way only"}
    assert len(held(deltas, writers=("1", 2), readers=(5,))) == 2
    assert held(deltas, writers=(7,)).empty


@pytest.mark.parametrize(("verdict", "status"), STATUS.items())
def test_status_of_a_negative_control(deltas: pd.DataFrame, verdict: str, status: str) -> None:
    assert set(held(deltas.assign(verdict=verdict), writers=(1,))["status"]) == {status}


def test_a_cell_of_two_negative_controls_has_one_row(deltas: pd.DataFrame) -> None:
    settings: AnalysisSettings = replace(
        SETTINGS,
        negative_controls=(
            NegativeControl({"writers": (1,)}, "first"),
            NegativeControl({"readers": (5,)}, "second"),
        ),
    )
    table = negative_controls_frame(deltas, settings)
    assert list(table["reason"]) == ["first", "first; second", "second"]
