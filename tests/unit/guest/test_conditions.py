# SPDX-License-Identifier: GPL-2.0-only
"""A regime's conditions: set, read back, and every refusal told in words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest import conditions, gate

NONE: dict[str, Any] = {
    **{"sysctl": {}, "files": {}, "swap_bytes": 0, "memcg": False},
    **{"disk_bytes": 0, "modules_root": None},
}


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


def test_what_was_read_back_is_kept_as_the_kernel_says_it(root: Path) -> None:
    (root / "sys/choice").write_text("always madvise [never]\n")
    asked = {"sysctl": {"vm.swappiness": 100}, "files": {"/sys/choice": "always", "/sys/no": 1}}
    found = conditions.read_back(NONE | asked, root)
    assert found == {"vm.swappiness": "60", "/sys/choice": "always madvise [never]"}


def test_a_setting_that_the_kernel_lacks(root: Path) -> None:
    problems = conditions.apply(NONE | {"sysctl": {"net.core.somaxconn": 1}}, root)
    assert problems == ["sysctl net.core.somaxconn = 1: No such file or directory"]


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        ("never\n", None),
        ("always madvise [never]\n", None),
        ("always [madvise] never\n", "is 'always [madvise] never', asked for 'never'"),
    ],
)
def test_a_file_of_the_kernel(
    root: Path, monkeypatch: pytest.MonkeyPatch, kept: str, problem: str | None
) -> None:
    """A list of choices says in brackets which of them holds."""
    path = root / "sys/kernel/mm/transparent_hugepage/enabled"
    path.parent.mkdir(parents=True)
    path.write_text(kept)
    monkeypatch.setattr(Path, "write_text", lambda *_: 0)
    told = "/sys/kernel/mm/transparent_hugepage/enabled"
    found = conditions.apply(NONE | {"files": {told: "never"}}, root)
    assert found == ([] if problem is None else [f"{path} {problem}"])


def test_a_file_that_the_kernel_lacks(root: Path) -> None:
    (problem,) = conditions.apply(NONE | {"files": {"/sys/kernel/mm/nothing": 1}}, root)
    assert problem.endswith("mm/nothing = 1: No such file or directory")


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


def cgroup(tree: Path, *, memory: bool = True) -> None:
    """A cgroup as its file system shows it; the root has no memory.current."""
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "cgroup.stat").write_text("nr_descendants 0\nnr_dying_descendants 0\n")
    if memory:
        (tree / "memory.current").write_text("0\n")


@pytest.fixture
def cgroups(root: Path) -> Path:
    """The tree in a guest in which nobody has made a cgroup."""
    tree = root / "sys/fs/cgroup"
    cgroup(tree, memory=False)
    (tree / "memory.stat").write_text("anon 0\n")
    (tree / "cgroup.controllers").write_text("cpuset cpu memory\n")
    return tree


def test_memory_cgroups_are_counted_where_they_are(cgroups: Path) -> None:
    """Whoever made them; /proc/cgroups has no row for memory in current kernels."""
    assert conditions.count_memory_cgroups(cgroups) == 1
    cgroup(cgroups / "someone", memory=False)
    assert conditions.count_memory_cgroups(cgroups) == 1
    cgroup(cgroups / conditions.CHILD)
    assert conditions.count_memory_cgroups(cgroups) == 2
    cgroup(cgroups / "someone/else's")
    assert conditions.count_memory_cgroups(cgroups) == 3


def test_without_the_controller_there_is_no_memory_cgroup(cgroups: Path) -> None:
    (cgroups / "cgroup.controllers").write_text("cpuset cpu\n")
    assert conditions.count_memory_cgroups(cgroups) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nr_descendants 3\nnr_dying_descendants 2\n", 2),
        ("nr_descendants 3\n", 0),
        # the controller was taken off a cgroup that lives on
        ("nr_dying_descendants 0\nnr_subsys_memory 1\nnr_dying_subsys_memory 1\n", 1),
        ("nr_dying_descendants 0\nnr_dying_subsys_cpu 1\n", 0),
    ],
)
def test_memory_cgroups_that_linger(text: str, expected: int) -> None:
    assert conditions.dying_cgroups(text) == expected


def test_the_guest_is_asked_through_the_cgroup_file_system(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "CGROUP_ROOT", cgroups)
    cgroup(cgroups / "machine.slice/someone")
    (cgroups / "cgroup.stat").write_text("nr_descendants 2\nnr_dying_descendants 4\n")
    assert gate.observe_cgroups() == {"memory_cgroups": 2, "dying_cgroups": 4}


def test_the_size_of_the_scratch_disk(root: Path) -> None:
    assert conditions.disk_bytes(root) == 0
    (root / "sys/block/vda").mkdir()
    (root / "sys/block/vda/size").write_text("24576\n")
    assert conditions.disk_bytes(root) == 12 * 2**20


def test_the_disks_driver_is_loaded_where_it_is_a_module(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder that has the kernel's modules, and only where there is no disk without."""
    monkeypatch.setenv("PATH", f"{root}:/usr/bin:/bin")
    asked = NONE | {"disk_bytes": 2**20}
    assert conditions.apply(asked, root) == []  # it is built in or missing: the gate tells
    asked |= {"modules_root": str(root)}
    (problem,) = conditions.apply(asked, root)
    assert problem.startswith(f"disk: {root}/lib/modules is not to be seen in the guest")
    (root / "lib/modules").mkdir(parents=True)
    (problem,) = conditions.apply(asked, root)
    if shutil.which("modprobe") is None:
        assert problem.startswith("disk: modprobe cannot be run (the host's package kmod)")
    program = root / "modprobe"
    program.write_text("#!/bin/sh\necho FATAL: $1 has no $2 >&2\nexit 1\n")
    program.chmod(0o755)
    told = [f"disk: modprobe virtio_blk: FATAL: --dirname={root} has no virtio_blk"]
    assert conditions.apply(asked, root) == told
    program.write_text(f"#!/bin/sh\nmkdir {root}/sys/block/vda\necho 8 >{root}/sys/block/vda/size")
    assert conditions.apply(asked, root) == []
    assert conditions.disk_bytes(root) == 4096
    program.unlink()
    assert conditions.apply(asked, root) == []  # it is there now: nothing has to be loaded
