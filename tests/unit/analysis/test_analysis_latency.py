# SPDX-License-Identifier: GPL-2.0-only
"""Quantiles from histograms, and latency.csv from samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import CELLS, Json, boot_of, records_of
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SETTINGS, Truth, edit, write_raw

from kdelta.analysis.boots import Histogram
from kdelta.analysis.latency import QUANTILES, quantiles_ns
from kdelta.analysis.run import analyse, analyse_boots
from kdelta.errors import KdeltaError

LEVELS = np.array([0.01, 0.25, 0.5, 0.75, 0.99, 0.999])


def quantiles_of(buckets: Any, levels: Any) -> Any:
    return quantiles_ns([Histogram.of(buckets)], levels)[0]


def records_with(histogram: Any, *, block: int = 1, arm: str = "baseline") -> list[Json]:
    """A clean boot whose every sample has this histogram."""
    records = records_of(block=block, arm=arm)
    for record in records[1:-1]:
        record["bench"]["histogram"] = histogram
    return records


def test_quantiles_are_interpolated_within_a_bucket() -> None:
    # 1000 writes, one per nanosecond from 1000 on: the quantile is known without a bucket.
    found = quantiles_of([(1000, 1500, 500), (1500, 2000, 500)], LEVELS)
    assert found == pytest.approx([1010, 1250, 1500, 1750, 1990, 1999])


def test_gaps_between_buckets_hold_no_quantile() -> None:
    levels = np.array([0.1, 0.5, 0.51, 0.9])
    found = quantiles_of([(100, 101, 50), (9000, 9010, 50)], levels)
    assert found == pytest.approx([100.2, 101, 9000.2, 9008])


def test_quantiles_agree_with_those_of_the_writes() -> None:
    writes = np.sort(np.random.default_rng(3).lognormal(12, 0.5, 20000)).astype(np.int64)
    edges = np.unique((1000 * 1.0078 ** np.arange(3000)).astype(np.int64))
    count, _ = np.histogram(writes, edges)
    buckets = [(int(edges[i]), int(edges[i + 1]), int(count[i])) for i in np.nonzero(count)[0]]
    assert Histogram.of(buckets).buckets[:, 2].sum() == 20000
    found = quantiles_of(buckets, LEVELS)
    assert found == pytest.approx(np.quantile(writes, LEVELS), rel=0.01)


@pytest.mark.parametrize(("writes", "known"), [(1, 0), (2, 3), (99, 4), (100, 5), (1000, 6)])
def test_a_quantile_beyond_the_last_write_is_unknown(writes: int, known: int) -> None:
    found = quantiles_of([(100, 200, writes)], LEVELS)
    assert np.isfinite(found).sum() == known


def test_no_writes_no_quantiles() -> None:
    assert np.isnan(quantiles_of([], LEVELS)).all()


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(1, 10**9)), max_size=6
        ),
        max_size=5,
    )
)
def test_histograms_together_are_as_each_alone(drawn: list[list[tuple[int, int, int]]]) -> None:
    histograms = []
    for gaps in drawn:
        end, buckets = 0, []
        for gap, width, count in gaps:
            buckets.append((end + gap, end + gap + width, count))
            end += gap + width
        histograms.append(Histogram.of(buckets))
    together = quantiles_ns(histograms, LEVELS)
    assert together.shape == (len(histograms), len(LEVELS))
    for row, histogram in zip(together, histograms, strict=True):
        np.testing.assert_array_equal(row, quantiles_ns([histogram], LEVELS)[0])
        assert (np.diff(row[np.isfinite(row)]) >= 0).all()


def test_histograms_are_compact_and_comparable() -> None:
    buckets = [(i, i + 1, 3) for i in range(100)]
    assert len(Histogram.of(buckets).data) == 100 * 3 * 8
    assert Histogram.of(buckets) == Histogram.of(buckets) != Histogram.of(buckets[1:])


@pytest.mark.parametrize(
    "broken",
    [
        [[100, 101]],
        [[100, 101, 1.5]],
        [[100, 101, "1"]],
        [[100, 101, -1]],
        [[100, 101, 0]],
        [[101, 100, 1]],
        [[200, 300, 1], [100, 150, 1]],
        [[100, 200, 1], [150, 300, 1]],
        [[100, 2**70, 1]],
        [[100, 200, 2**41]],
        {"100": 1},
    ],
)
def test_a_broken_histogram_is_named(broken: Any) -> None:
    with pytest.raises(KdeltaError, match=r"^here: key bench\.histogram: .* cut short"):
        boot_of(records_with(broken))
    good = [[100, 200, 1], [200, 300, 2]]
    with pytest.raises(ValueError, match=r"bucket|writes"):
        Histogram.of_all([good, broken, good])


@given(st.lists(st.lists(st.tuples(*[st.integers(1, 9)] * 3), max_size=4), max_size=5))
def test_many_histograms_are_each_by_itself(gaps: list[list[tuple[int, int, int]]]) -> None:
    tables: list[list[list[int]]] = []
    for buckets in gaps:
        ends = np.cumsum([gap + width for gap, width, _ in buckets]).tolist()
        tables.append(
            [[end - width, end, n] for end, (_, width, n) in zip(ends, buckets, strict=True)]
        )
    assert Histogram.of_all(tables) == [Histogram.of(table) for table in tables]


def test_latency_is_the_geometric_mean_of_the_blocks_quantiles() -> None:
    boots = [
        boot_of(
            records_with([[lower, lower + 1000, 500], [2 * lower, 3 * lower, 500]], block=block)
        )
        for block, lower in ((1, 100_000), (2, 400_000))
    ]
    frame = analyse_boots(boots, SETTINGS).latency
    assert list(frame.columns) == [
        *("regime", "arm", "writers", "readers", "quantile", "latency_us", "blocks")
    ]
    assert len(frame) == len(CELLS) * len(QUANTILES)
    cell = frame[(frame["writers"] == 2) & (frame["readers"] == 5)].set_index("quantile")
    assert cell["latency_us"][0.5] == pytest.approx(math.sqrt(101 * 401))
    assert cell["latency_us"][0.75] == pytest.approx(math.sqrt(250 * 1000))
    assert set(cell["blocks"]) == {2}
    assert cell["latency_us"].is_monotonic_increasing


def test_one_sample_with_too_few_writes_makes_a_quantile_unknown() -> None:
    boots = [
        boot_of(records_with([[100, 200, writes]], block=block))
        for block, writes in ((1, 50), (2, 5000))
    ]
    cell = analyse_boots(boots, SETTINGS).latency.iloc[: len(QUANTILES)]
    known = cell[cell["latency_us"].notna()]
    assert known["quantile"].max() == 0.98
    assert set(cell["blocks"]) == {2}


def test_set_aside_and_failed_samples_do_not_count() -> None:
    def spoil(block: int) -> list[Json]:
        records = records_with([[1000 * block, 1000 * block + 8, 5000]], block=block)
        if block == 1:
            records[1]["bench"]["payload_errors"] = 1
            records[2] |= {"status": "failed", "exit_status": 1, "error": "x", "bench": None}
        return records

    frame = analyse_boots([boot_of(spoil(block)) for block in (1, 2)], SETTINGS).latency
    assert set(frame["blocks"]) == {1}
    assert frame["latency_us"].min() >= 2


def test_raw_files_without_histograms_give_no_rows() -> None:
    records = records_of()
    for record in records[1:-1]:
        del record["bench"]["histogram"]
    frame = analyse_boots([boot_of(records)], SETTINGS).latency
    assert frame.empty
    assert "latency_us" in frame


def test_the_file_holds_every_arm_in_display_order(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth())
    file = raw / "idle" / "block-001" / "patched.jsonl"
    edit(file, lambda records: [r["bench"].pop("histogram") for r in records[1:-1]])
    analyse(raw, tmp_path, SETTINGS)
    lines = (tmp_path / "tables" / "latency.csv").read_text().splitlines()
    assert lines[0] == "regime,arm,writers,readers,quantile,latency_us,blocks"
    assert lines[1].startswith("idle,baseline,1,1,0.01,0.10001,4")
    arms = [line.split(",")[1] for line in lines[1:]]
    assert list(dict.fromkeys(arms)) == list(SETTINGS.arms)
    assert len(arms) == 3 * 4 * 100
    blocks = {line.split(",")[-1] for line in lines[1:] if line.split(",")[1] == "patched"}
    assert blocks == {"3"}
