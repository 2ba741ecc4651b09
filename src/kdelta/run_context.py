# SPDX-License-Identifier: GPL-2.0-only
"""From an experiment and a manifest to what the analysis and the report have to be told.

The one place where the stages that measure and the stages that compute meet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kdelta.analysis.settings import AnalysisSettings, Expectation, Limits, NegativeControl
from kdelta.claims import read_claims
from kdelta.experiment import CONTROL_ARM, Experiment
from kdelta.plain import printable_values
from kdelta.provenance import reproduction_command
from kdelta.report.context import (
    Arm,
    EarlierAttempt,
    Factor,
    Image,
    Regime,
    ReportContext,
    metrics_of,
)
from kdelta.report.formatting import format_size
from kdelta.run_facts import (
    claim_setup,
    environment_facts,
    host_differences,
    host_settings,
    image_patches,
    objects_changed,
    provenance_facts,
)

Json = dict[str, Any]


def analysis_settings(
    experiment: Experiment,
    protocol: str | None = None,
    root: Path = Path(),
    kernels: Json | None = None,
) -> AnalysisSettings:
    """What the analysis needs to know of an experiment.

    Args:
        experiment: the experiment.
        protocol: name of the protocol, whose number of blocks is then the limit;
            None takes every block that is there.
        root: the project's root, for the file of published deltas.
        kernels: what the manifest says of them, if there is one.

    Raises:
        KdeltaError: that file is missing or wrong.
    """
    regimes = experiment.protocol_regimes(protocol) if protocol else experiment.regimes
    return AnalysisSettings(
        factors=tuple(experiment.matrix),
        baseline=experiment.baseline,
        arms=tuple(experiment.booted_arms()),
        regimes=tuple(regimes),
        other_regimes=tuple(name for name in experiment.regimes if name not in regimes),
        traced_regimes=tuple(experiment.mechanism_regimes(protocol)) if protocol else None,
        control=CONTROL_ARM if experiment.control else None,
        confidence=experiment.statistics.confidence,
        equivalence_margin=experiment.statistics.equivalence_margin,
        blocks=experiment.protocols[protocol].blocks if protocol else None,
        cells=tuple(itertools.product(*experiment.matrix.values())),
        workload=experiment.workload.declaration,
        workload_name=experiment.workload_name,
        script=experiment.workload.script(root),
        arguments=experiment.workload.arguments,
        workload_limits=experiment.workload.limits,
        limits=Limits(**experiment.validity.model_dump()),
        expectations=tuple(
            Expectation(regime=name, **wanted.model_dump())
            for name, regime in regimes.items()
            for wanted in regime.expects
        ),
        negative_controls=tuple(
            NegativeControl({k: tuple(v) for k, v in control.cells.items()}, control.reason)
            for control in experiment.negative_controls
        ),
        claims=read_claims(root / experiment.claims.file, experiment) if experiment.claims else (),
        memory_regime=next((name for name, r in regimes.items() if r.stressor is None), None),
        kernels=kernels or {},
    )


def _regimes(experiment: Experiment, names: Iterable[str]) -> tuple[Regime, ...]:
    found = ((name, experiment.regimes[name]) for name in names)
    return tuple(Regime(name, regime.title, regime.description) for name, regime in found)


def report_context(experiment: Experiment, protocol: str, manifest: Json) -> ReportContext:
    """What the report says beside its numbers."""
    # Reasons and errors in it quote consoles and programs.
    manifest = printable_values(manifest)
    factors = list(experiment.matrix)
    # Guests are alike in a regime (analysis/boots.py); of hosts, the smallest bounds them.
    hosts = manifest["hosts"]
    host = hosts[0] if hosts else {}
    chosen, workload = experiment.protocols[protocol], experiment.workload.declaration
    changed, refused = host_settings(manifest)
    return ReportContext(
        experiment=experiment.name,
        title=experiment.title,
        summary=" ".join(experiment.summary.split()),
        baseline=experiment.baseline,
        arms=tuple(_arms(experiment, manifest)),
        factors=tuple(_factor(experiment, name) for name in factors),
        row_factor=factors[0],
        column_factor=factors[1] if len(factors) > 1 else None,
        regimes=_regimes(experiment, experiment.protocol_regimes(protocol)),
        traced_regimes=_regimes(experiment, experiment.mechanism_regimes(protocol)),
        protocol=protocol,
        blocks=chosen.blocks,
        # What ends by itself takes as long as it takes.
        seconds_per_cell=dict(chosen.duration_s) if workload.timed_by_protocol else {},
        confidence=experiment.statistics.confidence,
        equivalence_margin=experiment.statistics.equivalence_margin,
        metrics=metrics_of(workload),
        phrases=tuple(_phrases(experiment)),
        distribution=workload.distribution.title if workload.distribution else "",
        workload_methods=tuple(workload.methods.items()),
        acceleration=manifest["acceleration"]["mode"],
        acceleration_reason=manifest["acceleration"]["reason"],
        architecture=manifest["acceleration"].get("arch", ""),
        vcpus=host.get("vcpus", 0),
        host_cpus=min((one["host"].get("cpus", 0) for one in hosts), default=0),
        memory_mib=host.get("memory_mib", experiment.memory_mib()),
        environment=environment_facts(manifest),
        provenance=provenance_facts(manifest),
        images=tuple(
            Image(
                name,
                arm.title,
                tuple(patch["subject"] or patch["file"] for patch in image_patches(manifest, name)),
                objects_changed(manifest["kernels"][name]),
            )
            for name, arm in experiment.arms.items()
        ),
        kernel_release=manifest["kernels"][experiment.baseline]["kernel_release"],
        reproduce=reproduction_command(manifest, protocol),
        generated_from=f"the raw files of run {manifest['run_id']} "
        f"({len(manifest['raw_sha256'])} files, hashes in manifest.json)",
        verdict_method="its interval lies on one side of 1, not wholly within the margin of "
        "equivalence, and its t test holds after Holm's correction over all cells of the arm, "
        "in all regimes",
        earlier_attempts=tuple(
            EarlierAttempt(
                block["regime"], int(block["block"][6:]), attempt["at"], attempt["reason"]
            )
            for block in manifest["blocks"]
            for attempt in block["earlier_attempts"]
        ),
        claim_source=experiment.claims.source if experiment.claims else "",
        claim_setup=claim_setup(experiment, protocol, manifest),
        host_differences=host_differences(manifest),
        environment_set=changed,
        environment_not_set=refused,
    )


def _arms(experiment: Experiment, manifest: Json) -> list[Arm]:
    compilers = {name: image["compiler"] for name, image in manifest["kernels"].items()}
    differ = len(set(compilers.values())) > 1
    return [
        Arm(
            name,
            f"{arm.title}, again (A/A control)" if name == CONTROL_ARM else arm.title,
            is_control=name == CONTROL_ARM,
            booting=arm.booting_words,
            compiler=compilers[booted] if differ else "",
            resized=bool(arm.vcpus or arm.memory),
        )
        for name, booted in experiment.booted_arms().items()
        for arm in [experiment.arms[booted]]
    ]


def _factor(experiment: Experiment, name: str) -> Factor:
    parameter = experiment.workload.declaration.parameters[name]
    levels = tuple(_level(level) for level in experiment.matrix[name])
    return Factor(name, parameter.title or name.replace("_", " "), parameter.unit, levels)


def _level(level: Any) -> str:
    # As samples.csv writes it: booleans in lower case.
    return str(level).lower() if isinstance(level, bool) else str(level)


def _phrases(experiment: Experiment) -> Iterator[str]:
    """What the workload was told in every cell, as sentences tell it."""
    for name, parameter in experiment.workload.declaration.parameters.items():
        value = experiment.workload.arguments.get(name, parameter.default)
        if parameter.phrase and value is not None and name not in experiment.matrix:
            size = parameter.meaning(value) if parameter.type == "size" else None
            told = format_size(size) if isinstance(size, int) else _level(value)
            yield parameter.phrase.replace("{}", told)
