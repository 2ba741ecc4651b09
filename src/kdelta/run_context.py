# SPDX-License-Identifier: GPL-2.0-only
"""From an experiment and a manifest to what the analysis and the report have to be told.

The one place where the stages that measure and the stages that compute meet.
"""

from __future__ import annotations

from typing import Any

from kdelta.analysis.settings import AnalysisSettings
from kdelta.experiment import CONTROL_ARM, Experiment
from kdelta.report.context import Arm, Factor, Regime, ReportContext, Variant
from kdelta.units import parse_size_bytes

Json = dict[str, Any]

_FACTOR_TITLES = {
    "writers": ("writers", ""),
    "readers": ("readers", ""),
    "write_size": ("write size", "bytes"),
    "read_size": ("read size", "bytes"),
    "pipe_size": ("pipe size", "bytes"),
    "processes": ("processes", ""),
    "nonblock": ("non-blocking writers", ""),
    "pin": ("pinning", ""),
}


def analysis_settings(experiment: Experiment, protocol: str | None = None) -> AnalysisSettings:
    """What the analysis needs to know of an experiment.

    Args:
        experiment: the experiment.
        protocol: name of the protocol, whose number of blocks is then the limit;
            None takes every block that is there.
    """
    return AnalysisSettings(
        factors=tuple(experiment.matrix),
        baseline=experiment.baseline,
        arms=tuple(experiment.arms()),
        regimes=tuple(experiment.regimes),
        control=CONTROL_ARM if experiment.control else None,
        confidence=experiment.statistics.confidence,
        equivalence_margin=experiment.statistics.equivalence_margin,
        blocks=experiment.protocols[protocol].blocks if protocol else None,
    )


def report_context(experiment: Experiment, protocol: str, manifest: Json) -> ReportContext:
    """What the report says beside its numbers."""
    factors = list(experiment.matrix)
    host = manifest["hosts"][0] if manifest["hosts"] else {}
    chosen = experiment.protocols[protocol]
    return ReportContext(
        experiment=experiment.name,
        title=experiment.title,
        summary=" ".join(experiment.summary.split()),
        baseline=experiment.baseline,
        arms=tuple(_arms(experiment)),
        factors=tuple(_factor(name, experiment.matrix[name]) for name in factors),
        row_factor=factors[0],
        column_factor=factors[1] if len(factors) > 1 else None,
        regimes=tuple(
            Regime(name, regime.title, regime.description)
            for name, regime in experiment.regimes.items()
        ),
        protocol=protocol,
        blocks=chosen.blocks,
        seconds_per_cell=dict(chosen.duration_s),
        confidence=experiment.statistics.confidence,
        equivalence_margin=experiment.statistics.equivalence_margin,
        write_size=_size(experiment, "write_size", 65536),
        pipe_size=_size(experiment, "pipe_size", 1048576),
        acceleration=manifest["acceleration"]["mode"],
        acceleration_reason=manifest["acceleration"]["reason"],
        vcpus=host.get("vcpus", 0),
        host_cpus=host.get("host", {}).get("cpus", 0),
        memory_mib=host.get("memory_mib", experiment.memory_mib()),
        environment=environment_facts(manifest),
        provenance=provenance_facts(manifest),
        variants=tuple(
            Variant(
                name,
                variant.title,
                tuple(patch["subject"] or patch["file"] for patch in image_patches(manifest, name)),
            )
            for name, variant in experiment.variants.items()
        ),
        reproduce=f"snakemake --cores all --config protocol={protocol}",
        generated_from=f"the raw files of run {manifest['run_id']} "
        f"({len(manifest['raw_sha256'])} files, hashes in manifest.json)",
        verdict_method="its interval lies on one side of 1, not wholly within the margin of "
        "equivalence, and its t test holds after Holm's correction over the cells of the table",
    )


def image_patches(manifest: Json, variant: str) -> list[Json]:
    """The patches of a variant as its image was built with them."""
    patches: list[Json] = manifest["kernels"][variant].get("patches", [])
    return patches


def environment_facts(manifest: Json) -> dict[str, str]:
    """Host, guest and tools, label to text."""
    facts: dict[str, str] = {}
    several = len(manifest["hosts"]) > 1
    for number, record in enumerate(manifest["hosts"], start=1):
        host = record["host"]
        prefix = f"Host {number}: " if several else ""
        facts[f"{prefix}Processor"] = f"{host['cpu_model']}, {host['cpus']} CPUs usable"
        facts[f"{prefix}Architecture"] = host["architecture"]
        facts[f"{prefix}Host memory"] = f"{host['memory_mib']} MiB"
        facts[f"{prefix}Host system"] = f"{host['system']}, Linux {host['kernel']}"
        facts[f"{prefix}Host is itself a guest"] = host["hypervisor"] or "no sign of it"
        facts[f"{prefix}CPU frequency governor"] = host["governor"] or "not visible"
        facts[f"{prefix}Guest"] = f"{record['vcpus']} vCPUs, {record['memory_mib']} MiB" + (
            " (more vCPUs than the host has CPUs)" if record["overcommitted"] else ""
        )
        facts[f"{prefix}QEMU"] = host["qemu"] or "unknown"
        facts[f"{prefix}virtme-ng"] = host["virtme_ng"]
        facts[f"{prefix}stress-ng"] = host["stress_ng"] or "not installed"
    facts["Acceleration"] = (
        f"{manifest['acceleration']['mode']}: {manifest['acceleration']['reason']}"
    )
    return facts


def provenance_facts(manifest: Json) -> dict[str, str]:
    """Hashes and versions, label to text."""
    kdelta = manifest["kdelta"]
    commit = kdelta.get("commit")
    version = kdelta["version"] + (f", commit {commit[:12]}" if commit else "")
    facts = {
        "Run": manifest["run_id"],
        "Command": manifest["argv"],
        "kdelta": version + (", changed" if kdelta.get("changed") else ""),
        "Seed": str(manifest["experiment"]["seed"]),
    }
    for name, image in manifest["kernels"].items():
        facts[f"Kernel {name}"] = (
            f"{image['kernel_release']}, image {image['key'][:12]}, "
            f"bzImage sha256 {image['bzimage_sha256'][:16]}"
        )
        facts.setdefault(
            "Kernel source", ", ".join(f"{k} {v}" for k, v in image["source"].items() if v)
        )
        facts.setdefault("Compiler", image["compiler"])
        for patch in image.get("patches", []):
            facts[f"Patch {patch['file']}"] = f"sha256 {patch['sha256'][:16]}"
    if manifest["workload"]:
        facts["pipe_bench"] = f"binary sha256 {manifest['workload']['binary_sha256'][:16]}"
    return facts


def _arms(experiment: Experiment) -> list[Arm]:
    titles = {name: variant.title for name, variant in experiment.variants.items()}
    return [
        Arm(name, titles[variant], is_control=False)
        if name != CONTROL_ARM
        else Arm(name, f"{titles[variant]}, again (A/A control)", is_control=True)
        for name, variant in experiment.arms().items()
    ]


def _factor(name: str, levels: list[Any]) -> Factor:
    title, unit = _FACTOR_TITLES.get(name, (name.replace("_", " "), ""))
    return Factor(name, title, unit, tuple(_level(level) for level in levels))


def _level(level: Any) -> str:
    # As samples.csv writes it: booleans in lower case.
    return str(level).lower() if isinstance(level, bool) else str(level)


def _size(experiment: Experiment, name: str, default: int) -> int | None:
    if name in experiment.matrix:
        return None
    value = experiment.workload.arguments.get(name, default)
    return parse_size_bytes(str(value))
