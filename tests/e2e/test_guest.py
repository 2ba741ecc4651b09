# SPDX-License-Identifier: GPL-2.0-only
"""Guests that go wrong, with real QEMU: none is left behind, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from .conftest import FLAGSHIP, Project, environment, tool
from .test_kernel import one_message


def measure_argv(project: Project, out: Path, regime: str = "idle") -> list[str]:
    return [
        "measure",
        "--experiment",
        "config/experiments/small.yaml",
        "--protocol",
        "smoke",
        "--regime",
        regime,
        "--block",
        "1",
        "--kernels",
        str(project.results / "kernels"),
        "--programs",
        str(project.results / "programs"),
        "--acceleration",
        str(project.results / "acceleration.json"),
        "--output",
        str(out),
    ]


def two_arms(project: Project) -> dict[str, Any]:
    """What makes a block of half as many boots, where all of them would go the same way."""
    arms = yaml.safe_load((project.root / FLAGSHIP).read_text())["arms"]
    return {"arms": {name: arms[name] for name in ("baseline", "bulk")}, "control": False}


def guests() -> set[int]:
    """Processes of QEMU on this machine that run a kernel; not those that say their version."""
    found = set()
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            program, *arguments = cmdline.read_bytes().split(b"\0")
            if b"qemu-system" in program and b"-kernel" in arguments:
                found.add(int(cmdline.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_for_guest(before: set[int], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before its guest was up"
        if guests() - before:
            return
        time.sleep(0.2)
    raise AssertionError("no guest within 60 s")


def wait_for_no_guest(before: set[int]) -> None:
    deadline = time.monotonic() + 20
    while guests() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not guests() - before, "a guest was left behind"


def test_a_guest_that_does_not_boot_is_one_message(copied: Project, tmp_path: Path) -> None:
    """Too little memory for the kernel to find its root."""
    copied.write_experiment(
        {"guest": {"acceleration": "tcg", "vcpus": 2, "memory": "24M", "boot_timeout_s": 12}}
    )
    before = guests()
    message = one_message(copied.kdelta(*measure_argv(copied, tmp_path / "block-001")))
    assert "idle, block 1" in message
    assert "did not boot" in message
    assert "console.log" in message
    assert not list((tmp_path / "block-001").glob("*.jsonl"))
    wait_for_no_guest(before)


def test_out_of_memory_in_the_guest(copied: Project, tmp_path: Path) -> None:
    """More pressure than there is memory, without swap: the OOM killer strikes in the guest."""
    copied.write_experiment(
        {
            "regimes": {
                "idle": {
                    "title": "hopeless",
                    "stressor": {
                        "command": ["stress-ng", "--vm", "1", "--vm-bytes", "99%", "--vm-keep"],
                        "settle_timeout_s": 20,
                    },
                },
            },
            "guest": {"acceleration": "tcg", "vcpus": 2, "memory": "256M"},
            **two_arms(copied),
        }
    )
    done = copied.kdelta(*measure_argv(copied, tmp_path / "block-001"))
    records = list((tmp_path / "block-001").glob("*.jsonl"))
    if done.returncode == 0:
        # It was survived: then the counters have to say that it happened.
        text = "".join(path.read_text() for path in records)
        assert '"settled":false' in text or '.oom_kill":' in text
    else:
        message = one_message(done)
        assert "memory" in message.lower()
        assert records, "what had been measured was lost"


def test_ctrl_c_leaves_no_guest_and_a_new_start_completes(copied: Project, tmp_path: Path) -> None:
    copied.write_experiment(two_arms(copied))
    out = tmp_path / "block-001"
    before = guests()
    process = subprocess.Popen(
        [tool("kdelta"), *measure_argv(copied, out)],
        cwd=copied.root,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_guest(before, process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    wait_for_no_guest(before)
    assert not (out / "host.json").exists()

    done = copied.kdelta(*measure_argv(copied, out))
    assert done.returncode == 0, done.stderr
    assert (out / "host.json").is_file()
    assert len(list(out.glob("*.jsonl"))) == 2
    # That there was an earlier try is part of the block's record.
    attempts = json.loads((out / "host.json").read_text())["earlier_attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["interrupted"]


def test_a_killed_workflow_leaves_no_guest_and_goes_on(copied: Project) -> None:
    """SIGKILL to snakemake, the way a machine's OOM killer or a batch system ends it."""
    block = copied.run_dir / "raw/idle/block-002"
    (block / "host.json").unlink()
    # A missing file is made again only if something that is wanted needs it.
    (copied.run_dir / "manifest.json").unlink()
    kept = (copied.run_dir / "raw/idle/block-001/bulk.jsonl").read_bytes()
    before = guests()
    process = subprocess.Popen(
        [tool("snakemake"), "--cores", "16"],
        cwd=copied.root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_guest(before, process)
    process.kill()
    process.wait()
    wait_for_no_guest(before)

    done = copied.snakemake()
    assert done.returncode == 0, done.stderr[-3000:]
    assert (copied.run_dir / "raw/idle/block-001/bulk.jsonl").read_bytes() == kept
    assert "Change of throughput" in done.stdout
