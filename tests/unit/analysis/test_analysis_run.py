# SPDX-License-Identifier: GPL-2.0-only
"""The whole stage: known truth found again, files as the contract has them, same bytes always."""

import csv
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import SETTINGS, Truth, edit, write_raw

from kdelta.analysis import tables
from kdelta.analysis.run import analyse
from kdelta.analysis.settings import AnalysisSettings, Expectation
from kdelta.errors import KdeltaError

REGIMES = ("idle", "memory-pressure")
# Written out from docs/contracts.md, not imported: this is what other stages were promised.
DELTAS = (
    "regime,arm,writers,readers,metric,unit,direction,blocks,set_aside,baseline,value,"
    "ratio,ratio_low,ratio_high,delta_percent,delta_low_percent,delta_high_percent,confidence,"
    "p_value,p_holm,p_sign_flip,verdict,blocks_to_settle"
)
OVERALL = (
    "regime,arm,metric,unit,direction,cells,blocks,set_aside,ratio,ratio_low,"
    "ratio_high,delta_percent,delta_low_percent,delta_high_percent,confidence,p_value,p_holm,"
    "p_sign_flip,verdict,blocks_to_settle"
)
COLUMNS = {
    "samples.csv": "regime,block,arm,boot_order,round,slot,cell_order,writers,readers,"
    "write_size,pipe_size,processes,nonblock,pin,node,acceleration,vcpus,memory_mib,status,"
    "mode,duration_requested_s,elapsed_s,writes,bytes_written,bytes_written_total,"
    "bytes_read_total,latency_p90_ns,latency_p99_9_ns,latency_max_ns,identity_error,"
    "voluntary_switches,involuntary_switches,user_s,system_s,eagain,short_writes,payload_errors,"
    "gap_ns,throughput_mib_s,latency_mean_ns,latency_p50_ns,latency_p99_ns,"
    "pgscan_direct,pgsteal_direct,"
    "pgscan_kswapd,allocstall,oom_kill,pswpin,pswpout,psi_memory_some_us,psi_memory_full_us,"
    "psi_cpu_some_us,steal_ticks,speed_before,speed_after,relative_speed,memcg,stressor_alive,valid",
    "validity.csv": "regime,block,arm,writers,readers,round,rule,value,limit,detail",
    "tables/deltas.csv": DELTAS,
    "tables/deltas_all.csv": DELTAS,
    "tables/overall.csv": OVERALL,
    "tables/overall_all.csv": OVERALL,
    "tables/set_aside.csv": "regime,arm,boots,boots_failed,samples,set_aside",
    "tables/disturbance.csv": "regime,boots,boots_disturbed,samples,samples_disturbed,"
    "samples_run,samples_checked,boots_host_load,boots_host_steal,boots_host_other_cpu,"
    "boots_guest_steal,boots_cpu_speed,boots_slow,other_cpu_highest,steal_highest,relative_speed_lowest,"
    "speed_variance_share,control_spread_percent,times_quiet,unexplained",
    "tables/control.csv": "regime,metric,cells,blocks,largest_delta_percent,"
    "median_half_width_percent,noise_floor_percent,false_verdicts,differs",
    "tables/position.csv": "regime,metric,blocks,position_percent,position_low_percent,"
    "position_high_percent,p_value,p_holm,largest_bias_percent,differs",
    "tables/pressure.csv": "regime,arm,writers,readers,samples,with_direct_reclaim,"
    "pgscan_direct_per_s,pgsteal_direct_per_s,pgscan_kswapd_per_s,allocstall_per_s,pswpin_per_s,"
    "pswpout_per_s,psi_memory_some_percent,psi_memory_full_percent,psi_cpu_some_percent,oom_kill",
    "tables/counters.csv": "regime,arm,counter,unit,blocks,baseline,baseline_sd_percent,value,"
    "value_sd_percent,change_percent,p_value,q_value,moved",
    "tables/expectations.csv": "regime,arm,counter,bound,limit,share_wanted,samples,samples_met,"
    "share_met,met,median,lowest,highest",
    "tables/claims.csv": "regime,arm,metric,unit,writers,readers,claimed_baseline,claimed_value,"
    "claimed_delta_percent,blocks,delta_percent,delta_low_percent,delta_high_percent,verdict,"
    "status",
    "tables/negative_controls.csv": "regime,arm,writers,readers,delta_percent,delta_low_percent,"
    "delta_high_percent,verdict,status,reason",
    "tables/mechanism.csv": "regime,arm,writers,readers,status,writes,"
    "pages_before_lock_per_write,pages_under_lock_per_write,bulk_calls,"
    "bulk_pages_requested_per_call,bulk_pages_per_call,reclaims_before_lock,reclaims_under_lock,"
    "contention_writes,waits_per_write,wait_us_per_write,wait_mean_us,wait_p50_us,wait_p99_us,"
    "wait_max_us,lost_events",
    "tables/locks.csv": "regime,arm,writers,readers,status,lock,caller,waits,waits_per_s,"
    "wait_mean_us,wait_max_us,wait_us_per_operation,wait_share,lost_events,reason",
    "tables/ratios.csv": "regime,block,arm,writers,readers,metric,baseline,value,speed_ratio,"
    "ratio,rounds,node",
    "tables/nodes.csv": "regime,arm,node,processor,acceleration,vcpus,cpu_speed,metric,baseline,"
    "blocks,delta_percent,delta_low_percent,delta_high_percent,p_value,p_holm,p_permutation,"
    "visible_percent,differ",
    "tables/latency.csv": "regime,arm,writers,readers,quantile,latency_us,blocks",
    "tables/costs.csv": "arm,quantity,unit,blocks,baseline,value,change,change_low,change_high,"
    "change_percent,same_kernel",
    "tables/symbols.csv": "arm,kind,symbol,baseline_bytes,bytes,change_bytes",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder: raw/ and what the analysis makes of it."""
    results = tmp_path_factory.mktemp("results")
    write_raw(results / "raw", Truth(regimes=REGIMES, blocks=8, effects={"patched": 1.2}))
    analyse(results / "raw", results / "out", SETTINGS)
    return results


@pytest.fixture
def results(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "results"))


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_those_of_the_contract(pristine: Path, name: str) -> None:
    text = (pristine / "out" / name).read_text()
    assert text.splitlines()[0] == COLUMNS[name]
    assert "\r" not in text
    assert text.endswith("\n")


def test_writes_these_files_and_no_other(pristine: Path) -> None:
    assert set(contents(pristine / "out")) == set(COLUMNS)


def test_row_counts(pristine: Path) -> None:
    rows = {name: len(read(pristine / "out" / name)) for name in COLUMNS}
    assert rows == {
        "samples.csv": 2 * 8 * 3 * 4,
        "validity.csv": 0,
        "tables/deltas.csv": 2 * 2 * 4 * 4,
        "tables/deltas_all.csv": 0,
        "tables/overall.csv": 2 * 2 * 4,
        "tables/overall_all.csv": 0,
        "tables/set_aside.csv": 2 * 3,
        "tables/pressure.csv": 2 * 3 * 4,
        "tables/counters.csv": 0,  # none of them ever grew
        "tables/expectations.csv": 0,
        "tables/claims.csv": 0,
        "tables/negative_controls.csv": 0,
        "tables/mechanism.csv": 0,
        "tables/locks.csv": 0,
        "tables/costs.csv": 0,  # nothing was recorded of them
        "tables/symbols.csv": 0,
        "tables/disturbance.csv": 2,
        "tables/control.csv": 2 * 4,
        "tables/position.csv": 2,
        "tables/nodes.csv": 2 * 2,
        "tables/ratios.csv": 2 * 8 * 2 * 4 * 4,
        "tables/latency.csv": 2 * 3 * 4 * 100,
    }


def test_finds_the_truth_again(pristine: Path) -> None:
    for row in read(pristine / "out/tables/deltas.csv") + read(pristine / "out/tables/overall.csv"):
        effect = 1.2 if row["direction"] == "higher" else 1 / 1.2
        patched = row["arm"] == "patched"
        assert float(row["ratio"]) == pytest.approx(effect if patched else 1, rel=0.03)
        assert (
            row["verdict"] == "faster"
            if patched
            else row["verdict"]
            in (
                "equivalent",
                "inconclusive",
            )
        )
        assert row["unit"] == ("MiB/s" if row["metric"] == "throughput_mib_s" else "ns")
        assert row["blocks"] == "8"


def test_values_are_written_as_the_contract_has_them(pristine: Path) -> None:
    samples = read(pristine / "out/samples.csv")
    assert {row["valid"] for row in samples} == {"true"}
    assert {row["nonblock"] for row in samples} == {"false"}
    assert {row["stressor_alive"] for row in samples if row["regime"] == "idle"} == {""}
    assert {row["stressor_alive"] for row in samples if row["regime"] != "idle"} == {"true"}
    row = samples[0]
    assert (row["regime"], row["block"], row["arm"]) == ("idle", "1", "baseline")
    assert (row["writers"], row["readers"], row["write_size"]) == ("1", "1", "65536")
    assert (row["acceleration"], row["vcpus"], row["memory_mib"]) == ("tcg", "2", "977")
    growth = int(row["cell_order"])  # what the generator lets its counters grow by
    assert row["pgscan_direct"] == row["steal_ticks"] == str(growth)
    assert row["allocstall"] == str(3 * growth)
    assert row["psi_memory_some_us"] == str(growth)
    assert row["psi_memory_full_us"] == row["oom_kill"] == "0"
    assert float(row["identity_error"]) == pytest.approx(0, abs=1e-9)
    rate = float(row["throughput_mib_s"])
    assert float(row["latency_mean_ns"]) == pytest.approx(65536 / 2**20 / rate * 1e9)
    assert len(row["throughput_mib_s"].replace(".", "")) <= 10
    digits = {row["bytes_written"].isdigit() for row in samples}
    assert digits == {True}


def test_frames_and_files_agree(results: Path) -> None:
    found = analyse(results / "raw", results / "again", SETTINGS)
    for name, frame in found.files().items():
        written = pd.read_csv(results / "again" / name)
        assert list(written.columns) == list(frame.columns)
        assert len(written) == len(frame)
    assert found.notes == ()


def test_order_of_rows(pristine: Path) -> None:
    rows = read(pristine / "out/tables/deltas.csv")
    order = {name: i for i, name in enumerate((*REGIMES, *SETTINGS.arms))}
    metrics = [metric.name for metric in SETTINGS.metrics]
    keys = [
        (
            order[row["regime"]],
            order[row["arm"]],
            metrics.index(row["metric"]),
            int(row["writers"]),
            int(row["readers"]),
        )
        for row in rows
    ]
    assert keys == sorted(keys)


def test_same_input_same_bytes_whatever_the_order_of_lines(results: Path) -> None:
    before = contents(results / "out")
    rng = np.random.default_rng(7)

    def shuffle(records: list[dict[str, Any]]) -> None:
        records[1:-1] = [records[1:-1][i] for i in rng.permutation(len(records) - 2)]

    paths = sorted((results / "raw").rglob("*.jsonl"))
    for path in paths:
        edit(path, shuffle)
    assert paths
    analyse(results / "raw", results / "out", SETTINGS)
    assert contents(results / "out") == before


def test_one_block_and_two(tmp_path: Path) -> None:
    for blocks in (1, 2):
        raw = write_raw(tmp_path / f"raw{blocks}", Truth(blocks=blocks))
        found = analyse(raw, tmp_path / f"out{blocks}", SETTINGS)
        assert set(found.deltas["verdict"]) == {"inconclusive"}
        assert found.deltas["ratio"].notna().all()
        rows = read(tmp_path / f"out{blocks}/tables/deltas.csv")
        assert {row["ratio_low"] + row["p_holm"] + row["blocks_to_settle"] for row in rows} == {""}
        assert "Regime memory-pressure has no block yet" in found.notes[0]


def test_an_arm_that_never_booted(results: Path) -> None:
    for path in (results / "raw").rglob("patched.*"):
        path.unlink()
    found = analyse(results / "raw", results / "out", SETTINGS)
    patched = found.deltas[found.deltas["arm"] == "patched"]
    assert len(patched) == 2 * 4 * 4
    assert set(patched["blocks"]) == {0}
    assert set(patched["verdict"]) == {"invalid"}
    assert set(patched["set_aside"]) == {8}
    assert found.validity["rule"].tolist() == ["incomplete-boot"] * (2 * 8 * 4)
    assert set(found.deltas.loc[found.deltas["arm"] == "control", "blocks"]) == {8}


def test_a_baseline_that_never_booted(results: Path) -> None:
    for path in (results / "raw").rglob("baseline.*"):
        path.unlink()
    found = analyse(results / "raw", results / "out", SETTINGS)
    assert found.ratios.empty
    assert set(found.overall["blocks"]) == {0}
    for name, header in COLUMNS.items():
        rule = ",incomplete-boot" if name == "tables/set_aside.csv" else ""
        assert (results / "out" / name).read_text().splitlines()[0] == header + rule


def test_no_sample_at_all(results: Path) -> None:
    for path in (results / "raw").rglob("*.jsonl"):
        path.write_text("")
    found = analyse(results / "raw", results / "out", SETTINGS)
    assert found.samples.empty
    assert len(found.validity) == 2 * 8 * 3 * 4
    assert (results / "out/samples.csv").read_text() == COLUMNS["samples.csv"] + "\n"


def test_factors_of_truth_and_size(tmp_path: Path) -> None:
    truth = Truth(
        blocks=3,
        factors={
            "processes": (False, True),
            "nonblock": (False, True),
            "write_size": (4096,),
        },
    )
    settings = AnalysisSettings(
        factors=("processes", "nonblock", "write_size"),
        baseline="baseline",
        arms=SETTINGS.arms,
        control="control",
        regimes=("idle",),
        arguments={"writers": 1, "readers": 1},
    )
    found = analyse(write_raw(tmp_path / "raw", truth), tmp_path / "out", settings)
    assert set(found.deltas["blocks"]) == {3}
    header = (tmp_path / "out/samples.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)
    assert header[7:10] == ["processes", "nonblock", "write_size"]
    cells = [
        (row["processes"], row["nonblock"]) for row in read(tmp_path / "out/tables/deltas.csv")
    ]
    assert cells[:4] == [
        ("false", "false"),
        ("false", "true"),
        ("true", "false"),
        ("true", "true"),
    ]
    assert found.validity.empty


def test_counters_that_the_kernel_lacks_are_empty_not_zero(results: Path) -> None:
    def forget(records: list[dict[str, Any]]) -> None:
        for name in ("pswpin", "allocstall_dma", "allocstall_normal", "allocstall_movable"):
            del records[1]["grown"][f"vmstat.{name}"]
        del records[1]["grown"]["psi.cpu.some"]
        records[2]["grown"] = None

    edit(results / "raw/idle/block-001/patched.jsonl", forget)
    found = analyse(results / "raw", results / "out", SETTINGS)
    rows = {
        row["cell_order"]: row
        for row in read(results / "out/samples.csv")
        if (row["regime"], row["block"], row["arm"]) == ("idle", "1", "patched")
    }
    assert (rows["1"]["pswpin"], rows["1"]["allocstall"], rows["1"]["psi_cpu_some_us"]) == (
        "",
        "",
        "",
    )
    assert rows["1"]["pswpout"] == "0"
    assert (rows["2"]["pgscan_direct"], rows["2"]["steal_ticks"]) == ("", "")
    assert found.samples["valid"].all()


def test_details_with_commas_quotes_and_newlines_survive(results: Path) -> None:
    error = 'pipe_bench: "a", b\nc'
    edit(
        results / "raw/idle/block-001/patched.jsonl",
        lambda r: r[1].update(status="failed", error=error, exit_status=1, bench=None),
    )
    analyse(results / "raw", results / "out", SETTINGS)
    (row,) = read(results / "out/validity.csv")
    assert row["detail"] == 'pipe_bench: "a", b c'
    assert (row["value"], row["limit"]) == ("1", "0")
    failed = [r for r in read(results / "out/samples.csv") if r["valid"] == "false"]
    assert len(failed) == 1
    # What was asked for is known all the same.
    shown = [failed[0][name] for name in ("status", "throughput_mib_s", "writes", "nonblock")]
    assert shown == ["failed", "", "", "false"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bench: bench.update(writes="many"), "writes: the output says 'many', which is no"),
        (
            lambda bench: bench.update(writes=1.5),
            "the output says 1.5, which is no integer",
        ),
        (lambda bench: bench.update(writes=2**64), "which is no integer of 64 bits"),
        (lambda bench: bench.update(throughput_mib_s=float("nan")), "throughput_mib_s: the output"),
        (lambda bench: bench.update(throughput_mib_s=10**400), "throughput_mib_s: the output says"),
        (lambda bench: bench.pop("throughput_mib_s"), "it has no throughput_mib_s"),
        (
            lambda bench: bench["write_latency_ns"].pop("mean"),
            "it has no latency_mean_ns (write_latency_ns.mean)",
        ),
    ],
)
def test_a_sample_whose_output_is_not_understood_is_set_aside_with_the_reason(
    results: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    edit(results / "raw/idle/block-001/patched.jsonl", lambda r: change(r[1]["bench"]))
    analyse(results / "raw", results / "out", SETTINGS)
    (row,) = read(results / "out/validity.csv")
    assert (row["rule"], row["arm"], row["block"]) == ("failed", "patched", "1")
    assert row["detail"].startswith("its output was not understood: ")
    assert said in row["detail"]


def test_bad_raw_data_leaves_older_results_alone(results: Path) -> None:
    before = contents(results / "out")
    (results / "raw/idle/block-003/patched.jsonl").write_text('{"record":"boot"')
    with pytest.raises(KdeltaError, match=r"patched\.jsonl:1"):
        analyse(results / "raw", results / "out", SETTINGS)
    assert contents(results / "out") == before


@pytest.mark.parametrize("rows", [tables.ROWS, 2])
def test_tables_that_cannot_be_made_leave_older_results_alone(
    results: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """The samples are made text meanwhile, by other processes if they are many."""
    monkeypatch.setattr(tables, "ROWS", rows)
    before = contents(results / "out")
    (results / "raw/idle/block-003/patched.jsonl").unlink()
    wanted = Expectation("idle", "nothing_counts_this", 1, None, 1.0)
    with pytest.raises(KdeltaError, match="nothing_counts_this"):
        analyse(results / "raw", results / "out", replace(SETTINGS, expectations=(wanted,)))
    assert contents(results / "out") == before


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    tables.write_csv(pd.DataFrame({"a": [1]}), path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KdeltaError, match=r"a\.csv: cannot be written: No space left on device"):
        tables.write_csv(pd.DataFrame({"a": [2]}), path)
    assert contents(tmp_path) == {"a.csv": b"a\n1\n"}


def test_a_folder_that_is_a_file_is_named(tmp_path: Path, pristine: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(KdeltaError, match=r"out/samples\.csv: cannot be written"):
        analyse(pristine / "raw", tmp_path / "out", SETTINGS)


def test_csv_text_forms() -> None:
    frame = pd.DataFrame(
        {
            "f": [1 / 3, math.nan, 2.0],
            "i": pd.array([1, None, 12345678901], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "mixed": ["x", True, 3],
        }
    )
    assert tables.csv_text(frame) == (
        "f,i,b,mixed\n0.3333333333,1,true,x\n,,,true\n2,12345678901,false,3\n"
    )


def test_confidence_and_margin_are_used(results: Path) -> None:
    wide = replace(SETTINGS, confidence=0.99, equivalence_margin=0.5)
    found = analyse(results / "raw", results / "wide", wide)
    usual = analyse(results / "raw", results / "out", SETTINGS)
    assert set(found.deltas["verdict"]) == {"equivalent"}
    assert set(found.deltas["confidence"]) == {0.99}
    wider = found.deltas["ratio_high"] / found.deltas["ratio_low"]
    assert (wider > usual.deltas["ratio_high"] / usual.deltas["ratio_low"]).all()


def test_an_interrupted_block_is_noted(results: Path) -> None:
    (results / "raw/idle/block-009").mkdir()
    found = analyse(results / "raw", results / "again", SETTINGS)
    (note,) = found.notes
    assert "block-009: the block was begun and not finished" in note
    assert contents(results / "again") == contents(results / "out")
