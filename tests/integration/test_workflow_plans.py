# SPDX-License-Identifier: GPL-2.0-only
"""Dry runs of what is shipped, and mistakes in the configuration, by the real snakemake."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from kdelta.config import load_experiment
from tests.conftest import CHECKOUT
from tests.integration.scripted_workflow import Workflow

RUNS = [
    (path, protocol)
    for path in sorted((CHECKOUT / "config" / "experiments").glob("*.yaml"))
    for protocol in load_experiment(path).protocols
    if protocol != "paper"  # planned by test_documents.py, and like "standard" but for its length
]

# What snakemake says before it reads the workflow.
SNAKEMAKES_OWN = ("Using workflow specific profile", "Config file ")


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return Workflow(tmp_path_factory.mktemp("plans"))


@pytest.mark.parametrize(
    ("path", "protocol"), RUNS, ids=[f"{path.stem}-{protocol}" for path, protocol in RUNS]
)
def test_every_shipped_run_is_planned(workflow: Workflow, path: Path, protocol: str) -> None:
    experiment = load_experiment(path).of_protocol(protocol)
    planned = workflow.planned(
        "--config", f"experiment={path.relative_to(CHECKOUT)}", f"protocol={protocol}"
    )
    blocks = experiment.protocols[protocol].blocks
    assert planned == {
        "Fetch the kernel source",
        "Build what runs in the guests",
        "Does this host run guests with KVM?",
        "What guests boot and run",
        *(f"Build the kernel: {arm}" for arm in experiment.arms),
        *(
            f"Measure {regime}, block {block:03d}"
            for regime in experiment.protocol_regimes(protocol)
            for block in range(1, blocks + 1)
        ),
        *(f"Trace the mechanism: {name}" for name in experiment.mechanism_regimes(protocol)),
        "Record what ran, on what, from which bytes",
        "Samples, validity and delta tables",
        "Tables as text",
        "Figures",
        "The page",
        "The paper",
    }


def test_a_mistake_is_one_line(workflow: Workflow) -> None:
    """Which mistakes there are is tested in tests/unit/config."""
    done = workflow.run("--dry-run", "--config", "protocol=fast")
    assert done.returncode == 1
    mine = [line for line in done.stdout.splitlines() if not line.startswith(SNAKEMAKES_OWN)]
    assert mine == [
        "kdelta: config/config.yaml: protocol: in config/experiments/pipe-prealloc.yaml: no "
        "protocol 'fast'; it defines quick, standard, paper"
    ]


@pytest.mark.parametrize("words", [(), ("--snakefile", "workflow/Snakefile")])
def test_snakemake_has_nothing_to_complain_of(workflow: Workflow, words: tuple[str, ...]) -> None:
    """The workflow catalogue does this, and prints what it finds."""
    done = workflow.run("--lint", *words)
    assert done.returncode == 0, done.stdout
    mine = [line for line in done.stdout.splitlines() if not line.startswith(SNAKEMAKES_OWN)]
    assert mine == ["Congratulations, your workflow is in a good condition!"]


def cluster_jobs(workflow: Workflow, profile: str, **said: str) -> dict[str, list[dict[str, str]]]:
    """What a profile asks of a cluster: rule -> the resources of its jobs.

    Args:
        workflow: a checkout, which is changed.
        profile: name of its folder.
        said: values of the variables at its head.
    """
    file = workflow.root / "profiles" / profile / "config.yaml"
    text = file.read_text()
    for name, value in said.items():
        text, count = re.subn(rf"^  {name}: \S+", f"  {name}: {value}", text, flags=re.M)
        assert count == 1, name
    file.write_text(text)
    for rules in (workflow.root / "workflow" / "rules").glob("*.smk"):
        # A dry run tells a job's resources only where the rule has no message of its own.
        rules.write_text(re.sub(r"    message:\n.*\n", "", rules.read_text()))
    words = ("--dry-run", "--workflow-profile", f"profiles/{profile}", "--cores", "64")
    out = workflow.succeeds(*words)
    jobs: dict[str, list[dict[str, str]]] = {}
    for rule, text in re.findall(r"^(?:rule|checkpoint) (\w+):\n((?:    .*\n)+)", out, re.M):
        found = {"threads": "1"}
        for name, values in re.findall(r"^    (threads|resources): (.*)$", text, re.M):
            pairs = [pair.split("=", 1) for pair in values.split(", ")]
            found |= {name: values} if name == "threads" else dict(pairs)
        jobs.setdefault(rule, []).append(found)
    return jobs


ALONE = ("probe_acceleration", "measure_block", "trace_mechanism")


@pytest.mark.parametrize("told", [False, True])
def test_the_slurm_profile(tmp_path: Path, told: bool) -> None:
    said = {"partition": "sum", "account": "1234", "constraint": '"a&b"', "minutes": "45"}
    workflow = Workflow(tmp_path)
    jobs = cluster_jobs(workflow, "slurm", cores="8", **(said if told else {}))
    experiment = load_experiment(CHECKOUT / "config" / "experiments" / "pipe-prealloc.yaml")
    quick = experiment.protocols["quick"]
    blocks = quick.blocks * len(experiment.protocol_regimes("quick"))
    assert len(jobs["measure_block"]) == blocks
    guests = len(experiment.of_protocol("quick").booted_arms())
    for rule in ALONE:
        for job in jobs[rule]:
            assert job["slurm_extra"] == "--exclusive"
            assert job["runtime"] == ("45" if told else "120")
            assert job["threads"] == "8"
            assert job.get("constraint") == ("a&b" if told else None)
            assert int(job["mem_mb"]) > guests * 1024
    for job in jobs["build_kernel"]:
        assert (job["builds"], job["threads"], job["mem_mb"]) == ("1", "8", "8000")
        assert not {"constraint", "slurm_extra"} & job.keys()
    for rule in ("build_kernel", "run_figures", *ALONE):
        for job in jobs[rule]:
            assert job.get("slurm_partition") == ("sum" if told else None)
            assert job.get("slurm_account") == ("1234" if told else None)
    assert (jobs["run_figures"][0]["mem_mb"], jobs["run_figures"][0]["runtime"]) == ("2000", "30")


def test_the_profile_for_other_schedulers(tmp_path: Path) -> None:
    jobs = cluster_jobs(Workflow(tmp_path), "cluster", scheduler="lsf", cores="8", minutes="45")
    for rule, found in jobs.items():
        for job in found:
            assert job["alone"] == ("yes" if rule in ALONE else "no"), rule
    assert {(job["threads"], job["runtime"]) for job in jobs["measure_block"]} == {("8", "45")}


# What the schedulers' own programs are, here: each tells what it was asked, and answers.
SCHEDULERS = {
    "pbs": ("qsub", "qstat", "12.head", "job_state = R", "qstat: Unknown Job Id 12.head"),
    "lsf": ("bsub", "bjobs", "Job <12> is submitted to queue <x>.", "PEND", "DONE"),
    "htcondor": ("condor_submit", "condor_q", "12.0 - 12.0", "2", ""),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_schedulers_own_commands(tmp_path: Path, kind: str) -> None:
    submit, status, submitted, runs, over = SCHEDULERS[kind]
    script = CHECKOUT / "profiles" / "cluster" / "scheduler.sh"

    def program(name: str, answer: str, end: int = 0) -> None:
        asked = f'printf "%s\\n" "$@" >asked; [ {name} != condor_submit ] || cat >>asked'
        (tmp_path / name).write_text(f"#!/bin/sh\n{asked}\necho '{answer}'\nexit {end}\n")
        (tmp_path / name).chmod(0o755)

    def ask(*words: str) -> str:
        done = subprocess.run(
            [script, kind, *words],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    program(submit, submitted)
    numbers = {}
    for alone in ("yes", "no"):
        job = ask("submit", "8", "5000", "45", alone, "long", "me", "icx", "/tmp/x/job.sh")
        numbers[alone] = (tmp_path / "asked").read_text()
        assert job in submitted
        assert job.startswith("12")
        assert " " not in job
        assert "/tmp/x/job.sh" in numbers[alone]
        assert "8" in re.findall(r"\d+", numbers[alone])
        assert "5000" in re.findall(r"\d+", numbers[alone])
        assert "me" in numbers[alone].split()
    assert "icx" in numbers["yes"]
    assert "icx" not in numbers["no"]
    program(status, runs)
    assert ask("status", "12") == "running"
    # A queue that does not answer has not said that a job is over.
    program(status, "cannot connect to server", end=1)
    assert ask("status", "12") == "running"
    program(status, over, end=153 if kind == "pbs" else 0)
    assert ask("status", "12") == "success"
