# SPDX-License-Identifier: GPL-2.0-only
"""Every validity rule, triggered by a raw folder that breaks exactly it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic import QUIET_CONSOLE, SETTINGS, Truth, edit, write_raw

from kdelta.analysis.raw import read_raw
from kdelta.analysis.run import AnalysisResult, analyse_boots

FOLDER = Path("memory-pressure/block-002")
Records = list[dict[str, Any]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", Truth(regimes=("memory-pressure",), blocks=4))


def result(raw: Path) -> AnalysisResult:
    return analyse_boots(read_raw(raw, SETTINGS).boots, SETTINGS)


def broken(raw: Path) -> pd.DataFrame:
    """validity.csv, after checking that samples.csv says the same."""
    found = result(raw)
    keys = ["regime", "block", "arm", "writers", "readers"]
    invalid = set(
        found.samples.loc[~found.samples["valid"], keys].itertuples(index=False, name=None)
    )
    listed = set(found.validity[keys].itertuples(index=False, name=None))
    assert invalid <= listed
    assert len(found.validity) == len(found.validity.drop_duplicates([*keys, "rule"]))
    return found.validity


def test_clean_data_breaks_nothing(raw: Path) -> None:
    assert broken(raw).empty
    assert result(raw).samples["valid"].all()
    assert set(result(raw).deltas["blocks"]) == {4}


def _one_oom_kill(records: Records) -> None:
    records[2]["grown"]["vmstat.oom_kill"] += 1


SAMPLE_RULES: list[tuple[str, Callable[[Records], object], float | None, float | None]] = [
    ("failed", lambda r: r[2].update(status="failed", error="pipe_bench: no", exit_status=1), 1, 0),
    ("failed", lambda r: r[2].update(exit_status=-9), -9, 0),
    ("failed", lambda r: r[2].update(status="failed", bench=None), 0, 0),
    ("cell", lambda r: r[2]["bench"].update(readers=77), None, None),
    ("bytes", lambda r: r[2]["bench"].update(bytes_read_total=0), None, 0),
    ("bytes", lambda r: r[2]["bench"].update(bytes_written=1), None, 0),
    ("bytes", lambda r: r[2]["bench"].update(writes=0), 0, 1),
    ("bytes", lambda r: r[2]["bench"].update(payload_errors=3), 3, 0),
    ("stressor-dead", lambda r: r[2].update(stressor_alive=False), None, None),
    ("stressor-dead", lambda r: r[2].update(stressor_alive=None), None, None),
    ("oom-kill", _one_oom_kill, 1, 0),
]


@pytest.mark.parametrize(("rule", "change", "value", "limit"), SAMPLE_RULES)
def test_rules_of_a_sample_set_that_sample_aside(
    raw: Path,
    rule: str,
    change: Callable[[Records], object],
    value: float | None,
    limit: float | None,
) -> None:
    edit(raw / FOLDER / "patched.jsonl", change)
    validity = broken(raw)
    assert list(validity["rule"]) == [rule]
    row = validity.iloc[0]
    assert (row["regime"], row["block"], row["arm"]) == ("memory-pressure", 2, "patched")
    assert row["detail"]
    if value is not None:
        assert row["value"] == value
    assert row["limit"] == limit or (limit is None and pd.isna(row["limit"]))
    assert (~result(raw).samples["valid"]).sum() == 1
    deltas = result(raw).deltas
    cell = (deltas["writers"] == row["writers"]) & (deltas["readers"] == row["readers"])
    assert set(deltas.loc[(deltas["arm"] == "patched") & cell, "blocks"]) == {3}
    assert set(deltas.loc[(deltas["arm"] != "patched") | ~cell, "blocks"]) == {4}


@pytest.mark.parametrize(("error", "broken_rules"), [(0.019, 0), (0.021, 1), (-0.021, 1)])
def test_closed_loop_identity(raw: Path, error: float, broken_rules: int) -> None:
    def change(records: Records) -> None:
        records[3]["bench"]["write_latency_ns"]["mean"] /= 1 + error

    edit(raw / FOLDER / "baseline.jsonl", change)
    validity = broken(raw)
    assert list(validity["rule"]) == ["closed-loop-identity"] * broken_rules
    if broken_rules:
        assert validity["value"].iloc[0] == pytest.approx(error)
        assert validity["limit"].iloc[0] == 0.02
    errors = result(raw).samples["identity_error"]
    assert errors.abs().max() == pytest.approx(abs(error))


def test_identity_that_cannot_be_computed_is_broken(raw: Path) -> None:
    edit(raw / FOLDER / "baseline.jsonl", lambda r: r[3]["bench"].update(throughput_mib_s=0.0))
    validity = broken(raw)
    values = dict(zip(validity["rule"], validity["value"], strict=True))
    assert math.isnan(values.pop("closed-loop-identity"))
    assert values == {"failed": 0}  # no ratio can be made of it


BOOT_RULES: list[tuple[str, Callable[[Records], object]]] = [
    ("incomplete-boot", lambda r: r.pop()),
    ("incomplete-boot", lambda r: r[-1].update(samples=5)),
    ("gate", lambda r: r[0]["gate"].update(ok=False, failures=["vcpus: asked 2, found 1"])),
    ("self-check", lambda r: r[0]["self_check"].update(ok=False, payload_errors=2)),
    ("self-check", lambda r: r[0].update(self_check=None)),
    ("stressor-not-settled", lambda r: r[0]["stressor"].update(settled=False)),
]


@pytest.mark.parametrize(("rule", "change"), BOOT_RULES)
def test_rules_of_a_boot_set_every_sample_of_it_aside(
    raw: Path, rule: str, change: Callable[[Records], object]
) -> None:
    edit(raw / FOLDER / "patched.jsonl", change)
    validity = broken(raw)
    assert list(validity["rule"]) == [rule] * 4
    assert set(validity["arm"]) == {"patched"}
    deltas = result(raw).deltas
    assert set(deltas.loc[deltas["arm"] == "patched", "blocks"]) == {3}
    assert set(deltas.loc[deltas["arm"] == "control", "blocks"]) == {4}


def test_gate_detail_gives_the_failures(raw: Path) -> None:
    edit(raw / FOLDER / "patched.jsonl", BOOT_RULES[2][1])
    validity = broken(raw)
    assert set(validity["detail"]) == {"vcpus: asked 2, found 1"}
    assert set(validity["value"]) == {1.0}


def test_kernel_splat(raw: Path) -> None:
    log = raw / FOLDER / "baseline.console.log"
    log.write_text(QUIET_CONSOLE + "WARNING: CPU: 0 PID: 9 at fs/pipe.c:1 f+0x1/0x2\nCall Trace:\n")
    validity = broken(raw)
    assert list(validity["rule"]) == ["kernel-splat"] * 4
    assert set(validity["value"]) == {2.0}
    assert validity["detail"].str.contains("warning: WARNING: CPU: 0").all()
    # Without its baseline a block says nothing, of any arm.
    assert set(result(raw).deltas["blocks"]) == {3}


def test_a_console_that_is_missing_is_noted(raw: Path) -> None:
    (raw / FOLDER / "baseline.console.log").unlink()
    assert broken(raw).empty
    (note,) = [n for n in result(raw).notes if "console" in n]
    assert "block 2, arm baseline" in note


def test_only_the_last_sample_is_in_doubt_if_the_stressor_died_after_it(raw: Path) -> None:
    edit(raw / FOLDER / "patched.jsonl", lambda r: r[-1].update(stressor_alive=False))
    validity = broken(raw)
    assert list(validity["rule"]) == ["stressor-dead"]
    samples = result(raw).samples
    assert list(samples.loc[~samples["valid"], "cell_order"]) == [4]


def test_cells_that_never_ran_are_listed_too(raw: Path) -> None:
    def stop_after_one(records: Records) -> None:
        del records[2:]

    edit(raw / FOLDER / "patched.jsonl", stop_after_one)
    (raw / FOLDER / "control.jsonl").unlink()
    validity = broken(raw)
    assert validity.groupby("arm")["rule"].apply(list).to_dict() == {
        "patched": ["incomplete-boot"] * 4,
        "control": ["incomplete-boot"] * 4,
    }
    assert set(validity["limit"]) == {4.0}
    assert set(validity.loc[validity["arm"] == "patched", "value"]) == {1.0}
    assert set(validity.loc[validity["arm"] == "control", "value"]) == {0.0}


def test_a_cell_left_out_of_a_boot_that_ended_well(raw: Path) -> None:
    def leave_out(records: Records) -> None:
        del records[2]
        records[-1]["samples"] = 3

    edit(raw / FOLDER / "patched.jsonl", leave_out)
    validity = broken(raw)
    assert list(validity["rule"]) == ["incomplete-boot"]
    assert list(validity["detail"]) == ["the cell was not run"]


def test_a_boot_stopped_at_its_gate_says_so(raw: Path) -> None:
    def stop(records: Records) -> None:
        records[0]["gate"].update(ok=False, failures=["memory controller: absent"])
        records[0]["self_check"] = None
        del records[1:-1]
        records[-1].update(samples=0, ok=False)

    edit(raw / FOLDER / "patched.jsonl", stop)
    assert sorted(broken(raw)["rule"]) == ["gate"] * 4 + ["incomplete-boot"] * 4
