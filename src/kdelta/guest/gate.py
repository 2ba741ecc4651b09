# SPDX-License-Identifier: GPL-2.0-only
"""The boot gate: what a guest is, by its own kernel's word, and whether that was asked for.

Runs in the guest: standard library only. What is asked for is in the plan that the host writes
(`kdelta.measure.plan`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdelta.guest import conditions
from kdelta.guest.counters import parse_meminfo

Json = dict[str, Any]


def acceleration(evidence: list[Json]) -> str:
    """What executes this guest: `kvm` or `tcg`, by the first evidence that there is."""
    for one in evidence:
        if one["file"] is None or one["holds"] in whole_text(Path(one["file"])):
            return str(one["mode"])
    return "unknown"


def whole_text(path: Path) -> str:
    """All that a file of the kernel's has to say now; empty of one that is not there.

    The kernel's log gives a message at a time, and then waits for the next one unless told not to.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    pieces = []
    try:
        while piece := os.read(file, 8192):
            pieces.append(piece)
    except BlockingIOError:  # there will be more, later
        pass
    finally:
        os.close(file)
    return b"".join(pieces).decode("utf-8", "replace")


def observe_guest(evidence: list[Json]) -> Json:
    """The facts about this guest that the boot gate compares with the plan.

    Args:
        evidence: what shows what executes it, see `kdelta.architecture.Evidence`.
    """
    meminfo = parse_meminfo(Path("/proc/meminfo").read_text())
    controllers = (conditions.CGROUP_ROOT / "cgroup.controllers").read_text().split()
    return {
        "kernel_release": os.uname().release,
        "kernel_version": Path("/proc/version").read_text().strip(),
        "config_sha256": own_config(),
        "build_id": build_id(),
        "vcpus": len(os.sched_getaffinity(0)),
        "memory_total_kib": meminfo["MemTotal"],
        "memory_used_kib": meminfo["MemTotal"] - meminfo["MemAvailable"],
        "swap_total_kib": meminfo["SwapTotal"],
        "disk_bytes": conditions.disk_bytes(),
        "memory_controller": "memory" in controllers,
        **observe_cgroups(),
        "acceleration": acceleration(evidence),
        "machine": os.uname().machine,
        "page_kib": os.sysconf("SC_PAGE_SIZE") // 1024,
        "cmdline": Path("/proc/cmdline").read_text().strip(),
        "mitigations": mitigations(),
    }


def mitigations(folder: Path = Path("/sys/devices/system/cpu/vulnerabilities")) -> dict[str, str]:
    """The kernel's words on each vulnerability of processors, by its name."""
    found = {}
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(OSError):  # one that cannot be read says nothing
            found[path.name] = path.read_text().strip()
    return found


def unknown_parameters(log: str) -> list[str]:
    """Words of its command line that the kernel has no use for, as its log says (5.14 and later).

    It leaves them to init: a word that is mistyped, or of an option that it was built without,
    changes nothing.
    """
    begin, end = 'Unknown kernel command line parameters "', '", will be passed to user space'
    _, _, told = log.partition(begin)
    return told.partition(end)[0].split() if end in told else []


def own_config(path: Path = Path("/proc/config.gz")) -> str | None:
    """SHA-256 of the kernel's configuration; None of a kernel that does not tell it (IKCONFIG)."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        return None
    return sha256(zlib.decompress(packed, wbits=16 + zlib.MAX_WBITS))


def build_id(path: Path = Path("/sys/kernel/notes")) -> str | None:
    """The running kernel's GNU build ID, in hexadecimal; None of one that was linked without."""
    try:
        notes = path.read_bytes()
    except OSError:
        return None
    while len(notes) >= 12:
        name_size, size, kind = struct.unpack_from("=III", notes)
        begin = 12 + (name_size + 3) // 4 * 4
        if kind == 3 and notes[12 : 12 + name_size] == b"GNU\0":
            return notes[begin : begin + size].hex()
        notes = notes[begin + (size + 3) // 4 * 4 :]
    return None


def sha256(data: bytes) -> str:
    """SHA-256 of the data, in hexadecimal.

    By the interpreter's own module: hashlib loads OpenSSL, which takes as long as all of the gate.
    """
    for name in ("_sha2", "_sha256", "hashlib"):  # from 3.12, before, and where neither is built
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return str(module.sha256(data).hexdigest())
    raise RuntimeError("this Python has no SHA-256")


def observe_cgroups() -> Json:
    """How many memory cgroups there are, the root included, and how many were removed."""
    stat = (conditions.CGROUP_ROOT / "cgroup.stat").read_text()
    return {
        "memory_cgroups": conditions.count_memory_cgroups(conditions.CGROUP_ROOT),
        "dying_cgroups": conditions.dying_cgroups(stat),
    }


def workload_cgroup(start: Callable[[], None]) -> str:
    """The cgroup that a process begun as the workload is finds itself in, such as `/`."""
    done = subprocess.run(
        ["/bin/cat", "/proc/self/cgroup"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=start,
    )
    return done.stdout.strip().rpartition(":")[2]


def gate_failures(observed: Json, expected: Json) -> list[str]:
    """What about this guest is not as asked for; empty when all is."""
    failures = []
    for name in ("kernel_release", "vcpus", "acceleration", "memory_controller"):
        if observed[name] != expected[name]:
            failures.append(f"{name} is {observed[name]!r}, asked for {expected[name]!r}")
    # What is not known of a kernel cannot be asked for.
    for name in ("config_sha256", "build_id", "page_kib"):
        if expected[name] is not None and observed[name] != expected[name]:
            failures.append(f"{name} is {observed[name]!r}, asked for {expected[name]!r}")
    for word in expected["version_has"]:
        if word not in observed["kernel_version"]:
            failures.append(
                f"/proc/version does not name build {word!r}: {observed['kernel_version']!r}"
            )
    if observed["machine"] not in expected["machines"]:
        asked_for = " or ".join(expected["machines"])
        failures.append(f"machine is {observed['machine']!r}, asked for {asked_for}")
    # The kernel keeps some of the memory for itself before MemTotal is counted.
    total, asked = observed["memory_total_kib"], expected["memory_mib"] * 1024
    if not 0.85 * asked <= total <= asked:
        failures.append(f"memory is {total} KiB, asked for {asked} KiB")
    told = observed["cmdline"].split()
    failures += [
        f"the kernel was not told {word!r}: /proc/cmdline does not have it"
        for word in expected["boot_parameters"]
        if word not in told
    ]
    failures += [
        f"the kernel has no parameter {word!r}, as it says itself: a typing mistake, or an option "
        "that it was built without"
        for word in expected["boot_parameters"]
        if word in observed["unknown_parameters"]
    ]
    failures += cgroup_failures(observed, expected)
    if observed["workload_cgroup"] not in (None, expected["workload_cgroup"]):
        failures.append(
            f"the workload runs in cgroup {observed['workload_cgroup']!r}, "
            f"asked for {expected['workload_cgroup']!r}"
        )
    # A swap device gives its first page to the header.
    swap, wanted = observed["swap_total_kib"], expected["swap_total_kib"]
    if not wanted - 64 <= swap <= wanted:
        failures.append(f"swap is {swap} KiB, asked for {wanted} KiB")
    if observed["disk_bytes"] != expected["disk_bytes"]:
        failures.append(
            f"the scratch disk has {observed['disk_bytes']} bytes, asked for "
            f"{expected['disk_bytes']} (CONFIG_VIRTIO_BLK)"
        )
    return failures


def cgroup_failures(observed: Json, expected: Json) -> list[str]:
    """Memory cgroups that there are or were beside those asked for."""
    failures = []
    if observed["memory_cgroups"] != expected["memory_cgroups"]:
        failures.append(
            f"{observed['memory_cgroups']} memory cgroups exist, "
            f"asked for {expected['memory_cgroups']} (1 is the root alone)"
        )
    if observed["dying_cgroups"]:
        failures.append(f"{observed['dying_cgroups']} cgroups existed before and are not gone yet")
    return failures
