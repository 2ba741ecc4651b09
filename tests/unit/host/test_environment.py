# SPDX-License-Identifier: GPL-2.0-only
"""The host's settings for the time of a block: set, recorded, restored whatever happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from host_files import CPU, contents, put

from kdelta.experiment import Environment
from kdelta.host import restore as restoring
from kdelta.host.environment import (
    host_environment,
    plan_environment,
    planned_record,
)

ALL = Environment()
NOTHING = Environment(governor="leave", turbo="leave", pin_vcpus=False, move_irqs=False)
CHANGED = {
    f"{CPU}/cpufreq/policy0/scaling_governor": "performance",
    f"{CPU}/cpufreq/policy1/scaling_governor": "performance",
    f"{CPU}/cpufreq/boost": "0",
    "proc/irq/1/smp_affinity_list": "0,3",
    "proc/irq/2/smp_affinity_list": "0,3",
    "proc/irq/default_smp_affinity": "9",
}


def test_everything_is_set_recorded_and_restored(root: Path, journal: Path) -> None:
    before = contents(root)
    said: list[str] = []
    with host_environment(ALL, 2, root, journal, said.append) as environment:
        assert environment.cpus_for_vcpus == (1, 2)
        assert environment.cpus_for_rest == (0, 3)
        assert contents(root) == before | CHANGED
        assert environment.record() == {
            "set": [
                {"what": "vCPU pinning", "from": "anywhere on CPUs 0-3", "to": "CPUs 1, 2"},
                {
                    "what": "CPU frequency governor",
                    "from": "powersave, schedutil",
                    "to": "performance",
                },
                {"what": "turbo", "from": "on", "to": "off"},
                {
                    "what": "device interrupts",
                    "from": "on CPUs 1-2 too",
                    "to": "not on CPUs 1-2",
                },
                {"what": "interrupts of new devices", "from": "CPUs 0-3", "to": "CPUs 0,3"},
            ],
            "not_set": [],
        }
    assert contents(root) == before
    assert not journal.exists()
    assert said == []


def test_a_plan_changes_nothing_and_says_the_same(root: Path, journal: Path) -> None:
    before = contents(root)
    planned = planned_record(plan_environment(ALL, 2, root))
    assert contents(root) == before
    with host_environment(ALL, 2, root, journal) as environment:
        assert environment.record() == planned


def test_values_that_are_as_wanted_are_listed_and_not_touched(root: Path, journal: Path) -> None:
    for name, value in CHANGED.items():
        put(root, name, value)
    with host_environment(ALL, 2, root, journal) as environment:
        assert not journal.exists()
        entries = environment.record()["set"][1:]
        assert [entry["to"] for entry in entries] == ["performance", "off", "not on CPUs 1-2"]
        assert all(entry["from"] == entry["to"] for entry in entries)


def test_nothing_is_done_that_is_not_wanted(root: Path, journal: Path) -> None:
    before = contents(root)
    with host_environment(NOTHING, 2, root, journal) as environment:
        assert contents(root) == before
        assert environment.cpus_for_vcpus is None
        assert environment.record() == {"set": [], "not_set": []}


def test_too_few_cores_leave_interrupts_where_they_are(root: Path, journal: Path) -> None:
    with host_environment(ALL, 5, root, journal) as environment:
        assert environment.cpus_for_vcpus is None
        assert environment.record()["not_set"] == [
            {
                "what": "vCPU pinning",
                "why": "the guest has 5 vCPUs, and 4 physical cores can be used here",
            },
            {
                "what": "device interrupts",
                "why": "no vCPU is pinned, so there is no CPU to move them away from",
            },
        ]
        assert contents(root)["proc/irq/1/smp_affinity_list"] == "0-3"


def test_interrupts_stay_if_no_cpu_is_left_for_them(root: Path, journal: Path) -> None:
    with host_environment(ALL, 4, root, journal) as environment:
        assert environment.cpus_for_vcpus == (0, 1, 2, 3)
        assert environment.cpus_for_rest == (0, 1, 2, 3)
        assert environment.record()["not_set"] == [
            {
                "what": "device interrupts",
                "why": "there is no CPU left for them: a vCPU is pinned to each",
            }
        ]


def test_interrupts_keep_off_smt_siblings_of_vcpus(root: Path, journal: Path) -> None:
    for cpu in range(4):
        siblings = "0,2" if cpu in (0, 2) else "1,3"
        put(root, f"{CPU}/cpu{cpu}/topology/core_cpus_list", siblings)
    put(root, "proc/irq/1/smp_affinity_list", "1")
    with host_environment(ALL, 1, root, journal) as environment:
        assert environment.cpus_for_vcpus == (1,)
        assert environment.cpus_for_rest == (0, 2)
        assert contents(root)["proc/irq/1/smp_affinity_list"] == "0,2"


def test_a_host_that_shows_nothing(tmp_path: Path, journal: Path) -> None:
    with host_environment(ALL, 1, tmp_path / "empty", journal) as environment:
        record = environment.record()
    assert record["set"] == []
    assert [entry["what"] for entry in record["not_set"]] == [
        "vCPU pinning",
        "CPU frequency governor",
        "turbo",
        "device interrupts",
    ]
    assert all("not visible" in entry["why"] for entry in record["not_set"][:3])


def test_a_governor_that_the_driver_does_not_offer(root: Path, journal: Path) -> None:
    for policy in (0, 1):
        name = f"{CPU}/cpufreq/policy{policy}/scaling_available_governors"
        put(root, name, "powersave schedutil")
    with host_environment(ALL, 2, root, journal) as environment:
        assert environment.record()["not_set"] == [
            {
                "what": "CPU frequency governor",
                "why": "the driver offers only powersave, schedutil",
            }
        ]


def test_settings_that_may_not_be_written(root: Path, journal: Path) -> None:
    # A file of sysfs that nobody may write, root included: the refusal is the kernel's own.
    sealed = Path("/sys/devices/system/cpu/kernel_max")
    before = sealed.read_text()
    for name in ("cpufreq/boost", "cpufreq/policy0/scaling_governor"):
        (root / CPU / name).unlink()
        (root / CPU / name).symlink_to(sealed)
    with host_environment(ALL, 2, root, journal) as environment:
        record = environment.record()
    refused = {entry["what"]: entry["why"] for entry in record["not_set"]}
    assert refused.keys() == {"turbo", "CPU frequency governor (1 of 2)"}
    assert all(why.startswith(("no permission", "read-only here")) for why in refused.values())
    granted = {entry["what"] for entry in record["set"]}
    assert "turbo" not in granted
    assert "CPU frequency governor (1 of 2)" in granted
    assert sealed.read_text() == before


def refuse(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[[Path, str], bool], code: int
) -> None:
    """Let the kernel refuse some writes."""
    write = restoring.write_setting

    def writing(path: Path, text: str) -> None:
        if refused(path, text):
            raise OSError(code, os.strerror(code))
        write(path, text)

    monkeypatch.setattr(restoring, "write_setting", writing)


def test_interrupts_that_cannot_be_moved_are_counted(
    root: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(root)
    refuse(monkeypatch, lambda path, _: path.parent.name == "2", errno.EIO)
    with host_environment(ALL, 2, root, journal) as environment:
        record = environment.record()
        assert "device interrupts (1 of 2)" in [entry["what"] for entry in record["set"]]
        assert record["not_set"] == [
            {
                "what": "device interrupts (1 of 2)",
                "why": "the kernel does not let them be moved",
            }
        ]
    assert contents(root) == before


def test_a_value_that_the_kernel_does_not_take_is_not_claimed(
    root: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = restoring.write_setting
    monkeypatch.setattr(
        restoring,
        "write_setting",
        lambda path, text: None if path.name == "boost" else write(path, text),
    )
    with host_environment(ALL, 2, root, journal) as environment:
        assert environment.record()["not_set"] == [
            {"what": "turbo", "why": "the kernel made '1' of '0'"}
        ]


def test_pinning_that_failed_is_not_claimed(root: Path, journal: Path) -> None:
    with host_environment(ALL, 2, root, journal) as environment:
        environment.pinning_failed("QEMU has no such threads")
        environment.pinning_failed("QEMU has no such threads")
        record = environment.record()
    assert "vCPU pinning" not in [entry["what"] for entry in record["set"]]
    assert record["not_set"] == [{"what": "vCPU pinning", "why": "QEMU has no such threads"}]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_restored_after_an_exception(root: Path, journal: Path, error: type[BaseException]) -> None:
    before = contents(root)
    with pytest.raises(error), host_environment(ALL, 2, root, journal):
        raise error
    assert contents(root) == before
    assert not journal.exists()


def test_restored_after_an_exception_while_setting(
    root: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(root)
    write = restoring.write_setting

    def interrupted(path: Path, text: str) -> None:
        if path.name == "boost" and text == "0":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(restoring, "write_setting", interrupted)
    with pytest.raises(KeyboardInterrupt), host_environment(ALL, 2, root, journal):
        pytest.fail("the body must not run")
    assert contents(root) == before


def test_what_somebody_else_has_set_meanwhile_is_left(root: Path, journal: Path) -> None:
    before = contents(root)
    said: list[str] = []
    with host_environment(ALL, 2, root, journal, said.append):
        put(root, f"{CPU}/cpufreq/policy0/scaling_governor", "ondemand")
        # The same CPUs in another spelling is no change.
        put(root, "proc/irq/default_smp_affinity", "00000009")
    assert contents(root) == before | {f"{CPU}/cpufreq/policy0/scaling_governor": "ondemand"}
    assert len(said) == 1
    assert "left at 'ondemand'" in said[0]
    assert not journal.exists()


def test_a_device_that_is_gone_needs_no_restoring(root: Path, journal: Path) -> None:
    said: list[str] = []
    with host_environment(ALL, 2, root, journal, said.append):
        (root / "proc/irq/1/smp_affinity_list").unlink()
    assert said == []
    assert not (root / "proc/irq/1/smp_affinity_list").exists()


def test_what_cannot_be_restored_stays_in_the_journal(
    root: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(root)
    said: list[str] = []
    with monkeypatch.context() as patched:
        refuse(patched, lambda path, text: path.name == "boost" and text == "1", errno.EPERM)
        with host_environment(ALL, 2, root, journal, said.append):
            pass
    assert "cannot be restored from '0' to '1'" in said[0]
    boost = f"{CPU}/cpufreq/boost"
    assert contents(root) == before | {boost: "0"}
    with host_environment(ALL, 2, root, journal, said.append):
        pass
    assert contents(root) == before
    assert not journal.exists()


def test_without_a_journal_nothing_is_changed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = contents(root)
    with host_environment(ALL, 2, root, tmp_path / "file" / "journal") as environment:
        assert contents(root) == before
        record = environment.record()
    assert [entry["what"] for entry in record["set"]] == ["vCPU pinning"]
    assert all("no place to note down" in entry["why"] for entry in record["not_set"])
    assert len(record["not_set"]) == 4
