# SPDX-License-Identifier: GPL-2.0-only
"""Whether KVM works is found out by booting; here the guests answer from a script."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdelta.architecture import host_architecture
from kdelta.errors import KdeltaError
from kdelta.guest import acceleration
from kdelta.guest.acceleration import (
    Acceleration,
    choose,
    qemu_refusal,
    require_here,
    telling_line,
    telling_script,
)
from kdelta.host.lock import host_lock
from tests.integration.scripted_guest import PATIENCE_S, Environment

ANSWER = "(share / 'evidence').write_text({!r})"
# What QEMU says on a host whose KVM lacks a register.
REFUSED_MSR = """\
qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]
qemu-system-x86_64: error: failed to set MSR {} to 0x69
qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret' failed.
"""


@dataclass
class Host:
    """A host with a device of KVM, whose QEMU and guests follow scripts."""

    scripted: Environment
    folder: Path
    built: int = 0

    def qemu(self, said: str = "", end: str = "exit 33", only: str = "") -> None:
        """A QEMU that ends so, with this accelerator only; else as where the check succeeds."""
        self.scripted.program(
            "qemu-system-x86_64",
            f"#!/bin/sh\ncase \"$*\" in *accel={only}*)\ncat >&2 <<'END'\n{said}\nEND\n"
            f"{end};; esac\nexit 33\n",
        )

    def kernel(self) -> Path:
        self.built += 1
        return self.folder / "vmlinuz"

    def choose(
        self,
        script: str,
        requested: str = "auto",
        cpu: str | None = None,
        deadline_s: float = PATIENCE_S,
    ) -> Acceleration:
        self.scripted.vng("assert '--disable-kvm' not in sys.argv\n" + script)
        mark = self.folder / "kvm_pvm"
        return choose(
            host_architecture(), requested, cpu, self.kernel, self.folder / "kvm", deadline_s, mark
        )


@pytest.fixture
def host(scripted: Environment, tmp_path: Path) -> Host:
    (tmp_path / "kvm").touch()
    (tmp_path / "vmlinuz").touch()
    found = Host(scripted, tmp_path)
    found.qemu()
    return found


@pytest.fixture
def choice(host: Host):
    return host.choose


def test_what_qemu_refuses_is_known_without_a_kernel(host: Host) -> None:
    host.qemu(REFUSED_MSR.format("0x10a"), "exit 134", only="kvm")
    found = host.choose("raise SystemExit('never')")
    assert (found.mode, host.built) == ("tcg", 0)
    assert "saying 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69'" in found.reason
    assert "guest.cpu: host,arch-capabilities=off for example" in found.reason
    assert "Assertion" not in found.reason
    assert "paravirtual" not in found.reason
    with pytest.raises(KdeltaError, match="failed to set MSR 0x10a"):
        host.choose("raise SystemExit('never')", "kvm")


def test_another_register_has_another_cure(host: Host) -> None:
    host.qemu(REFUSED_MSR.format("0x491"), "exit 134", only="kvm")
    assert "guest.cpu: qemu64 for example" in host.choose("", cpu="max").reason


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("", "while :; do :; done"),
        ("KVM internal error. Suberror: 1\nEAX=00000000 EBX=00000000", "exec sleep 1000"),
    ],
)
def test_a_virtual_cpu_that_no_kernel_can_use(
    host: Host, monkeypatch: pytest.MonkeyPatch, said: str, end: str
) -> None:
    monkeypatch.setattr(acceleration, "CPU_CHECK_LIMIT_S", 1)
    monkeypatch.setattr(acceleration, "QEMU_DEADLINE_S", PATIENCE_S if not said else 0.5)
    host.qemu(said, end, only="kvm")
    found = host.choose("raise SystemExit('never')")
    assert (found.mode, host.built) == ("tcg", 0)
    assert "a virtual CPU stands still, or is far too slow for a kernel" in found.reason
    assert ("saying 'KVM internal error. Suberror: 1'" in found.reason) == bool(said)


def test_the_check_of_a_cpu_runs_where_a_kernel_would() -> None:
    """With the real emulator: all models but those without a 64-bit mode."""
    assert qemu_refusal(host_architecture(), "tcg", None) is None
    assert qemu_refusal(host_architecture(), "tcg", "Nehalem") is None
    refusal = qemu_refusal(host_architecture(), "tcg", "qemu32") or ""
    assert "QEMU ends (status 0) with 'qemu32' as its CPU" in refusal


def test_a_paravirtual_kvm_is_called_that(host: Host) -> None:
    (host.folder / "kvm_pvm").mkdir()
    found = host.choose("sys.exit(1)")
    assert found.mode == "tcg"
    assert "(the KVM of this host is paravirtual, kvm_pvm:" in found.reason
    found = host.choose(ANSWER.format("kvm-clock\n"))
    assert found.mode == "kvm"
    assert "paravirtual" in found.reason


def test_a_cpu_model_that_nothing_can_run(host: Host) -> None:
    host.qemu("qemu-system-x86_64: unable to find CPU model 'none'", "exit 1")
    with pytest.raises(KdeltaError, match=r"guest\.cpu: 'none' cannot be emulated.*unable to find"):
        host.choose("", cpu="none")
    assert host.built == 0


def test_a_cpu_model_is_recorded_and_booted_with(host: Host) -> None:
    script = "assert any(w.endswith('-cpu host,-x2apic') for w in sys.argv)\n" + ANSWER.format(
        "kvm-clock\n"
    )
    found = host.choose(script, cpu="host,-x2apic")
    assert (found.mode, found.cpu, host.built) == ("kvm", "host,-x2apic", 1)


def test_without_a_device_nothing_is_built(host: Host) -> None:
    (host.folder / "kvm").unlink()
    assert host.choose("raise SystemExit('never')").mode == "tcg"
    assert host.built == 0


def test_only_a_boot_has_the_host_to_itself(host: Host) -> None:
    """What QEMU alone tells waits for nobody's build."""
    with host_lock("building", exclusive=False):
        host.qemu("qemu-system-x86_64: no", "exit 1", only="kvm")
        assert host.choose("raise SystemExit('never')").mode == "tcg"
        host.qemu()
        with pytest.raises(RuntimeError, match="wanted exclusively"):
            host.choose(ANSWER.format("kvm-clock\n"))
    assert host.choose(ANSWER.format("kvm-clock\n")).mode == "kvm"


def test_a_guest_that_runs_with_kvm(choice) -> None:
    for requested in ("auto", "kvm"):
        found = choice(ANSWER.format("kvm-clock tsc acpi_pm\n"), requested)
        assert found.as_dict() == {
            "mode": "kvm",
            "requested": requested,
            "reason": "a kernel built for KVM boots with it on this host",
            "cpu": None,
            "arch": host_architecture().name,
        }


def test_qemu_that_falls_back_in_silence(choice) -> None:
    found = choice(ANSWER.format("tsc hpet acpi_pm\n"))
    assert (found.mode, found.requested) == ("tcg", "auto")
    assert found.reason == "KVM does not work on this host: QEMU fell back to emulation"


def test_virtual_cpus_that_never_run(choice) -> None:
    found = choice("time.sleep(1000)", deadline_s=0.5)
    assert found.mode == "tcg"
    assert "did not reach its first command within 0.5 s" in found.reason


def test_a_guest_that_ends_at_once(choice) -> None:
    found = choice("sys.exit(1)")
    assert found.mode == "tcg"
    assert found.reason.endswith("ended (status 1) before its first command")


def test_qemus_last_words_are_part_of_the_reason(choice) -> None:
    found = choice("print('qemu: cannot set MSR', flush=True); sys.exit(1)")
    assert found.reason.endswith("before its first command, saying 'qemu: cannot set MSR'")


def test_an_answer_counts_even_if_the_guest_then_hangs(choice) -> None:
    assert choice(ANSWER.format("kvm-clock\n") + "; time.sleep(1000)", deadline_s=3).mode == "kvm"


def test_kvm_that_was_asked_for_and_does_not_work(choice) -> None:
    with pytest.raises(KdeltaError) as caught:
        choice("sys.exit(1)", "kvm")
    said = str(caught.value)
    assert said.startswith("guest.acceleration is kvm, but KVM does not work on this host: ")
    assert "set guest.acceleration to auto or tcg" in said


def test_tcg_boots_nothing(choice) -> None:
    assert choice("raise SystemExit('never')", "tcg").mode == "tcg"


def test_another_host_is_asked_too(host: Host) -> None:
    """By what takes a second: neither a kernel nor a guest."""
    record = host.choose(ANSWER.format("kvm-clock\n"), cpu="max").as_dict()
    host.scripted.vng("raise SystemExit('never')")

    def here() -> None:
        require_here(host_architecture(), record, host.folder / "kvm", host.folder / "kvm_pvm")

    here()
    host.qemu("qemu-system-x86_64: no", "exit 1", only="kvm")
    with pytest.raises(KdeltaError, match=r"with 'max' as its CPU.*name a constraint"):
        here()
    (host.folder / "kvm").unlink()
    with pytest.raises(KdeltaError, match="does not exist"):
        here()
    record |= {"mode": "tcg"}
    here()


@pytest.mark.parametrize(
    ("console", "line"),
    [
        (REFUSED_MSR.format("0x10a"), "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69"),
        # an assertion with nothing before it says it itself
        ("[1.0] pci\nqemu-system-x86_64: a.c:1: f: Assertion `x' failed.\nAborted\n", None),
        ("KVM internal error. Suberror: 1\nEAX=0 EBX=0\nCode=0f\n", None),
        ("qemu-system-x86_64: terminating on signal 15\n[2.0] Freeing memory\n", None),
        ("", ""),
    ],
)
def test_the_line_that_tells(console: str, line: str | None) -> None:
    expected = {
        "[1.0]": "qemu-system-x86_64: a.c:1: f: Assertion `x' failed.",
        "KVM i": "KVM internal error. Suberror: 1",
        "qemu-": "[2.0] Freeing memory",
    }
    assert telling_line(console) == (expected[console[:5]] if line is None else line)


def test_the_log_is_told_by_the_standard_library_alone(tmp_path: Path) -> None:
    log, answer, script = tmp_path / "kmsg", tmp_path / "answer", tmp_path / "tell.py"
    os.mkfifo(log)
    script.write_text(telling_script(log, answer))
    writer = os.open(log, os.O_RDWR)  # there will be more, and it is not waited for
    try:
        os.write(writer, b"Hypervisor detected: KVM\n")
        subprocess.run([sys.executable, "-I", "-S", script], check=True, timeout=60)
    finally:
        os.close(writer)
    assert answer.read_text() == "Hypervisor detected: KVM\n"
