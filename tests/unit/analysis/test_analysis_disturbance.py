# SPDX-License-Identifier: GPL-2.0-only
"""The speed check, the rule `cpu-speed` and tables/disturbance.csv."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hand_made import CELLS, boot_of, host_json, records_of, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import ARMS, SETTINGS, bench

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.run import AnalysisResult, analyse_boots
from kdelta.analysis.settings import Limits
from kdelta.analysis.speed import what_goes_with_speed

WORK = 2_400_000
FULL_NS = 24_000_000  # 100 million steps a second
BLOCKS = 6
Json = dict[str, Any]


def check(before: float, after: float, work: int = WORK) -> Json:
    """A speed check: speeds relative to full, of two vCPUs that differ by a factor of 4."""
    times = {}
    for when, speed in (("before", before), ("after", after)):
        cpu_ns = [round(FULL_NS / speed / 2), round(2 * FULL_NS / speed)]
        times[when] = {"wall_ns": [10**9, 10**9], "cpu_ns": cpu_ns}
    return {"work": work, **times, "reason": None}


def run_with(
    speed: Callable[[int, str, int], Json | None],
    *,
    spread: float = 0.0,
    rate: Callable[[int, str, int], float] = lambda block, arm, place: 1.0,
    host: Callable[[int, str], Json | None] = lambda block, arm: None,
    model: str | None = None,
) -> list[RawBoot]:
    """A run whose samples have the check `speed(block, arm, place)`."""
    rng = np.random.default_rng(5)
    boots = []
    for block in range(1, BLOCKS + 1):
        for arm in ARMS:
            records = records_of("idle", block, arm)
            for place, record in enumerate(records[1:-1]):
                record["speed"] = speed(block, arm, place)
                value = 1000 * rate(block, arm, place) * math.exp(rng.normal(0, spread))
                record["bench"] = bench(record["cell"], value)
            facts = host(block, arm)
            if facts is not None:
                facts["boots"][0]["arm"] = arm
            elif model is not None:
                facts = {"host": {"cpu_model": model}}
            boots.append(boot_of(records, arm=arm, host=facts))
    return boots


def analysed(boots: list[RawBoot], **limits: float) -> AnalysisResult:
    return analyse_boots(boots, replace(SETTINGS, limits=Limits(**limits)))


def row_of(result: AnalysisResult) -> Json:
    (row,) = result.disturbance.to_dict("records")
    return dict(row)


def test_the_mean_over_vcpus_and_checks_counts_in_steps_per_second_of_cpu_time() -> None:
    def speed(block: int, *_: object) -> Json:
        return check(1.0, 1.0) if block == 1 else check(1.0, 0.64)

    samples = analysed(run_with(speed)).samples
    assert samples["speed_before"].tolist() == pytest.approx([100.0] * len(samples))
    first = samples["block"] == 1
    assert set(samples[first]["relative_speed"].round(6)) == {1.0}
    assert set(samples[~first]["speed_after"].round(6)) == {64.0}
    assert set(samples[~first]["relative_speed"].round(6)) == {0.8}


def test_a_hog_beside_every_third_boot_flags_those_boots_and_only_those() -> None:
    def hogged(block: int, arm: str) -> bool:
        return (len(ARMS) * (block - 1) + list(ARMS).index(arm)) % 3 == block % 3

    def speed(block: int, arm: str, place: int) -> Json:
        noise = 1 + 0.02 * ((block + place) % 3 - 1)
        share = 0.5 if hogged(block, arm) else 1.0
        return check(noise * share, noise * share)

    result = analysed(run_with(speed))
    aside = {(block, arm) for block, arm in result.validity[["block", "arm"]].values.tolist()}
    assert aside == {(b, a) for b in range(1, BLOCKS + 1) for a in ARMS if hogged(b, a)}
    assert set(result.validity["rule"]) == {"cpu-speed"}
    row = row_of(result)
    assert (row["boots"], row["boots_disturbed"], row["boots_cpu_speed"]) == (18, 6, 6)
    assert (row["samples"], row["samples_disturbed"]) == (36, 12)
    assert row["samples_run"] == row["samples_checked"] == 36
    assert row["relative_speed_lowest"] == pytest.approx(0.5, abs=0.03)


def test_a_burst_that_can_be_corrected_is_said_and_kept() -> None:
    def speed(block: int, arm: str, _: int) -> Json:
        return check(0.7, 0.7) if (block, arm) == (3, "control") else check(1, 1)

    result = analysed(run_with(speed))
    row = row_of(result)
    assert (row["boots_disturbed"], row["boots_slow"], row["boots_cpu_speed"]) == (1, 1, 0)
    assert row["samples_disturbed"] == 0
    assert result.validity.empty


def test_a_run_that_is_disturbed_most_of_the_time_is_still_seen() -> None:
    # Quiet in one block of six: above the 90th percentile's tenth.
    result = analysed(run_with(lambda block, *_: check(*[1.0 if block == 1 else 0.5] * 2)))
    assert row_of(result)["boots_disturbed"] == 3 * (BLOCKS - 1)


def test_one_vcpu_that_had_bad_luck_in_one_check_is_no_disturbed_host() -> None:
    def speed(block: int, arm: str, place: int) -> Json:
        found = check(1.0, 1.0)
        if (block, arm, place) == (2, "patched", 1):
            found["after"]["cpu_ns"][0] *= 2
        return found

    assert analysed(run_with(speed)).validity.empty


def test_one_check_that_is_far_too_fast_makes_no_other_sample_slow() -> None:
    result = analysed(
        run_with(lambda b, arm, p: check(1, 5.0 if (b, arm, p) == (1, "control", 0) else 1))
    )
    assert result.validity.empty


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.9, 1.1), min_size=72, max_size=72))
def test_a_quiet_host_loses_nothing(speeds: list[float]) -> None:
    left = iter(speeds)
    boots = run_with(lambda *_: check(next(left), next(left)))
    assert violations(boots, SETTINGS) == []


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.1, 0.95))
def test_a_sample_is_set_aside_if_and_only_if_it_is_below_the_limit(
    before: float, after: float, limit: float
) -> None:
    def speed(block: int, arm: str, place: int) -> Json:
        return check(before, after) if (block, arm, place) == (2, "patched", 1) else check(1, 1)

    boots = run_with(speed)
    relative = min(analysed(boots).samples["relative_speed"])
    assert relative == pytest.approx(math.sqrt(before * after), rel=1e-6)
    found = violations(boots, replace(SETTINGS, limits=Limits(cpu_speed=limit)))
    broken = [(v.block, v.arm, v.breach.rule) for v in found]
    assert broken == ([(2, "patched", "cpu-speed")] if relative < limit else [])


def test_without_a_check_nothing_is_broken_and_the_table_says_so() -> None:
    result = analysed(run_with(lambda *_: None))
    row = row_of(result)
    assert (row["samples_run"], row["samples_checked"], row["boots_disturbed"]) == (36, 0, 0)
    assert math.isnan(row["relative_speed_lowest"])
    assert math.isnan(row["speed_variance_share"])
    assert result.samples["relative_speed"].isna().all()


def test_half_a_check_counts_and_a_failed_one_breaks_nothing() -> None:
    def speed(block: int, arm: str, place: int) -> Json:
        whole = check(1.0, 0.5 if (block, arm, place) == (1, "control", 0) else 1.0)
        if arm == "control":
            whole["before"] = None
        return whole if arm != "patched" else {"work": WORK, "reason": "it crashed"}

    result = analysed(run_with(speed))
    assert result.validity[["block", "arm"]].values.tolist() == [[1, "control"]]
    detail = str(result.validity["detail"].iloc[0])
    assert "an unknown number of million steps a second before" in detail
    assert row_of(result)["samples_checked"] == 24


def test_other_hosts_and_amounts_of_work_are_no_reference() -> None:
    fast = run_with(lambda *_: check(1.0, 1.0), model="fast")
    slow = run_with(lambda *_: check(0.4, 0.4), model="slow")
    slow = [replace(boot, block=boot.block + BLOCKS) for boot in slow]
    assert set(analysed(fast + slow).samples["relative_speed"]) == {1.0}
    halved = run_with(lambda b, *_: check(b % 2 + 1, b % 2 + 1, work=WORK * (b % 2 + 1)))
    relative = analysed(halved).samples["relative_speed"]
    assert min(relative) == pytest.approx(0.25)


def test_the_hosts_counters_are_in_the_table_with_their_largest_values() -> None:
    def host(block: int, arm: str) -> Json:
        busy = 36.0 if block == 2 else 20.0
        cpu = {"cpus": 4, "elapsed_s": 10.0, "busy_s": busy, "own_s": 10.0, "steal_s": 0.4 * block}
        return host_json(host_cpu=cpu)

    row = row_of(analysed(run_with(lambda *_: check(1, 1), host=host), host_other_cpu=0.3))
    assert row["boots_host_other_cpu"] == 3
    assert row["other_cpu_highest"] == pytest.approx(0.65)
    assert row["boots_host_steal"] == 3
    assert row["steal_highest"] == pytest.approx(0.06)
    assert row["boots_disturbed"] == 6


@pytest.mark.parametrize(("spread", "unexplained"), [(0.02, False), (0.04, False), (0.25, True)])
def test_the_controls_spread_is_held_against_a_quiet_hosts(
    spread: float, unexplained: bool
) -> None:
    row = row_of(analysed(run_with(lambda *_: None, spread=spread)))
    # 2 cells, 6 blocks: 10 degrees of freedom; a ratio spreads by sqrt(2) times a sample.
    assert row["control_spread_percent"] == pytest.approx(141 * spread, rel=0.5)
    assert row["times_quiet"] == pytest.approx(row["control_spread_percent"] / 5)
    assert row["unexplained"] is unexplained


def test_the_share_of_variance_is_all_where_only_the_speed_differs_and_none_elsewhere() -> None:
    rng = np.random.default_rng(3)
    drawn = {(b, a, p): rng.uniform(0.3, 1) for b in range(7) for a in ARMS for p in range(2)}

    def speed(*key: Any) -> Json:
        return check(drawn[key], drawn[key])

    tied = run_with(speed, rate=lambda *key: drawn[key] * (1.2 if key[1] == "patched" else 1))
    assert row_of(analysed(tied))["speed_variance_share"] == pytest.approx(1.0, abs=1e-6)
    free = run_with(speed, spread=0.2)
    assert row_of(analysed(free))["speed_variance_share"] < 0.4
    assert math.isnan(row_of(analysed(tied[: 3 * len(ARMS)]))["speed_variance_share"])


def test_cells_of_one_block_have_no_spread() -> None:
    row = row_of(analysed(run_with(lambda *_: None)[: len(ARMS)]))
    assert math.isnan(row["control_spread_percent"])
    assert row["unexplained"] is False
    assert len(CELLS) == 2


def test_ratios_are_those_at_equal_speed() -> None:
    """What the CPUs' speed explains is gone from ratios and intervals, effects of arms stay."""
    rng = np.random.default_rng(8)
    speeds = {(b, arm): rng.uniform(0.7, 1.0) for b in range(1, BLOCKS + 1) for arm in ARMS}

    def gain(arm: str) -> float:
        return 1.2 if arm == "patched" else 1.0

    result = analysed(
        run_with(
            lambda block, arm, _: check(speeds[block, arm], speeds[block, arm]),
            rate=lambda block, arm, _: speeds[block, arm] * gain(arm),
            spread=0.01,
        )
    )
    assert result.validity.empty
    ours = result.deltas[result.deltas["metric"] == "throughput_mib_s"].set_index("arm")
    assert ours.loc["patched", "ratio"].tolist() == pytest.approx([1.2, 1.2], abs=0.02)
    assert ours.loc["control", "ratio"].tolist() == pytest.approx([1.0, 1.0], abs=0.02)
    assert (ours["ratio_high"] / ours["ratio_low"]).max() < 1.06
    assert row_of(result)["speed_variance_share"] > 0.9
    ratios = result.ratios[result.ratios["arm"] == "control"]
    assert ratios["speed_ratio"].std() > 0.1
    measured = ratios["value"] / ratios["baseline"]
    assert np.log(measured).std() > 2 * np.log(ratios["ratio"]).std()


@given(st.floats(-3.0, 3.0), st.integers(0, BLOCKS - 1))
def test_a_block_does_not_choose_its_own_slope(extra: float, block: int) -> None:
    """Its throughput may be anything: its correction comes from the other blocks."""
    rng = np.random.default_rng(9)
    blocks, cells = (labels.ravel() for labels in np.indices((BLOCKS, 8)))
    speeds = rng.normal(0, 0.05, len(blocks))
    logs = 0.9 * speeds + rng.normal(0, 0.02, len(blocks))
    own = blocks == block
    found = what_goes_with_speed(logs, speeds, cells, blocks)
    other = what_goes_with_speed(
        logs + extra * own * rng.normal(size=len(own)), speeds, cells, blocks
    )
    assert other[own].tolist() == found[own].tolist()
    slope = found[own] / speeds[own]
    assert slope == pytest.approx(np.full(own.sum(), slope[0]))
    assert 0.7 < slope[0] < 1.1


def test_where_no_check_ran_a_ratio_is_what_was_measured() -> None:
    for speed in (None, {"work": WORK, "reason": "it crashed"}):
        ratios = analysed(run_with(lambda *_, found=speed: found, spread=0.1)).ratios
        assert ratios["speed_ratio"].isna().all()
        assert list(ratios["ratio"]) == pytest.approx(list(ratios["value"] / ratios["baseline"]))
