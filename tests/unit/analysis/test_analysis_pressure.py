# SPDX-License-Identifier: GPL-2.0-only
"""What a regime did: rates from counters, and whether its expectation was met."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hand_made import Json, boot_of, records_of, run_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from synthetic import SETTINGS

from kdelta.analysis.run import AnalysisResult, analyse_boots
from kdelta.analysis.settings import Expectation
from kdelta.errors import KdeltaError


def wanting(**bounds: Any) -> Any:
    given_ = {"at_least": None, "at_most": None, "share": 1.0, "counter": "pgscan_direct", **bounds}
    return replace(SETTINGS, expectations=(Expectation(regime="idle", **given_),))


def grow(sample: Json, **growth: int) -> None:
    for name, by in growth.items():
        sample["grown"][f"vmstat.{name}"] = by


def row(table: pd.DataFrame, **where: Any) -> dict[str, Any]:
    for name, value in where.items():
        table = table[table[name] == value]
    (found,) = table.to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_rates_are_means_over_samples_per_second_of_wall_time() -> None:
    boots = []
    for block, (scanned, stalls, some_us) in enumerate([(100, 4, 500_000), (300, 0, 100_000)], 1):
        records = records_of("idle", block)
        grow(records[1], pgscan_direct=scanned, pswpin=10, allocstall_dma=0, oom_kill=1)
        grow(records[1], allocstall_normal=stalls, allocstall_movable=2)
        records[1]["grown"] |= {"psi.memory.some": some_us, "psi.cpu.some": 2_000_000}
        boots.append(boot_of(records))
    found = row(analyse_boots(boots, SETTINGS).pressure, arm="baseline", writers=1)
    # Each sample lasted two seconds.
    assert (found["samples"], found["with_direct_reclaim"], found["oom_kill"]) == (2, 2, 2)
    assert found["pgscan_direct_per_s"] == pytest.approx(100)
    assert found["allocstall_per_s"] == pytest.approx((6 + 2) / 2 / 2)
    assert found["pswpin_per_s"] == pytest.approx(5)
    assert found["pswpout_per_s"] == 0
    assert found["psi_memory_some_percent"] == pytest.approx(15)
    assert found["psi_memory_full_percent"] == 0
    assert found["psi_cpu_some_percent"] == pytest.approx(100)


def test_samples_set_aside_count_for_pressure() -> None:
    records = records_of()
    grow(records[1], oom_kill=1)
    result = analyse_boots([boot_of(records)], SETTINGS)
    assert not result.samples["valid"].all()
    assert row(result.pressure, arm="baseline", writers=1)["samples"] == 1


def test_a_counter_that_the_kernel_lacks_is_missing_and_no_sample_is_no_sample() -> None:
    def forget(records: list[Json]) -> None:
        for sample in records[1:-1]:
            for name in ("vmstat.pgscan_direct", "vmstat.pswpin", "vmstat.oom_kill"):
                del sample["grown"][name]
            del sample["grown"]["psi.memory.some"], sample["grown"]["psi.memory.full"]

    table = analyse_boots(run_of(blocks=1, change=forget), SETTINGS).pressure
    assert len(table) == 3 * 2
    for name in (
        "with_direct_reclaim",
        "oom_kill",
        "pgscan_direct_per_s",
        "pswpin_per_s",
        "psi_memory_some_percent",
    ):
        assert table[name].isna().all(), name
    assert table["pswpout_per_s"].eq(0).all()
    empty = analyse_boots([boot_of([])], SETTINGS).pressure
    assert empty["samples"].eq(0).all()
    assert empty["pswpout_per_s"].isna().all()
    assert list(zip(empty["arm"], empty["writers"], strict=True)) == [
        (arm, writers) for arm in SETTINGS.arms for writers in (1, 2)
    ]


def test_a_wall_time_that_was_not_recorded_gives_no_rate() -> None:
    def forget(records: list[Json]) -> None:
        for sample in records[1:-1]:
            del sample["monotonic_end_ns"]

    table = analyse_boots(run_of(blocks=1, change=forget), SETTINGS).pressure
    assert table["pgscan_direct_per_s"].isna().all()
    assert table["with_direct_reclaim"].eq(1).all()


def expectation(result: AnalysisResult, arm: str = "baseline") -> dict[str, Any]:
    return row(result.expectations, arm=arm)


def reclaiming(samples_that_do: int, of: int = 20) -> list[Any]:
    boots = []
    for block in range(1, of // 2 + 1):
        records = records_of("idle", block)
        for place in (1, 2):
            does = 2 * (block - 1) + place <= samples_that_do
            grow(records[place], pgscan_direct=50 if does else 0)
        boots.append(boot_of(records))
    return boots


@pytest.mark.parametrize(("samples", "met"), [(20, True), (19, True), (18, False), (0, False)])
def test_at_least_in_a_share_of_the_samples(samples: int, met: bool) -> None:
    result = analyse_boots(reclaiming(samples), wanting(at_least=1, share=0.95))
    found = expectation(result)
    assert (found["bound"], found["limit"], found["share_wanted"]) == ("at_least", 1, 0.95)
    assert (found["samples"], found["samples_met"]) == (20, samples)
    assert found["share_met"] == samples / 20
    assert found["met"] is met
    assert found["lowest"] == (0 if samples < 20 else 50)
    assert found["highest"] == (50 if samples else 0)
    # Arms that never ran did not meet anything.
    assert expectation(result, "patched")["samples"] == 0
    assert expectation(result, "patched")["met"] is False


def test_at_most() -> None:
    result = analyse_boots(reclaiming(1), wanting(at_most=0))
    found = expectation(result)
    assert (found["bound"], found["samples_met"], found["met"]) == ("at_most", 19, False)
    assert expectation(analyse_boots(reclaiming(1), wanting(at_most=50)))["met"] is True


@pytest.mark.parametrize("bound", [{"at_least": 1}, {"at_most": 10**9}])
def test_a_counter_that_nobody_saw_meets_nothing(bound: dict[str, int]) -> None:
    records = records_of()
    for sample in records[1:-1]:
        del sample["grown"]["vmstat.pgscan_direct"]
    found = expectation(analyse_boots([boot_of(records)], wanting(**bound)))
    assert (found["samples"], found["samples_met"], found["met"]) == (2, 0, False)
    assert pd.isna(found["median"])


def test_regimes_that_were_not_measured_have_no_row_and_order_is_the_settings() -> None:
    settings = replace(
        SETTINGS,
        expectations=(
            Expectation("memory-pressure", "allocstall", 1, None, 0.5),
            Expectation("idle", "oom_kill", None, 0, 1.0),
            Expectation("idle", "allocstall", None, 5, 1.0),
        ),
    )
    only_idle = analyse_boots(run_of(blocks=1), settings).expectations
    assert list(only_idle["counter"]) == ["oom_kill"] * 3 + ["allocstall"] * 3
    both = analyse_boots(run_of(regimes=SETTINGS.regimes, blocks=1), settings).expectations
    assert list(both["regime"]) == ["idle"] * 6 + ["memory-pressure"] * 3


def test_an_expectation_of_no_counter_is_refused() -> None:
    with pytest.raises(KdeltaError, match="'pgscan' is not a counter"):
        analyse_boots(run_of(blocks=1), wanting(counter="pgscan", at_least=1))


@hypothesis_settings(max_examples=25, deadline=None)
@given(growths=st.lists(st.integers(0, 5), min_size=2, max_size=12), limit=st.integers(1, 5))
def test_the_two_bounds_split_the_samples(growths: list[int], limit: int) -> None:
    boots = []
    for block in range(len(growths) // 2):
        records = records_of("idle", block + 1)
        for place in (0, 1):
            grow(records[1 + place], pgscan_direct=growths[2 * block + place])
        boots.append(boot_of(records))
    least = expectation(analyse_boots(boots, wanting(at_least=limit)))
    most = expectation(analyse_boots(boots, wanting(at_most=limit - 1)))
    assert least["samples_met"] + most["samples_met"] == least["samples"] == len(boots) * 2
    assert least["lowest"] <= least["median"] <= least["highest"]
