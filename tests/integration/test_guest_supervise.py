# SPDX-License-Identifier: GPL-2.0-only
"""The supervisor: whatever happens, nothing of a guest outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdelta.guest import supervise
from tests.integration.scripted_guest import PATIENCE_S, Marked, is_running, wait_for

# A child, its child, and one that left the session and lost its parent.
FAMILY = """\
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import signal, time; "
         "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(1000)"]
child = subprocess.Popen(sleep)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.Popen(sleep)
        time.sleep(1000)
    os._exit(0)
os.wait()
open(sys.argv[1], "w").write("ready")
time.sleep(1000)
"""


def supervisor(marked: Marked, deadline_s: float, *command: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", supervise.__file__, str(deadline_s), *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=marked.environment(),
    )


def family(marked: Marked, tmp_path: Path, deadline_s: float) -> subprocess.Popen[bytes]:
    """A supervised family that has been started completely: five processes."""
    ready = tmp_path / "ready"
    process = supervisor(marked, deadline_s, sys.executable, "-c", FAMILY, ready)
    wait_for(ready.exists)
    wait_for(lambda: len(marked.alive()) == 5, lambda: str(marked.alive()))
    return process


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)]
)
def test_the_commands_status(marked: Marked, script: str, status: int) -> None:
    process = supervisor(marked, PATIENCE_S, "sh", "-c", script)
    assert process.wait(PATIENCE_S) == status


def test_what_the_command_leaves_behind_is_killed_too(marked: Marked, tmp_path: Path) -> None:
    script = f"setsid sleep 1000 & echo $! > {tmp_path / 'pid'}; exit 3"
    process = supervisor(marked, PATIENCE_S, "sh", "-c", script)
    assert process.wait(PATIENCE_S) == 3
    marked.wait_gone()
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_the_deadline(marked: Marked, tmp_path: Path) -> None:
    # However far the family has come by then.
    process = supervisor(marked, 2, sys.executable, "-c", FAMILY, tmp_path / "ready")
    assert process.wait(PATIENCE_S) == supervise.TIMED_OUT
    marked.wait_gone()


def test_the_parent_closes_the_pipe(marked: Marked, tmp_path: Path) -> None:
    process = family(marked, tmp_path, PATIENCE_S * 10)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE_S) == supervise.PARENT_GONE
    marked.wait_gone()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_and_more_of_them(marked: Marked, tmp_path: Path, signum: int) -> None:
    process = family(marked, tmp_path, PATIENCE_S * 10)
    # Without a break, so that one comes at whatever it does about the first.
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < deadline, "it does not end"
        process.send_signal(signum)
    assert process.returncode == supervise.PARENT_GONE
    marked.wait_gone()


PARENT = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", *sys.argv[1:]], stdin=subprocess.PIPE)
try:
    child.wait()
except KeyboardInterrupt:
    print("interrupted", child.poll(), flush=True)
    time.sleep(1000)
"""


def parent(marked: Marked, tmp_path: Path) -> subprocess.Popen[bytes]:
    ready = tmp_path / "ready"
    command = [supervise.__file__, str(PATIENCE_S * 10), sys.executable, "-c", FAMILY, ready]
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, command)],
        stdout=subprocess.PIPE,
        env=marked.environment(),
        start_new_session=True,
    )
    wait_for(ready.exists)
    return process


def test_the_parent_is_killed(marked: Marked, tmp_path: Path) -> None:
    process = parent(marked, tmp_path)
    process.kill()
    process.wait()
    marked.wait_gone()


def test_ctrl_c_reaches_the_parent_alone(marked: Marked, tmp_path: Path) -> None:
    """It goes to the whole foreground group; only the parent may decide what it means."""
    process = parent(marked, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"interrupted None\n"
    # The parent, the supervisor and its family of four go on.
    wait_for(lambda: len(marked.alive()) == 6, lambda: str(marked.alive()))
    process.kill()
    process.wait()
    marked.wait_gone()


def test_descendants_are_those_below(tmp_path: Path) -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    for pid, ppid in parents.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) R 9 b) S {ppid} 0 0\n")
    assert supervise.descendants(10, tmp_path) == {11, 12}
    assert supervise.descendants(1, tmp_path) == {10, 11, 12, 20, 21}
    assert supervise.descendants(12, tmp_path) == set()
