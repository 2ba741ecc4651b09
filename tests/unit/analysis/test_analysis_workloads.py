# SPDX-License-Identifier: GPL-2.0-only
"""Several workloads in the same boots: the tables of each are those of a run of it alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic import SETTINGS, Truth, write_raw

from kdelta.analysis.run import analyse
from kdelta.commands.measure import lines_so_far
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.workload.folder import load_workload
from tests.unit.export.export_runs import experiment_of

HACKBENCH = replace(
    SETTINGS,
    factors=("groups",),
    workload=load_workload("hackbench"),
    workload_name="hack",
    cells=None,
    claims=(),
    expectations=(),
    negative_controls=(),
)
SLOWER = {"patched": 2.0}
"""Seconds of hackbench, of arms that take other than one."""


def add_hackbench(raw: Path) -> None:
    """Let every boot of a run of pipe_bench run hackbench too, in turns with it."""
    for folder in sorted(raw.glob("*/block-*")):
        path = folder / "schedule.json"
        schedule = json.loads(path.read_text())
        count = len(schedule["cells"])
        schedule["workloads"] = ["pipe_bench"] * count + ["hack"]
        schedule["cells"].append({"groups": 4})
        schedule["rounds"][0].append({"cell": count, "arms": schedule["arms"]})
        path.write_text(json.dumps(schedule))
        for file in folder.glob("*.jsonl"):
            records = [json.loads(line) for line in file.read_text().splitlines()]
            file.write_text("".join(json.dumps(r) + "\n" for r in _with_hackbench(records)))


def _with_hackbench(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The boot's records with one of hackbench after the first slice; others come later."""
    made = []
    for record in records:
        if record["record"] == "boot":
            record["self_checks"] = {"pipe_bench": record.pop("self_check")}
        if record["record"] == "end":
            record["samples"] += 1
        if record["record"] != "sample":
            made.append(record)
            continue
        first = made[-1]["record"] != "sample"
        record["cell_order"] += not first
        made.append({**record, "workload": "pipe_bench"})
        if first:
            seconds = SLOWER.get(record["arm"], 1.0) * (1 + record["block"] / 100)
            said = f"Time: {seconds:.3f}\n"
            other = {"workload": "hack", "cell": {"groups": 4}, "output": said, "bench": None}
            made.append({**record, **other, "cell_order": record["cell_order"] + 1})
    return made


def test_each_is_analysed_as_if_it_were_alone(tmp_path: Path) -> None:
    write_raw(tmp_path / "alone/raw", Truth())
    alone = analyse(tmp_path / "alone/raw", tmp_path / "alone", SETTINGS)
    write_raw(tmp_path / "both/raw", Truth())
    add_hackbench(tmp_path / "both/raw")
    pipes = analyse(tmp_path / "both/raw", tmp_path / "both/pipe_bench", SETTINGS)
    for name in ("deltas", "overall", "validity", "control", "ratios", "latency"):
        pd.testing.assert_frame_equal(getattr(pipes, name), getattr(alone, name))
    hack = analyse(tmp_path / "both/raw", tmp_path / "both/hack", HACKBENCH)
    assert not len(hack.validity)
    effects = hack.overall.set_index(["regime", "arm"])["delta_percent"]
    # Its time doubles with the patched kernel, by construction, in every block.
    for (_, arm), effect in effects.items():
        assert effect == pytest.approx(100 * (SLOWER.get(arm, 1.0) - 1), abs=0.2)


def test_while_it_is_measured_each_has_a_line(tmp_path: Path) -> None:
    truth = Truth(blocks=3)
    write_raw(tmp_path, truth)
    add_hackbench(tmp_path)
    data = experiment_of(truth, title="both")
    data["workloads"]["hack"] = {"program": "hackbench", "matrix": {"groups": [4]}}
    experiment = Experiment.model_validate(data)
    pipes, hack = lines_so_far(experiment, "quick", tmp_path, tmp_path, "idle")
    assert pipes.startswith("pipe_bench: idle: throughput after all 3 blocks: patched +")
    assert hack.startswith("hack: idle: time after all 3 blocks: patched +100.0% [")
    alone = Experiment.model_validate(experiment_of(truth, title="one"))
    assert [
        f"pipe_bench: {line}" for line in lines_so_far(alone, "quick", tmp_path, tmp_path, "idle")
    ] == [pipes]


def test_a_slice_of_another_workload_that_is_missing_is_seen_by_both(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", Truth())
    add_hackbench(tmp_path / "raw")
    path = tmp_path / "raw/idle/block-001/patched.jsonl"
    lines = [line for line in path.read_text().splitlines() if '"hack"' not in line]
    path.write_text("\n".join(lines) + "\n")
    for settings in (SETTINGS, HACKBENCH):
        found = analyse(tmp_path / "raw", tmp_path / settings.workload_name, settings).validity
        broken = found[found["rule"] == "incomplete-boot"]
        assert set(zip(broken["regime"], broken["block"], broken["arm"], strict=True)) == {
            ("idle", 1, "patched")
        }


def test_a_run_of_other_workloads_is_refused(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", Truth())
    add_hackbench(tmp_path / "raw")
    other = replace(HACKBENCH, workload_name="fio")
    with pytest.raises(KdeltaError, match=r"no cell of workload 'fio', only of pipe_bench, hack"):
        analyse(tmp_path / "raw", tmp_path / "out", other)
