# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta doctor` on this host, and on hosts that lack something."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdelta.cli import main
from kdelta.commands.doctor import report_text
from kdelta.kernel.toolchain import read_toolchain
from kdelta.measure import environment
from kdelta.measure.diagnosis import (
    diagnose,
    host_problems,
    kvm_state,
    setting_problems,
    state_problems,
)
from kdelta.measure.restore import Change, Journal

CPU = "sys/devices/system/cpu"
QUIET = {"load": 0.1, "cpus": 4, "other_cpu_share": 0.01, "steal_share": 0.0}


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host of which only /proc/stat can be seen."""
    root = tmp_path / "root"
    put(root, "proc/stat", "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0")
    return root


@pytest.fixture(autouse=True)
def _ask_for_the_toolchain_anew() -> None:
    read_toolchain.cache_clear()


def words(problems: list[Any]) -> str:
    return "\n".join(f"{p.what} -> {p.todo}" for p in problems)


@pytest.mark.usefixtures("no_journal")
def test_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor"])
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    for label in ("model", "SMT", "governor", "NUMA nodes", "stolen CPU time", "KVM", "QEMU"):
        assert f"\n  {label} " in text
    assert status == int("Problems that make a run fail" in text)


@pytest.mark.usefixtures("no_journal")
def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json", "--vcpus", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["vcpus"] == 1
    assert found["host"]["cpus"] == len(os.sched_getaffinity(0))
    assert 0 <= found["now"]["other_cpu_share"] <= 1
    severities = {problem["severity"] for problem in found["problems"]}
    assert severities <= {"fatal", "doubt"}
    assert status == int("fatal" in severities)


def test_a_host_without_tools(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = diagnose(1, root=root, sample_s=0.01, journal=tmp_path / "journal")
    fatal = [p for p in found["problems"] if p["severity"] == "fatal"]
    advice = " ".join(p["what"] + " " + p["todo"] for p in fatal)
    for package in ("qemu-system-x86", "stress-ng", "flex", "bison", "gcc"):
        assert package in advice
    text = report_text(found)
    assert "Problems that make a run fail" in text
    assert "not visible" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.usefixtures("no_journal")
def test_missing_tools_end_in_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor"]) == 1
    assert "apt-get install" in capsys.readouterr().out


def test_headers_that_a_build_needs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    # A compiler that works but finds no header and no static library.
    put(
        tmp_path,
        "bin/halfcc",
        f'#!/bin/sh\ncase "$*" in *--version*) exec {shutil.which("gcc")} --version;; esac\nexit 1',
    )
    (tmp_path / "bin/halfcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    arguments = {"root": root, "sample_s": 0.01, "journal": tmp_path / "journal"}
    whole = {p["todo"] for p in diagnose(1, **arguments)["problems"]}
    half = {p["todo"] for p in diagnose(1, compiler="halfcc", **arguments)["problems"]}
    lacking = {"apt-get install libelf-dev", "apt-get install libc6-dev"}
    assert lacking <= half
    assert not lacking & whole


def test_kvm_that_is_not_there(tmp_path: Path) -> None:
    assert kvm_state(None, tmp_path / "kvm", []) == {
        "usable": False,
        "booted": False,
        "reason": f"{tmp_path / 'kvm'} does not exist",
    }
    (tmp_path / "kvm").write_text("")
    assert kvm_state(None, tmp_path / "kvm", [])["usable"] is None


def test_a_quiet_host_has_no_problem_and_a_busy_one_has() -> None:
    assert state_problems(QUIET) == []
    assert "other programs use 60%" in words(state_problems({**QUIET, "other_cpu_share": 0.6}))
    assert "load average is 9" in words(state_problems({**QUIET, "load": 9.0}))
    assert "takes away 7%" in words(state_problems({**QUIET, "steal_share": 0.07}))


def test_what_the_machine_is() -> None:
    good = {"hypervisor": None, "cpus": 4, "memory_mib": 8000}
    assert host_problems(good, 4) == []
    assert "5 vCPUs on 4 CPUs" in words(host_problems(good, 5))
    assert "bare metal" in words(host_problems({**good, "hypervisor": "QEMU"}, 4))
    assert "2000 MiB" in words(host_problems({**good, "memory_mib": 2000}, 4))


def test_settings_that_matter_and_cannot_be_set() -> None:
    facts = {"governor": "powersave", "turbo": True, "smt": True, "cores": 2, "fast_cores": 2}
    names = ("CPU frequency governor", "turbo", "vCPU pinning")
    refused = {"set": [], "not_set": [{"what": name, "why": "no"} for name in names]}
    text = words(setting_problems(facts, refused, []))
    assert "powersave" in text
    assert "turbo is on" in text
    assert "guest.vcpus: 2 or fewer" in text
    hybrid = words(setting_problems({**facts, "smt": False, "cores": 6}, refused, []))
    assert "cores are of several speeds and vCPUs cannot be pinned" in hybrid
    assert "guest.vcpus: 2 or fewer" in hybrid
    granted = {"set": [{"what": "device interrupts"}], "not_set": []}
    assert setting_problems(facts, granted, ["sshd"]) == []
    assert "irqbalance" in words(setting_problems(facts, granted, ["irqbalance"]))


@pytest.fixture
def no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's journal somewhere else, so that tests never touch a real one."""
    path = tmp_path / "state/environment.json"
    monkeypatch.setattr(environment, "journal_path", lambda: path)
    monkeypatch.setattr("kdelta.measure.diagnosis.journal_path", lambda: path)
    return path


def test_nothing_to_restore(no_journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--restore"]) == 0
    assert capsys.readouterr().out == f"nothing to restore: no journal at {no_journal}\n"


def test_settings_left_behind_are_named(root: Path, tmp_path: Path) -> None:
    put(root, f"{CPU}/cpufreq/boost", "0")
    journal = tmp_path / "journal"
    Journal(journal, root).write([Change(root / CPU / "cpufreq/boost", "1", "0")])
    found = diagnose(1, root=root, sample_s=0.01, journal=journal)
    assert "kdelta doctor --restore" in report_text(found)
    assert (root / CPU / "cpufreq/boost").read_text() == "0\n"


def test_an_unusable_journal_is_told(no_journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(no_journal.parent, no_journal.name, "?")
    assert main(["doctor", "--restore"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kdelta: {no_journal}: ")
    assert "Traceback" not in error


def test_a_kernel_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kernel", "no/bzImage"]) == 1
    assert "--kernel: no/bzImage: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("vcpus", ["0", "65", "two"])
def test_vcpus_out_of_range(vcpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--vcpus", vcpus])
    assert ended.value.code == 2
    assert "expected a number from 1 to 64" in capsys.readouterr().err
