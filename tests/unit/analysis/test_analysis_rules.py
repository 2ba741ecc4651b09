# SPDX-License-Identifier: GPL-2.0-only
"""Rules of a sample that need clocks, levels or the console; and what holds for any data."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hand_made import CELLS, Json, boot_of, host_json, records_of, run_of, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import SETTINGS

from kdelta.analysis.run import analyse_boots
from kdelta.analysis.settings import AnalysisSettings, Limits
from kdelta.analysis.tables import csv_text
from kdelta.analysis.validity import Violation
from kdelta.units import level_value
from kdelta.workload.samples import understand, wrong_parameters
from tests.workloads import PIPE_BENCH

MS = 10**6


def found(change: Callable[[Json], object], **limits: float) -> list[Violation]:
    """What is broken once `change` has been applied to a boot's second sample."""
    records = records_of()
    change(records[2])
    return violations([boot_of(records)], replace(SETTINGS, limits=Limits(**limits)))


def only(change: Callable[[Json], object], **limits: float) -> Violation:
    (violation,) = found(change, **limits)
    assert violation.cell == (2, 5)
    assert violation.breach.detail
    return violation


def test_a_clean_boot_breaks_nothing() -> None:
    assert found(lambda sample: None) == []


@pytest.mark.parametrize("jump_ms", [-10, -9, 9, 10])
def test_clocks_that_nearly_agree(jump_ms: int) -> None:
    assert found(lambda s: s.update(realtime_end_ns=s["realtime_end_ns"] + jump_ms * MS)) == []


@pytest.mark.parametrize("jump_ms", [-3_600_000, -11, 11, 3_600_000])
def test_clock_jump(jump_ms: int) -> None:
    def change(sample: Json) -> None:
        sample["realtime_end_ns"] += jump_ms * MS

    breach = only(change).breach
    assert (breach.rule, breach.limit) == ("clock-jump", 10.0)
    assert breach.value == pytest.approx(jump_ms)
    assert found(change, clock_jump_ms=4e6) == []


def test_a_workload_that_took_longer_than_its_sample() -> None:
    breach = only(lambda s: s["bench"].update(elapsed_s=2.5)).breach
    assert breach.rule == "clock-jump"
    assert breach.value == pytest.approx(500)
    assert "longer than the sample" in breach.detail
    assert found(lambda s: s["bench"].update(elapsed_s=2.0)) == []


def test_a_monotonic_clock_that_ran_backwards() -> None:
    def change(sample: Json) -> None:
        sample["monotonic_end_ns"] = sample["monotonic_start_ns"] - 1

    assert only(change).breach.rule == "clock-jump"


def test_clocks_that_were_not_recorded_break_nothing() -> None:
    def forget(sample: Json) -> None:
        for key in [key for key in sample if key.endswith("_ns")]:
            del sample[key]
        sample["grown"]["stat.steal"] += 10_000

    assert found(forget) == []


def test_guest_steal_is_a_share_of_the_vcpus_time() -> None:
    def steal(ticks: int) -> Callable[[Json], object]:
        def change(sample: Json) -> None:
            sample["grown"]["stat.steal"] = ticks

        return change

    # Two vCPUs for two seconds are 400 ticks; the limit is 5 % of them.
    assert found(steal(20)) == []
    breach = only(steal(21)).breach
    assert (breach.rule, breach.limit) == ("guest-steal", 0.05)
    assert breach.value == pytest.approx(21 / 400)
    assert found(steal(21), steal=0.06) == []


def test_vcpus_come_from_host_json_where_the_guest_did_not_say() -> None:
    records = records_of()
    records[2]["grown"]["stat.steal"] += 30
    del records[0]["gate"]["vcpus"]
    assert violations([boot_of(records)], SETTINGS) == []
    (violation,) = violations([boot_of(records, host=host_json())], SETTINGS)
    assert violation.breach.rule == "guest-steal"


def identity(change: Callable[[Json], object], overhead_ns: float) -> list[Violation]:
    """What is broken of a boot with writes of a byte, whose writers may need so long between."""
    records = records_of()
    del records[1]
    change(records[1])
    told = replace(
        SETTINGS,
        arguments={"write_size": 1},
        workload_limits={"identity_overhead_ns": overhead_ns},
    )
    found = violations([boot_of(records, settings=told)], told)
    return [v for v in found if v.breach.rule == "closed-loop-identity"]


def _gap(ns: float, *, nonblock: bool = False) -> Callable[[Json], object]:
    """One-byte writes with a latency of 500 ns, and `ns` between two of them."""

    def change(sample: Json) -> None:
        bench = sample["bench"]
        writes, latency = 1_000_000, 500.0
        elapsed_s = writes * (latency + ns) / 2 / 1e9
        bench.update(
            write_size=1,
            writes=writes,
            bytes_written=writes,
            elapsed_s=elapsed_s,
            throughput_mib_s=writes / elapsed_s / 2**20,
            nonblock=nonblock,
        )
        bench["write_latency_ns"]["mean"] = latency

    return change


@pytest.mark.parametrize("nonblock", [False, True])
@pytest.mark.parametrize(
    ("gap_ns", "overhead_ns", "broken"),
    [
        (5, 0, False),  # 1 % of the latency
        (60, 0, True),
        (60, 100, False),
        (101, 100, True),
        (-60, 100, True),  # a latency longer than the time there was
    ],
)
def test_identity_of_small_writes(
    gap_ns: float, overhead_ns: float, broken: bool, nonblock: bool
) -> None:
    found = identity(_gap(gap_ns, nonblock=nonblock), overhead_ns)
    assert len(found) == broken


def test_a_throughput_that_is_wrong_is_not_explained_by_overhead() -> None:
    def change(sample: Json) -> None:
        _gap(50)(sample)
        sample["bench"]["throughput_mib_s"] /= 2

    (violation,) = identity(change, 100)
    assert violation.breach.value == pytest.approx(1.2)


def strange(used: dict[str, Any], factor: str, asked: Any) -> str | None:
    """Which level the workload did not use, if its output says `used`."""
    said = {**records_of()[1]["bench"], **used}
    reported = understand(PIPE_BENCH, [said], [{factor: asked}], [None]).reported
    return wrong_parameters(PIPE_BENCH, reported, [{factor: asked}]).get(0)


@pytest.mark.parametrize(
    ("factor", "asked", "used"),
    [
        ("write_size", "64K", {"write_size": 65536}),
        ("write_size", 65536, {"write_size": 65536}),
        ("write_size", "65536", {"write_size": 65536}),
        ("pipe_size", "1M", {"pipe_size": 1048576}),
        ("nonblock", True, {"nonblock": True}),
        ("processes", True, {"mode": "processes"}),
        ("processes", False, {"mode": "threads"}),
        ("pin", "none", {"pin": "none"}),
        ("pin", 0, {"pin": "0"}),
        ("pin", "0-3", {"pin": "0-3"}),
    ],
)
def test_levels_that_are_the_same(factor: str, asked: Any, used: dict[str, Any]) -> None:
    assert strange(used, factor, asked) is None


@pytest.mark.parametrize(
    ("factor", "asked", "used"),
    [
        ("write_size", "64K", {"write_size": 64}),
        ("write_size", 4096, {"write_size": 65536}),
        ("nonblock", True, {"nonblock": False}),
        ("nonblock", 1, {"nonblock": True}),
        ("processes", True, {"mode": "threads"}),
        ("processes", False, {"mode": "processes"}),
        ("pin", "none", {"pin": "0"}),
    ],
)
def test_levels_that_are_not(factor: str, asked: Any, used: dict[str, Any]) -> None:
    words = strange(used, factor, asked)
    assert words is not None
    assert words.startswith(f"{factor}: asked {str(asked).lower() if asked is True else ''}")


@given(number=st.integers(1, 2**30), suffix=st.sampled_from(["", "K", "M"]))
def test_a_size_is_its_number_of_bytes(number: int, suffix: str) -> None:
    size = number * {"": 1, "K": 2**10, "M": 2**20}[suffix]
    assert level_value(f"{number}{suffix}") == level_value(size)
    assert level_value(True) != level_value(1)


def test_processes_is_a_factor_like_any_other() -> None:
    cells = ({"processes": False}, {"processes": True})
    names = AnalysisSettings(
        factors=("processes",),
        baseline="baseline",
        arms=SETTINGS.arms,
        regimes=("idle",),
        arguments={"writers": 1, "readers": 1},
    )
    records = records_of(cells=cells)
    records[2]["bench"]["mode"] = "threads"
    boot = boot_of(records, cells=cells, settings=names)
    (violation,) = violations([boot], names)
    assert (violation.breach.rule, violation.cell) == ("cell", (True,))
    assert violation.breach.detail == "processes: asked true, the workload used false"
    records[2]["bench"]["mode"] = "processes"
    assert violations([boot_of(records, cells=cells, settings=names)], names) == []


def test_an_oom_kill_of_boot_and_sample_is_one_row_that_tells_of_the_sample() -> None:
    records = records_of()
    records[2]["grown"]["vmstat.oom_kill"] += 2
    log = "x invoked oom-killer: y\nCall Trace:\nMemory cgroup out of memory: Killed process 1 (a)"
    rows = violations([boot_of(records, log=log)], SETTINGS)
    assert [(v.breach.rule, v.breach.value, v.cell) for v in rows] == [
        ("oom-kill", 1, (1, 1)),
        ("oom-kill", 2, (2, 5)),
    ]
    assert rows[0].breach.detail == (
        "console line 3: Memory cgroup out of memory: Killed process 1 (a)"
    )


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ({"memcg": True, "memory_cgroups": 2}, "true"),
        ({"memcg": False, "memory_cgroups": 1}, "false"),
        ({"memory_cgroups": 1}, "false"),
        ({"memory_cgroups": 3}, "true"),
        ({}, ""),
    ],
)
def test_memcg_column(gate: Json, expected: str) -> None:
    records = records_of()
    for key in ("memcg", "memory_cgroups"):
        records[0]["gate"].pop(key, None)
    records[0]["gate"].update(gate)
    samples = analyse_boots([boot_of(records)], SETTINGS).samples
    rows = csv_text(samples[["memcg", "valid"]]).splitlines()
    assert rows == ["memcg,valid", f"{expected},true", f"{expected},true"]


SPOIL: tuple[Callable[[list[Json]], object], ...] = (
    lambda r: None,
    lambda r: r.clear(),
    lambda r: r.pop(),
    lambda r: r.pop(1),
    lambda r: r[1].update(status="failed", error="no", exit_status=1, bench=None),
    lambda r: r[2]["bench"].update(throughput_mib_s=1.0),
    lambda r: r[2].update(realtime_end_ns=0),
    lambda r: r[0]["gate"].update(ok=False, failures=["vcpus"]),
    lambda r: r[1]["grown"].update({"vmstat.oom_kill": 1}),
)
LOGS = ("", "BUG: x", "Out of memory: Killed process 1 (a)", None)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_set_aside_and_why_always_add_up(data: st.DataObject) -> None:
    boots = []
    for block in (1, 2, 3):
        for arm in SETTINGS.arms:
            records = records_of("idle", block, arm)
            data.draw(st.sampled_from(SPOIL))(records)
            status = data.draw(st.sampled_from(["ok", "ok", "failed"]))
            host = {"boots": [{"arm": arm, "status": status, "reason": "so"}]}
            boot = boot_of(records, host=host, log=data.draw(st.sampled_from(LOGS)), arm=arm)
            boots.append(replace(boot, block=block))
    result = analyse_boots(boots, SETTINGS)
    keys = ["regime", "block", "arm", *SETTINGS.factors]
    rows = set(result.validity[keys].itertuples(index=False, name=None))
    samples = result.samples
    aside = set(samples.loc[~samples["valid"], keys].itertuples(index=False, name=None))
    ran = set(samples[keys].itertuples(index=False, name=None))
    assert aside == rows & ran
    assert len(result.validity) == len(result.validity.drop_duplicates([*keys, "rule"]))
    table = result.set_aside
    assert list(table["arm"]) == list(SETTINGS.arms)
    assert (table["samples"] == 3 * len(CELLS)).all()
    assert table["set_aside"].sum() == len(rows)
    rules = list(table.columns[6:])
    assert rules == sorted(set(result.validity["rule"]))
    assert table[rules].sum().sum() == len(result.validity)
    assert (table["set_aside"] <= table["samples"]).all()
    assert (table["boots_failed"].sum()) == sum(boot.failed for boot in boots)
    # What no rule broke is used: a pair is set aside if one of its two samples is.
    for row in result.deltas.itertuples():
        lost = {
            block
            for block in (1, 2, 3)
            for arm in (row.arm, SETTINGS.baseline)
            if ("idle", block, arm, row.writers, row.readers) in rows
        }
        assert row.set_aside == len(lost)
    assert result.deltas_all.empty == result.validity.empty
    if not result.deltas_all.empty:
        assert (result.deltas_all["blocks"] >= result.deltas["blocks"]).all()


def test_a_run_that_is_clean_has_no_second_analysis() -> None:
    result = analyse_boots(run_of(), SETTINGS)
    assert result.validity.empty
    assert result.deltas_all.empty
    assert list(result.deltas_all.columns) == list(result.deltas.columns)
    assert list(result.set_aside.columns)[-1] == "set_aside"
