# SPDX-License-Identifier: GPL-2.0-only
"""pipe_bench's processes: where they run, and that none is left behind."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

MODES = pytest.mark.parametrize("mode", [[], ["--processes"]], ids=["threads", "processes"])


def running(program):
    """Processes that still execute the program."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "exe").readlink() == program:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until(condition, seconds=20):
    """Whether the condition came true in that time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def assert_none_left(program):
    assert wait_until(lambda: not running(program), seconds=5), running(program)


@pytest.fixture
def copy(program, tmp_path):
    """A copy of the program, so that no other test's process is mistaken for one of these."""
    own = tmp_path / "pipe_bench_copy"
    own.write_bytes(program.read_bytes())
    own.chmod(0o755)
    return own


def affinities(program):
    """CPUs that each of the program's processes may use."""
    found = []
    for process in running(program):
        with contextlib.suppress(ProcessLookupError):
            found.append(os.sched_getaffinity(process))
    return found


@pytest.mark.parametrize("pin", ["auto", "last"])
def test_pinned_workers(copy, pin):
    """1 writer and 3 readers take the CPUs in turn; program and cell keep all of them."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus = allowed if pin == "auto" else allowed[-1:]
    wanted = [{cpus[nth % len(cpus)]} for nth in range(4)] + [set(allowed)] * 2
    pinning = ["--pin", pin if pin == "auto" else str(cpus[0])]
    cell = ["--processes", "--writers", "1", "--readers", "3", "--duration", "60"]
    child = subprocess.Popen([copy, *cell, *pinning], stdout=subprocess.DEVNULL)
    try:
        assert wait_until(
            lambda: sorted(map(sorted, affinities(copy))) == sorted(map(sorted, wanted))
        )
    finally:
        child.kill()
        child.wait()
    assert_none_left(copy)


@MODES
def test_stalled_cell_is_killed(faulty, mode):
    before = time.monotonic()
    done = faulty("stalled-writer", "--format", "json", "--timeout", "0.5", *mode)
    reason = "not done 0.5 s after its window: killed"
    assert done.stderr == f"pipe_bench: writers=1 readers=1: {reason}\n"
    assert (done.returncode, done.stdout) == (1, "")
    assert time.monotonic() - before < 10
    assert_none_left(Path(done.args[0]))


@MODES
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_from_outside_leaves_nothing(copy, mode, number):
    child = subprocess.Popen([copy, "--duration", "60", *mode], stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: len(running(copy)) >= 2 + len(mode))
        os.kill(child.pid, number)
        assert child.wait(timeout=10) == -number
    finally:
        child.kill()
        child.wait()
    assert_none_left(copy)
