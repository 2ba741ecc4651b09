# SPDX-License-Identifier: GPL-2.0-only
"""The commands that the documents show, read from them and typed.

What takes minutes is planned instead (`snakemake -n`, `make -n`), and run by tests/e2e.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kdelta.cli import main
from tests.conftest import CHECKOUT
from tests.integration.documents import COMMANDS, commands
from tests.integration.scripted_workflow import PARTS, Workflow
from tests.unit.reference.reference_runs import finished_run

RUNS = {name: f"results/pipe-prealloc/{name}" for name in ("quick", "standard", "paper")}
# Words that stand for the reader's own, and the arms of the run that these tests make up.
STANDS_FOR = {
    "<this repository>": str(CHECKOUT),
    "RUN": RUNS["quick"],
    "A B": f"{RUNS['quick']} {RUNS['standard']}",
    "A A": f"{RUNS['quick']} {RUNS['quick']}",
    "bulk": "patched",
    "loop": "control",
    "config/experiments/my-experiment.yaml": "config/experiments/my-patch.yaml",
}
# Tests of these read the command from the README, or it is another project's.
ELSEWHERE = (
    r"git send-email ",  # tests/integration/test_mail_series.py
    r"snakemake .*--report ",  # tests/integration/test_workflow_report.py
    r"(cd|sha256sum) .*<",  # tests/integration/test_reference.py
    r"kdelta reference ",  # likewise, step by step: it draws all figures
    r"kdelta doctor$",  # tests/integration/test_doctor.py; here without its ten seconds
    r"\(cd .*benchstat ",  # Go's; tests/unit/export/go_format.py reads files as it does
)


KDELTA, PLANNED = (
    [c for c in commands(program) if not any(re.match(p, c) for p in ELSEWHERE)]
    for program in ("kdelta ", "snakemake ")
)
MADE = commands("make ")
TYPED = commands(r"git (clone|config)|\. |cmp ")


def test_every_command_is_tried() -> None:
    tried = {*KDELTA, *PLANNED, *MADE, *TYPED}
    tried |= {command for pattern in ELSEWHERE for command in commands(pattern)}
    assert sorted(set(COMMANDS) - tried) == []
    assert len(KDELTA) > 8
    assert len(PLANNED) > 3


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A checkout with the README's own experiment."""
    made = Workflow(tmp_path_factory.mktemp("documents"))
    shutil.copytree(CHECKOUT / "results/reference", made.root / "results/reference")
    write_my_experiment(made.root)
    return made


def write_my_experiment(root: Path) -> None:
    """The experiment that the README shows, with a patch."""
    block = re.search(r"^```yaml\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.S | re.M)
    assert block is not None
    mine = yaml.safe_load(block[1])
    (root / f"config/experiments/{mine['name']}.yaml").write_text(block[1])
    shutil.copytree(root / "patches/pipe-prealloc/linux-6.12", root / "patches/my-patch")


@pytest.mark.parametrize("command", PLANNED)
def test_the_workflow_plans(workflow: Workflow, command: str) -> None:
    assert workflow.planned(*shlex.split(command)[1:])


@pytest.mark.parametrize("command", MADE)
def test_make_plans(command: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that holds finished runs under the names that the documents use."""
    root = tmp_path_factory.mktemp("typed")
    for name in (*PARTS, "workloads"):
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, root / name)
    write_my_experiment(root)
    folder = tmp_path_factory.mktemp("run")
    run = finished_run(folder, root, blocks=4)
    (root / "results/pipe-prealloc").mkdir(parents=True)
    for place in RUNS.values():
        (root / place).symlink_to(run)
    for words in ("analyse", "report text"):
        assert main(["--root", str(root), *words.split(), "--run", str(run)]) == 0
    (root / ".venv").symlink_to(sys.prefix)
    # The flagship, as far as it was measured here.
    experiment = json.loads((run / "manifest.json").read_text())["experiment"]
    experiment["kernel"]["config"]["fragments"] = ["kernel-configs/guest.config"]
    experiment["protocols"]["paper"] = experiment["protocols"]["quick"]
    (root / "config/experiments/pipe-prealloc.yaml").write_text(yaml.safe_dump(experiment))
    return root


@pytest.fixture(autouse=True)
def _as_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """`main` takes SIGTERM over, and a user has settings of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def mine(command: str, tmp_path: Path) -> str:
    """The command with a reader's words for those that stand for them."""
    for words, own in {**STANDS_FOR, "/tmp/again": str(tmp_path / "again")}.items():
        command = re.sub(rf"(?<![\w/-]){re.escape(words)}(?!\w)", own, command)
    return command


@pytest.mark.parametrize("command", KDELTA)
def test_kdelta_does_it(
    project: Path, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(project)
    assert main(shlex.split(mine(command, tmp_path))[1:]) == 0


@pytest.mark.parametrize("command", TYPED)
def test_the_shell_does_it(project: Path, command: str, tmp_path: Path) -> None:
    line = mine(command, tmp_path)
    if command.startswith("cmp "):
        shutil.copytree(project / RUNS["paper"], tmp_path / "again")
    where = project if "clone" not in command else tmp_path
    done = subprocess.run(
        ["bash", "-ec", line], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
