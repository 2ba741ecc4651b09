# SPDX-License-Identifier: GPL-2.0-only
"""The host's cores, and which CPUs vCPUs are pinned to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.measure.cpu_topology import (
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


def cores(*groups: tuple[int, ...], node: int = 0, capacity: int | None = None) -> list[Core]:
    return [Core(group, package=node, node=node, capacity=capacity) for group in groups]


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


def test_efficiency_cores_only_if_there_is_no_other_way() -> None:
    hybrid = [
        *cores((0, 1), (2, 3), capacity=1024),
        *cores((4, 5), capacity=990),
        *cores((6,), (7,), capacity=600),
    ]
    assert choose_cpus(hybrid, range(8), 2).cpus == (2, 4)
    assert choose_cpus(hybrid, range(8), 3).cpus == (0, 2, 4)
    assert choose_cpus(hybrid, range(8), 4).cpus == (2, 4, 6, 7)


@given(CPUS, CPUS, st.integers(1, 20))
def test_a_choice_is_distinct_allowed_cores(some: set[int], allowed: set[int], vcpus: int) -> None:
    chosen = choose_cpus(cores(*((cpu,) for cpu in sorted(some))), allowed, vcpus).cpus
    if len(some & allowed) < vcpus:
        assert chosen is None
    else:
        assert chosen is not None
        assert len(set(chosen)) == vcpus
        assert set(chosen) <= some & allowed
