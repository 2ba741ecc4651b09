# SPDX-License-Identifier: GPL-2.0-only
"""What runs again after what: the real Snakefile and snakemake, with stand-ins for the steps."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.scripted_guest import PATIENCE_S, wait_for
from tests.integration.scripted_workflow import Workflow

MEASURE = {f"Measure {regime}, block 00{n}" for regime in ("idle", "pressed") for n in (1, 2)}
TRACE = {"Trace the mechanism: idle"}
BUILD = {f"Build the kernel: {arm}" for arm in ("baseline", "patched", "other")}
REPORT = {"Tables as text", "Figures", "The page", "The paper"}
ANALYSE = {"Samples, validity and delta tables", *REPORT}
MANIFEST = {"Record what ran, on what, from which bytes"}
# Looks which of them there are now: nothing that takes time.
GUESTS = {"What guests boot and run"}
PREPARE = {
    "Fetch the kernel source",
    "Build what runs in the guests",
    "Does this host run guests with KVM?",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A run that has ended well."""
    workflow = Workflow(tmp_path_factory.mktemp("rerun"))
    workflow.use_small_experiment()
    out = workflow.succeeds()
    assert "THE TABLES" in out.splitlines(), "a run ends with showing them"
    return workflow


@contextmanager
def changed(path: Path, old: str, new: str) -> Iterator[None]:
    """Change a file, and put it back as it was, its times included."""
    stat, text = path.stat(), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_what_a_run_calls(finished: Workflow) -> None:
    calls = finished.calls()
    verbs = [call.split()[0] for call in calls]
    counts = {verb: verbs.count(verb) for verb in verbs}
    assert counts == {
        "fetch": 1,
        "programs": 1,
        "build": 3,
        "probe": 1,
        "measure": 4,
        "mechanism": 1,
        "manifest": 1,
        "analyse": 1,
        "report": 4,
        "show": 1,
    }
    # the baseline is built first: the others' objects are compared with its
    builds = [call for call in calls if call.startswith("build")]
    assert "--arm baseline" in builds[0]
    assert "--baseline" not in builds[0]
    assert all("--baseline results/small/kernels/baseline" in call for call in builds[1:])
    # nothing runs beside a measurement
    measures = [call for call in calls if call.startswith("measure")]
    assert {re.sub(r" --key \w{24}\.\w{24} ", " ", call) for call in measures} == {
        "measure --experiment small.yaml --protocol quick --kernels results/small/kernels"
        f" --programs results/small/programs --regime {regime} --block {block}"
        " --acceleration results/small/acceleration.json"
        f" --output results/small/quick/raw/{regime}/block-{block}"
        for regime in ("idle", "pressed")
        for block in ("001", "002")
    }


def test_a_finished_run_plans_nothing(finished: Workflow) -> None:
    assert finished.planned() == set()


def test_touching_anything_builds_and_measures_nothing(finished: Workflow) -> None:
    """A `git checkout` back and forth does this."""
    folders = ("patches", "kernel-configs", "src", "config", "report", "workflow", "Snakefile")
    touched = []
    for name in folders:
        top = finished.root / name
        for path in (top, *top.rglob("*")):
            if path.is_file():
                touched.append((path, path.stat()))
                path.touch()
    (finished.root / "small.yaml").touch()
    try:
        # snakemake looks at the content of small files, and may see that nothing is new
        assert finished.planned() <= ANALYSE
    finally:
        for path, stat in touched:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_byte_of_a_patch(finished: Workflow) -> None:
    with changed(finished.root / "patches" / "series" / "0001-first.patch", "first", "First"):
        planned = finished.planned()
    assert planned == {"Build the kernel: patched", *GUESTS, *MEASURE, *TRACE, *MANIFEST, *ANALYSE}


def test_a_line_of_a_config_fragment(finished: Workflow) -> None:
    with changed(finished.root / "kernel-configs" / "guest.config", "SMP", "SMP2"):
        planned = finished.planned()
    # emulation was asked for: there is no kernel to be tried with KVM
    assert planned == {*BUILD, *GUESTS, *MEASURE, *TRACE, *MANIFEST, *ANALYSE}


def test_a_fragment_for_another_kernel_or_acceleration(finished: Workflow) -> None:
    configs = finished.root / "kernel-configs"
    for name, planned in (("linux-6.19", set()), ("kvm", set()), ("linux-6.1", BUILD)):
        beside = configs / f"guest.{name}.config"
        kept = beside.read_text() if beside.exists() else None
        beside.write_text("CONFIG_X=y\n")
        assert finished.planned() & BUILD == planned, name
        beside.unlink() if kept is None else beside.write_text(kept)


def test_a_probe_that_finds_the_same_again_costs_nothing(finished: Workflow) -> None:
    record = finished.root / "results/small/acceleration.json"
    record.write_text(record.read_text())
    assert finished.planned() <= GUESTS | MANIFEST | ANALYSE


def test_a_probe_that_finds_something_else_builds_anew(finished: Workflow) -> None:
    record = finished.root / "results/small/acceleration.json"
    with changed(record, "tcg", "kvm"):
        assert finished.planned() >= BUILD


def test_the_benchmark(finished: Workflow) -> None:
    source = finished.root / "workloads" / "pipe_bench" / "pipe_bench.c"
    with changed(source, "pipe_bench", "pipe_bench2"):
        planned = finished.planned()
    assert planned == {
        "Build what runs in the guests",
        *GUESTS,
        *MEASURE,
        *TRACE,
        *MANIFEST,
        *ANALYSE,
    }


def test_the_code_of_the_analysis_and_the_text_of_rules(finished: Workflow) -> None:
    module = finished.root / "src" / "kdelta" / "analysis" / "deltas.py"
    with changed(module, "# SPDX", "# changed\n# SPDX"):
        assert finished.planned() == ANALYSE
    rules = finished.root / "workflow" / "rules" / "measure.smk"
    with changed(rules, "exec kdelta measure ", "exec  kdelta measure "):
        assert finished.planned() == set()


def test_more_blocks_keep_those_that_there_are(finished: Workflow) -> None:
    with changed(finished.root / "small.yaml", "blocks: 2", "blocks: 3"):
        planned = finished.planned()
    new = {"Measure idle, block 003", "Measure pressed, block 003"}
    assert planned == {*new, *MANIFEST, *ANALYSE}


def test_a_regimes_duration(finished: Workflow) -> None:
    with changed(finished.root / "small.yaml", "idle: 0.5", "idle: 0.6"):
        planned = finished.planned()
    idle = {step for step in MEASURE if "idle" in step}
    assert planned == {*idle, *MANIFEST, *ANALYSE}


def test_a_traces_duration(finished: Workflow) -> None:
    with changed(finished.root / "small.yaml", "  - idle\n", "  - idle\n  duration_s: 0.2\n"):
        assert finished.planned() == {*TRACE, *MANIFEST, *ANALYSE}


def test_limits_and_expectations_are_the_analysis_alone(finished: Workflow) -> None:
    expects = "title: idle\n    expects: [{counter: oom_kill, at_most: 0}]\n"
    with changed(finished.root / "small.yaml", "title: idle\n", expects):
        assert finished.planned() == {*MANIFEST, *ANALYSE}
    with changed(finished.root / "small.yaml", "seed: 7", "validity: {steal: 0.5}\nseed: 7"):
        assert finished.planned() == {*MANIFEST, *ANALYSE}


def test_what_a_regime_does_is_measured_again(finished: Workflow) -> None:
    with changed(
        finished.root / "small.yaml", "title: pressed\n", "title: pressed\n    swap: 1M\n"
    ):
        planned = finished.planned()
    pressed = {step for step in MEASURE if "pressed" in step}
    assert planned == {*pressed, *MANIFEST, *ANALYSE}


def test_words_for_people_are_only_written_again(finished: Workflow) -> None:
    with changed(finished.root / "small.yaml", "A small experiment", "Another title"):
        # The tables too, a matter of seconds: raw files are held to the manifest.
        assert finished.planned() == {*MANIFEST, *ANALYSE}


def test_another_protocol_shares_the_kernels(finished: Workflow) -> None:
    planned = finished.planned("--config", "protocol=long")
    assert not planned & BUILD
    assert len([step for step in planned if step.startswith("Measure ")]) == 6


def stopped_at(workflow: Workflow, measurement: int) -> subprocess.Popen[str]:
    """A run whose measurement of that number (from 1) never ends."""
    (workflow.root / "stop-at").write_text(str(measurement))
    process = subprocess.Popen(
        workflow.argv(),
        cwd=workflow.root,
        env=workflow.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (workflow.root / "stopped").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    (workflow.root / "stop-at").unlink()
    (workflow.root / "stopped").unlink()
    return process


def test_interrupted_runs_continue(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    workflow.use_small_experiment()
    started, measured = [], []
    for signum in (signal.SIGKILL, signal.SIGINT):
        process = stopped_at(workflow, 2)
        os.killpg(process.pid, signum)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0
        calls = workflow.calls()
        started += calls
        # the last of them was cut short
        measured += [call for call in calls if call.startswith("measure")][:-1]
    workflow.succeeds()
    last = workflow.calls()
    assert not set(measured) & set(last), "what was measured is kept"
    blocks = {call for call in measured + last if call.startswith("measure")}
    assert len(blocks) == len([c for c in measured + last if c.startswith("measure")]) == 4
    for verb, times in (("fetch", 1), ("build", 3), ("programs", 1), ("probe", 1), ("analyse", 1)):
        assert len([c for c in started + last if c.startswith(verb + " ")]) == times
    assert workflow.planned() == set()


def test_jobs_that_a_killed_run_left_come_first(tmp_path: Path) -> None:
    """Before anything is planned; not of a run that lives, and not by a dry run."""
    workflow = Workflow(tmp_path)
    workflow.use_small_experiment()
    queue = workflow.root / "queue"
    line = f"12|PENDING||rule_measure_block_wildcards_idle_001|{workflow.root}\n"
    queue.write_text(line)
    workflow.environment.program("squeue", f"#!/bin/sh\ncat {queue}\n")
    workflow.environment.program("scancel", f"#!/bin/sh\n: >{queue}\n")
    mark = workflow.root / ".snakemake" / "incomplete" / "eA=="
    mark.parent.mkdir(parents=True)
    mark.write_text('{"external_jobid": "12"}')
    target = "results/small/acceleration.json"
    assert "cancelling" not in workflow.succeeds("--dry-run", target)
    with (workflow.root / ".snakemake" / "kdelta.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "cancelling" not in workflow.run("--unlock", target).stdout
    assert queue.read_text() == line
    assert "cancelling jobs of the killed run" in workflow.succeeds(target)
    assert queue.read_text() == ""


def test_a_results_folder_with_a_space(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    workflow.use_small_experiment()
    workflow.succeeds("--config", "results=my results")
    calls = workflow.calls()
    for option in ("--output", "--source", "--log", "--baseline"):
        assert any(f"{option} 'my results/small/kernels/" in call for call in calls)
    assert (workflow.root / "my results" / "small" / "quick" / "report" / "paper.pdf").is_file()
    assert {path.name for path in workflow.root.iterdir()} & {"my", "results"} == set()


def test_an_identical_image_made_again_measures_nothing(finished: Workflow) -> None:
    """Pinning the version that was used anyway does that; another source is another thing.

    The last test: it changes the run for good.
    """
    workflow = finished
    for path in (workflow.root / "results" / "small" / "kernels").rglob("*"):
        path.touch()
    assert not workflow.planned() & (MEASURE | TRACE)
    workflow.calls()

    def verbs_after(old: str, new: str) -> list[str]:
        small = workflow.root / "small.yaml"
        text = small.read_text()
        assert old in text
        small.write_text(text.replace(old, new))
        workflow.succeeds()
        return [call.split()[0] for call in workflow.calls()]

    package = "package: linux-source-6.12\n"
    again = verbs_after(package, f"{package}    version: 6.12.9-1\n")
    assert again.count("build") == 3
    assert not {"measure", "mechanism"} & set(again)

    (workflow.root / "source").write_text("6.12.10")
    changed = verbs_after("6.12.9-1", "6.12.10-1")
    assert [changed.count(verb) for verb in ("build", "measure", "mechanism")] == [3, 4, 1]

    (workflow.root / "acceleration").write_text('{"mode": "kvm"}')
    (workflow.root / "results" / "small" / "acceleration.json").unlink()
    workflow.succeeds()
    probed = [call.split()[0] for call in workflow.calls()]
    # Kernels are configured for what guests run with.
    assert [probed.count(verb) for verb in ("build", "measure", "mechanism")] == [3, 4, 1]
    # Snakemake noted the builds' keys as they were before the probe said something else: it looks
    # at them once more, and finds them in the cache. Nothing is measured for that.
    workflow.succeeds()
    assert not {"measure", "mechanism"} & {call.split()[0] for call in workflow.calls()}
    assert workflow.planned() == set()
