# SPDX-License-Identifier: GPL-2.0-only
"""What the Snakefile needs to know: paths, and the keys of the expensive rules.

A key is a hash of everything that a step's result depends on. Rules carry it in
`params`, so that a changed fact reruns the step and a touched file does not.
Runs at parse time, in every cluster job again: quick, and off the network.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.config import RunConfig, load_experiment, parse_model
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment, patch_files
from kdelta.kernel.image import RECIPE_VERSION, sha256_file
from kdelta.measure.host import first_line

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class RunPlan:
    """One run: an experiment by one protocol, below one project root."""

    root: Path
    experiment_file: str
    experiment: Experiment
    protocol: str
    results: str

    @property
    def base(self) -> str:
        """Folder of what all protocols of the experiment share."""
        return f"{self.results}/{self.experiment.name}"

    @property
    def run(self) -> str:
        """Folder of this protocol's data and report."""
        return f"{self.base}/{self.protocol}"

    @property
    def variants(self) -> list[str]:
        return list(self.experiment.variants)

    @property
    def regimes(self) -> list[str]:
        return list(self.experiment.regimes)

    @property
    def arms(self) -> list[str]:
        return list(self.experiment.arms())

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks: 001, 002, ..."""
        count = self.experiment.protocols[self.protocol].blocks
        return [f"{number:03d}" for number in range(1, count + 1)]

    def fetch_key(self) -> str:
        """Of the kernel source as the experiment names it."""
        return _digest(self.experiment.kernel.source.model_dump(mode="json"))

    def build_key(self, variant: str) -> str:
        """Of one variant's kernel: source, patches, configuration, toolchain."""
        chosen = self.experiment.variants[variant]
        config = self.experiment.kernel.config
        return _digest(
            {
                "source": self.fetch_key(),
                "patches": [sha256_file(file) for file in patch_files(chosen, self.root)],
                "base": config.base,
                "fragments": [
                    sha256_file(self.root / file) for file in [*config.fragments, *chosen.fragments]
                ],
                "toolchain": toolchain(self.experiment.kernel.compiler),
                "recipe": RECIPE_VERSION,
            }
        )

    def workload_key(self) -> str:
        """Of the benchmark binary."""
        return _digest([sha256_file(self.root / "src/pipe_bench/pipe_bench.c"), toolchain("gcc")])

    def measure_key(self, regime: str) -> str:
        """Of a regime's blocks, besides the kernels and the workload, which are inputs.

        The number of blocks is not part of it: adding blocks keeps the old ones.
        """
        experiment = self.experiment
        chosen = experiment.protocols[self.protocol]
        stressor = experiment.regimes[regime].stressor
        return _digest(
            {
                "driver": sha256_file(PACKAGE / "guest" / "driver.py"),
                "guest": experiment.guest.model_dump(mode="json"),
                "workload": experiment.workload.model_dump(mode="json"),
                "matrix": experiment.matrix,
                "stressor": stressor.model_dump(mode="json") if stressor else None,
                "arms": experiment.arms(),
                "duration_s": chosen.duration_s[regime],
                "warmup_s": chosen.warmup_s,
                "seed": experiment.seed,
            }
        )

    def sources(self, *stages: str) -> list[str]:
        """Source files of stages of the package, and what all of them share."""
        found = [PACKAGE / "experiment.py", PACKAGE / "config.py", PACKAGE / "units.py"]
        for stage in stages:
            found += sorted((PACKAGE / stage).glob("*.py"))
        return [str(path) for path in found]

    def templates(self) -> list[str]:
        """Sources of the report: templates and style."""
        folder = self.root / "report"
        return [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def plan_run(settings: dict[str, Any], settings_file: str, root: Path) -> RunPlan:
    """The plan of a run from the merged settings (config file and command line).

    Raises:
        KdeltaError: a setting, the experiment or a file it names is wrong.
    """
    chosen = parse_model(RunConfig, settings, Path(settings_file))
    experiment = load_experiment(root / chosen.experiment, root)
    if chosen.protocol not in experiment.protocols:
        raise KdeltaError(
            f"{settings_file}: protocol: {chosen.protocol!r} is not a protocol of "
            f"{chosen.experiment}; it defines {', '.join(experiment.protocols)}"
        )
    return RunPlan(root, chosen.experiment, experiment, chosen.protocol, chosen.results)


@functools.cache
def toolchain(compiler: str) -> tuple[str, str]:
    """The version lines of a compiler and of the linker; empty where not installed."""
    return first_line([compiler, "--version"]) or "", first_line(["ld", "--version"]) or ""


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
