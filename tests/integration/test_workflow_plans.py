# SPDX-License-Identifier: GPL-2.0-only
"""Dry runs of what is shipped, and mistakes in the configuration, by the real snakemake."""

from __future__ import annotations

import re
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


def test_the_slurm_profile(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    rules = workflow.root / "workflow" / "rules" / "measure.smk"
    # A dry run tells a job's resources only where the rule has no message of its own.
    rules.write_text(re.sub(r"    message:\n.*\n", "", rules.read_text()))
    out = workflow.succeeds("--dry-run", "--workflow-profile", "profiles/slurm", "--cores", "64")
    jobs = re.findall(r"^rule (\w+):\n((?:    .*\n)+)", out, re.M)
    measuring = [text for rule, text in jobs if rule == "measure_block"]
    tracing = [text for rule, text in jobs if rule == "trace_mechanism"]
    experiment = load_experiment(CHECKOUT / "config" / "experiments" / "pipe-prealloc.yaml")
    assert len(measuring) == experiment.protocols["quick"].blocks * len(
        experiment.protocol_regimes("quick")
    )
    assert len(tracing) == len(experiment.mechanism_regimes("quick"))
    for text in measuring + tracing:
        assert "slurm_extra=--exclusive" in text
        assert "runtime=120" in text
    assert "Build the kernel: bulk" in out
