# SPDX-License-Identifier: GPL-2.0-only
"""What regimes do to a real kernel, and what tracing says of where pages are allocated."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Project

ARMS = ["baseline", "bulk", "loop", "control"]


def grown(sample: dict[str, dict[str, int]], name: str) -> int:
    """A counter's growth over a sample, all zones together, from the raw records."""
    return sum(by for key, by in sample["grown"].items() if key.startswith(f"vmstat.{name}"))


def records(path: Path, kind: str) -> list[dict[str, dict[str, int]]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["record"] == kind]


def test_reclaim_reaches_direct_reclaim_in_every_arm(conditions: Path) -> None:
    for arm in ARMS:
        samples = records(conditions / f"raw/reclaim/block-001/{arm}.jsonl", "sample")
        assert len(samples) == 4
        for sample in samples:
            assert grown(sample, "allocstall") > 0, arm
            assert grown(sample, "pgscan_direct") > 0, arm
            assert grown(sample, "oom_kill") == 0, arm
    expected = pd.read_csv(conditions / "tables/expectations.csv")
    reclaim = expected[expected["regime"] == "reclaim"]
    assert sorted(set(reclaim["arm"])) == sorted(ARMS)
    assert reclaim["met"].all()


def test_the_cover_letters_pressure_reclaims_nothing_and_the_report_says_so(
    conditions: Path,
) -> None:
    expected = pd.read_csv(conditions / "tables/expectations.csv")
    claimed = expected[
        (expected["regime"] == "memory-pressure") & (expected["bound"] == "at_least")
    ]
    assert len(claimed) == len(ARMS)
    assert not claimed["met"].any()
    text = (conditions / "report/tables.txt").read_text()
    assert "Not met" in text


def test_the_stressor_had_settled_and_lived_to_the_end(conditions: Path) -> None:
    boots = list(conditions.glob("raw/memory-pressure/block-*/*.jsonl"))
    assert len(boots) == len(ARMS)
    for path in boots:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        stressor = lines[1]
        assert (stressor["record"], stressor["settled"]) == ("stressor", True), stressor
        # --vm-bytes 50% of a 1 GiB guest.
        assert stressor["resident_kib"] > 400_000
        assert lines[-1]["stressor_alive"] is True


def test_the_workload_is_in_a_memory_cgroup_only_where_the_regime_says_so(
    conditions: Path,
) -> None:
    for regime, cgroups, where in (("idle-memcg", 2, "/kdelta"), ("reclaim", 1, "/")):
        for arm in ARMS:
            (boot,) = records(conditions / f"raw/{regime}/block-001/{arm}.jsonl", "boot")
            gate: dict[str, object] = {**boot["gate"]}
            assert (gate["memory_cgroups"], gate["workload_cgroup"]) == (cgroups, where)
    samples = pd.read_csv(conditions / "samples.csv")
    assert (samples["memcg"] == (samples["regime"] == "idle-memcg")).all()


def test_every_probe_works_in_every_cell_of_a_boot(finished: Project, conditions: Path) -> None:
    runs = (finished.run_dir, conditions)
    boots = [records(path, "mechanism") for run in runs for path in run.glob("mechanism/*/*.jsonl")]
    assert {len(cells) for cells in boots} == {2}
    assert {str(cell.get("error")) for cells in boots for cell in cells} == {"None"}


@pytest.fixture
def traced(conditions: Path, finished: Project) -> pd.DataFrame:
    """Mechanism tables of both runs, indexed by regime and arm; means over cells."""
    tables = [pd.read_csv(run / "tables/mechanism.csv") for run in (finished.run_dir, conditions)]
    table = pd.concat(tables)
    assert (table["status"] == "ok").all(), table[table["status"] != "ok"]
    return table.groupby(["regime", "arm"]).mean(numeric_only=True)


@pytest.mark.parametrize("regime", ["idle", "idle-memcg"])
@pytest.mark.parametrize("arm", ["baseline", "control"])
def test_the_baseline_allocates_under_the_lock(traced: pd.DataFrame, regime: str, arm: str) -> None:
    row = traced.loc[(regime, arm)]
    assert row["pages_before_lock_per_write"] == 0
    # 16 pages a write, less those that come from the pipe's cached page
    assert 14 <= row["pages_under_lock_per_write"] <= 16


@pytest.mark.parametrize("regime", ["idle", "idle-memcg"])
def test_loop_allocates_eight_pages_before_the_lock_anywhere(
    traced: pd.DataFrame, regime: str
) -> None:
    row = traced.loc[(regime, "loop")]
    assert 7.5 <= row["pages_before_lock_per_write"] <= 8
    assert 6 <= row["pages_under_lock_per_write"] <= 8.5


def test_bulk_allocates_eight_pages_but_one_in_a_memory_cgroup(traced: pd.DataFrame) -> None:
    """The kernel's bulk allocator gives one page back for accounted requests."""
    assert 7.5 <= traced.loc[("idle", "bulk")]["pages_before_lock_per_write"] <= 8
    inside = traced.loc[("idle-memcg", "bulk")]
    assert 0.9 <= inside["pages_before_lock_per_write"] <= 1.1
    assert inside["pages_under_lock_per_write"] >= 13


def test_waits_for_the_lock_were_seen(traced: pd.DataFrame) -> None:
    assert (traced["waits_per_write"] > 0).all()
    assert (traced["wait_us_per_write"] > 0).all()
