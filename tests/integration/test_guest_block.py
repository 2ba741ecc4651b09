# SPDX-License-Identifier: GPL-2.0-only
"""One block of scripted guests: what it writes, and what it refuses to."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdelta.cache import file_lock
from kdelta.errors import KdeltaError
from kdelta.experiment import Environment as HostSettings
from kdelta.experiment import Mechanism, Validity
from kdelta.host import lock as hostlock
from kdelta.measure.arm import GuestSource
from kdelta.measure.block import BlockRequest, measure_block
from kdelta.measure.mechanism import trace_regime
from tests.conftest import Project
from tests.integration.scripted_guest import IMAGE, Environment, lay_out_inputs

ARMS = {"baseline": "baseline", "patched": "patched", "other": "other", "control": "baseline"}
FILES = {"schedule.json", "host.json"} | {f"{a}.jsonl" for a in ARMS}
CONSOLES = {f"{arm}.console.log" for arm in ARMS}


@pytest.fixture
def request_(
    scripted: Environment, project: Project, monkeypatch: pytest.MonkeyPatch
) -> BlockRequest:
    monkeypatch.setattr(hostlock, "lock_path", lambda: project.root / "host.lock")
    lay_out_inputs(project.root, list(ARMS)[:3])
    scripted.guest("say('up'); sweep()")
    source = GuestSource(
        experiment=project.load(),
        protocol="quick",
        kernels=project.root / "kernels",
        programs=project.root,
        acceleration={"mode": "tcg", "requested": "tcg", "reason": "asked for"},
    )
    return BlockRequest(
        source=source,
        regime="idle",
        block=2,
        key="the key",
        out=project.root / "run" / "raw" / "idle" / "block-002",
    )


@contextlib.contextmanager
def spinning() -> Iterator[None]:
    """A program that uses CPU time and is nobody's guest."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def records(request: BlockRequest, arm: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (request.out / f"{arm}.jsonl").read_text().splitlines()]


def test_a_blocks_files(request_: BlockRequest) -> None:
    measure_block(request_)
    assert {path.name for path in request_.out.iterdir()} == FILES | CONSOLES
    schedule = json.loads((request_.out / "schedule.json").read_text())
    assert sorted(schedule["arms"]) == sorted(ARMS)
    for order, arm in enumerate(schedule["arms"], start=1):
        first, *samples, last = records(request_, arm)
        assert first["record"] == "boot"
        assert first["arm"] == arm
        assert first["boot_order"] == order
        turns = [turn for turns in schedule["rounds"] for turn in turns]
        assert [sample["cell"] for sample in samples] == [
            schedule["cells"][turn["cell"]] for turn in turns
        ]
        assert [sample["slot"] for sample in samples] == [
            turn["arms"].index(arm) + 1 for turn in turns
        ]
        assert {sample["round"] for sample in samples} == {1}
        assert [sample["cell_order"] for sample in samples] == [1, 2, 3, 4]
        assert last == {"record": "end", "samples": 4, "ok": True, "error": None}
    host = json.loads((request_.out / "host.json").read_text())
    assert host["key"] == "the key"
    assert host["node"] is None  # no cluster's
    assert host["acceleration"]["mode"] == "tcg"
    assert (host["vcpus"], host["memory_mib"]) == (1, 256)
    assert [boot["arm"] for boot in host["boots"]] == schedule["arms"]
    for boot in host["boots"]:
        assert host["wall_s"] >= boot["boot_s"] > 0
        assert boot["image_sha256"] == IMAGE["image_sha256"]


@pytest.mark.parametrize(("configured", "mode"), [("tcg", "kvm"), ("kvm", "tcg"), (None, "kvm")])
def test_a_kernel_that_was_configured_for_another_acceleration_is_refused(
    request_: BlockRequest, monkeypatch: pytest.MonkeyPatch, configured: str | None, mode: str
) -> None:
    monkeypatch.setattr("kdelta.measure.block.require_here", lambda *_: None)  # it has KVM
    for path in request_.source.kernels.glob("*/image.json"):
        image = {**json.loads(path.read_text()), "acceleration": configured}
        if configured is None:  # of before this was recorded
            del image["acceleration"]
        path.write_text(json.dumps(image))
    acceleration = {"mode": mode, "requested": "auto", "reason": "it works"}
    source = replace(request_.source, acceleration=acceleration)
    words = f"configured for {configured or 'tcg'}, but guests run with {mode}"
    with pytest.raises(KdeltaError, match=words):
        measure_block(replace(request_, source=source))
    assert not list(request_.out.glob("*.jsonl"))


def test_a_node_where_kvm_does_not_work_is_named(
    request_: BlockRequest, scripted: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is booted there, and the next try tells of it."""
    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    scripted.program("qemu-system-x86_64", "#!/bin/sh\necho 'qemu-system-x86_64: no' >&2; exit 1")
    scripted.guest("raise SystemExit('never')")
    acceleration = {"mode": "kvm", "requested": "auto", "reason": "it works", "cpu": None}
    source = replace(request_.source, acceleration=acceleration)
    with pytest.raises(KdeltaError, match="n3: guests are to run with KVM, which worked on the"):
        measure_block(replace(request_, source=source))
    assert not list(request_.out.glob("*.console.log"))
    scripted.guest("sweep()")
    measure_block(request_)
    (earlier,) = json.loads((request_.out / "host.json").read_text())["earlier_attempts"]
    assert "n3: guests are to run with KVM" in earlier["reason"]
    assert earlier["reason"].endswith("(SLURM job 12 on n3)")


@pytest.mark.parametrize("lock", ["kdelta.host.lock._wait", "kdelta.measure.block.file_lock"])
def test_who_was_ended_while_it_waited_is_told_by_the_next_try(
    request_: BlockRequest, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with monkeypatch.context() as patched:
        patched.setattr(lock, ended)
        with pytest.raises(KeyboardInterrupt):
            measure_block(request_)
    measure_block(request_)
    (earlier,) = json.loads((request_.out / "host.json").read_text())["earlier_attempts"]
    assert earlier["reason"] == "interrupted while it waited (SLURM job 12 on n3)"


def test_two_nodes_do_not_measure_a_block_at_once(
    request_: BlockRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one, with a host's lock of its own, is waited for."""
    request_.out.mkdir(parents=True)
    held, go_on = threading.Event(), threading.Event()

    def other_node() -> None:
        with file_lock(request_.out.with_name(".block-002.lock"), "idle, block 2"):
            held.set()
            go_on.wait()
            assert not (request_.out / "host.json").exists()

    with ThreadPoolExecutor() as pool:
        other = pool.submit(other_node)
        held.wait()
        pool.submit(lambda: (time.sleep(0.5), go_on.set()))
        measure_block(request_)
        other.result()
    assert "waiting for idle, block 2, held by process" in capsys.readouterr().err
    assert {path.name for path in request_.out.iterdir()} == FILES | CONSOLES


def waiting(request: BlockRequest, seconds: float, limit: float) -> BlockRequest:
    """The block, waiting for a host that is this quiet."""
    experiment = request.source.experiment.model_copy(
        update={
            "environment": HostSettings(
                governor="leave",
                turbo="leave",
                pin_vcpus=False,
                move_irqs=False,
                wait_for_quiet_s=seconds,
            ),
            "validity": Validity(host_other_cpu=limit),
        }
    )
    return replace(request, source=replace(request.source, experiment=experiment))


def test_other_guests_than_those_of_other_blocks_are_refused_before_anything_is_waited_for(
    request_: BlockRequest,
) -> None:
    measure_block(request_)
    experiment = request_.source.experiment
    larger = experiment.guest.model_copy(update={"memory": "512M"})
    source = replace(request_.source, experiment=experiment.model_copy(update={"guest": larger}))
    other = replace(request_, source=source, block=3, out=request_.out.with_name("block-003"))
    words = "a guest here has 512 MiB of memory, but .*block-002: 256 MiB of memory"
    with pytest.raises(KdeltaError, match=words):
        measure_block(waiting(other, seconds=3600.0, limit=1e-9))
    assert not list(other.out.glob("*.jsonl"))


def test_a_block_that_is_not_to_wait_does_not(request_: BlockRequest) -> None:
    measure_block(request_)
    assert host_record(request_)["quiet"] is None


def test_a_block_waits_before_its_first_boot_and_records_it(
    request_: BlockRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whatever runs on this machine: all of it is quiet enough, or nothing is.
    measure_block(waiting(request_, 60, 1.0))
    quiet = host_record(request_)["quiet"]
    assert quiet["quiet"] is True
    assert quiet["waited_s"] >= 2
    assert 0 <= quiet["share"] <= 1
    assert "waiting" not in capsys.readouterr().err

    with spinning():
        measure_block(waiting(request_, 5, 1e-9))
    quiet = host_record(request_)["quiet"]
    assert quiet["quiet"] is False
    assert quiet["share"] > 0
    said = capsys.readouterr().err
    assert said.count("idle, block 2: not quiet after") == 1
    took = re.search(r"measured in (\d+) s", said[said.index("not quiet after") :])
    assert took
    assert float(took[1]) < quiet["waited_s"]


def test_every_arm_boots_its_own_image(request_: BlockRequest, scripted: Environment) -> None:
    for name in ("baseline", "patched", "other"):
        (request_.source.kernels / name / "vmlinuz").write_text(name)
    scripted.guest("say((share / 'vmlinuz').read_text() + ' ' + plan['identity']['arm']); sweep()")
    measure_block(request_)
    for arm, kernel in ARMS.items():
        console = (request_.out / f"{arm}.console.log").read_text()
        assert console == f"{kernel} {arm}\n"


def test_a_relative_folder_of_one_word(
    request_: BlockRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    measure_block(replace(request_, out=Path("here")))
    assert (tmp_path / "here" / "host.json").exists()


def host_record(request: BlockRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((request.out / "host.json").read_text())
    return found


def files_named_in(words: str, request: BlockRequest) -> list[Path]:
    """Those of the block's folder, which have to be there."""
    named = [Path(found) for found in re.findall(rf"{request.out}/[\w.-]+\w", words)]
    assert all(path.is_file() for path in named), words
    return named


def test_a_boot_that_fails_is_a_finding_of_its_arm(
    request_: BlockRequest, scripted: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.guest("""
        if plan["identity"]["boot_order"] == 3:
            boot(); serve(1); say("Kernel panic - not syncing: test"); sys.exit(1)
        sweep()
    """)
    measure_block(request_)
    assert {path.name for path in request_.out.iterdir()} == FILES | CONSOLES
    boots = host_record(request_)["boots"]
    assert [boot["status"] for boot in boots] == ["ok", "ok", "failed", "ok"]
    failed = boots[2]
    assert "Kernel panic - not syncing: test" in failed["reason"]
    assert len(files_named_in(failed["reason"], request_)) == 1
    # what it had measured is kept, and that it never came to its end is plain to see
    assert [r["record"] for r in records(request_, failed["arm"])] == ["boot", "sample"]
    assert f"{failed['arm']} FAILED; " in capsys.readouterr().err


def test_a_guest_that_leaves_the_gate_late_is_a_finding_of_its_arm(
    request_: BlockRequest, scripted: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "2 cgroups existed before and are not gone yet"
    scripted.guest(f"sweep(late={late!r} if plan['identity']['arm'] == 'patched' else None)")
    measure_block(request_)
    boots = host_record(request_)["boots"]
    assert [boot["status"] for boot in boots] == ["ok"] * 4
    end = records(request_, "patched")[-1]
    assert (end["record"], end["ok"], end["error"]) == ("end", False, late)
    assert f"set aside: the guest did not stay as it was asked for: {late}" in (
        capsys.readouterr().err
    )


def test_a_block_in_which_every_guest_leaves_the_gate_is_none(
    request_: BlockRequest, scripted: Environment
) -> None:
    scripted.guest("sweep(late='2 cgroups existed before')")
    with pytest.raises(KdeltaError, match="2 cgroups existed before"):
        measure_block(request_)
    assert not (request_.out / "host.json").exists()


def test_other_guests_are_not_measured_beside_those_that_there_are(
    request_: BlockRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run is continued under taskset, or on another node."""
    measure_block(request_)
    again = replace(request_, block=1, out=request_.out.parent / "block-001")
    monkeypatch.setattr("kdelta.measure.arm.guest_vcpus", lambda asked: 2)
    with pytest.raises(KdeltaError) as caught:
        measure_block(again)
    said = str(caught.value)
    assert "a guest here has 2 vCPUs, but other blocks of idle were measured in other" in said
    assert f"({request_.out.name}: 1 vCPUs)" in said
    assert not (again.out / "host.json").exists()
    # what is measured again anyway, since something else changed, is no reason
    measure_block(replace(again, key="another key"))


def test_the_host_is_looked_at_when_it_is_ours(
    request_: BlockRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def facts(**_: object) -> dict[str, object]:
        seen.append(bool(hostlock._held))
        return {}

    monkeypatch.setattr("kdelta.measure.block.host_facts", facts)
    measure_block(request_)
    assert seen == [True]


def test_a_kernel_that_never_boots_leaves_the_other_arms(
    request_: BlockRequest, scripted: Environment
) -> None:
    scripted.guest("""
        if plan["identity"]["arm"] == "patched":
            say("Kernel panic - not syncing: VFS"); sys.exit(1)
        sweep()
    """)
    measure_block(request_)
    status = {boot["arm"]: boot["status"] for boot in host_record(request_)["boots"]}
    assert status == {"baseline": "ok", "patched": "failed", "other": "ok", "control": "ok"}
    assert records(request_, "patched") == []


def test_a_block_without_any_sample_is_none_and_is_remembered(
    request_: BlockRequest, scripted: Environment
) -> None:
    scripted.guest("boot(); serve(1, 'no'); say('Kernel panic - not syncing: test'); sys.exit(1)")
    for _ in range(2):
        with pytest.raises(KdeltaError, match="Kernel panic - not syncing: test") as caught:
            measure_block(request_)
        assert len(files_named_in(str(caught.value), request_)) == 2
    left = {path.name for path in request_.out.iterdir()}
    partial = {f"{arm}.console.partial.jsonl" for arm in ARMS}
    assert left == CONSOLES | partial | {"attempts.log"}
    # the next try forgets what they had measured, and tells that there were two
    scripted.guest("sweep()")
    measure_block(request_)
    assert {path.name for path in request_.out.iterdir()} == FILES | CONSOLES
    attempts = host_record(request_)["earlier_attempts"]
    assert len(attempts) == 2
    assert all("Kernel panic" in attempt["reason"] for attempt in attempts)


def test_a_guest_that_is_another_one_stops_the_block(
    request_: BlockRequest, scripted: Environment
) -> None:
    scripted.guest("""
        if plan["identity"]["boot_order"] == 2:
            boot("vcpus is 1, asked for 2"); end(ok=False)
        else:
            sweep()
    """)
    with pytest.raises(KdeltaError, match="not the one asked for: vcpus is 1, asked for 2"):
        measure_block(request_)
    assert not (request_.out / "host.json").exists()


def test_leftovers_of_a_killed_try_are_cleared(request_: BlockRequest) -> None:
    old = request_.out / ".writing-old"
    old.mkdir(parents=True)
    (old / "patched.jsonl").write_text("half")
    measure_block(request_)
    assert {path.name for path in request_.out.iterdir()} == FILES | CONSOLES
    reasons = [attempt["reason"] for attempt in host_record(request_)["earlier_attempts"]]
    assert reasons == ["killed"]


def test_some_failed_cells_are_data(request_: BlockRequest, scripted: Environment) -> None:
    scripted.guest("boot(); serve(1); serve(error='pipe_bench: no'); end()")
    measure_block(request_)
    statuses = [sample["status"] for sample in records(request_, "patched")[1:-1]]
    assert statuses == ["ok", "failed", "failed", "failed"]


def test_a_workload_that_fails_in_every_cell(request_: BlockRequest, scripted: Environment) -> None:
    scripted.guest("sweep(error='pipe_bench: F_SETPIPE_SZ: not permitted')")
    with pytest.raises(KdeltaError) as caught:
        measure_block(request_)
    said = str(caught.value)
    assert "the workload failed in every cell; first: pipe_bench: F_SETPIPE_SZ: not perm" in said
    assert "memory" not in said
    partial = Path(said.rpartition("Records: ")[2])
    assert len(partial.read_text().splitlines()) == 6
    assert not (request_.out / "host.json").exists()


def test_a_guest_that_is_out_of_memory(request_: BlockRequest, scripted: Environment) -> None:
    scripted.guest("sweep(error='killed by SIGKILL; ', oom_kill=4)")
    with pytest.raises(KdeltaError) as caught:
        measure_block(request_)
    assert "The guest ran out of memory (4 OOM kills): raise guest.memory (now 256M)." in str(
        caught.value
    )


def test_a_stressor_that_is_not_installed(
    request_: BlockRequest, project: Project, small: dict[str, Any]
) -> None:
    small["regimes"]["pressed"]["stressor"]["command"] = ["no-such-stressor", "--vm"]
    changed = replace(
        request_, source=replace(request_.source, experiment=project.load(small)), regime="pressed"
    )
    with pytest.raises(KdeltaError) as caught:
        measure_block(changed)
    assert str(caught.value) == (
        "regimes.pressed.stressor.command: no-such-stressor is not installed on this host "
        "(guests use the host's programs); apt-get install no-such-stressor"
    )
    assert not request_.out.exists()


def test_a_stressor_is_passed_on(request_: BlockRequest, scripted: Environment) -> None:
    scripted.guest("assert plan['stressor']['command'] == ['sleep', '1000']; sweep()")
    measure_block(replace(request_, regime="pressed"))


def test_progress_is_told(request_: BlockRequest, capsys: pytest.CaptureFixture[str]) -> None:
    measure_block(request_)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"idle, block 2 of 2: measured in \d+ s; 1 of 4 blocks done, about .* left", line
    )


def test_mechanism_boots_tell_their_progress(
    request_: BlockRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the blocks do: whoever watches need not know which of the two runs."""
    experiment = request_.source.experiment.model_copy(
        update={"mechanism": Mechanism(regimes=("idle",))}
    )
    source = replace(request_.source, experiment=experiment)
    trace_regime(source, "idle", tmp_path / "run" / "mechanism" / "idle")
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"idle, mechanism: traced in \d+ s; 1 of 5 blocks done, about .* left", line
    )
