# SPDX-License-Identifier: GPL-2.0-only
"""Running the workload: its result, every way in which it fails, and records that survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest import conditions, driver

MAIN = "from pathlib import Path; driver.main(Path(sys.argv[1]))"
GOOD = '{"program":"pipe_bench","payload_errors":0}\n'


def test_a_good_run() -> None:
    assert driver.judge_bench(0, GOOD, "") == (json.loads(GOOD), None)


@pytest.mark.parametrize(
    ("status", "out", "err", "expected"),
    [
        (None, "", "half a\nline", "killed at its deadline; half a line"),
        (-signal.SIGKILL, "", "", "killed by SIGKILL; "),
        (-signal.SIGSEGV, GOOD, "", "killed by SIGSEGV; "),
        (1, "", "pipe_bench: F_SETPIPE_SZ: not permitted\n", "pipe_bench: F_SETPIPE_SZ: not"),
        (2, "", "", "exit status 2"),
        # it said well, but failed
        (1, GOOD, "pipe_bench: bytes differ", "pipe_bench: bytes differ"),
        (0, "", "", "expected one line of JSON, got 0"),
        (0, GOOD + GOOD, "", "expected one line of JSON, got 2"),
        (0, "{", "", "not JSON: "),
        (0, "[1]", "", "not a JSON object"),
    ],
)
def test_every_failure_has_words(status: int | None, out: str, err: str, expected: str) -> None:
    result, error = driver.judge_bench(status, out, err)
    assert result is None
    assert error is not None
    assert error.startswith(expected)


def test_endless_complaints_are_cut() -> None:
    _, error = driver.judge_bench(1, "", "x" * 100_000)
    assert error is not None
    assert len(error) <= 500


def test_the_status_and_both_outputs() -> None:
    status, out, err = driver.run_bench(["sh", "-c", "echo out; echo err >&2; exit 3"], 30)
    assert (status, out, err) == (3, "out\n", "err\n")


def test_output_that_the_kernel_has_garbled_is_a_failed_sample() -> None:
    result = driver.run_bench(["printf", r"{\377\n"], 30)
    assert driver.judge_bench(*result)[1] == (
        "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


def test_a_deadline_ends_the_workloads_children_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid_file}; wait"
    begun = time.monotonic()
    status, _, _ = driver.run_bench(["sh", "-c", script], 1)
    assert status is None
    assert time.monotonic() - begun < 500
    process = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    # Killed it is; on a busy machine it takes a moment until it is gone.
    deadline = time.monotonic() + 60
    while runs(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(process)


def runs(stat: Path) -> bool:
    """Whether the process of a /proc/<pid>/stat is there, and no zombie."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_workload_is_not_spared_by_the_oom_killer() -> None:
    _, out, _ = driver.run_bench(["cat", "/proc/self/oom_score_adj"], 30)
    assert out.strip() == conditions.ORDINARY


def test_the_self_check_reports_payload_errors() -> None:
    good = driver.self_check(["printf", GOOD.replace("\n", "\\n")], 60)
    assert good == {"ok": True, "payload_errors": 0, "error": None}
    bad = driver.self_check(["sh", "-c", "echo 'pipe_bench: 3 bytes wrong' >&2; exit 1"], 60)
    assert bad == {"ok": False, "payload_errors": None, "error": "pipe_bench: 3 bytes wrong"}


def cell_plan() -> dict[str, Any]:
    return {"cell_deadline_s": 30, "conditions": {"memcg": False}}


def test_a_sample_is_the_contracts(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    bench.write_text(f"#!/bin/sh\necho '{GOOD.strip()}'\n")
    bench.chmod(0o755)
    cell = {"levels": {"writers": 1}, "argv": ["--writers", "1"]}
    sample = driver.measure_cell(cell_plan(), 4, cell, bench, None)
    assert sample["cell_order"] == 4
    assert sample["cell"] == {"writers": 1}
    assert (sample["status"], sample["error"], sample["exit_status"]) == ("ok", None, 0)
    assert sample["bench"] == json.loads(GOOD)
    assert sample["monotonic_start_ns"] < sample["monotonic_end_ns"]
    assert sample["before"]["vmstat"]["pgfault"] <= sample["after"]["vmstat"]["pgfault"]
    assert sample["stressor_alive"] is None


def test_a_failed_sample_keeps_its_counters(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    bench.write_text("#!/bin/sh\necho 'pipe_bench: zero writes' >&2\nexit 1\n")
    bench.chmod(0o755)
    cell = {"levels": {"writers": 1}, "argv": []}
    sample = driver.measure_cell(cell_plan(), 1, cell, bench, None)
    assert (sample["status"], sample["error"]) == ("failed", "pipe_bench: zero writes")
    assert sample["bench"] is None
    assert sample["after"]["vmstat"]


def test_two_clocks_are_read_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU is lost within the first pair of readings, and kept in the second.
    monotonic = iter([0, 40_000_000, 50_000_000, 50_000_200])
    realtime = iter([1_000, 2_000])
    monkeypatch.setattr(driver.time, "monotonic_ns", lambda: next(monotonic))
    monkeypatch.setattr(driver.time, "time_ns", lambda: next(realtime))
    assert driver.read_clocks() == (2_000, 50_000_100)


def test_clocks_on_a_machine_that_never_has_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**12, 30_000_000))
    monkeypatch.setattr(driver.time, "monotonic_ns", lambda: next(ticks))
    monkeypatch.setattr(driver.time, "time_ns", lambda: 7)
    assert driver.read_clocks() == (7, 15_000_000)


def test_records_survive_a_driver_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from kdelta.guest.driver import Records\n"
        "records = Records(Path(sys.argv[1]))\n"
        "records.write({'record': 'boot', 'word': 'gr\\u00fc\\u00df'})\n"
        "records.write({'record': 'sample'})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"record": "boot", "word": "grüß"}, {"record": "sample"}]


def test_a_driver_that_fails_leaves_its_last_words(tmp_path: Path) -> None:
    adjustment = Path("/proc/self/oom_score_adj").read_text()
    script = "import sys; from kdelta.guest import driver; driver.NEVER_KILL = sys.argv.pop(); "
    done = subprocess.run(
        [sys.executable, "-c", script + MAIN, str(tmp_path), adjustment.strip()],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    words = (tmp_path / "driver-error.txt").read_text()
    assert words.startswith("FileNotFoundError: ")
    assert "plan.json" in words
