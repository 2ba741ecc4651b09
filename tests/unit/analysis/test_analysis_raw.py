# SPDX-License-Identifier: GPL-2.0-only
"""Reading raw folders: what is refused, with which message, and what is kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import SETTINGS, Truth, edit, read_records, write_raw, write_records

from kdelta.analysis.boots import planned_cells
from kdelta.analysis.raw import read_raw
from kdelta.analysis.records import SpeedCheck, SpeedTimes
from kdelta.analysis.rules import boot_breaches
from kdelta.errors import KdeltaError

BLOCK = Path("idle/block-001")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", Truth(blocks=1))


def refused(raw: Path) -> str:
    with pytest.raises(KdeltaError) as caught:
        read_raw(raw, SETTINGS)
    return str(caught.value)


def test_reads_every_boot_in_boot_order(raw: Path) -> None:
    boots = read_raw(raw, SETTINGS).boots
    assert sorted(boot.arm for boot in boots) == ["baseline", "control", "patched"]
    assert [boot.boot_order for boot in boots] == [1, 2, 3]
    assert all(len(boot.ran.records) == 4 and boot.end and boot.splats == () for boot in boots)
    assert planned_cells(boots) == {"idle": ((1, 1), (1, 5), (2, 1), (2, 5))}


def test_truncated_line_names_file_and_line(raw: Path) -> None:
    path = raw / BLOCK / "patched.jsonl"
    text = path.read_text()
    third = text.splitlines()[2]
    path.write_text(text[: text.index(third) + len(third) // 2])
    message = refused(raw)
    assert message.startswith(f"{path}:3: ")
    assert "Invalid JSON" in message
    assert "measure the block again" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r[0].update(schema=2), ":1: key schema: "),
        (lambda r: r[0].update(block=2), ":1: key block: found 2"),
        (lambda r: r[2].update(arm="control"), ":3: key arm: found 'control'"),
        (lambda r: r[2].update(record="sampel"), ":3: "),
        (lambda r: r[2].update(cell={"writers": 1}), ":3: key cell: factors writers"),
        (lambda r: r[2].update(cell=r[1]["cell"]), ":3: key cell: "),
        (lambda r: r[2].update(cell={"writers": 9, "readers": 9}), "not in schedule.json"),
        (lambda r: r.insert(0, r.pop(1)), ":1: a file holds one boot record, and holds it first"),
        (lambda r: r.append(r[1]), ":7: a record after the end record"),
    ],
)
def test_malformed_records(
    raw: Path, change: Callable[[list[dict[str, Any]]], object], expected: str
) -> None:
    path = raw / BLOCK / "patched.jsonl"
    edit(path, change)
    message = refused(raw)
    assert message.startswith(str(path))
    assert expected in message
    assert "\n" not in message


TIMES = {"wall_ns": [10_100_000, 9_900_000], "cpu_ns": [10_000_000, 9_800_000]}


def test_the_speed_check_of_a_sample_is_read_and_old_data_has_none(raw: Path) -> None:
    path = raw / BLOCK / "patched.jsonl"
    whole = {"work": 5, "before": TIMES, "after": TIMES, "reason": None}
    half = {"work": 5, "before": None, "after": TIMES, "reason": "killed at its deadline"}
    edit(path, lambda r: (r[1].update(speed=whole), r[2].update(speed=half)))
    (boot,) = [b for b in read_raw(raw, SETTINGS).boots if b.arm == "patched"]
    in_order = sorted(boot.ran.records, key=lambda one: one.cell_order)
    full, failed, old, none = (one.speed for one in in_order)
    times = SpeedTimes(wall_ns=(10_100_000, 9_900_000), cpu_ns=(10_000_000, 9_800_000))
    assert full == SpeedCheck(work=5, before=times, after=times)
    assert failed == SpeedCheck(work=5, after=times, reason="killed at its deadline")
    assert (old, none) == (None, None)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({**TIMES, "cpu_ns": [1]}, "key speed.before: 2 vCPUs in wall_ns, 1 in"),
        ({**TIMES, "cpu_ns": [1, 0]}, "key speed.before.cpu_ns.1: Expected `int` >= 1 (found 0)"),
        ({"wall_ns": [], "cpu_ns": []}, "key speed.before.wall_ns: "),
        ({"wall_ns": [1, 2]}, "key speed.before.cpu_ns: it is missing"),
    ],
)
def test_malformed_speed_checks(raw: Path, times: dict[str, Any], expected: str) -> None:
    path = raw / BLOCK / "patched.jsonl"
    edit(path, lambda r: r[1].update(speed={"work": 5, "before": times, "after": TIMES}))
    message = refused(raw)
    assert message.startswith(f"{path}:2: ")
    assert expected in message


def test_a_program_may_print_nan_and_the_guest_may_not_record_it(raw: Path) -> None:
    path = raw / BLOCK / "patched.jsonl"
    nan = float("nan")
    edit(path, lambda r: r[1]["bench"].update(throughput_mib_s=nan))
    (boot,) = [b for b in read_raw(raw, SETTINGS).boots if b.arm == "patched"]
    assert [why for why in boot.ran.misread.values() if "nan, which is no number" in why]
    edit(path, lambda r: r[1].update(host_cpu={"cpus": 2, "busy_s": nan}))
    assert ":2: key host_cpu.busy_s: Expected `float` " in refused(raw)


STRESSOR = {"record": "stressor", "name": "stress-ng", "command": [], "settled": False}


def stressor_of(record: dict[str, Any]) -> dict[str, Any]:
    identity = ("regime", "block", "arm", "boot_order")
    return STRESSOR | {name: record[name] for name in identity} | {"settle_s": 12.5}


def test_a_stressor_has_a_record_of_its_own(raw: Path) -> None:
    """Written once it has settled, or not, and the boot record before that."""
    edit(raw / BLOCK / "patched.jsonl", lambda r: r.insert(1, stressor_of(r[0])))
    (boot,) = (boot for boot in read_raw(raw, SETTINGS).boots if boot.arm == "patched")
    assert boot.boot is not None
    assert boot.boot.stressor is not None
    assert (boot.boot.stressor.settled, boot.boot.stressor.settle_s) == (False, 12.5)
    assert len(boot.ran.records) == 4
    assert "stressor-not-settled" in {breach.rule for breach in boot_breaches(boot)}


@pytest.mark.parametrize("place", [2, 3])
def test_a_stressors_record_elsewhere(raw: Path, place: int) -> None:
    path = raw / BLOCK / "patched.jsonl"
    edit(path, lambda r: [r.insert(1, stressor_of(r[0])), r.insert(place, stressor_of(r[0]))])
    assert f":{place + 1}: a second stressor record, or one after a sample" in refused(raw)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.update(schema=7), "key schema"),
        (lambda s: s.update(regime="other"), "key regime: found 'other'"),
        (lambda s: s.update(block=3), "key block: found 3"),
        (lambda s: s["arms"].append("stranger"), "'stranger'"),
        (lambda s: s.update(workloads=["pipe_bench"]), "key workloads: 1 names for"),
        (lambda s: s.update(cells=[{"threads": 1}]), "factors threads"),
        (lambda s: s["cells"].append(s["cells"][0]), "a cell is listed twice"),
    ],
)
def test_malformed_schedule(
    raw: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    path = raw / BLOCK / "schedule.json"
    schedule = json.loads(path.read_text())
    change(schedule)
    path.write_text(json.dumps(schedule))
    message = refused(raw)
    assert message.startswith(str(path))
    assert expected in message


def test_missing_things_are_named(raw: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no finished block-NNN folder" in refused(tmp_path / "empty")
    (raw / BLOCK / "schedule.json").unlink()
    assert refused(raw).startswith(str(raw / BLOCK / "schedule.json") + ": missing")


def test_strangers_are_refused_and_other_files_left_alone(raw: Path) -> None:
    (raw / ".lock").mkdir()
    (raw / "idle" / ".block-002.partial").mkdir()
    (raw / "idle" / "notes.txt").write_text("")
    assert len(read_raw(raw, SETTINGS).boots) == 3
    stray = raw / BLOCK / "stranger.jsonl"
    stray.write_text("")
    assert refused(raw).startswith(str(stray))
    stray.unlink()
    (raw / "reclaim").mkdir()
    assert "no regime 'reclaim'" in refused(raw)


def test_a_packed_run_is_to_be_unpacked(raw: Path) -> None:
    for path in (raw / BLOCK).glob("*.jsonl"):
        path.rename(f"{path}.gz")
    assert f"kdelta reference --unpack {raw.parent} --output" in refused(raw)


def test_a_regime_that_the_protocol_no_longer_runs_is_not_read(raw: Path) -> None:
    shutil.copytree(raw / "idle", raw / "reclaim")
    (raw / "reclaim" / "block-001" / "schedule.json").write_text("of another time")
    settings = replace(SETTINGS, other_regimes=("reclaim",))
    assert {boot.regime for boot in read_raw(raw, settings).boots} == {"idle"}


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_boot_that_stopped_early_is_kept(raw: Path, lines: int) -> None:
    path = raw / BLOCK / "patched.jsonl"
    write_records(path, read_records(path)[:lines])
    (boot,) = [b for b in read_raw(raw, SETTINGS).boots if b.arm == "patched"]
    assert boot.end is None
    assert (boot.boot is None) == (lines == 0)
    assert len(boot.ran.records) == max(0, lines - 1)
    assert len(boot.planned) == 4


def test_a_boot_without_any_file_is_kept(raw: Path) -> None:
    for path in (raw / BLOCK).glob("patched.*"):
        path.unlink()
    (boot,) = [b for b in read_raw(raw, SETTINGS).boots if b.arm == "patched"]
    assert (boot.boot, boot.ran.records, boot.end, boot.splats) == (None, (), None, None)


def test_block_numbers_beyond_999_sort_by_number(raw: Path) -> None:
    for number in (1000, 2):
        folder = raw / "idle" / f"block-{number:03d}"
        shutil.copytree(raw / BLOCK, folder)
        schedule = json.loads((folder / "schedule.json").read_text())
        (folder / "schedule.json").write_text(json.dumps({**schedule, "block": number}))
        for path in folder.glob("*.jsonl"):
            edit(path, lambda r: [x.update(block=number) for x in r if x["record"] != "end"])  # noqa: B023
    blocks = [boot.block for boot in read_raw(raw, SETTINGS).boots]
    assert blocks == [1, 1, 1, 2, 2, 2, 1000, 1000, 1000]
    planned = read_raw(raw, replace(SETTINGS, blocks=2)).boots
    assert [boot.block for boot in planned] == [1, 1, 1, 2, 2, 2]


def test_an_interrupted_block_is_told_apart_from_a_damaged_one(raw: Path) -> None:
    begun = raw / "idle" / "block-002"
    begun.mkdir()
    (begun / "patched.partial.jsonl").write_text('{"record":"bo')
    (begun / "patched.console.log").write_text("Kernel panic - not syncing")
    (raw / BLOCK / "patched.partial.jsonl").write_text("left from an earlier try")
    data = read_raw(raw, SETTINGS)
    assert data.unfinished == (begun,)
    assert {boot.block for boot in data.boots} == {1}
    (begun / "patched.jsonl").write_text("")
    assert refused(raw).startswith(str(begun / "schedule.json") + ": missing")


def test_host_json_is_read_beside_the_boots(raw: Path) -> None:
    path = raw / BLOCK / "host.json"
    path.unlink()
    assert {boot.host for boot in read_raw(raw, SETTINGS).boots} == {None}
    path.write_text('{"vcpus":2,"boots":[{"arm":"patched","status":"failed","reason":"why"}]}')
    failed = {boot.arm: boot.failure for boot in read_raw(raw, SETTINGS).boots}
    assert failed == {"baseline": None, "control": None, "patched": "why"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"boots":[{"arm":"stranger"}]}', "key boots: arm 'stranger' is not in the block's"),
        ('{"boots":[{"arm":"patched","load_before":true}]}', "key boots.0.load_before"),
        ('{"boots":', "Invalid JSON"),
    ],
)
def test_malformed_host_json(raw: Path, text: str, expected: str) -> None:
    path = raw / BLOCK / "host.json"
    path.write_text(text)
    message = refused(raw)
    assert message.startswith(str(path))
    assert expected in message
