# SPDX-License-Identifier: GPL-2.0-only
"""What pipe_bench does when something goes wrong inside a cell: it says so, and never hangs."""

import json

import pytest

MODES = pytest.mark.parametrize("mode", [[], ["--processes"]], ids=["threads", "processes"])
JSON = ["--format", "json"]


def message(done):
    """The one line on stderr of a run that failed with status 1."""
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("pipe_bench: writers=1 readers=1: ")
    return line.removeprefix("pipe_bench: writers=1 readers=1: ")


def test_the_build_with_faults_works_without_one(faulty):
    done = faulty("none", *JSON, "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["payload_errors"] == 0


@MODES
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("failing-writer", "writer 0: write(): Input/output error"),
        ("idle-writer", "writer 0: write(): wrote nothing"),
        ("failing-reader", "reader 0: read(): Input/output error"),
        ("exiting-writer", "writer 0 died"),
        ("closing-reader", "writer 0: write(): Broken pipe"),
    ],
)
def test_worker_that_fails_or_dies(faulty, mode, fault, expected):
    done = faulty(fault, *JSON, *mode)
    assert message(done) == expected
    assert done.stdout == ""


def test_worker_process_killed(faulty):
    assert message(faulty("killed-writer", "--processes")) == "writer 0 killed by signal 9"


def test_reader_process_gone(faulty):
    """The writer's EPIPE and the reader's end come at the same time: either is the truth."""
    found = message(faulty("exiting-reader", "--processes"))
    assert found in ("reader 0 died", "writer 0: write(): Broken pipe")


def test_crash_of_a_cell(faulty):
    assert message(faulty("crash")) == "killed by signal 11"


@MODES
def test_corrupted_byte(faulty, mode):
    """The figures are shown, with the one byte counted, and the run fails."""
    done = faulty("corrupt", *JSON, "--verify", *mode)
    assert message(done) == "payload corrupted: at least 1 bytes came out changed"
    assert json.loads(done.stdout)["payload_errors"] == 1


def test_corrupted_byte_goes_unseen_without_verify(faulty):
    assert faulty("corrupt", *JSON).returncode == 0


def test_lost_bytes(faulty):
    done = faulty("lost", *JSON)
    found = json.loads(done.stdout)
    written, read = found["bytes_written_total"], found["bytes_read_total"]
    assert message(done) == f"{written} bytes were written but {read} read"
    assert 0 < written - read <= 65536


def test_short_writes_are_continued(faulty):
    done = faulty("short-writes", *JSON, "--verify")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    # 64 KiB in halves down to 512 bytes: 8 calls fall short of what was left
    assert found["short_writes"] == 8 * found["writes"]
    assert found["bytes_written"] == 65536 * found["writes"]


def test_no_write_in_the_window(faulty):
    """The first write lasts a second: from within the warm-up to beyond the stop."""
    done = faulty("slow-writes", *JSON, "--warmup", "0.5", "--duration", "0.1")
    assert message(done) == "writer 0 completed no write that began in the measured window"
    assert done.stdout == ""


def test_ktap_goes_on_after_a_failed_cell(faulty):
    """Every cell has its line, and the reason stands on it."""
    done = faulty("failing-writer", "--format", "ktap", "--readers", "1,5")
    results = [line for line in done.stdout.splitlines() if "ok " in line]
    assert results == [
        "not ok 1 writers=1 readers=1 # writer 0: write(): Input/output error",
        "not ok 2 writers=1 readers=5 # writer 0: write(): Input/output error",
    ]
    assert done.returncode == 1
