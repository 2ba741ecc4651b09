# SPDX-License-Identifier: GPL-2.0-only
"""How much each arm lost, both analyses beside each other, and the notes on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hand_made import CELLS, Json, boot_of, records_of
from synthetic import SETTINGS, Truth, edit, write_raw

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.run import AnalysisResult, analyse, analyse_boots


def spoilt_run(
    *, blocks: int = 6, failed: dict[str, int] | None = None, bad: dict[str, int] | None = None
) -> list[RawBoot]:
    """A run; of each arm the first `failed` boots failed, the first `bad` blocks lost bytes."""
    boots = []
    for block in range(1, blocks + 1):
        for arm in SETTINGS.arms:
            records = records_of("idle", block, arm)
            entry: Json = {"arm": arm, "status": "ok"}
            if block <= (failed or {}).get(arm, 0):
                records = []
                label = f"idle, block {block}, arm {arm}: "
                entry.update(status="failed", reason=f"{label}the guest did not\nboot.")
            elif block <= (bad or {}).get(arm, 0):
                records[1]["bench"]["payload_errors"] = 1
            boots.append(replace(boot_of(records, host={"boots": [entry]}, arm=arm), block=block))
    return boots


def analysed(**spoilt: Any) -> AnalysisResult:
    return analyse_boots(spoilt_run(**spoilt), SETTINGS)


def test_counts_by_arm_and_rule() -> None:
    result = analysed(failed={"patched": 2}, bad={"patched": 3, "baseline": 1})
    table = {row["arm"]: row for row in result.set_aside.to_dict("records")}
    assert list(result.set_aside.columns) == [
        "regime",
        "arm",
        "boots",
        "boots_failed",
        "samples",
        "set_aside",
        "boot-failed",
        "bytes",
    ]
    patched, baseline, control = table["patched"], table["baseline"], table["control"]
    assert (patched["boots"], patched["boots_failed"], patched["samples"]) == (6, 2, 12)
    assert (patched["set_aside"], patched["boot-failed"], patched["bytes"]) == (5, 4, 1)
    assert (baseline["set_aside"], baseline["boot-failed"], baseline["bytes"]) == (1, 0, 1)
    assert control["set_aside"] == 0


def test_both_analyses() -> None:
    result = analysed(bad={"patched": 2})
    both = {"used": result.deltas, "all": result.deltas_all}
    blocks = {
        name: {
            (row.arm, row.writers): (row.blocks, row.set_aside)
            for row in table[table["metric"] == "throughput_mib_s"].itertuples()
        }
        for name, table in both.items()
    }
    assert blocks["used"][("patched", 1)] == (4, 2)
    assert blocks["all"][("patched", 1)] == (6, 0)
    assert blocks["used"][("patched", 2)] == blocks["all"][("patched", 2)] == (6, 0)
    assert set(result.overall_all["blocks"]) == {6}


def test_a_sample_without_a_number_is_in_neither_analysis() -> None:
    result = analysed(failed={"patched": 1})
    ours = result.deltas_all[result.deltas_all["arm"] == "patched"]
    assert set(ours["blocks"]) == {5}
    assert set(ours["set_aside"]) == {1}


def test_half_of_the_pairs_lost_is_invalid_and_the_second_analysis_is_not() -> None:
    result = analysed(bad={"patched": 3})
    where = "arm == 'patched' and writers == 1 and metric == 'throughput_mib_s'"
    assert list(result.deltas.query(where)["verdict"]) == ["invalid"]
    assert "invalid" not in set(result.deltas_all.query(where)["verdict"])


def test_every_failed_boot_has_its_sentence_with_its_reason_once() -> None:
    notes = analysed(failed={"patched": 1, "control": 1, "baseline": 1}).notes
    assert [note for note in notes if "failed" in note] == [
        f"idle, block 1, arm {arm}: the boot failed: the guest did not boot."
        for arm in SETTINGS.arms
    ]


def test_a_difference_of_failed_boots_is_told() -> None:
    notes = analysed(failed={"patched": 1}).notes
    (note,) = [note for note in notes if note.startswith("Asymmetry")]
    assert note == (
        "Asymmetry: 1 of 6 boots of arm patched failed, and 0 of 6 of baseline; "
        "that may be an effect of the arm itself."
    )
    (note,) = [n for n in analysed(failed={"control": 2}).notes if n.startswith("Asymmetry")]
    assert "same image" in note


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"patched": 4}, False),  # 4 of 20 against 0 of 20: p = 0.11
        ({"patched": 6}, True),  # 6 of 20: p = 0.02
        ({"baseline": 6}, True),
        ({"patched": 6, "baseline": 6, "control": 6}, False),
    ],
)
def test_an_asymmetry_of_samples_is_told_if_chance_hardly_explains_it(
    bad: dict[str, int], told: bool
) -> None:
    notes = [n for n in analysed(blocks=10, bad=bad).notes if n.startswith("Asymmetry")]
    assert bool([note for note in notes if "arm patched" in note]) == told
    if bad == {"patched": 6}:
        (note,) = notes
        assert "6 of 20 samples of arm patched were set aside, and 0 of 20 of baseline" in note
        assert "p = 0.02" in note


def test_earlier_attempts_are_told_once_per_block() -> None:
    host = {"earlier_attempts": [{"at": "2026-01-01T00:00:00+00:00", "reason": "no memory."}]}
    boots = [boot_of(records_of("idle", 1, arm), host=host) for arm in SETTINGS.arms]
    told = [n for n in analyse_boots(boots, SETTINGS).notes if "attempt" in n]
    assert told == [
        "idle, block 1: one earlier attempt ended without data "
        "(2026-01-01T00:00:00+00:00: no memory)."
    ]
    twice = {"earlier_attempts": host["earlier_attempts"] * 2}
    (note,) = [
        n
        for n in analyse_boots([boot_of(records_of(), host=twice)], SETTINGS).notes
        if "attempt" in n
    ]
    assert "2 earlier attempts ended without data" in note


def test_a_guest_that_did_not_stay_as_it_was() -> None:
    records = records_of()
    records[-1].update(ok=False, error="a memory cgroup appeared")
    found = analyse_boots([boot_of(records)], SETTINGS).validity
    assert list(found["rule"]) == ["gate"] * len(CELLS)
    assert found["detail"].str.contains("a memory cgroup appeared").all()


def test_files_hold_both_analyses(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=4))
    edit(
        raw / "idle/block-002/patched.jsonl",
        lambda r: r[1]["bench"].update(payload_errors=1),
    )
    analyse(raw, tmp_path / "out", SETTINGS)
    first = {p.name: p.read_bytes() for p in sorted((tmp_path / "out/tables").iterdir())}
    assert first["deltas.csv"].count(b"\n") == first["deltas_all.csv"].count(b"\n")
    assert first["deltas.csv"] != first["deltas_all.csv"]
    assert first["set_aside.csv"].decode().splitlines() == [
        "regime,arm,boots,boots_failed,samples,set_aside,bytes",
        "idle,baseline,4,0,16,0,0",
        "idle,patched,4,0,16,1,1",
        "idle,control,4,0,16,0,0",
    ]
    analyse(raw, tmp_path / "again", SETTINGS)
    assert first == {p.name: p.read_bytes() for p in sorted((tmp_path / "again/tables").iterdir())}
