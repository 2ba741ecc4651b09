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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.architecture import Architecture
from kdelta.arms import is_config_file
from kdelta.config import RunConfig, load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.boot import GUEST_MODULES, TIMED_MODULES
from kdelta.guest.disk import DRIVE
from kdelta.guest.launch import KERNEL_ARGUMENTS
from kdelta.host.facts import first_line
from kdelta.imports import PACKAGE, closure
from kdelta.kernel.image import RECIPE_VERSION, sha256_file
from kdelta.kernel.toolchain import compiler_for, linker_of
from kdelta.measure.budget import protocol_name, with_protocol
from kdelta.measure.schedule import block_schedule
from kdelta.measure.turns import memory_needed_mib
from kdelta.patch_files import patch_files, surely_cover_letter
from kdelta.per_kernel import Series, fragment_files, series_of
from kdelta.workload.build import HELPERS, RECORD, built_programs, program_sources
from kdelta.workload.guest_root import RECORD as ROOT_RECORD
from kdelta.workload.guest_root import needs_root, wanted_packages
from kdelta.workload.tree import trees_arm
from kdelta.yaml_file import parse_model

# What the verbs of a stage call.
STAGES = {
    "analysis": ("kdelta.analysis.run", "kdelta.run_context"),
    "report": ("kdelta.report.run", "kdelta.report.figures.font", "kdelta.run_context"),
    "export": ("kdelta.export.samples", "kdelta.export.dictionary", "kdelta.export.run_folder"),
    "mail": (
        "kdelta.mail.series",
        "kdelta.mail.choice",
        "kdelta.mail.cover",
        "kdelta.run_context",
    ),
    "reference": ("kdelta.reference.pack", "kdelta.reference.sums"),
}


@dataclass(frozen=True)
class RunPlan:
    """One run: an experiment by one protocol, below one project root."""

    root: Path
    experiment_file: str
    experiment: Experiment
    protocol: str
    results: str
    arch: str | None = None

    @property
    def experiment_words(self) -> list[str]:
        """What follows `--experiment` on the command line of a verb."""
        return [self.experiment_file, *(["--arch", self.arch] if self.arch else [])]

    @property
    def base(self) -> str:
        """Folder of what all protocols of the experiment share."""
        return f"{self.results}/{self.experiment.name}"

    @property
    def run(self) -> str:
        """Folder of this protocol's data and report."""
        return f"{self.base}/{self.protocol}"

    @property
    def kernels(self) -> list[str]:
        """The arms whose kernel is in `results/<experiment>/kernels/`: all but the control."""
        return list(self.experiment.arms)

    @property
    def ready(self) -> list[str]:
        """Arms whose kernel was built elsewhere."""
        return [name for name, arm in self.experiment.arms.items() if arm.image]

    @property
    def regimes(self) -> list[str]:
        return list(self.experiment.protocol_regimes(self.protocol))

    @property
    def mechanism_regimes(self) -> list[str]:
        """Regimes with mechanism boots."""
        return self.experiment.mechanism_regimes(self.protocol)

    @property
    def probes(self) -> tuple[str, ...]:
        """Probes that the run has records of."""
        return self.experiment.probes if self.mechanism_regimes else ()

    @property
    def arms(self) -> list[str]:
        return list(self.experiment.booted_arms())

    @property
    def guests_memory_mib(self) -> int:
        """Memory that a block takes, of which a cluster's job has to ask for as much."""
        return memory_needed_mib([self.experiment.memory_mib(arm) for arm in self.arms])

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks: 001, 002, ..."""
        count = self.experiment.protocols[self.protocol].blocks
        return [f"{number:03d}" for number in range(1, count + 1)]

    def fetch_key(self, arm: str) -> str:
        """Of an arm's kernel source as the experiment names it."""
        return _digest(self.experiment.source_of(arm).model_dump(mode="json"))

    def source_record(self, arm: str) -> str:
        """The record of `kdelta fetch`; arms of one source share it."""
        return f"{self.base}/kernels/{self.experiment.source_record(arm)}"

    @property
    def sources_of(self) -> dict[str, str]:
        """Record of a source, without folder and extension -> an arm that is built from it."""
        found = {arm: self.experiment.source_record(arm) for arm in self.experiment.built_arms}
        return {Path(record).stem: arm for arm, record in reversed(found.items())}

    @property
    def acceleration_record(self) -> str:
        """The record of `kdelta probe`."""
        return f"{self.base}/acceleration.json"

    def series(self, arm: str) -> Series:
        """Of an arm's kernel, as soon as that can be known.

        Raises:
            FileNotFoundError: a git repository was not fetched yet.
        """
        if named := self.experiment.series_of(arm):
            return named
        record = json.loads(Path(self.source_record(arm)).read_text())
        return series_of(record["kernel_version"])

    def planned_key(self, arm: str, make: Callable[[Series], str]) -> str:
        """A key of a kernel's series; until that is known, one that no finished step has."""
        try:
            return make(self.series(arm))
        except FileNotFoundError:
            return "not known yet"

    def planned_probe_key(self) -> str:
        """The `probe_key` by the records of earlier steps, likewise."""
        if self.experiment.baseline in self.ready:
            return self.probe_key(None)
        return self.planned_key(self.experiment.baseline, self.probe_key)

    def planned_build_key(self, arm: str) -> str:
        """An arm's `build_key` by the records of earlier steps, likewise."""

        def make(series: Series) -> str:
            mode = json.loads(Path(self.acceleration_record).read_text())["mode"]
            return self.build_key(arm, series, mode)

        return self.planned_key(arm, make)

    def build_key(self, arm: str, series: Series, acceleration: str) -> str:
        """Of one arm's kernel; arguments as for `kernel_facts`."""
        # A probe that runs again may find something else: then kernels have to be looked at.
        probe = self.planned_probe_key()
        return _digest({**self.kernel_facts(arm, series, acceleration), "probe": probe})

    def probe_key(self, series: Series | None) -> str:
        """Of what guests run with: what was asked for, and the kernel that is tried with KVM.

        Args:
            series: of the baseline's kernel; None if that was built elsewhere.
        """
        guest = self.experiment.guest
        asked: dict[str, Any] = {
            "requested": guest.acceleration,
            "cpu": [guest.cpu, self.experiment.arch.emulated_cpu],
            "arch": self.experiment.arch.name,
        }
        if guest.acceleration != "tcg":
            baseline = self.experiment.baseline
            asked["kernel"] = (
                self.kernel_facts(baseline, series, "kvm") if series else self.take_key(baseline)
            )
        return _digest(asked)

    def take_key(self, arm: str) -> str:
        """Of a kernel that was built elsewhere, by what its image holds."""
        return sha256_file(self.image_of(arm))

    def image_of(self, arm: str) -> Path:
        """The image of a kernel that was built elsewhere."""
        return self.root / str(self.experiment.arms[arm].image)

    def patches_key(self, arm: str, series: Series) -> str:
        """Of an arm's patches for a kernel of this series."""
        files = patch_files(self.experiment.arms[arm], self.root, series)
        return _digest([sha256_file(file) for file in files])

    def kernel_facts(self, arm: str, series: Series, acceleration: str) -> dict[str, Any]:
        """What an arm's kernel is built from: source, patches, configuration, toolchain.

        Args:
            arm: its name.
            series: of the kernel.
            acceleration: `kvm` or `tcg`, as the probe found.
        """
        experiment = self.experiment
        base, names = experiment.base_of(arm), experiment.fragments_of(arm)
        return {
            "source": self.fetch_key(arm),
            "patches": [
                sha256_file(file)
                for file in patch_files(experiment.arms[arm], self.root, series)
                if not surely_cover_letter(file.read_bytes())
            ],
            "base": sha256_file(self.root / base) if is_config_file(base) else base,
            "fragments": [
                sha256_file(file)
                for file in fragment_files(
                    names, self.root, series, acceleration, experiment.arch.name
                )
            ],
            "arch": experiment.arch.facts(),
            "page_kib": experiment.page_kib,
            "acceleration": acceleration,
            "toolchain": toolchain(experiment.compiler_of(arm), experiment.arch),
            "recipe": RECIPE_VERSION,
        }

    @property
    def programs(self) -> list[str]:
        """What is built to run in guests, and the record of the workloads' own programs."""
        built = [
            name
            for chosen in self.experiment.workloads.values()
            for name in built_programs(chosen.declaration)
        ]
        records = [RECORD, *([ROOT_RECORD] if needs_root(self.experiment) else [])]
        return [
            f"{self.base}/programs/{name}" for name in [*dict.fromkeys(built), *HELPERS, *records]
        ]

    @property
    def programs_source(self) -> list[str]:
        """The record of the source that programs of the kernel's tree are built from, if any is."""
        arm = trees_arm(self.experiment)
        return [self.source_record(arm)] if arm else []

    def programs_key(self) -> str:
        """Of the programs that run in guests."""
        chosen = self.experiment.workloads.values()
        files = [
            file
            for one in chosen
            for file in program_sources(one.declaration, one.folder(self.root))
        ]
        programs = [one.declaration.program.model_dump(mode="json") for one in chosen]
        arm = trees_arm(self.experiment)
        tree = [self.fetch_key(arm)] if arm else []
        return _digest(
            [
                [*map(sha256_file, dict.fromkeys(files))],
                programs,
                toolchain("gcc", self.experiment.arch),
                *tree,
                *([wanted_packages(self.experiment)] if needs_root(self.experiment) else []),
            ]
        )

    def measure_key(self, regime: str) -> str:
        """Of a regime's blocks, besides what `guests_key` names.

        The number of blocks is not part of it: adding blocks keeps the old ones. Rounds and the
        balanced orders of the arms are: blocks that were ordered in another way would unbalance
        those to come, so a version that orders them anew measures anew.
        """
        experiment = self.experiment
        chosen = experiment.protocols[self.protocol]
        orders = [
            block_schedule(experiment, regime, n, chosen.rounds).rounds
            for n in range(1, len(self.arms) + 1)
        ]
        return _digest(
            {
                **self._guest_facts(regime, TIMED_MODULES),
                # How long to wait for a quiet host changes nothing in what is measured then.
                "environment": experiment.environment.model_dump(
                    mode="json", exclude={"wait_for_quiet_s"}
                ),
                "duration_s": chosen.duration_s[regime],
                "warmup_s": chosen.warmup_s,
                "orders": [[vars(turn) for turns in rounds for turn in turns] for rounds in orders],
            }
        )

    def mechanism_key(self, regime: str) -> str:
        """Of a regime's mechanism boots, besides what `guests_key` names."""
        wanted = self.experiment.mechanism
        said = wanted.model_dump(mode="json", exclude={"regimes"}) if wanted else None
        return _digest(
            {
                **self._guest_facts(regime, GUEST_MODULES),
                "traced": said,
                "probes": self.experiment.probes,
            }
        )

    def _guest_facts(self, regime: str, modules: tuple[str, ...]) -> dict[str, Any]:
        """What all boots of a regime depend on."""
        experiment = self.experiment
        # What a regime is called and what is expected of it change nothing in the guest.
        conditions = experiment.regimes[regime].model_dump(
            mode="json", exclude={"title", "description", "expects"}
        )
        return {
            "driver": [sha256_file(PACKAGE / module) for module in modules],
            "machine": [*KERNEL_ARGUMENTS, experiment.arch.facts()],
            "guest": experiment.guest.model_dump(mode="json"),
            "workloads": self._workload_facts(),
            "conditions": conditions,
            "arms": experiment.booted_arms(),
            **({"booting": booting} if (booting := self._booting()) else {}),
            **({"disk": [size, *DRIVE]} if (size := experiment.disk_bytes) else {}),
            "seed": experiment.seed,
        }

    def _booting(self) -> dict[str, Any]:
        """How arms are booted, of those that are not booted as all others."""
        arms = self.experiment.arms.items()
        return {name: booting for name, arm in arms if (booting := arm.booting)}

    def _workload_facts(self) -> dict[str, Any]:
        """What is run, cell by cell; what its output means can be looked at again."""
        facts = {}
        for name, chosen in self.experiment.workloads.items():
            said, arguments = chosen.declaration, chosen.arguments
            facts[name] = {
                "cells": [
                    [cell, said.argv(said.command, {**arguments, **cell}, program="P", disk="D")]
                    for cell in chosen.cells()
                ],
                "self_check": said.argv(said.self_check, arguments, program="P", disk="D"),
                "json": said.output == "json",
                "timeout_s": chosen.timeout_s,
            }
        return facts

    def analysis_facts(self) -> str:
        """Of the experiment, what the tables depend on besides the raw files."""
        experiment = self.experiment
        expected = {name: experiment.regimes[name].expects for name in self.regimes}
        return _digest(
            {
                "arms": self.arms,
                "workloads": {
                    name: [chosen.declaration.model_dump(mode="json"), chosen.limits]
                    for name, chosen in experiment.workloads.items()
                },
                "statistics": experiment.statistics.model_dump(mode="json"),
                "validity": experiment.validity.model_dump(mode="json"),
                "expects": {k: [e.model_dump(mode="json") for e in v] for k, v in expected.items()},
                "negative_controls": [
                    control.model_dump(mode="json") for control in experiment.negative_controls
                ],
                "claims": experiment.claims.model_dump(mode="json") if experiment.claims else None,
            }
        )

    @property
    def tables(self) -> list[str]:
        """Folders of tables and report: the run's, or one below it for each workload."""
        folders = [folder for folder, _ in self.experiment.each_workload()]
        return [f"{self.run}/{folder}" if folder else self.run for folder in folders]

    def claims_files(self) -> list[str]:
        """The file of published deltas, if there is one."""
        return [self.experiment.claims.file] if self.experiment.claims else []

    def sources(self, *stages: str) -> list[str]:
        """Source files that stages' results depend on: what they import, however far.

        Of the commands only what they call: a message changes no table.
        """
        return [str(path) for path in closure(m for stage in stages for m in STAGES[stage])]

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
    experiment = load_experiment(root / chosen.experiment, root, chosen.arch)
    name = protocol_name(chosen.protocol, chosen.budget)
    try:
        narrowed = with_protocol(experiment, name)
    except ValueError as error:
        key = "protocol" if chosen.budget is None else "budget"
        raise KdeltaError(f"{settings_file}: {key}: in {chosen.experiment}: {error}") from None
    return RunPlan(root, chosen.experiment, narrowed, name, chosen.results, chosen.arch)


def guests_key(records: Sequence[str], acceleration: str, programs: Sequence[str]) -> str:
    """Of what guests boot and run and of what executes them, by what the files hold.

    Args:
        records: the arms' `image.json`.
        acceleration: record of `kdelta probe`.
        programs: the binaries that are run in them.
    """
    images = [json.loads(Path(record).read_text()) for record in records]
    return _digest(
        {
            "images": [[image["key"], image["image_sha256"]] for image in images],
            "mode": json.loads(Path(acceleration).read_text())["mode"],
            "programs": [sha256_file(Path(program)) for program in programs],
        }
    )


@functools.cache
def toolchain(compiler: str, arch: Architecture) -> tuple[str, str]:
    """The version lines of a compiler and of its linker; empty where not installed."""
    command, linker = compiler_for(compiler, arch), linker_of(compiler, arch)
    return first_line([command, "--version"]) or "", first_line([linker, "--version"]) or ""


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
