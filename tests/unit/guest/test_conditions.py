# SPDX-License-Identifier: GPL-2.0-only
"""A regime's conditions: set, read back, and every refusal told in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest import conditions

NONE: dict[str, Any] = {"sysctl": {}, "swap_bytes": 0, "memcg": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    (tmp_path / "proc/sys/vm/swappiness").write_text("60\n")
    (tmp_path / "sys/block/zram0").mkdir(parents=True)
    (tmp_path / "sys/block/zram0/disksize").write_text("0\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def test_nothing_asked_for_changes_nothing(root: Path) -> None:
    before = {path: path.read_text() for path in root.rglob("*") if path.is_file()}
    assert conditions.apply(NONE, root) == []
    assert {path: path.read_text() for path in root.rglob("*") if path.is_file()} == before


def test_a_setting_is_read_back(root: Path) -> None:
    assert conditions.apply(NONE | {"sysctl": {"vm.swappiness": 100}}, root) == []
    assert (root / "proc/sys/vm/swappiness").read_text() == "100\n"


def test_a_setting_that_the_kernel_lacks(root: Path) -> None:
    problems = conditions.apply(NONE | {"sysctl": {"net.core.somaxconn": 1}}, root)
    assert problems == ["sysctl net.core.somaxconn = 1: No such file or directory"]


def test_a_setting_that_the_kernel_changes(root: Path) -> None:
    path = root / "proc/sys/vm/swappiness"
    path.unlink()
    path.symlink_to("/dev/null")  # takes everything and gives nothing back
    assert conditions.apply(NONE | {"sysctl": {"vm.swappiness": 7}}, root) == [
        "sysctl vm.swappiness is '', asked for '7'"
    ]


def test_swap_runs_the_programs_on_the_device(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    for name, status in (("mkswap", 0), ("swapon", 1)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f"#!/bin/sh\necho {name} $1 >> {calls}\necho 'swapon: no' >&2\nexit {status}\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    problems = conditions.apply(NONE | {"swap_bytes": 4096}, root)
    assert problems == ["swap: swapon failed: swapon: no"]
    assert (root / "sys/block/zram0/disksize").read_text() == "4096"
    assert calls.read_text() == f"mkswap {root}/dev/zram0\nswapon {root}/dev/zram0\n"


def test_a_kernel_without_zram(root: Path) -> None:
    (root / "sys/block/zram0/disksize").unlink()
    (root / "sys/block/zram0").rmdir()
    (problem,) = conditions.apply(NONE | {"swap_bytes": 4096}, root)
    assert problem.startswith("swap: no device zram0 of 4096 bytes: No such file")


def test_a_child_without_the_controller_is_refused(root: Path) -> None:
    # a folder on an ordinary file system has no memory.current
    assert conditions.apply(NONE | {"memcg": True}, root) == [
        "memory cgroup: the child has no memory controller"
    ]
    assert (root / "sys/fs/cgroup/cgroup.subtree_control").read_text() == "+memory"


def test_a_child_that_exists_already_is_refused(root: Path) -> None:
    (root / "sys/fs/cgroup/kdelta").mkdir()
    assert conditions.apply(NONE | {"memcg": True}, root) == [
        "memory cgroup: cannot be made: File exists"
    ]


def test_a_process_enters_the_child(root: Path) -> None:
    tree = root / "sys/fs/cgroup"
    (tree / conditions.CHILD).mkdir()
    conditions.enter_child(tree)
    assert (tree / conditions.CHILD / "cgroup.procs").read_text() == str(os.getpid())
