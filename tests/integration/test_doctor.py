# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta doctor` on this host, and on hosts that lack something."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdelta.architecture import host_architecture
from kdelta.cli import main
from kdelta.commands import doctor
from kdelta.commands.doctor import report_text
from kdelta.commands.noise import noise_problems, noise_rows
from kdelta.host import doctor as diagnosis
from kdelta.host import environment
from kdelta.host.doctor import (
    diagnose,
    host_problems,
    kvm_state,
    setting_problems,
    state_problems,
)
from kdelta.host.lock import host_lock
from kdelta.host.restore import Change, Journal
from kdelta.kernel.toolchain import read_toolchain
from tests.conftest import Project

CPU = "sys/devices/system/cpu"
QUIET = {"load": 0.1, "cpus": 4, "other_cpu_share": 0.01, "steal_share": 0.0}

ARCH = host_architecture()


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


@pytest.fixture
def no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What KVM is like here, which may take seconds to find out, `test_this_host` tells."""
    monkeypatch.setattr(diagnosis, "device_refusal", lambda _: "not asked")


def words(problems: list[Any]) -> str:
    return "\n".join(f"{p.what} -> {p.todo}" for p in problems)


@pytest.mark.usefixtures("no_journal")
def test_this_host(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--quick"])
    text = capsys.readouterr().out
    assert "Noise" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    for label in ("model", "SMT", "governor", "NUMA nodes", "stolen CPU time", "KVM", "QEMU"):
        assert f"\n  {label} " in text
    assert status == int("Problems that make a run fail" in text)


@pytest.mark.usefixtures("no_journal", "no_kvm")
def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--quick", "--json", "--vcpus", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["vcpus"] == 1
    assert found["host"]["cpus"] == len(os.sched_getaffinity(0))
    assert 0 <= found["now"]["other_cpu_share"] <= 1
    severities = {problem["severity"] for problem in found["problems"]}
    assert severities <= {"fatal", "doubt"}
    assert status == int("fatal" in severities)


def test_a_host_without_tools(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = diagnose(ARCH, 1, root=root, sample_s=0.01, journal=tmp_path / "journal")
    fatal = [p for p in found["problems"] if p["severity"] == "fatal"]
    advice = " ".join(p["what"] + " " + p["todo"] for p in fatal)
    for package in ("qemu-system-x86", "stress-ng", "flex", "bison", "gcc"):
        assert package in advice
    text = report_text(found)
    assert "Problems that make a run fail" in text
    assert "not visible" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.usefixtures("no_journal", "no_kvm")
def test_the_noise_of_this_host(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NOISE_S", 1.0)
    common = ["--root", str(project.root), "doctor"]
    main([*common, "--json", "--experiment", project.file.name])
    noise = json.loads(capsys.readouterr().out)["noise"]
    assert noise["reason"] is None
    assert noise["measured_s"] >= 1
    assert noise["checks"] >= 16
    assert noise["check_ms"] > 0.1
    assert noise["worst"] >= 1
    assert 0 <= noise["other_cpu_share"] <= 1.1
    places = [(floor["protocol"], floor["regime"]) for floor in noise["floors"]]
    assert places == [(p, r) for p in ("quick", "long") for r in ("idle", "pressed")]
    quick, long = noise["floors"][0], noise["floors"][2]
    # two blocks have no intervals, and so no noise floor
    assert (quick["floor"], quick["quiet_floor"]) == (None, None)
    assert long["floor"] >= long["quiet_floor"] > 0.03

    # outside of a project nobody knows the protocols
    main([*common])
    text = capsys.readouterr().out
    assert "\nNoise\n  CPU speed " in text
    assert "floor of" not in text


NOISE = {
    "reason": None,
    "measured_s": 10.0,
    "checks": 900,
    "check_ms": 9.84,
    "slow_share": 0.012,
    "worst": 3.21,
    "other_cpu_share": 0.4,
    "steal_share": 0.0,
    "busiest": [{"name": "cc1", "share": 0.35}, {"name": "stress-ng", "share": 0.05}],
    "experiment": "small",
    "floors": [
        {"protocol": "a", "regime": "idle", "log_sd": 0.05, "floor": 0.25, "quiet_floor": 0.25},
        {"protocol": "a", "regime": "busy", "log_sd": 0.3, "floor": 3.0, "quiet_floor": 0.25},
        {"protocol": "b", "regime": "idle", "log_sd": 0.05, "floor": None, "quiet_floor": None},
    ],
}


def test_noise_in_words() -> None:
    title, rows = noise_rows(NOISE)
    assert title == "Noise (experiment small)"
    found = dict(rows)
    assert found["CPU speed"] == (
        "900 checks, unhindered 9.8 ms each, in 10 s: 1.2% took a quarter longer or more, the "
        "slowest 3.2 times as long"
    )
    assert found["taken by others"] == "40.0% (cc1 35%, stress-ng 5%)"
    assert found["floor of a"] == "about 25% to 300% (quiet: 25%)"
    assert found["floor of b"] == "none: too few blocks for intervals"


def test_uneven_cpus_are_a_problem_and_even_ones_are_not() -> None:
    (problem,) = noise_problems(NOISE)
    assert problem["severity"] == "doubt"
    assert "a cell's ratio would spread by 30%" in problem["what"]
    assert problem["todo"] == "end cc1, stress-ng"
    (problem,) = noise_problems({**NOISE, "busiest": []})
    assert problem["todo"].startswith("a quieter time or host")
    assert noise_problems({**NOISE, "floors": NOISE["floors"][:1]}) == []
    assert noise_problems({**NOISE, "floors": []}) == []
    assert noise_problems({"reason": "no gcc"}) == []
    assert noise_problems(None) == []


def test_an_experiment_that_is_wrong_is_told_before_anything_is_measured(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(project.root), "doctor", "--experiment", "none.yaml"]) == 1
    said = capsys.readouterr()
    assert "none.yaml" in said.err
    assert "measuring" not in said.err
    assert said.out == ""


@pytest.mark.usefixtures("no_journal")
def test_missing_tools_end_in_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "NOISE_S", 0.1)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "apt-get install" in text
    assert "\n  not measured " in text
    assert "gcc is not installed" in text


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
    whole = {p["todo"] for p in diagnose(ARCH, 1, **arguments)["problems"]}
    half = {p["todo"] for p in diagnose(ARCH, 1, compiler="halfcc", **arguments)["problems"]}
    lacking = {"apt-get install libelf-dev", "apt-get install libc6-dev"}
    assert lacking <= half
    assert not lacking & whole


def test_kvm_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kvm_state(ARCH, None, tmp_path / "kvm", []) == {
        "usable": False,
        "booted": False,
        "reason": f"{tmp_path / 'kvm'} does not exist",
    }
    (tmp_path / "kvm").write_text("")
    said = {"refused": "QEMU ends", "fine": None}
    for how, usable in (("refused", False), ("fine", None)):
        monkeypatch.setattr(diagnosis, "early_refusal", lambda *_, words=said[how]: words)
        assert kvm_state(ARCH, None, tmp_path / "kvm", [])["usable"] is usable


def test_the_diagnosis_waits_for_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "early_refusal", lambda *_: None)
    (tmp_path / "kvm").write_text("")
    # Who shares the lock and wanted it alone would be told that that cannot be.
    with host_lock("building", exclusive=False):
        assert kvm_state(ARCH, None, tmp_path / "kvm", [])["usable"] is None


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
    monkeypatch.setattr("kdelta.host.doctor.journal_path", lambda: path)
    return path


def test_nothing_to_restore(no_journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--restore"]) == 0
    assert capsys.readouterr().out == f"nothing to restore: no journal at {no_journal}\n"


def test_settings_left_behind_are_named(root: Path, tmp_path: Path) -> None:
    put(root, f"{CPU}/cpufreq/boost", "0")
    journal = tmp_path / "journal"
    Journal(journal, root).write([Change(root / CPU / "cpufreq/boost", "1", "0")])
    found = diagnose(ARCH, 1, root=root, sample_s=0.01, journal=journal)
    assert "kdelta doctor --restore" in report_text(found)
    assert (root / CPU / "cpufreq/boost").read_text() == "0\n"


def test_an_unusable_journal_is_told(no_journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(no_journal.parent, no_journal.name, "?")
    assert main(["doctor", "--restore"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kdelta: {no_journal}: ")
    assert "Traceback" not in error


def test_a_kernel_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kernel", "no/vmlinuz"]) == 1
    assert "--kernel: no/vmlinuz: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("vcpus", ["0", "65", "two"])
def test_vcpus_out_of_range(vcpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--vcpus", vcpus])
    assert ended.value.code == 2
    assert "expected a number from 1 to 64" in capsys.readouterr().err
