# SPDX-License-Identifier: GPL-2.0-only
"""The whole pipeline, once, for real: what it leaves behind and what it would do again."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from statistics import median

import pandas as pd
import pytest

from tests.browser import Browser

from .conftest import Project

KERNELS = ("baseline", "bulk", "loop")
ARMS = {*KERNELS, "control"}
REGIMES = {"idle"}


def planned_jobs(project: Project) -> dict[str, int]:
    """Rule name -> number of jobs that a dry run plans."""
    done = project.snakemake("-n")
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    table = text.partition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


def test_every_cell_was_measured_in_every_arm_and_block(finished: Project) -> None:
    samples = pd.read_csv(finished.run_dir / "samples.csv")
    assert len(samples) == len(REGIMES) * 3 * 2 * len(ARMS) * 4
    assert set(samples["regime"]) == REGIMES
    assert set(samples["arm"]) == ARMS
    assert (samples["status"] == "ok").all()
    assert (samples["throughput_mib_s"] > 0).all()
    assert (samples["bytes_written"] == samples["writes"] * samples["write_size"]).all()


def test_the_arms_of_a_cell_ran_in_turns(finished: Project) -> None:
    """Each of the four once in every round of every cell, at four places, in no fixed order."""
    samples = pd.read_csv(finished.run_dir / "samples.csv")
    turns = samples.groupby(["block", "round", "writers", "readers"])
    assert all(sorted(slots) == [1, 2, 3, 4] for slots in turns["slot"].agg(list))
    orders = {tuple(turn.sort_values("slot")["arm"]) for _, turn in turns}
    assert len(orders) >= 4


def test_guests_stood_still_while_others_ran(finished: Project) -> None:
    """Their clocks too: between two slices of a boot there is less time than slices take."""
    for path in finished.run_dir.glob("raw/*/block-*/*.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        slices = [record for record in records if record["record"] == "sample"]
        times = [(s["monotonic_start_ns"], s["monotonic_end_ns"]) for s in slices]
        gaps = [(start - end) / 1e9 for (_, end), (start, _) in pairwise(times)]
        ran = [(end - start) / 1e9 for start, end in times]
        # Three other arms ran in between, each as long as this one.
        assert median(gaps) < 2 * median(ran)
        assert slices[0]["host_cpu"]["own_s"] > 0


def test_closed_loop_identity_holds_or_the_sample_is_marked(finished: Project) -> None:
    samples = pd.read_csv(finished.run_dir / "samples.csv")
    latency_s = samples["latency_mean_ns"] / 1e9
    implied = samples["writers"] * samples["write_size"] / latency_s / 2**20
    error = (implied / samples["throughput_mib_s"] - 1).abs()
    marked = ~samples["valid"].astype(bool)
    assert ((error <= 0.02) | marked).all()
    assert (error <= 0.02).mean() > 0.8


def test_guests_were_the_ones_asked_for(finished: Project) -> None:
    images = {
        name: json.loads((finished.results / "kernels" / name / "image.json").read_text())
        for name in KERNELS
    }
    for path in finished.run_dir.glob("raw/*/block-*/*.jsonl"):
        boot = json.loads(path.read_text().splitlines()[0])
        image = images[{"control": "baseline"}.get(boot["arm"], boot["arm"])]
        assert boot["gate"]["ok"], boot["gate"]
        assert image["key"][:12] in boot["gate"]["kernel_version"]
        assert boot["gate"]["config_sha256"] == image["config_sha256"]
        assert boot["gate"]["memory_cgroups"] == 1
        assert boot["self_checks"]["pipe_bench"]["ok"], boot["self_checks"]


@pytest.mark.parametrize("arm", KERNELS[1:])
def test_only_the_patched_object_differs(finished: Project, arm: str) -> None:
    differ = (finished.results / "kernels" / arm / "objects-differ.txt").read_text()
    reasons = dict(line.split() for line in differ.splitlines() if not line.startswith("#"))
    patched = {name for name, reason in reasons.items() if reason == "patched"}
    assert patched == {"fs/pipe.o"}
    # The others hold the image's key, or addresses behind the code that grew.
    assert set(reasons.values()) <= {"patched", "identity", "layout"}


def test_tables_hold_every_regime_cell_and_metric(finished: Project) -> None:
    deltas = pd.read_csv(finished.run_dir / "tables" / "deltas.csv")
    ours = deltas[deltas["arm"] == "bulk"]
    counts = ours.groupby(["regime", "metric"]).size()
    for regime in REGIMES:
        for metric in ("throughput_mib_s", "latency_mean_ns"):
            assert counts[regime, metric] == 4
    assert set(deltas["arm"]) == ARMS - {"baseline"}
    usable = deltas[deltas["blocks"] >= 3]
    assert len(usable) > 0
    assert (usable["ratio_low"] <= usable["ratio"]).all()
    assert (usable["ratio"] <= usable["ratio_high"]).all()


def test_the_terminal_ended_with_the_table_and_the_report(finished: Project) -> None:
    shown = (finished.root / "stdout.txt").read_text()
    assert "Change of throughput against baseline" in shown
    assert "What weakens it:" in shown
    assert len(shown.splitlines()) <= 40
    assert str(finished.run_dir / "report" / "index.html") in shown


def test_every_form_says_that_emulated_numbers_are_emulated(finished: Project) -> None:
    mode = json.loads((finished.results / "acceleration.json").read_text())["mode"]
    report = finished.run_dir / "report"
    pdf = subprocess.run(
        ["pdftotext", str(report / "paper.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    for text in ((report / "tables.txt").read_text(), (report / "index.html").read_text(), pdf):
        assert ("emulated" in text[: max(6000, len(text) // 3)].lower()) == (mode == "tcg")


def test_a_finished_run_plans_nothing(finished: Project) -> None:
    assert planned_jobs(finished) == {}


def test_touched_sources_build_and_measure_nothing_and_a_changed_line_does(
    copied: Project,
) -> None:
    for folder in ("patches", "kernel-configs", "workloads", "config/experiments", "workflow"):
        for path in (copied.root / folder).rglob("*"):
            path.touch()
    assert not {"measure_block", "build_kernel"} & planned_jobs(copied).keys()

    patch = next((copied.root / "patches/pipe-prealloc/linux-6.12").glob("0001-*.patch"))
    text = patch.read_text()
    assert "#define PIPE_PREALLOC_MAX\t8" in text
    patch.write_text(text.replace("#define PIPE_PREALLOC_MAX\t8", "#define PIPE_PREALLOC_MAX\t4"))
    jobs = planned_jobs(copied)
    assert jobs["build_kernel"] == 1
    assert jobs["measure_block"] == 3
    assert "fetch_source" not in jobs


def test_the_page_renders_in_a_browser(finished: Project, tmp_path: Path) -> None:
    page = finished.run_dir / "report" / "index.html"
    with Browser(tmp_path) as browser:
        browser.open(page.as_uri())
        assert browser.evaluate("document.querySelectorAll('svg.figure').length") > 3
        assert "No memory pressure" in browser.evaluate("document.body.textContent")
        assert not browser.complaints()
        assert browser.requests() == [page.as_uri()]
