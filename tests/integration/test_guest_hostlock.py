# SPDX-License-Identifier: GPL-2.0-only
"""The host's lock between real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.host.lock import host_lock, lock_path

HOLDER = """\
import sys
from pathlib import Path
from kdelta.errors import KdeltaError
from kdelta.host import lock
from kdelta.host.lock import host_lock
lock.SAID_AGAIN_S = 0.0
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


def test_who_waits_says_when_it_is_for_somebody_else(hold: Holder) -> None:
    builds = [hold("building a", "shared")]
    assert says(builds[0]) == "held"
    builds.append(hold("building b", "shared"))
    assert says(builds[1]) == "held"
    waiting = hold("measuring", "alone")
    words = "waiting for this host"
    assert complains(waiting) == f"measuring: {words}: building b (process {builds[1].pid})"
    assert builds[1].stdin is not None
    builds[1].stdin.close()
    who = f"another kdelta (process {builds[0].pid})"
    assert complains(waiting) == f"measuring: still {words}: {who}"


def test_who_has_left_is_not_waited_for(hold: Holder) -> None:
    """The file's line is of the last that came, who may be gone before the others."""
    first = hold("building for an hour", "shared")
    assert says(first) == "held"
    short = hold("building for a second", "shared")
    assert says(short) == "held"
    assert short.stdin is not None
    short.stdin.close()
    assert says(short) == "freed"
    assert complains(hold("measuring", "alone")) == (
        f"measuring: waiting for this host: another kdelta (process {first.pid})"
    )


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


def test_one_file_for_the_whole_host(tmp_path: Path) -> None:
    """Chosen by what everybody may do, so that root and user, and any TMPDIR, agree."""
    assert lock_path() in (Path("/run/lock/kdelta-host.lock"), Path("/tmp/kdelta-host.lock"))
    roots, all_of_us = tmp_path / "root's", tmp_path / "ours"
    roots.mkdir(mode=0o755)
    all_of_us.mkdir()
    all_of_us.chmod(0o1777)
    folders = (tmp_path / "none", roots, all_of_us)
    assert lock_path(folders) == all_of_us / "kdelta-host.lock"
    with pytest.raises(KdeltaError, match="all users may write to"):
        lock_path(folders[:2])


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda lock, other: lock.symlink_to(other), "a link"),
        (lambda lock, other: lock.hardlink_to(other), "another file's second name"),
        (lambda lock, _: lock.write_text("a letter\n"), "not written by kdelta"),
        (lambda lock, _: os.mkfifo(lock), "no regular file"),
    ],
)
def test_nothing_but_our_own_file_is_written_to(
    tmp_path: Path, plant: Callable[[Path, Path], object], why: str
) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("precious\n")
    plant(lock, other)
    before = lock.read_text() if lock.is_file() else None
    with (
        pytest.raises(KdeltaError, match=f"the host's lock is {why}; see what put it there"),
        host_lock("measuring", exclusive=True, path=lock),
    ):
        pass
    assert other.read_text() == "precious\n"
    assert before is None or lock.read_text() == before


def test_a_dangling_link_makes_no_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.symlink_to(tmp_path / "new")
    with (
        pytest.raises(KdeltaError, match="a link"),
        host_lock("measuring", exclusive=True, path=lock),
    ):
        pass
    assert not (tmp_path / "new").exists()


def test_what_a_holder_says_is_safe_to_print(hold: Holder, tmp_path: Path) -> None:
    first = hold("measuring \x1b]0;a title\x07\x1b[2J" + "long " * 100, "alone")
    assert says(first) == "held"
    said = complains(hold("b", "shared"))
    assert said.isprintable()
    assert said.startswith("b: waiting for this host: measuring long long")
    assert said.endswith(f"(process {first.pid})")


def test_nor_is_anybody_elses_text_printed(hold: Holder, tmp_path: Path) -> None:
    first = hold("measuring", "alone")
    assert says(first) == "held"
    (tmp_path / "lock").write_bytes(b"\x1b[2Jx (process %d)\n" % first.pid)
    assert complains(hold("c", "alone")) == f"c: waiting for this host: x (process {first.pid})"


def test_a_measurement_that_waits_is_not_overtaken(hold: Holder) -> None:
    """Builds that come one after another, never leaving the host alone, would starve it."""
    first = hold("building a", "shared")
    assert says(first) == "held"
    measurement = hold("measuring", "alone")
    assert "waiting for this host: building a" in complains(measurement)
    later = hold("building b", "shared")
    assert "waiting for this host: measuring" in complains(later)
    assert first.stdin is not None
    first.stdin.close()
    assert says(measurement) == "held"
    assert measurement.stdin is not None
    measurement.stdin.close()
    assert says(later) == "held"


def test_a_lock_that_is_deleted_meanwhile(hold: Holder, tmp_path: Path) -> None:
    """As by a cleaner of old files: who waits then takes the file that others take."""
    first = hold("measuring a", "alone")
    assert says(first) == "held"
    second = hold("measuring b", "alone")
    assert "measuring a" in complains(second)
    (tmp_path / "lock").unlink()
    assert first.stdin is not None
    first.stdin.close()
    assert says(second) == "held"
    assert "measuring b" in complains(hold("measuring c", "alone"))


def test_it_can_be_taken_by_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        host_lock("a", exclusive=True, path=lock),
        host_lock("b", exclusive=False, path=lock),
    ):
        pass
    with (
        pytest.raises(RuntimeError),
        host_lock("a", exclusive=False, path=lock),
        host_lock("b", exclusive=True, path=lock),
    ):
        pass
