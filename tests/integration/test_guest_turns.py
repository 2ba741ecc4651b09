# SPDX-License-Identifier: GPL-2.0-only
"""Guests that live together: one runs at a time, and one that dies takes only itself along."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdelta.errors import KdeltaError
from kdelta.host import lock as hostlock
from kdelta.measure import turns
from kdelta.measure.arm import GuestSource
from kdelta.measure.block import BlockRequest, measure_block
from tests.conftest import CHECKOUT, Project
from tests.integration.scripted_guest import Environment, lay_out_inputs

ARMS = ("baseline", "patched", "other", "control")

# Every guest tells when it was let go on and stopped, and when it ran a cell.
TOLD = """
    log = Path({log!r})

    def tell(what):
        with log.open("a") as file:
            file.write(f"{{time.monotonic()}} {{plan['identity']['arm']}} {{what}}\\n")

    class Told(list):
        def append(self, command):
            super().append(command)
            tell(command)

    stopped = Told()
    _sample = sample
    def sample(*words):
        tell("runs")
        _sample(*words)
"""


@pytest.fixture
def request_(
    scripted: Environment, project: Project, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> BlockRequest:
    monkeypatch.setattr(hostlock, "lock_path", lambda: project.root / "host.lock")
    lay_out_inputs(project.root, list(ARMS)[:3])
    small["protocols"]["quick"] |= {"rounds": 3, "duration_s": {"idle": 1.5}}
    source = GuestSource(
        experiment=project.load(small),
        protocol="quick",
        kernels=project.root / "kernels",
        programs=project.root,
        acceleration={"mode": "tcg", "requested": "tcg", "reason": "asked for"},
    )
    out = project.root / "run" / "raw" / "idle" / "block-001"
    return BlockRequest(source=source, regime="idle", block=1, key="the key", out=out)


def slices(request: BlockRequest, arm: str) -> list[dict[str, Any]]:
    lines = (request.out / f"{arm}.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == "sample"]


def host(request: BlockRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((request.out / "host.json").read_text())
    return found


def test_one_guest_runs_at_a_time(
    request_: BlockRequest, scripted: Environment, tmp_path: Path
) -> None:
    log = tmp_path / "turns.log"
    scripted.guest(TOLD.format(log=str(log)) + "    sweep()\n")
    measure_block(request_)
    assert host(request_)["together"] == 4
    running: set[str] = set()
    ran = []
    events = sorted(line.split(" ", 2) for line in log.read_text().splitlines())
    begun = False
    for _, arm, what in sorted(events, key=lambda event: float(event[0])):
        if what == "cont":
            assert not running, "another guest is still running"
            running.add(arm)
            begun = True
        elif what == "stop" and begun:
            running.discard(arm)
        elif what == "runs":
            assert running == {arm}
            ran.append(arm)
        if len(ran) == 3 * 4 * 4:
            break  # then each goes on to its own end
    schedule = json.loads((request_.out / "schedule.json").read_text())
    turns_ = [turn for turns in schedule["rounds"] for turn in turns]
    assert ran == [arm for turn in turns_ for arm in turn["arms"]]
    for arm in ARMS:
        found = slices(request_, arm)
        assert [one["round"] for one in found] == [1] * 4 + [2] * 4 + [3] * 4
        assert [one["slot"] for one in found] == [turn["arms"].index(arm) + 1 for turn in turns_]
        assert all(one["host_cpu"]["elapsed_s"] >= 0 for one in found)


def test_a_guest_that_dies_takes_only_itself_along(
    request_: BlockRequest, scripted: Environment
) -> None:
    scripted.guest("""
        boot()
        if plan["identity"]["arm"] == "patched":
            serve(5); say("Kernel panic - not syncing: test"); sys.exit(1)
        serve(); end()
    """)
    measure_block(request_)
    status = {boot["arm"]: boot["status"] for boot in host(request_)["boots"]}
    assert status == {"baseline": "ok", "patched": "failed", "other": "ok", "control": "ok"}
    assert [len(slices(request_, arm)) for arm in ARMS] == [12, 5, 12, 12]


def test_a_guest_that_hangs_is_given_up_and_the_others_go_on(
    request_: BlockRequest, scripted: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdelta.measure.plan.BETWEEN_RECORDS_S", 1.0)
    monkeypatch.setattr("kdelta.measure.plan.GRACE_S", 0.5)
    monkeypatch.setattr("kdelta.measure.plan.DEADLINE_S", 0.5)
    scripted.guest("""
        boot()
        if plan["identity"]["arm"] == "other":
            plan["silence_s"]; serve(2); json.loads(port.readline()); time.sleep(1000)
        serve(); end()
    """)
    measure_block(request_)
    boots = {boot["arm"]: boot for boot in host(request_)["boots"]}
    assert "silent for" in boots["other"]["reason"]
    assert "after 2 of 12 slices" in boots["other"]["reason"]
    assert [len(slices(request_, arm)) for arm in ARMS] == [12, 12, 2, 12]


@pytest.mark.parametrize("together", [True, False])
def test_with_too_little_memory_they_come_one_after_the_other(
    request_: BlockRequest,
    scripted: Environment,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    together: bool,
) -> None:
    """By the same code; and what was done is in the record."""
    monkeypatch.setattr(turns, "memory_for", lambda guests_mib: together)
    alive = tmp_path / "alive"
    alive.mkdir()
    most = tmp_path / "most"
    scripted.guest(f"""
        alive, most = Path({str(alive)!r}), Path({str(most)!r})
        (alive / plan["identity"]["arm"]).touch()
        boot()
        serve(1)
        with most.open("a") as file:
            file.write(f"{{len(list(alive.iterdir()))}}\\n")
        serve(); end()
        (alive / plan["identity"]["arm"]).unlink()
    """)
    measure_block(request_)
    assert host(request_)["together"] == (4 if together else 1)
    assert max(map(int, most.read_text().split())) == (4 if together else 1)
    assert [len(slices(request_, arm)) for arm in ARMS] == [12] * 4


def test_memory_is_counted_with_what_qemu_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 3 * (1024 + turns.GUEST_OVERHEAD_MIB) * 2**20 + turns.SPARE_MIB * 2**20

    monkeypatch.setattr(turns.psutil, "virtual_memory", lambda: Memory)
    assert turns.memory_for([1024] * 3)
    assert turns.memory_for([512, 2048, 512])
    assert not turns.memory_for([1024] * 4)
    assert not turns.memory_for([1024, 1024, 1025])


@pytest.mark.parametrize(("together", "room"), [(True, 3.5), (True, 4.5), (False, 1.5)])
def test_no_guest_is_booted_where_their_disks_do_not_fit(
    request_: BlockRequest,
    scripted: Environment,
    small: dict[str, Any],
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    together: bool,
    room: float,
) -> None:
    """Four guests, each with a disk of 64 MiB, if they live together; the host has `room` such."""
    fio = {"matrix": {"where": ["disk"], "rw": ["read"]}, "arguments": {"file_size": "64M"}}
    shutil.copytree(CHECKOUT / "workloads/fio", project.root / "workloads/fio")
    experiment = project.load(small | {"workloads": {"fio": fio}})
    monkeypatch.setattr(turns, "memory_for", lambda guests_mib: together)
    usage = type("Usage", (), {"free": int(room * 64 * 2**20)})
    monkeypatch.setattr("kdelta.cache.shutil.disk_usage", lambda folder: usage)
    booted = project.root / "booted"
    scripted.guest(f"Path({str(booted)!r}).touch(); sys.exit(1)")
    changed = replace(request_, source=replace(request_.source, experiment=experiment))
    with pytest.raises(KdeltaError) as caught:
        measure_block(changed)
    refused = "not enough free disk space for the scratch disks of 4 guests" in str(caught.value)
    assert refused == (together and room < 4)
    assert refused == ("TMPDIR" in str(caught.value))
    assert booted.exists() == (not refused)
