# SPDX-License-Identifier: GPL-2.0-only
"""Mechanism boots: counts per write and per call, what is refused, and what is told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic import SETTINGS, Truth, write_raw, write_records

from kdelta.analysis.mechanism import mechanism_frame, mechanism_notes
from kdelta.analysis.mechanism_records import read_mechanism
from kdelta.analysis.raw import read_raw
from kdelta.analysis.run import analyse
from kdelta.errors import KdeltaError

Json = dict[str, Any]
CELLS = ({"writers": 2, "readers": 1}, {"writers": 1, "readers": 5})


def records(arm: str, regime: str = "idle") -> list[Json]:
    identity = {"regime": regime, "arm": arm, "block": 0, "boot_order": 1}
    cells = [
        {
            "record": "mechanism",
            **identity,
            "cell_order": order,
            "cell": cell,
            "status": "ok",
            "error": None,
            "allocation": {
                "writes": 200,
                "pages_before_lock": 1600,
                "pages_under_lock": 1400,
                "bulk_calls": 200,
                "bulk_pages_requested": 3200,
                "bulk_pages": 1600,
                "reclaims_before_lock": 3,
                "reclaims_under_lock": 0,
                "lost_events": 0,
            },
            "contention": {
                "writes": 100,
                "waits": 250,
                "wait_ns_total": 5_000_000,
                "wait_ns_mean": 20_000,
                "wait_ns_p50": 15_000.0,
                "wait_ns_p99": 90_000.0,
                "wait_ns_max": 120_000,
                "elapsed_s": 0.3,
                "lost_events": 0,
            },
        }
        for order, cell in enumerate(CELLS, start=1)
    ]
    boot = {
        "record": "boot",
        "schema": 1,
        **identity,
        "mechanism": True,
        "gate": {"vcpus": 2, "ok": True, "failures": []},
        "self_check": {"ok": True, "payload_errors": 0, "error": None},
        "stressor": None,
    }
    return [boot, *cells, {"record": "end", "samples": 2, "ok": True, "error": None}]


def write(folder: Path, changes: dict[str, Callable[[list[Json]], object]] | None = None) -> Path:
    """A mechanism folder of every arm; `changes` spoils the records of the named arms."""
    (folder / "idle").mkdir(parents=True)
    for arm in SETTINGS.arms:
        lines = records(arm)
        (changes or {}).get(arm, lambda r: None)(lines)
        write_records(folder / "idle" / f"{arm}.jsonl", lines)
        (folder / "idle" / f"{arm}.console.log").write_text("quiet\n")
    return folder


def frame(folder: Path) -> pd.DataFrame:
    return mechanism_frame(read_mechanism(folder, SETTINGS), SETTINGS)


def test_counts_become_ratios(tmp_path: Path) -> None:
    table = frame(write(tmp_path / "mechanism"))
    assert list(zip(table["arm"], table["writers"], strict=True)) == [
        (arm, writers) for arm in SETTINGS.arms for writers in (1, 2)
    ]
    row = table.iloc[0]
    assert (row["status"], row["writes"], row["bulk_calls"]) == ("ok", 200, 200)
    assert row["pages_before_lock_per_write"] == 8
    assert row["pages_under_lock_per_write"] == 7
    assert row["bulk_pages_requested_per_call"] == 16
    assert row["bulk_pages_per_call"] == 8
    assert (row["reclaims_before_lock"], row["reclaims_under_lock"]) == (3, 0)
    assert (row["contention_writes"], row["waits_per_write"]) == (100, 2.5)
    assert row["wait_us_per_write"] == 50
    waits = [row[f"wait_{name}_us"] for name in ("mean", "p50", "p99", "max")]
    assert waits == [20, 15, 90, 120]
    assert row["lost_events"] == 0
    assert list(mechanism_notes(read_mechanism(tmp_path / "mechanism", SETTINGS))) == []


def test_nothing_to_divide_by_is_missing_and_not_zero(tmp_path: Path) -> None:
    def idle(lines: list[Json]) -> None:
        lines[1]["allocation"].update(dict.fromkeys(lines[1]["allocation"], 0))
        lines[1]["contention"].update(writes=10, waits=0, wait_ns_total=0)
        lines[1]["contention"].update({f"wait_ns_{k}": None for k in ("mean", "p50", "p99", "max")})

    table = frame(write(tmp_path / "mechanism", {"baseline": idle}))
    row = table.query("arm == 'baseline' and writers == 2").iloc[0]
    assert pd.isna(row["pages_before_lock_per_write"])
    assert pd.isna(row["bulk_pages_per_call"])
    assert (row["writes"], row["bulk_calls"]) == (0, 0)
    assert (row["waits_per_write"], row["wait_us_per_write"]) == (0, 0)
    assert pd.isna(row["wait_mean_us"])


def test_a_cell_that_failed_or_was_never_reached(tmp_path: Path) -> None:
    def failed(lines: list[Json]) -> None:
        lines[1].update(status="failed", error="no\nprobe", allocation=None, contention=None)

    def stopped(lines: list[Json]) -> None:
        del lines[2:]

    def dead(lines: list[Json]) -> None:
        lines[:] = [{"record": "end", "samples": 0, "ok": False, "error": "it did not boot."}]

    folder = write(
        tmp_path / "mechanism", {"baseline": failed, "patched": stopped, "control": dead}
    )
    table = frame(folder)
    assert list(table["status"]) == ["ok", "failed", "failed", "ok", "failed", "failed"]
    assert table.loc[table["status"] == "failed", "writes"].isna().all()
    assert table.loc[table["status"] == "failed", "lost_events"].isna().all()
    assert list(mechanism_notes(read_mechanism(folder, SETTINGS))) == [
        "Mechanism boot of idle, arm baseline: 1 of 2 cells failed; first: no probe.",
        "Mechanism boot of idle, arm patched: it did not reach its end.",
        "Mechanism boot of idle, arm control: it failed: it did not boot.",
    ]


def test_lost_events_splats_and_gates_are_told(tmp_path: Path) -> None:
    def lose(lines: list[Json]) -> None:
        lines[1]["allocation"]["lost_events"] = 4
        lines[1]["contention"]["lost_events"] = 3
        lines[2]["contention"] = None

    def other_guest(lines: list[Json]) -> None:
        lines[0]["gate"].update(ok=False, failures=["vcpus: asked 2, found 1"])

    folder = write(tmp_path / "mechanism", {"baseline": lose, "control": other_guest})
    (folder / "idle" / "patched.console.log").write_text("x\nBUG: kernel NULL pointer\n")
    table = frame(folder)
    assert list(table["lost_events"])[:2] == [0, 7]
    said = list(mechanism_notes(read_mechanism(folder, SETTINGS)))
    assert "7 trace events were lost" in said[0]
    assert "line 2: BUG: kernel NULL pointer" in said[1]
    assert "vcpus: asked 2, found 1" in said[2]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r[0].update(mechanism=False), ":1: key mechanism"),
        (lambda r: r[1].update(record="sample"), ":2: "),
        (lambda r: r[1]["allocation"].pop("writes"), ":2: key allocation.writes"),
        (lambda r: r[1]["allocation"].update(bulk_calls=-1), ":2: key allocation.bulk_calls"),
        (lambda r: r[1]["contention"].update(waits="4"), ":2: key contention.waits"),
        (lambda r: r[1].update(arm="control"), ":2: keys regime, arm: found 'idle', 'control'"),
        (lambda r: r[2].update(cell=r[1]["cell"]), ":3: key cell: "),
        (lambda r: r[2].update(cell={"threads": 1}), ":3: key cell: factors threads"),
        (lambda r: r.insert(0, r.pop(1)), ":1: a file holds one boot record"),
        (lambda r: r.append(r[1]), ":5: a record after the end record"),
    ],
)
def test_malformed_files(
    tmp_path: Path, change: Callable[[list[Json]], object], expected: str
) -> None:
    folder = write(tmp_path / "mechanism", {"patched": change})
    with pytest.raises(KdeltaError) as caught:
        read_mechanism(folder, SETTINGS)
    message = str(caught.value)
    assert message.startswith(f"{folder}/idle/patched.jsonl{expected}")
    assert "\n" not in message


def test_a_file_cut_short_says_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "mechanism") / "idle" / "control.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(KdeltaError, match="measure the mechanism boots again"):
        read_mechanism(tmp_path / "mechanism", SETTINGS)


def test_strangers_are_refused_and_other_files_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "mechanism")
    (folder / "idle" / "patched.partial.jsonl").write_text("{")
    (folder / "idle" / "notes.txt").write_text("")
    (folder / ".lock").mkdir()
    assert len(read_mechanism(folder, SETTINGS)) == 3
    (folder / "idle" / "stranger.jsonl").write_text("")
    with pytest.raises(KdeltaError, match="no arm 'stranger'"):
        read_mechanism(folder, SETTINGS)
    (folder / "elsewhere").mkdir()
    with pytest.raises(KdeltaError, match="no regime 'elsewhere'"):
        read_mechanism(folder, SETTINGS)
    (folder / "idle" / "stranger.jsonl").unlink()
    assert len(read_mechanism(folder, replace(SETTINGS, other_regimes=("elsewhere",)))) == 3
    (folder / "idle" / "stranger.jsonl").write_text("")
    with pytest.raises(KdeltaError, match="no such folder"):
        read_mechanism(tmp_path / "nowhere", SETTINGS)


def test_the_stage_finds_the_folder_beside_the_raw_files(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=1))
    assert analyse(raw, tmp_path / "out", SETTINGS).mechanism.empty
    write(tmp_path / "mechanism")
    assert len(analyse(raw, tmp_path / "out", SETTINGS).mechanism) == 6
    text = (tmp_path / "out/tables/mechanism.csv").read_text()
    assert (
        text.splitlines()[1]
        == "idle,baseline,1,5,ok,200,8,7,200,16,8,3,0,100,2.5,50,20,15,90,120,0"
    )
    elsewhere = write(tmp_path / "elsewhere", {"baseline": lambda r: r.pop(1)})
    found = analyse(raw, tmp_path / "out", SETTINGS, mechanism_dir=elsewhere)
    assert list(found.mechanism["status"]).count("failed") == 1
    shutil.rmtree(tmp_path / "mechanism")
    with pytest.raises(KdeltaError, match="no such folder"):
        analyse(raw, tmp_path / "out", SETTINGS, mechanism_dir=tmp_path / "mechanism")


def test_a_traced_boot_among_the_timed_ones_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=1))
    path = raw / "idle/block-001/patched.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "mechanism": True})
    path.write_text("\n".join(lines))
    with pytest.raises(KdeltaError, match=r"patched\.jsonl:1: key mechanism: the boot was traced"):
        read_raw(raw, SETTINGS)
