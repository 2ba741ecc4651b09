# SPDX-License-Identifier: GPL-2.0-only
"""Every probe, from the guest's tracefs to the words of the report, by the same way."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tracefs import ARGV, LOCKS, WAIT, WRITE, Kernel

from kdelta.analysis.locks import locks_frame
from kdelta.analysis.mechanism import mechanism_frame, mechanism_notes
from kdelta.analysis.mechanism_records import MechanismArm, read_mechanism
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import write_csv
from kdelta.probes import inside, tracefs
from kdelta.report.frames import ReportFrames, load_frames
from kdelta.report.run import write_text
from kdelta.schema import BY_PATH

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/unit/report"))  # the made-up runs of the report's own tests
from report_facts import make_context  # noqa: E402
from report_synthetic import FLAGSHIP, write_results  # noqa: E402

SETTINGS = AnalysisSettings(
    factors=("writers", "readers"),
    baseline="baseline",
    control="control",
    arms=("baseline", "patched", "control"),
    regimes=("idle", "memory-pressure"),
)
# What the kernel writes while the probe runs a cell: one trace a run.
TRACES = {"pipe-allocation": (WRITE, WAIT), "lock-contention": (LOCKS,)}
KALLSYMS = "".join(
    f"ffffffff8123456{n} T {name}\n"
    for n, name in enumerate(("pipe_write", "mutex_lock", "mutex_unlock", "__alloc_pages_bulk"))
)


@pytest.fixture
def ready(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that has all that any probe needs."""
    (tmp_path / "kallsyms").write_text(KALLSYMS)
    monkeypatch.setattr(tracefs, "KALLSYMS", tmp_path / "kallsyms")
    return kernel


def boots(folder: Path, cells: Sequence[dict[str, Any]]) -> tuple[MechanismArm, ...]:
    """Traced boots of all arms, each with the same cells."""
    for arm in SETTINGS.arms:
        identity = {"regime": "idle", "block": 0, "arm": arm}
        records = [
            {"record": "boot", "mechanism": True, **identity},
            *({"record": "mechanism", **identity, **cell} for cell in cells),
            {"record": "end", "ok": True, "error": None},
        ]
        path = folder / "idle" / f"{arm}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_mechanism(folder, SETTINGS)


def tables(folder: Path, traced: tuple[MechanismArm, ...]) -> ReportFrames:
    """The tables of a run with these traced boots."""
    write_results(FLAGSHIP, folder)
    write_csv(mechanism_frame(traced, SETTINGS), folder / "tables/mechanism.csv")
    write_csv(locks_frame(traced, SETTINGS), folder / "tables/locks.csv")
    return load_frames(folder)


def test_every_probe_is_tried_here() -> None:
    assert list(TRACES) == list(inside.PROBES)


@pytest.mark.parametrize("name", TRACES)
def test_a_probe_from_the_trace_to_the_report(name: str, ready: Kernel, tmp_path: Path) -> None:
    probe = inside.PROBES[name]
    assert inside.prepare([name]) == {}
    record = inside.measure([name], {}, ARGV, ready.workload(*TRACES[name]))
    assert (record["status"], record["failed"], record["probes"]) == ("ok", {}, [name])
    assert all(record[key] for key in probe.records)
    assert len(ready.runs) == probe.runs
    assert ready.enabled() == set()

    traced = boots(tmp_path / "boots", [{"cell": {"writers": 1, "readers": 5}, **record}])
    assert list(mechanism_notes(traced)) == []
    frames = tables(tmp_path / "run", traced)
    for other in inside.PROBES.values():
        table = getattr(frames, Path(other.table).stem)
        assert len(table) == (len(SETTINGS.arms) if other is probe else 0)
        assert set(BY_PATH[other.table].dtypes) <= set(table)
    text = write_text(frames, make_context(FLAGSHIP), tmp_path, ROOT / "report").read_text()
    assert ("== Mechanism ==" in text) == (name == "pipe-allocation")
    assert ("== Waiting for locks ==" in text) == (name == "lock-contention")


@pytest.mark.parametrize("name", TRACES)
def test_a_probe_that_a_kernel_cannot_have_costs_the_others_nothing(
    name: str, ready: Kernel, tmp_path: Path
) -> None:
    refused = {name: "the kernel cannot be traced: it has no luck"}
    (other,) = set(TRACES) - {name}
    record = inside.measure([*TRACES], refused, ARGV, ready.workload(*TRACES[other]))
    assert (record["status"], record["failed"]) == ("failed", refused)
    assert all(record[key] is None for key in inside.PROBES[name].records)
    assert all(record[key] for key in inside.PROBES[other].records)
    traced = boots(tmp_path / "boots", [{"cell": {"writers": 1, "readers": 5}, **record}])
    assert "it has no luck" in next(iter(mechanism_notes(traced)))
    frames = tables(tmp_path / "run", traced)
    for probe in inside.PROBES.values():
        table = getattr(frames, Path(probe.table).stem)
        assert set(table["status"]) == {"failed" if probe.name == name else "ok"}
    text = write_text(frames, make_context(FLAGSHIP), tmp_path, ROOT / "report").read_text()
    assert ("it has no luck" in " ".join(text.split())) == (name == "lock-contention")


def test_lock_contention_follows_the_workloads_tasks_and_clears_up(ready: Kernel) -> None:
    run = ready.workload(LOCKS)
    seen = {}

    def look(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        for name in ("set_event_pid", "options/event-fork"):
            seen[name] = (ready.root / name).read_text()
        for name in ("trigger", "filter"):
            seen[name] = (ready.root / "events/lock/contention_begin" / name).read_text()
        return run(argv)

    record = inside.measure(["lock-contention"], {}, ARGV, look)
    assert record["locks"]["waits"] == [
        {"lock": "mutex", "caller": "pipe_write", "waits": 1, "wait_ns": 2000, "wait_ns_max": 2000}
    ]
    assert seen == {
        "set_event_pid": str(os.getpid()),
        "options/event-fork": "1",
        "trigger": "stacktrace",
        "filter": "0",
    }
    assert (ready.root / "set_event_pid").read_text() == ""
    assert (ready.root / "events/lock/contention_begin/trigger").read_text() == "!stacktrace"


def test_a_workload_whose_output_is_read_on_the_host(ready: Kernel) -> None:
    run = ready.workload(LOCKS)

    def printing(argv: list[str]) -> tuple[dict[str, Any], None]:
        run(argv)
        return {"output": "Time: 0.123\n"}, None

    record = inside.measure(["lock-contention"], {}, ARGV, printing)
    assert record["locks"]["bench"] == {"output": "Time: 0.123\n"}


def row(lock: str, caller: str, ms: int, waits: int = 10) -> dict[str, Any]:
    return {"lock": lock, "caller": caller, "waits": waits, "wait_ns": ms * 10**6, "wait_ns_max": 5}


def cell(writers: int, *locks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {"elapsed_s": 0.5, "waits": list(locks), "bench": {"writes": 100}, **changes}
    said = {"throughput_mib_s": 1, "write_latency_ns": {"mean": 1, "p50": 1, "p99": 1}}
    if "writes" in found["bench"]:
        found["bench"] |= said
    level = {"writers": writers, "readers": 5}
    return {
        "cell": level,
        "status": "ok",
        "probes": ["lock-contention"],
        "failed": {},
        "locks": found,
    }


def test_the_analysis_finds_the_truth(tmp_path: Path) -> None:
    traced = boots(
        tmp_path,
        [
            cell(1, row("mutex", "pipe_write", 200, 40), row("spinlock", "try_to_wake_up", 2)),
            cell(2),
            cell(5, row("mutex", "pipe_write", 100), lost_events=7),
            cell(10, row("mutex", "pipe_write", 100), bench={"output": "no JSON"}),
        ],
    )
    table = locks_frame(traced, SETTINGS).query("arm == 'patched'")
    numbers = table.select_dtypes("number").columns
    rows = table.assign(**table[numbers].fillna(-1)).to_dict("records")
    mutex, spin, none, lossy, mute = rows
    assert (mutex["lock"], mutex["caller"], mutex["writers"]) == ("mutex", "pipe_write", 1)
    assert (mutex["waits"], mutex["waits_per_s"], mutex["wait_share"]) == (40, 80, 0.4)
    assert (mutex["wait_mean_us"], mutex["wait_us_per_operation"]) == (5000, 2000)
    assert (spin["wait_share"], spin["wait_us_per_operation"]) == (0.004, 20)
    assert (none["waits"], none["wait_share"], none["wait_us_per_operation"]) == (0, 0, 0)
    assert (lossy["lost_events"], lossy["wait_share"], lossy["wait_us_per_operation"]) == (
        7,
        0.2,
        -1,
    )
    assert (mute["wait_share"], mute["wait_us_per_operation"]) == (0.2, -1)
    assert table["reason"].isna().all()
    assert "7 trace events were lost" in next(iter(mechanism_notes(traced)))


def test_workloads_without_operations_have_shares_alone(tmp_path: Path) -> None:
    workload = SETTINGS.workload.model_copy(update={"operations": None})
    traced = boots(tmp_path, [cell(1, row("mutex", "pipe_write", 200))])
    table = locks_frame(traced, replace(SETTINGS, workload=workload))
    assert table["wait_us_per_operation"].isna().all()
    assert list(table["wait_share"]) == [0.4] * 3


def test_the_report_shows_the_ten_heaviest_per_operation_or_by_share(tmp_path: Path) -> None:
    many = [row("spinlock", f"function_{n:02}", 20 - n) for n in range(12)]
    traced = boots(tmp_path / "boots", [cell(1, *many), cell(2, many[0])])
    frames = tables(tmp_path / "run", traced)
    text = write_text(frames, make_context(FLAGSHIP), tmp_path, ROOT / "report").read_text()
    part = text.partition("== Waiting for locks ==")[2].partition("\n==")[0]
    lines = part.splitlines()
    shown = [next(line for line in lines if f"function_{n:02}" in line) for n in range(10)]
    assert "function_10" not in part
    # 20 ms in 100 writes, in both cells; the second in one of two cells.
    assert shown[0].split() == ["function_00", "spinlock", "20", "200", "200", "200"]
    assert "95 (0 to 190)" in shown[1]
    assert "us waited per operation" in " ".join(part.split())
    shares = frames.locks.assign(wait_us_per_operation=float("nan"))
    other = replace(frames, locks=shares)
    text = write_text(other, make_context(FLAGSHIP), tmp_path, ROOT / "report").read_text()
    line = next(line for line in text.splitlines() if "function_00" in line)
    assert line.split() == ["function_00", "spinlock", "20", "4", "4", "4"]


def test_the_report_tells_what_was_not_seen(tmp_path: Path) -> None:
    traced = boots(tmp_path / "boots", [cell(1), cell(2, lost_events=3)])
    frames = tables(tmp_path / "run", traced)
    text = write_text(frames, make_context(FLAGSHIP), tmp_path, ROOT / "report").read_text()
    words = " ".join(text.split())
    assert "No memory pressure: no task of the workload waited for a lock." in words
    assert "No memory pressure, patched: the trace buffer was full before the end" in words
