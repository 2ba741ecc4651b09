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

from kdelta.analysis.records import SampleRecord, SpeedCheck, SpeedTimes, parse_records
from kdelta.guest import conditions, driver

MAIN = "from pathlib import Path; driver.main(Path(sys.argv[1]))"
GOOD = '{"program":"pipe_bench","payload_errors":0}\n'


def test_a_good_run() -> None:
    assert driver.judge_json(0, GOOD, "") == (json.loads(GOOD), None)


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
    result, error = driver.judge_json(status, out, err)
    assert result is None
    assert error is not None
    assert error.startswith(expected)


def test_endless_complaints_are_cut() -> None:
    _, error = driver.judge_json(1, "", "x" * 100_000)
    assert error is not None
    assert len(error) <= 500


def test_the_status_and_both_outputs() -> None:
    status, out, err = driver.run_bench(["sh", "-c", "echo out; echo err >&2; exit 3"], 30)
    assert (status, out, err) == (3, "out\n", "err\n")


def test_output_that_the_kernel_has_garbled_is_a_failed_sample() -> None:
    result = driver.run_bench(["printf", r"{\377\n"], 30)
    assert driver.judge_json(*result)[1] == (
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


def test_the_self_check_is_what_the_program_says() -> None:
    assert driver.self_check(["true"], 60) == {"ok": True, "error": None}
    bad = driver.self_check(["sh", "-c", "echo 'pipe_bench: 3 bytes wrong' >&2; exit 1"], 60)
    assert bad == {"ok": False, "error": "pipe_bench: 3 bytes wrong"}


def measure(bench: Path, json: bool = True) -> dict[str, Any]:
    """One cell of a workload, as the driver records it."""
    plan = {"conditions": {"memcg": False}, "speed_work": WORK}
    cell = {
        "workload": "bench",
        "levels": {"writers": 1},
        "argv": [str(bench), "--writers", "1"],
        "deadline_s": 30,
        "json": json,
    }
    return driver.measure_cell(plan, cell, None)


WORK = 7
SPEED = f'{{"program":"speed_check","work":{WORK},"wall_ns":[12,11],"cpu_ns":[10,9]}}'
TIMES = {"wall_ns": [12, 11], "cpu_ns": [10, 9]}


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workload that is well, and a speed check beside it that is too."""
    monkeypatch.setattr(driver, "PROGRAMS", tmp_path)
    program(tmp_path, "speed_check", f"echo '{SPEED}'")
    return program(tmp_path, "bench", f"echo '{GOOD.strip()}'")


def test_what_is_no_json_is_kept_as_it_is(bench: Path) -> None:
    """And understood on the host, where a mistake in that can be mended."""
    program(bench.parent, bench.name, "echo 'Time: 3.2'; echo 'a complaint' >&2")
    sample = measure(bench, json=False)
    assert (sample["status"], sample["output"]) == ("ok", "Time: 3.2\n")
    assert "bench" not in sample
    program(bench.parent, bench.name, "yes | head -c 100000; echo end")
    output = measure(bench, json=False)["output"]
    assert len(output) == driver.OUTPUT_LIMIT
    assert output.endswith("\nend\n")


def test_a_sample_is_the_contracts(bench: Path) -> None:
    sample = measure(bench)
    assert sample["cell"] == {"writers": 1}
    assert (sample["status"], sample["error"], sample["exit_status"]) == ("ok", None, 0)
    assert sample["bench"] == json.loads(GOOD)
    assert sample["monotonic_start_ns"] < sample["monotonic_end_ns"]
    assert sample["grown"]["vmstat.pgfault"] > 0
    assert sample["grown"]["stat.ctxt"] > 0
    assert sample["stressor_alive"] is None
    assert sample["speed"] == {"work": WORK, "before": TIMES, "after": TIMES, "reason": None}


def test_a_failed_sample_keeps_its_counters(bench: Path) -> None:
    program(bench.parent, bench.name, "echo 'pipe_bench: zero writes' >&2; exit 1")
    sample = measure(bench)
    assert (sample["status"], sample["error"]) == ("failed", "pipe_bench: zero writes")
    assert sample["bench"] is None
    assert sample["grown"]
    assert sample["speed"]["after"] == TIMES


def test_a_sample_as_the_guest_records_it_is_one_that_the_analysis_reads(bench: Path) -> None:
    sample = measure(bench)
    identity = {"regime": "idle", "block": 1, "arm": "a", "boot_order": 1}
    place = {"round": 1, "slot": 2, "cell_order": 3}
    record = {"record": "sample", **identity, **place, **sample, "bench": None}
    ((_, read),) = parse_records(json.dumps(record).encode(), "here")
    assert isinstance(read, SampleRecord)
    times = SpeedTimes(wall_ns=(12, 11), cpu_ns=(10, 9))
    assert read.speed == SpeedCheck(work=WORK, before=times, after=times)


def test_the_speed_check_stays_out_of_the_samples_counters_and_clocks(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def run(argv: list[str], *_: object) -> tuple[int, str, str]:
        seen.append(Path(argv[0]).name)
        return 0, SPEED if argv[0].endswith("speed_check") else GOOD, ""

    monkeypatch.setattr(driver, "run_bench", run)
    monkeypatch.setattr(driver, "moment", lambda: seen.append("counters") or {})
    monkeypatch.setattr(driver, "read_clocks", lambda: (seen.append("clocks"), (0, 0))[1])
    measure(bench)
    window = ["counters", "clocks", "bench", "clocks", "counters"]
    assert seen == ["speed_check", *window, "speed_check"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("echo 'speed_check: cannot start a thread on CPU 1: no' >&2; exit 1", "on CPU 1: no"),
        ("sleep 1000", "killed at its deadline"),
        ("echo", "expected one line of JSON, got 0"),
        (f"echo '{SPEED.replace('7', '8')}'", "not a result of 7 steps"),
        (f"echo '{SPEED.replace('12', '0')}'", "not a result of 7 steps"),
        (f"echo '{SPEED.replace('[10,9]', '[]')}'", "not a result of 7 steps"),
        (f"echo '{SPEED.replace('[10,9]', '5')}'", "not a result of 7 steps"),
        (None, "cannot be run: "),
    ],
)
def test_a_speed_check_that_fails_costs_no_sample(
    bench: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, reason: str
) -> None:
    monkeypatch.setattr(driver, "DEADLINE_S", 0.5 if "killed at" in reason else 60.0)
    check = program(bench.parent, "speed_check", script or "")
    if script is None:
        check.unlink()
    sample = measure(bench)
    assert (sample["status"], sample["bench"]) == ("ok", json.loads(GOOD))
    assert (sample["speed"]["before"], sample["speed"]["after"]) == (None, None)
    before, after = sample["speed"]["reason"].split("; after: ")
    assert before.startswith("before: ")
    assert reason in before
    assert reason in after


def test_a_speed_check_that_fails_once_keeps_the_other_half(bench: Path) -> None:
    script = f"[ -e $0.ran ] || {{ touch $0.ran; exit 4; }}\necho '{SPEED}'"
    program(bench.parent, "speed_check", script)
    found = measure(bench)["speed"]
    assert found == {
        "work": WORK,
        "before": None,
        "after": TIMES,
        "reason": "before: exit status 4",
    }


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
    script = (
        "import sys; from kdelta.guest import driver; driver.NEVER_KILL = sys.argv.pop(); "
        "driver.conditions.before_all_others = lambda inherited: None; "  # asks for root
    )
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
