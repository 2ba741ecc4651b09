# SPDX-License-Identifier: GPL-2.0-only
"""The host's lock between real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdelta.measure.hostlock import host_lock, lock_path

HOLDER = """\
import sys
from pathlib import Path
from kdelta.measure.hostlock import host_lock
with host_lock(sys.argv[2], exclusive=sys.argv[3] == "alone", path=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
print("freed", flush=True)
"""

Holder = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holder]:
    started: list[subprocess.Popen[str]] = []

    def start(purpose: str, how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), purpose, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:  # closes its pipes and waits for it
            process.kill()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def complains(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().strip()


@pytest.mark.parametrize("second", ["alone", "shared"])
def test_a_measurement_excludes_the_others(hold: Holder, second: str) -> None:
    first = hold("measuring a", "alone")
    assert says(first) == "held"
    other = hold("doing b", second)
    assert complains(other) == (
        f"doing b: waiting for this host: measuring a (process {first.pid})"
    )
    assert first.stdin is not None
    first.stdin.close()
    assert says(first) == "freed"
    assert says(other) == "held"


def test_builds_share_and_a_measurement_waits_for_all_of_them(hold: Holder) -> None:
    builds = [hold("building a", "shared"), hold("building b", "shared")]
    assert [says(build) for build in builds] == ["held", "held"]
    measurement = hold("measuring", "alone")
    assert "waiting for this host: building " in complains(measurement)
    for build in builds:
        assert measurement.poll() is None
        assert build.stdin is not None
        build.stdin.close()
        assert says(build) == "freed"
    assert says(measurement) == "held"


def test_a_killed_holder_frees_it(hold: Holder) -> None:
    first = hold("measuring a", "alone")
    assert says(first) == "held"
    second = hold("measuring b", "alone")
    assert "measuring a" in complains(second)
    first.kill()
    assert says(second) == "held"


def test_it_is_free_again_after_a_failure(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            pytest.raises(RuntimeError),
            host_lock("measuring", exclusive=True, path=tmp_path / "lock"),
        ):
            raise RuntimeError


def test_a_child_does_not_keep_it(tmp_path: Path) -> None:
    with host_lock("measuring", exclusive=True, path=tmp_path / "lock"):
        child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        with host_lock("measuring", exclusive=True, path=tmp_path / "lock"):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_all_users_of_the_host_may_take_it(tmp_path: Path) -> None:
    with host_lock("measuring", exclusive=True, path=tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o666


def test_one_file_for_the_whole_host() -> None:
    assert lock_path().is_absolute()
    assert lock_path() == lock_path()
