# SPDX-License-Identifier: GPL-2.0-only
"""What a regime and an arm change in the guest before anything runs: settings, swap, a cgroup.

Runs in the guest: standard library only. Each step reads back what it set; what did
not take is told in words, and the boot gate refuses the guest.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any

Json = dict[str, Any]

CGROUP_ROOT = Path("/sys/fs/cgroup")
CHILD = "kdelta"
"""The memory cgroup that the workload runs in, where the regime asks for one."""
DISK = Path("/dev/vda")
"""The scratch disk, where the guest has one: it has no other virtio disk."""
SECTOR_BYTES = 512
"""In which sysfs counts, whatever the device's own are."""
ORDINARY = "0"


def apply(conditions: Json, root: Path = Path("/")) -> list[str]:
    """Bring a regime's conditions about.

    Args:
        conditions: the plan's: `sysctl` (name to value), `files` (path to text), `swap_bytes`
            (0: none), `memcg`, `disk_bytes` (0: none), `modules_root` (of a kernel whose drivers
            are modules: the folder that has its lib/modules).
        root: of the file system; another one in tests.

    Returns:
        What could not be done; empty when all was.
    """
    problems = [
        problem
        for name, value in conditions["sysctl"].items()
        if (problem := _set_sysctl(name, value, root / "proc/sys"))
    ]
    problems += [
        problem
        for path, value in conditions["files"].items()
        if (problem := _write_file(root / path.lstrip("/"), str(value)))
    ]
    if conditions["swap_bytes"]:
        problems += _swap_on(conditions["swap_bytes"], root)
    if conditions["disk_bytes"] and not disk_bytes(root):
        problems += _load_disk_driver(conditions["modules_root"])
    if conditions["memcg"]:
        problems += make_child(root / CGROUP_ROOT.relative_to("/"))
    return problems


def read_back(conditions: Json, root: Path = Path("/")) -> dict[str, str]:
    """What the kernel says of each setting and file that was asked for: the gate's evidence.

    Args:
        conditions: the plan's, as for `apply`, which says what could not be read.
        root: of the file system; another one in tests.
    """
    paths = {name: root / "proc/sys" / name.replace(".", "/") for name in conditions["sysctl"]}
    paths |= {path: root / path.lstrip("/") for path in conditions["files"]}
    found = {}
    for name, path in paths.items():
        with contextlib.suppress(OSError):
            found[name] = " ".join(path.read_text().split())
    return found


def _set_sysctl(name: str, value: int | str, tree: Path) -> str | None:
    path = tree / name.replace(".", "/")
    try:
        path.write_text(f"{value}\n")
        found = " ".join(path.read_text().split())
    except OSError as error:
        return f"sysctl {name} = {value}: {error.strerror}"
    wanted = " ".join(str(value).split())
    return None if found == wanted else f"sysctl {name} is {found!r}, asked for {wanted!r}"


def _write_file(path: Path, text: str) -> str | None:
    """Write to a file of the kernel's; a list of choices says in brackets which one holds."""
    try:
        path.write_text(f"{text}\n")
        found = " ".join(path.read_text().split())
    except OSError as error:
        return f"{path} = {text}: {error.strerror}"
    wanted = " ".join(text.split())
    good = found == wanted or f"[{wanted}]" in found.split()
    return None if good else f"{path} is {found!r}, asked for {wanted!r}"


def _swap_on(size_bytes: int, root: Path) -> list[str]:
    import shutil  # takes its time, and most regimes have no swap

    device = root / "dev/zram0"
    try:
        (root / "sys/block/zram0/disksize").write_text(str(size_bytes))
    except OSError as error:
        return [f"swap: no device zram0 of {size_bytes} bytes: {error.strerror} (CONFIG_ZRAM)"]
    for program in ("mkswap", "swapon"):
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if path is None:
            return [f"swap: {program} is not in the guest (the host's package util-linux or mount)"]
        done = subprocess.run([path, str(device)], capture_output=True, text=True, check=False)
        if done.returncode:
            return [f"swap: {program} failed: {' '.join(done.stderr.split())}"]
    return []


def disk_bytes(root: Path = Path("/")) -> int:
    """Size of the scratch disk; 0: there is none."""
    try:
        return int((root / "sys/block" / DISK.name / "size").read_text()) * SECTOR_BYTES
    except FileNotFoundError:
        return 0


def _load_disk_driver(modules_root: str | None) -> list[str]:
    """Of a distribution's kernel: nothing in the guest loads drivers by itself."""
    if modules_root is None:
        return []  # it is built in or missing, and the gate tells
    if not Path(modules_root, "lib/modules").is_dir():
        return [
            f"disk: {modules_root}/lib/modules is not to be seen in the guest, whose /tmp, "
            "/var/tmp and /run are its own; put the kernel and its modules elsewhere"
        ]
    try:
        done = subprocess.run(
            ["modprobe", f"--dirname={modules_root}", "virtio_blk"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return [f"disk: modprobe cannot be run (the host's package kmod): {error.strerror}"]
    if done.returncode:
        return [f"disk: modprobe virtio_blk: {' '.join(done.stderr.split())}"]
    return []


def make_child(tree: Path) -> list[str]:
    """Create the workload's memory cgroup, with the memory controller on."""
    try:
        (tree / "cgroup.subtree_control").write_text("+memory")
        (tree / CHILD).mkdir()
    except OSError as error:
        return [f"memory cgroup: cannot be made: {error.strerror}"]
    if not (tree / CHILD / "memory.current").exists():
        return ["memory cgroup: the child has no memory controller"]
    return []


def as_ordinary_process() -> None:
    """Let the OOM killer choose this process as any other; the driver is exempt from it."""
    Path("/proc/self/oom_score_adj").write_text(ORDINARY)


def before_all_others(inherited: bool) -> None:
    """Give the calling process the CPU whenever it wants it, before ordinary processes.

    Who asks for a cell, and who checks the CPUs' speed, would otherwise queue behind a stressor:
    a quarter of a slice's time, in which nothing is measured.

    Args:
        inherited: by the processes that it starts, too.
    """
    policy = os.SCHED_FIFO | (0 if inherited else os.SCHED_RESET_ON_FORK)
    os.sched_setscheduler(0, policy, os.sched_param(1))


def enter_child(tree: Path = CGROUP_ROOT) -> None:
    """Move the calling process into the workload's memory cgroup."""
    (tree / CHILD / "cgroup.procs").write_text(str(os.getpid()))


def count_memory_cgroups(tree: Path) -> int:
    """How many memory cgroups there are, whoever made them: the root and all below it.

    Asked of the cgroup file system. /proc/cgroups has no row for `memory` in kernels that
    were built without the first version of the controller (CONFIG_MEMCG_V1).
    """
    if "memory" not in (tree / "cgroup.controllers").read_text().split():
        return 0
    # A cgroup whose parent does not hand the controller down belongs to an ancestor's.
    return 1 + sum(1 for _ in tree.rglob("memory.current"))


def dying_cgroups(text: str) -> int:
    """Memory cgroups that were removed and still linger, from the root's cgroup.stat.

    Newer kernels count those of each controller too, which may go on without its cgroup.
    """
    fields = dict(line.split() for line in text.splitlines())
    names = ("nr_dying_descendants", "nr_dying_subsys_memory")
    return max(int(fields.get(name, 0)) for name in names)
