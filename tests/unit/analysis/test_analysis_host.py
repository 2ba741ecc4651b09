# SPDX-License-Identifier: GPL-2.0-only
"""host.json: the rules on the host and on failed boots, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from hand_made import boot_of, host_json, records_of, violations
from synthetic import SETTINGS

from kdelta.analysis.records import parse_host
from kdelta.analysis.rules import Breach
from kdelta.analysis.settings import Limits
from kdelta.analysis.validity import notes
from kdelta.errors import KdeltaError

CPU = {"cpus": 4, "elapsed_s": 10.0, "busy_s": 20.0, "own_s": 19.0, "steal_s": 0.5}


def breaches(host: dict[str, Any] | None, **limits: float) -> list[Breach]:
    boot = boot_of(records_of(), host=host)
    found = violations([boot], replace(SETTINGS, limits=Limits(**limits)))
    rules = {v.breach.rule: v.breach for v in found}
    assert len(found) == 2 * len(rules), "a rule of the boot taints each of its two cells"
    return list(rules.values())


@pytest.mark.parametrize(
    "host",
    [
        None,
        {},
        {"boots": []},
        host_json(),
        host_json(host_cpu=None, load_before=None),
        host_json(host_cpu={"cpus": 4, "elapsed_s": 10.0}),
        host_json(host_cpu={"busy_s": 1e6, "own_s": 0.0, "steal_s": 1e6}),
        host_json(host_cpu={**CPU, "elapsed_s": 0.0}),
        # counters of the kernel that went back by a tick
        host_json(host_cpu={**CPU, "busy_s": -0.01, "own_s": -0.02, "steal_s": -0.01}),
        host_json(host_cpu=CPU, load_before=2.0),
        {"boots": [{"arm": "baseline", "load_before": 99.0}]},
    ],
)
def test_facts_that_are_well_or_not_recorded_break_nothing(host: dict[str, Any] | None) -> None:
    assert breaches(host) == []


def test_host_load_is_what_exceeds_the_guests_vcpus_per_host_cpu() -> None:
    assert breaches(host_json(load_before=6.0)) == []  # (6 - 2) / 4 is the limit itself
    (found,) = breaches(host_json(load_before=6.4))
    assert (found.rule, found.limit) == ("host-load", 1.0)
    assert found.value == pytest.approx(1.1)
    assert "6.40" in found.detail
    assert breaches(host_json(load_before=6.4), host_load=1.2) == []


def test_host_load_takes_the_cpus_of_the_boot_before_those_of_the_facts() -> None:
    host = host_json(load_before=6.4, host_cpu={"cpus": 8})
    assert breaches(host) == []


def test_host_steal() -> None:
    assert breaches(host_json(host_cpu={**CPU, "steal_s": 2.0})) == []
    (found,) = breaches(host_json(host_cpu={**CPU, "steal_s": 2.4}))
    assert (found.rule, found.limit) == ("host-steal", 0.05)
    assert found.value == pytest.approx(2.4 / 40)


def test_host_other_cpu() -> None:
    busy = {**CPU, "busy_s": 36.0}
    assert breaches(host_json(host_cpu={**busy, "own_s": 34.1})) == []
    (found,) = breaches(host_json(host_cpu={**busy, "own_s": 33.9}))
    assert (found.rule, found.limit) == ("host-other-cpu", 0.05)
    assert found.value == pytest.approx(2.1 / 40)
    assert breaches(host_json(host_cpu={**busy, "own_s": 16.0}), host_other_cpu=0.5) == []
    # Rounding can make our own share larger than all of it.
    assert breaches(host_json(host_cpu={**CPU, "own_s": 25.0})) == []


def test_several_rules_of_the_host_at_once() -> None:
    host = host_json(load_before=50, host_cpu={**CPU, "steal_s": 9.0, "own_s": 0.0, "busy_s": 30})
    assert {b.rule for b in breaches(host)} == {"host-load", "host-steal", "host-other-cpu"}


@pytest.mark.parametrize("records", [0, 1, 2, 4])
def test_a_failed_boot_is_failed_and_not_incomplete_besides(records: int) -> None:
    reason = "the guest did not reach its driver within 120 s"
    boot = boot_of(records_of()[:records], host=host_json(status="failed", reason=reason))
    found = violations([boot], SETTINGS)
    assert [v.breach.rule for v in found] == ["boot-failed"] * 2
    assert {v.breach.detail for v in found} == {reason}
    assert {(v.breach.value, v.breach.limit) for v in found} == {(None, None)}
    assert any(reason in note for note in notes([boot], found, SETTINGS))


def test_a_failed_boot_without_a_reason_and_with_a_panic_in_its_console() -> None:
    log = "Kernel panic - not syncing: Fatal exception\nOut of memory: Killed process 9 (a)\n"
    boot = boot_of([], host=host_json(status="failed"), log=log)
    found = violations([boot], SETTINGS)
    rules = ["boot-failed", "kernel-splat", "oom-kill"]
    assert [v.breach.rule for v in found] == rules * 2
    assert found[0].breach.detail == "no reason was recorded"


def test_a_failed_boot_without_self_check_is_not_blamed_for_that() -> None:
    records = records_of()[:1]
    records[0]["self_check"] = None
    boot = boot_of(records, host=host_json(status="failed", reason="lost"))
    assert {v.breach.rule for v in violations([boot], SETTINGS)} == {"boot-failed"}


def test_samples_of_a_failed_boot_keep_their_own_breaches() -> None:
    records = records_of()[:2]
    records[1].update(status="failed", exit_status=1, error="pipe_bench: no", bench=None)
    boot = boot_of(records, host=host_json(status="failed", reason="lost"))
    found = violations([boot], SETTINGS)
    assert [v.breach.rule for v in found] == ["boot-failed", "failed", "boot-failed"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"[]", "host.json: "),
        (b"{", "Invalid JSON"),
        (b'{"schema":2}', "key schema"),
        (b'{"vcpus":"2"}', "key vcpus"),
        (b'{"host":{"cpus":0}}', "key host.cpus"),
        (b'{"boots":[{"status":"ok"}]}', "key boots.0.arm"),
        (b'{"boots":[{"arm":"a","status":"fine"}]}', "key boots.0.status"),
        (b'{"boots":[{"arm":"a","load_before":"1"}]}', "key boots.0.load_before"),
        (b'{"boots":[{"arm":"a","host_cpu":{"elapsed_s":-1}}]}', "key boots.0.host_cpu.elapsed_s"),
        (b'{"boots":[{"arm":"a"},{"arm":"a"}]}', "key boots: arm 'a' is listed twice"),
        (b'{"earlier_attempts":3}', "key earlier_attempts"),
    ],
)
def test_a_malformed_host_record_names_file_and_key(host: bytes, expected: str) -> None:
    with pytest.raises(KdeltaError) as caught:
        parse_host(host, "x/host.json")
    message = str(caught.value)
    assert message.startswith("x/host.json: ")
    assert expected in message
    assert "\n" not in message


def test_unknown_keys_of_a_later_measuring_stage_are_let_through() -> None:
    record = parse_host(b'{"schema":1,"environment":{"set":[]},"boots":[{"arm":"a","x":1}]}', "h")
    assert record.boots[0].status == "ok"
