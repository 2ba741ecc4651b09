# SPDX-License-Identifier: GPL-2.0-only
"""One real run, shared by all end-to-end tests: real kernels, real guests, real numbers.

It runs in a copy of the checkout, on the flagship experiment with a smaller matrix.
The cache is the user's own, so that a second `make test` builds nothing again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FLAGSHIP = "config/experiments/pipe-prealloc.yaml"
SMALL = "config/experiments/small.yaml"


@dataclass(frozen=True)
class Project:
    """A checkout of the project that a test may do anything to."""

    root: Path

    @property
    def results(self) -> Path:
        return self.root / "results" / "small"

    @property
    def run_dir(self) -> Path:
        return self.results / "smoke"

    def write_experiment(self, change: dict[str, Any] | None = None) -> None:
        """The small experiment, with top-level keys replaced."""
        experiment = yaml.safe_load((self.root / FLAGSHIP).read_text())
        experiment["name"] = "small"
        # Whatever else runs on the machine that tests: the verdicts are not about that.
        experiment["validity"] = {
            **{"host_load": 1000.0, "host_other_cpu": 1.0, "steal": 1.0},
            "cpu_speed": 1e-6,
        }
        matrix = {"writers": [1, 2], "readers": [1, 5]}
        experiment["workloads"]["pipe_bench"]["matrix"] = matrix
        experiment["guest"] = {"acceleration": "auto", "vcpus": 2, "memory": "1G"}
        experiment["protocols"] = {
            "smoke": {
                "blocks": 3,
                "rounds": 2,
                "warmup_s": 0.1,
                "duration_s": {"idle": 0.6},
            },
            # What the kernel did, rather than how fast: one block tells.
            "once": {
                "blocks": 1,
                "warmup_s": 0.1,
                # The stressor has its breaks: a short sample may fall into one.
                "duration_s": {"idle-memcg": 0.3, "memory-pressure": 0.5, "reclaim": 3.0},
            },
        }
        experiment["mechanism"] = {
            "regimes": ["idle", "idle-memcg"],
            "cells": {"readers": [5]},  # a probe sees in one cell what it sees in the others
        }
        if change and {"arms", "workloads"} & change.keys():  # other kernels than the flagship's
            for key in ("claims", "mechanism", "mail"):
                experiment.pop(key)
        experiment.update(change or {})
        known = set(experiment["regimes"])
        for protocol in experiment["protocols"].values():
            protocol["duration_s"] = {
                name: seconds for name, seconds in protocol["duration_s"].items() if name in known
            }
        experiment["protocols"] = {
            name: protocol
            for name, protocol in experiment["protocols"].items()
            if protocol["duration_s"]
        }
        if not known >= set(experiment.get("mechanism", {}).get("regimes", [])):
            experiment.pop("mechanism")
        (self.root / SMALL).write_text(yaml.safe_dump(experiment, sort_keys=False))
        (self.root / "config/config.yaml").write_text(
            yaml.safe_dump({"experiment": SMALL, "protocol": "smoke"})
        )

    def snakemake(self, *arguments: str, timeout: float = 3000) -> subprocess.CompletedProcess[str]:
        """Run snakemake as a user would, in the project's root."""
        return self.command("snakemake", "--cores", "16", *arguments, timeout=timeout)

    def run_to_its_end(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A run in which no emulator crashed; the last snakemake's result.

        Args:
            arguments: of snakemake. Drawing a page and a paper takes as long as some tests: who
                looks at neither names the files that it wants, as `text_of`.

        About one guest in a thousand ends while it looks for its PCI devices, because an
        assertion of QEMU 7.2 fails. kdelta reports that boot as failed and goes on, as it
        must; a test of everything else measures such a block again, once.
        """
        done = self._finish(*arguments)
        made = ("*/raw/*/*/host.json", "*/mechanism/*/*.jsonl")
        crashed = [path for each in made for path in self.results.glob(each) if qemu_crashed(path)]
        if not crashed:
            return done
        for path in crashed:
            print(f"QEMU crashed, run again: {path}")
            path.unlink()
            # A missing file is made again only if something that is wanted needs it.
            run = self.results / path.relative_to(self.results).parts[0]
            (run / "manifest.json").unlink(missing_ok=True)
        return self._finish(*arguments)

    def _finish(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done

    def kdelta(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run one verb of the command line."""
        return self.command("kdelta", *arguments, timeout=timeout)

    def command(
        self, program: str, *arguments: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool(program), *arguments],
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def text_of(workload: str = "", protocol: str = "smoke") -> str:
    """The report in text, which needs no figure, as a target of snakemake."""
    return str(Path("results/small", protocol, workload, "report/tables.txt"))


def qemu_crashed(path: Path) -> bool:
    """Whether a boot ended with an assertion of QEMU's own.

    Args:
        path: host.json of a block, or the records of a mechanism boot.
    """
    if path.name == "host.json":
        reasons = [boot["reason"] for boot in json.loads(path.read_text())["boots"]]
    else:
        reasons = [json.loads(line).get("error") for line in path.read_text().splitlines()]
    return any("qemu-system" in (why or "") and "Assertion" in why for why in reasons)


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).parent / name)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def copy_checkout(target: Path) -> Project:
    """Copy what git tracks, and new files that it does not ignore."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in filter(None, listing.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return Project(target)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose small experiment was run to its end by plain snakemake."""
    project = copy_checkout(tmp_path_factory.mktemp("finished"))
    project.write_experiment()
    done = project.run_to_its_end()
    (project.root / "stdout.txt").write_text(done.stdout)
    (project.root / "stderr.txt").write_text(done.stderr)
    return project


@pytest.fixture(scope="session")
def conditions(finished: Project) -> Path:
    """The run folder of the same experiment in its other regimes."""
    finished.run_to_its_end(text_of(protocol="once"), "--config", "protocol=once")
    return finished.results / "once"


@pytest.fixture
def copied(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, with its results, for a test that changes things."""
    shutil.copytree(finished.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
