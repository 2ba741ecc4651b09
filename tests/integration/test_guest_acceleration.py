# SPDX-License-Identifier: GPL-2.0-only
"""Whether KVM works is found out by booting; here the guests answer from a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.guest.acceleration import Acceleration, choose
from tests.integration.scripted_guest import PATIENCE_S, Environment

ANSWER = "(share / 'clocksources').write_text({!r})"


@pytest.fixture
def choice(scripted: Environment, tmp_path: Path):
    (tmp_path / "kvm").touch()
    (tmp_path / "bzImage").touch()

    def choose_with(
        script: str, requested: str = "auto", deadline_s: float = PATIENCE_S
    ) -> Acceleration:
        scripted.guest("assert '--disable-kvm' not in sys.argv\n" + script)
        return choose(requested, tmp_path / "bzImage", tmp_path / "kvm", deadline_s)

    return choose_with


def test_a_guest_that_runs_with_kvm(choice) -> None:
    for requested in ("auto", "kvm"):
        found = choice(ANSWER.format("kvm-clock tsc acpi_pm\n"), requested)
        assert found.as_dict() == {
            "mode": "kvm",
            "requested": requested,
            "reason": "the built kernel boots with KVM on this host",
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
