# SPDX-License-Identifier: GPL-2.0-only
"""The pressure program: settled before the sweep, proven alive at its end, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdelta.guest import stressor as module
from kdelta.guest.stressor import Stressor

MIB = 2**20
HOLD = f"import time; held = b'x' * ({{mib}} * {MIB}); time.sleep({{s}})"


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_POLL_S", 0.05)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stressor.log"


def program(tmp_path: Path, body: str) -> list[str]:
    """A program of that body; like any, it answers --version."""
    path = tmp_path / "stressor"
    answer = "import sys\nif '--version' in sys.argv: print('stressor 1.0'); sys.exit()\n"
    path.write_text(f"#!{sys.executable}\n{answer}{body}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.fixture
def started() -> Iterator[list[Stressor]]:
    stressors: list[Stressor] = []
    yield stressors
    for stressor in stressors:
        stressor.stop()


def test_settled_alive_stopped(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    stressor = Stressor(program(tmp_path, HOLD.format(mib=64, s=1000)), log)
    started.append(stressor)
    record = stressor.start(60)
    assert record["settled"]
    assert record["resident_kib"] >= 64 * 1024
    assert record["version"] == "stressor 1.0"
    assert stressor.alive()
    stressor.stop()
    assert not stressor.alive()


def test_one_that_grows_slowly(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    """As on an emulated CPU that others use too: by one or two per cent from poll to poll."""
    body = (
        "import time\n"
        f"held = bytearray(b'x' * (48 * {MIB}))\n"
        f"for _ in range(32): held += b'x' * ({MIB} // 2); time.sleep(0.04)\n"
        "time.sleep(1000)\n"
    )
    stressor = Stressor(program(tmp_path, body), log)
    started.append(stressor)
    record = stressor.start(60)
    assert record["settled"]
    assert record["resident_kib"] >= 64 * 1024


def test_one_that_ends_at_once(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    body = "print('stressor: bad option', file=sys.stderr); sys.exit(1)"
    stressor = Stressor(program(tmp_path, body), log)
    started.append(stressor)
    record = stressor.start(60)
    assert not record["settled"]
    assert record["error"] == "stressor: bad option"
    assert not stressor.alive()


def test_one_that_takes_no_memory(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    stressor = Stressor(program(tmp_path, "import time; time.sleep(1000)"), log)
    started.append(stressor)
    record = stressor.start(1)
    assert not record["settled"]
    assert record["error"].endswith("a stressor of something else is settled_by: time")


def test_one_of_cpus_is_settled_by_time(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    stressor = Stressor(program(tmp_path, "while True: pass"), log, "time", 0.5)
    started.append(stressor)
    record = stressor.start(60)
    assert record["settled"]
    assert 0.5 <= record["settle_s"] < 10
    assert 0 < record["resident_kib"] < module.SETTLE_LEAST_KIB
    assert "error" not in record
    assert stressor.alive()
    assert stressor._process is not None
    stressor._process.kill()
    stressor._process.wait()
    assert not stressor.alive()


def test_one_that_ends_before_its_time(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    body = "print('no such disk', file=sys.stderr); sys.exit(3)"
    stressor = Stressor(program(tmp_path, body), log, "time", 60)
    started.append(stressor)
    record = stressor.start(60)
    assert not record["settled"]
    assert record["error"] == "no such disk"
    assert not stressor.alive()


def test_the_cpu_stressor_that_people_use(log: Path, started: list[Stressor]) -> None:
    if shutil.which("stress-ng") is None:
        pytest.skip("stress-ng is not installed")
    stressor = Stressor(["stress-ng", "--cpu", "1"], log, "time", 1)
    started.append(stressor)
    assert stressor.start(60)["settled"]
    assert stressor.alive()


def test_one_that_dies_after_it_had_settled(
    tmp_path: Path, log: Path, started: list[Stressor]
) -> None:
    stressor = Stressor(program(tmp_path, HOLD.format(mib=64, s=1000)), log)
    started.append(stressor)
    assert stressor.start(60)["settled"]
    assert stressor._process is not None
    stressor._process.kill()
    stressor._process.wait()
    assert not stressor.alive()


def test_one_that_lost_its_workers(tmp_path: Path, log: Path, started: list[Stressor]) -> None:
    """stress-ng's parent stays when the OOM killer takes its workers: that is not pressure."""
    worker = HOLD.format(mib=96, s=1000)
    body = (
        "import subprocess, time\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}])\n"
        f"open({str(tmp_path / 'worker')!r}, 'w').write(str(worker.pid))\n"
        "worker.wait(); time.sleep(1000)\n"
    )
    stressor = Stressor(program(tmp_path, body), log)
    started.append(stressor)
    assert stressor.start(60)["settled"]
    assert stressor.alive()
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
    for _ in range(600):
        if not stressor.alive():
            break
        time.sleep(0.05)
    assert not stressor.alive()
    assert stressor._process is not None
    assert stressor._process.poll() is None


def test_one_that_is_not_there(log: Path) -> None:
    stressor = Stressor(["no-such-stressor"], log)
    record = stressor.start(60)
    assert not record["settled"]
    assert record["error"] == "no-such-stressor is not in the guest's PATH"
    assert not stressor.alive()
    stressor.stop()


def test_one_that_is_to_make_the_kernel_reclaim(
    tmp_path: Path, log: Path, started: list[Stressor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stalls come, pause, and come again: only without a pause has it settled.
    stalls = iter([0, 5, 9, 9, 12, 13, 20, 21])
    monkeypatch.setattr(module, "allocation_stalls", lambda: next(stalls))
    stressor = Stressor(program(tmp_path, "import time; time.sleep(1000)"), log, "reclaim")
    started.append(stressor)
    assert stressor.start(60)["settled"]
    assert next(stalls, None) is None, "four polls in a row with further stalls"


def test_one_that_never_makes_the_kernel_reclaim(
    tmp_path: Path, log: Path, started: list[Stressor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "allocation_stalls", lambda: 7)
    stressor = Stressor(program(tmp_path, HOLD.format(mib=64, s=1000)), log, "reclaim")
    started.append(stressor)
    record = stressor.start(1)
    assert not record["settled"]
    assert "settled_by: reclaim" in record["error"]


def test_stalls_are_summed_over_zones(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("allocstall_dma 1\nallocstall_normal 20\npgscan_direct 300\n")
    assert module.allocation_stalls(tmp_path) == 21
