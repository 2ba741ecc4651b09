# SPDX-License-Identifier: GPL-2.0-only
"""The boot gate refuses every guest that is not the one asked for, and says why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest.gate import (
    acceleration,
    gate_failures,
    mitigations,
    unknown_parameters,
    whole_text,
)

EXPECTED: dict[str, Any] = {
    "kernel_release": "6.12.9",
    "config_sha256": "ab" * 32,
    "build_id": "0d" * 20,
    "version_has": ["0123456789ab"],
    "vcpus": 2,
    "memory_mib": 1024,
    "memory_controller": True,
    "memory_cgroups": 1,
    "workload_cgroup": "/",
    "swap_total_kib": 0,
    "disk_bytes": 0,
    "acceleration": "tcg",
    "boot_parameters": ["mitigations=off"],
    "page_kib": 4,
    "machines": ["x86_64"],
}
OBSERVED: dict[str, Any] = {
    "kernel_release": "6.12.9",
    "kernel_version": "Linux version 6.12.9 (kdelta@kdelta) (gcc 12.2) #0123456789ab SMP",
    "config_sha256": "ab" * 32,
    "build_id": "0d" * 20,
    "vcpus": 2,
    "memory_total_kib": 1003912,
    "swap_total_kib": 0,
    "disk_bytes": 0,
    "memory_controller": True,
    "memory_cgroups": 1,
    "dying_cgroups": 0,
    "workload_cgroup": "/",
    "acceleration": "tcg",
    "machine": "x86_64",
    "page_kib": 4,
    "cmdline": "console=ttyS0 mitigations=off -- /run/kdelta",
    "unknown_parameters": ["virtme_chdir=root"],
}


def test_the_right_guest() -> None:
    assert gate_failures(OBSERVED, EXPECTED) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("kernel_release", "6.12.8", "kernel_release is '6.12.8', asked for '6.12.9'"),
        ("config_sha256", "00", "config_sha256 is '00', asked for 'abab"),
        ("config_sha256", None, "config_sha256 is None, asked for 'abab"),
        ("build_id", "0e" * 20, "build_id is '0e0e"),
        ("build_id", None, "build_id is None, asked for '0d0d"),
        ("vcpus", 1, "vcpus is 1, asked for 2"),
        ("acceleration", "kvm", "acceleration is 'kvm', asked for 'tcg'"),
        ("acceleration", "unknown", "acceleration is 'unknown', asked for 'tcg'"),
        ("memory_controller", False, "memory_controller is False, asked for True"),
        ("kernel_version", "Linux version 6.12.9 #1", "does not name build '0123456789ab'"),
        ("memory_total_kib", 512 * 1024, "memory is 524288 KiB, asked for 1048576 KiB"),
        ("memory_total_kib", 2 * 2**20, "memory is 2097152 KiB, asked for 1048576 KiB"),
        ("memory_cgroups", 4, "4 memory cgroups exist, asked for 1"),
        ("dying_cgroups", 1, "1 cgroups existed before and are not gone yet"),
        ("workload_cgroup", "/kdelta", "the workload runs in cgroup '/kdelta', asked for '/'"),
        ("cmdline", "mitigations=offline", "the kernel was not told 'mitigations=off'"),
        ("unknown_parameters", ["mitigations=off"], "no parameter 'mitigations=off', as it says"),
        ("machine", "aarch64", "machine is 'aarch64', asked for x86_64"),
        ("page_kib", 64, "page_kib is 64, asked for 4"),
        ("disk_bytes", 512, "the scratch disk has 512 bytes, asked for 0"),
        ("swap_total_kib", 1048572, "swap is 1048572 KiB, asked for 0 KiB"),
    ],
)
def test_a_mismatch_is_the_one_failure(name: str, value: Any, expected: str) -> None:
    failures = gate_failures(OBSERVED | {name: value}, EXPECTED)
    assert len(failures) == 1
    assert expected in failures[0]


def test_conditions_that_failed_are_not_told_twice() -> None:
    assert gate_failures(OBSERVED | {"workload_cgroup": None}, EXPECTED) == []


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", []),
        ("5,1,0,-;Linux version 6.12.9\n", []),
        (
            "5,76,0,-;Kernel command line: a mitigation=off\n"
            '5,77,0,-;Unknown kernel command line parameters "a mitigation=off", will be passed '
            "to user space.\n6,78,0,-;Dentry cache\n",
            ["a", "mitigation=off"],
        ),
        ('5,77,0,-;Unknown kernel command line parameters "cut', []),
    ],
)
def test_parameters_that_the_kernel_has_no_use_for(log: str, words: list[str]) -> None:
    assert unknown_parameters(log) == words


def test_all_mismatches_are_told() -> None:
    wrong = OBSERVED | {"vcpus": 1, "acceleration": "kvm", "memory_cgroups": 2}
    assert len(gate_failures(wrong, EXPECTED)) == 3


@pytest.mark.parametrize(
    ("held", "mode"),
    [
        ({"a": "boot: KVM here", "b": ""}, "kvm"),
        ({"a": "boot", "b": "X=TCG"}, "tcg"),
        ({"a": "boot", "b": "X=other"}, "unknown"),
        ({"b": "X=TCG"}, "tcg"),  # a file that this kernel does not have
    ],
)
def test_the_first_evidence_that_holds_counts(
    tmp_path: Path, held: dict[str, str], mode: str
) -> None:
    for name, text in held.items():
        (tmp_path / name).write_text(text)
    evidence = [
        {"mode": "kvm", "file": str(tmp_path / "a"), "holds": "KVM here"},
        {"mode": "tcg", "file": str(tmp_path / "b"), "holds": "X=TCG"},
    ]
    assert acceleration(evidence) == mode
    if mode == "unknown":
        assert acceleration([*evidence, {"mode": "tcg", "file": None, "holds": ""}]) == "tcg"


def test_a_log_that_goes_on_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """As /dev/kmsg, which waits for the next message unless it is told not to."""
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, b"one\ntwo\n")
        assert whole_text(pipe) == "one\ntwo\n"
    finally:
        os.close(writer)


def test_what_the_kernel_says_of_vulnerabilities(tmp_path: Path) -> None:
    assert mitigations(tmp_path / "none") == {}
    (tmp_path / "meltdown").write_text("Mitigation: PTI\n")
    (tmp_path / "mds").write_text("Not affected\n")
    (tmp_path / "unreadable").mkdir()
    said = {"mds": "Not affected", "meltdown": "Mitigation: PTI"}
    assert mitigations(tmp_path) == said
