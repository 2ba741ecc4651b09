# SPDX-License-Identifier: GPL-2.0-only
"""The host's cores, and which CPUs vCPUs are pinned to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.experiment import Environment
from kdelta.host.environment import plan_environment, planned_record
from kdelta.host.facts import host_cores, topology_facts
from kdelta.host.topology import (
    Core,
    choose_cpus,
    format_cpu_list,
    format_cpu_mask,
    online_cpus,
    parse_cpu_list,
    parse_cpu_mask,
    read_cores,
)

CPUS = st.sets(st.integers(0, 300))


def cores(*groups: tuple[int, ...], node: int = 0, kind: int = 0) -> list[Core]:
    return [Core(group, package=node, node=node, kind=kind) for group in groups]


def write_cpu(root: Path, cpu: int, siblings: str, package: int = 0) -> None:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    folder.mkdir(parents=True)
    (folder / "core_cpus_list").write_text(siblings + "\n")
    (folder / "physical_package_id").write_text(f"{package}\n")


def test_cpu_lists() -> None:
    assert parse_cpu_list("0-3,8\n") == (0, 1, 2, 3, 8)
    assert parse_cpu_list("") == ()
    assert format_cpu_list([8, 3, 2, 1, 0]) == "0-3,8"
    with pytest.raises(ValueError, match="invalid literal"):
        parse_cpu_list("none")


def test_cpu_masks_come_in_groups_of_32() -> None:
    assert parse_cpu_mask("00000001,00000003\n") == (0, 1, 32)
    assert format_cpu_mask([0, 1, 32]) == "1,00000003"
    assert format_cpu_mask([]) == "0"


@given(CPUS)
def test_lists_and_masks_come_back_as_they_were(cpus: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))
    assert parse_cpu_mask(format_cpu_mask(cpus)) == tuple(sorted(cpus))


def test_cores_are_read_with_their_socket_and_node(tmp_path: Path) -> None:
    for cpu, siblings, package in ((0, "0,2", 0), (1, "1,3", 1), (2, "0,2", 0), (3, "1,3", 1)):
        write_cpu(tmp_path, cpu, siblings, package)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-3\n")
    for node, cpulist in ((0, "0,2"), (1, "1,3")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpulist + "\n")
    assert read_cores(tmp_path) == (Core((0, 2), 0, 0), Core((1, 3), 1, 1))


def test_a_topology_that_is_not_visible(tmp_path: Path) -> None:
    assert read_cores(tmp_path) == ()
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-3\n")
    assert read_cores(tmp_path) == ()
    choice = choose_cpus(read_cores(tmp_path), [0, 1], 1)
    assert choice.cpus is None
    assert "not visible" in choice.why_not


def test_this_hosts_cores_hold_each_online_cpu_once() -> None:
    found = [cpu for core in read_cores() for cpu in core.cpus]
    assert sorted(found) == list(online_cpus())
    assert set(os.sched_getaffinity(0)) <= set(found)


def test_one_cpu_of_each_core_and_the_first_core_spared() -> None:
    smt = cores((0, 4), (1, 5), (2, 6), (3, 7))
    assert choose_cpus(smt, range(8), 3).cpus == (1, 2, 3)
    assert choose_cpus(smt, range(8), 4).cpus == (0, 1, 2, 3)


def test_siblings_are_no_cores() -> None:
    choice = choose_cpus(cores((0, 4), (1, 5), (2, 6), (3, 7)), range(8), 5)
    assert choice.cpus is None
    assert choice.why_not == "the guest has 5 vCPUs, and 4 physical cores can be used here"


def test_only_cpus_that_may_be_used() -> None:
    four = cores((0, 4), (1, 5), (2, 6), (3, 7))
    assert choose_cpus(four, {0, 5, 7}, 2).cpus == (5, 7)
    assert choose_cpus(four, {5}, 2).why_not.endswith("1 physical core can be used here")


def test_one_numa_node_if_it_is_large_enough() -> None:
    two = cores((0,), (1,), (2,)) + cores((3,), (4,), (5,), node=1)
    assert choose_cpus(two, range(6), 2).cpus == (1, 2)
    # Node 1 spares CPU 0; node 0 would not.
    assert choose_cpus(two, range(6), 3).cpus == (3, 4, 5)
    assert choose_cpus(two, range(6), 4).cpus == (1, 2, 3, 4)
    # One node with CPU 0 is better than two without.
    assert choose_cpus(two, {0, 1, 2, 3}, 3).cpus == (0, 1, 2)
    assert choose_cpus(two, range(6), 6).cpus == (0, 1, 2, 3, 4, 5)


def test_all_vcpus_on_cores_of_one_kind() -> None:
    hybrid = [*cores((0, 1), (2, 3), (4, 5)), *cores((6,), (7,), (8,), (9,), kind=1)]
    assert choose_cpus(hybrid, range(10), 2).cpus == (2, 4)
    # Rather the core of CPU 0 than a slow one.
    assert choose_cpus(hybrid, range(10), 3).cpus == (0, 2, 4)
    slow = choose_cpus(hybrid, range(10), 4)
    assert slow.cpus == (6, 7, 8, 9)
    assert slow.remark == (
        "slower cores: of 3 fast and 4 slow physical cores, 4 of one kind are only these"
    )
    neither = choose_cpus(hybrid, range(10), 5)
    assert neither.cpus is None
    assert neither.why_not == (
        "the guest has 5 vCPUs, and 3 fast and 4 slow physical cores can be used here; "
        "vCPUs of different speeds would blur every number"
    )
    # What this process may not use does not count; of what it may, these are the fast ones.
    assert choose_cpus(hybrid, {0, 6, 7, 8, 9}, 1).cpus == (0,)
    only_slow = choose_cpus(hybrid, {6, 7}, 2)
    assert (only_slow.cpus, only_slow.remark) == ((6, 7), "")


def write_host(root: Path, threads: int, files: dict[str, str]) -> None:
    """A host of `threads` CPUs, two to a core below CPU 4; `files` by their path below sys/."""
    for cpu in range(threads):
        write_cpu(root, cpu, f"{cpu & ~1}-{cpu | 1}" if cpu < 4 else str(cpu))
    (root / "sys/devices/system/cpu/online").write_text(f"0-{threads - 1}\n")
    for name, text in files.items():
        path = root / "sys/devices" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def of_cpus(name: str, values: dict[int, int]) -> dict[str, str]:
    return {f"system/cpu/cpu{cpu}/{name}": str(value) for cpu, value in values.items()}


INTEL = {"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-7"}
HIGHEST = "cpufreq/cpuinfo_max_freq"
# One favoured core turbos a little higher than the other of its kind.
CLOCKS = {**dict.fromkeys((0, 1), 5_200_000), **dict.fromkeys((2, 3), 4_900_000)}


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({}, [0, 0, 0, 0, 0, 0]),
        (INTEL, [0, 0, 1, 1, 1, 1]),
        # low-power cores have the clock rate to tell them by
        (
            INTEL
            | of_cpus(HIGHEST, CLOCKS | {4: 3_800_000, 5: 3_800_000, 6: 2_500_000, 7: 2_500_000}),
            [0, 0, 1, 1, 2, 2],
        ),
        (
            {"cpu_core/cpus": "0-3", "cpu_atom/cpus": "4-5", "cpu_lowpower/cpus": "6-7"},
            [0, 0, 1, 1, 2, 2],
        ),
        # fast cores alone, or slow ones, after the others were switched off
        ({"cpu_core/cpus": "0-7"}, [0, 0, 0, 0, 0, 0]),
        ({"cpu_atom/cpus": "0-7"}, [0, 0, 0, 0, 0, 0]),
        # a list that does not know all of them says nothing
        ({"cpu_core/cpus": "0-3"}, [0, 0, 0, 0, 0, 0]),
        # arm64: one kind's capacities differ by little
        (
            of_cpus(
                "cpu_capacity", dict.fromkeys(range(4), 1024) | {4: 980, 5: 980, 6: 430, 7: 430}
            ),
            [0, 0, 0, 0, 1, 1],
        ),
        (of_cpus("cpu_capacity", {0: 1024, 1: 1024, 6: 430}), [0, 0, 0, 0, 0, 0]),
        # nothing but clock rates
        (of_cpus(HIGHEST, CLOCKS | dict.fromkeys(range(4, 8), 3_300_000)), [0, 0, 1, 1, 1, 1]),
        (of_cpus(HIGHEST, CLOCKS | dict.fromkeys(range(4, 8), 5_000_000)), [0, 0, 0, 0, 0, 0]),
        # the capacity is what the kernel itself goes by
        (
            of_cpus("cpu_capacity", dict.fromkeys(range(8), 1024))
            | of_cpus(HIGHEST, CLOCKS | dict.fromkeys(range(4, 8), 3_300_000)),
            [0, 0, 0, 0, 0, 0],
        ),
    ],
)
def test_kinds_of_cores_are_read(tmp_path: Path, files: dict[str, str], kinds: list[int]) -> None:
    write_host(tmp_path, 8, files)
    assert [core.kind for core in read_cores(tmp_path)] == kinds


def test_auto_counts_the_fast_cores_of_a_hybrid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_host(tmp_path, 8, INTEL)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert host_cores(tmp_path) == 2
    assert topology_facts(tmp_path)["cores"] == 6
    assert topology_facts(tmp_path)["fast_cores"] == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 6, 7})
    assert host_cores(tmp_path) == 3


def test_the_host_is_told_of_slower_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_host(tmp_path, 8, INTEL)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    settings = Environment(governor="leave", turbo="leave", move_irqs=False)
    (slower,) = planned_record(plan_environment(settings, 4, tmp_path))["set"]
    assert slower["to"].startswith("CPUs 4, 5, 6, 7 (slower cores: of 2 fast and 4 slow")
    (refused,) = planned_record(plan_environment(settings, 5, tmp_path))["not_set"]
    assert "vCPUs of different speeds" in refused["why"]


@given(CPUS, CPUS, CPUS, st.integers(1, 20))
def test_a_choice_is_never_of_two_kinds(
    fast: set[int], slow: set[int], allowed: set[int], vcpus: int
) -> None:
    slow = slow - fast
    found = cores(*((cpu,) for cpu in fast)) + cores(*((cpu,) for cpu in slow), kind=1)
    chosen = choose_cpus(found, allowed, vcpus).cpus
    if len(fast & allowed) >= vcpus:
        assert chosen is not None
        assert set(chosen) <= fast & allowed
    elif len(slow & allowed) >= vcpus:
        assert chosen is not None
        assert set(chosen) <= slow & allowed
    else:
        assert chosen is None


@given(CPUS, CPUS, st.integers(1, 20))
def test_a_choice_is_distinct_allowed_cores(some: set[int], allowed: set[int], vcpus: int) -> None:
    chosen = choose_cpus(cores(*((cpu,) for cpu in sorted(some))), allowed, vcpus).cpus
    if len(some & allowed) < vcpus:
        assert chosen is None
    else:
        assert chosen is not None
        assert len(set(chosen)) == vcpus
        assert set(chosen) <= some & allowed
