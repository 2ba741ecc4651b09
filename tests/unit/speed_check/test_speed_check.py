# SPDX-License-Identifier: GPL-2.0-only
"""The speed check: the work is done, on every CPU, and its time is told; errors are told too."""

import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src" / "speed_check" / "speed_check.c"
WARNINGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
WARMUP_SHARE = 16
MASK = 2**64 - 1


@pytest.fixture(scope="session", params=["-O2", "-O3"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as a guest gets it, and as an eager compiler makes it."""
    path = tmp_path_factory.mktemp("speed_check") / "speed_check"
    argv = ["gcc", *WARNINGS, request.param, "-static", SOURCE, "-o", path]
    subprocess.run(argv, check=True)
    return path


def execute(program: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [program, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def checked(program: Path, work: int, **options: Any) -> dict[str, Any]:
    done = execute(program, str(work), **options)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def worked(cpu: int, steps: int) -> int:
    """Four xorshift64 generators, seeded by the CPU's number, after so many steps."""
    result = 0
    for stream in range(1, 5):
        x = 4 * cpu + stream
        for _ in range(steps):
            x ^= x << 13 & MASK
            x ^= x >> 7
            x ^= x << 17 & MASK
        result ^= x
    return result


@pytest.mark.parametrize("work", [1, 15, 16, 1000, 30_001])
def test_the_work_is_done_on_every_cpu(program: Path, work: int) -> None:
    found = checked(program, work)
    cpus = sorted(os.sched_getaffinity(0))
    assert list(found) == ["program", "work", "wall_ns", "cpu_ns", "result"]
    assert (found["program"], found["work"]) == ("speed_check", work)
    steps = work // WARMUP_SHARE + work
    assert found["result"] == [worked(cpu, steps) for cpu in cpus]
    for name in ("wall_ns", "cpu_ns"):
        assert len(found[name]) == len(cpus)
        assert all(type(value) is int and value > 0 for value in found[name])


def test_the_time_is_that_of_the_work(program: Path) -> None:
    # Of several, the fastest: whatever else runs on this machine makes some slower.
    def fastest(work: int) -> int:
        return min(min(checked(program, work)["cpu_ns"]) for _ in range(5))

    ratio = fastest(8_000_000) / fastest(1_000_000)
    assert 4 < ratio < 16


def test_both_clocks_agree_with_an_outer_one(program: Path) -> None:
    begun = time.monotonic_ns()
    found = checked(program, 2_000_000)
    elapsed = time.monotonic_ns() - begun
    for wall, cpu in zip(found["wall_ns"], found["cpu_ns"], strict=True):
        # the CPU clock is read inside of the other one
        assert 100_000 < cpu <= wall <= elapsed


def test_only_the_allowed_cpus_are_used(program: Path) -> None:
    last = max(os.sched_getaffinity(0))
    found = checked(program, 100, preexec_fn=lambda: os.sched_setaffinity(0, {last}))
    assert found["result"] == [worked(last, 106)]
    assert len(found["wall_ns"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: speed_check STEPS"),
        (["1", "2"], "usage: speed_check STEPS"),
        (["0"], "'0' is not a number of steps from 1 to 1000000000000"),
        (["-1"], "'-1' is not a number of steps"),
        (["1000000000001"], "'1000000000001' is not a number of steps"),
        (["99999999999999999999"], "'99999999999999999999' is not a number of steps"),
        (["5x"], "'5x' is not a number of steps"),
        ([""], "'' is not a number of steps"),
    ],
    ids=" ".join,
)
def test_bad_command_lines(program: Path, arguments: list[str], message: str) -> None:
    done = execute(program, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"speed_check: {re.escape(message)}.*\n", done.stderr)


def test_output_that_cannot_be_written_is_an_error(program: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = execute(program, "1", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "speed_check: cannot write the output: No space left on device\n"


def test_a_thread_that_cannot_be_started_is_an_error(program: Path) -> None:
    # room for the program, none for a thread's stack
    room = 4 * 2**20
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room))  # noqa: E731
    done = execute(program, "1", preexec_fn=limit)
    assert done.returncode == 1
    first = min(os.sched_getaffinity(0))
    assert done.stderr == (
        f"speed_check: cannot start a thread on CPU {first}: Resource temporarily unavailable\n"
    )
    assert done.stdout == ""
