# SPDX-License-Identifier: GPL-2.0-only
"""The set-up of a run as facts in words, and how two runs' set-ups differ."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kdelta.earlier_runs import programs
from kdelta.export.run_folder import Json, RunFolder
from kdelta.regimes import Regime
from kdelta.units import parse_size_bytes

NOT_RECORDED = "not recorded"

# Facts of host.json that numbers depend on; the record of each host is in the manifest.
_HOST = (
    ("Processor", "cpu_model"),
    ("Architecture", "architecture"),
    ("Host CPUs", "cpus"),
    ("Host memory, MiB", "memory_mib"),
    ("Host kernel", "kernel"),
    ("Host system", "system"),
    ("Host is a guest of", "hypervisor"),
    ("Frequency governor", "governor"),
    ("Turbo", "turbo"),
    ("QEMU", "qemu"),
    ("virtme-ng", "virtme_ng"),
    ("stress-ng", "stress_ng"),
)


def setup_facts(run: RunFolder) -> dict[str, str]:
    """Label -> text; what the manifest does not hold is `not recorded`."""
    manifest = run.manifest
    kernels: dict[str, Json] = manifest.get("kernels", {})
    baseline = kernels.get(run.experiment.baseline, {})
    hosts: list[Json] = manifest["hosts"]
    protocol = run.experiment.protocols[run.protocol]
    return {
        "Experiment": run.experiment.name,
        "Protocol": run.protocol,
        "Blocks": str(protocol.blocks),
        "Warm-up, s": f"{protocol.warmup_s:g}",
        **{
            f"Seconds per cell, {regime}": f"{seconds:g}"
            for regime, seconds in protocol.duration_s.items()
        },
        "Acceleration": run.acceleration,
        "Kernel": _text(baseline.get("kernel_release")),
        "Kernel source": _source(baseline.get("source")),
        "Kernel configuration": _hash(baseline.get("config_sha256")),
        "Compiler": _text(baseline.get("compiler")),
        "Baseline image": _hash(baseline.get("key")),
        "vCPUs": _distinct(hosts, "vcpus"),
        "Guest memory, MiB": _distinct(hosts, "memory_mib"),
        **{
            label: _distinct([record.get("host", {}) for record in hosts], key)
            for label, key in _HOST
        },
        "Workload": _arguments(run),
        "Matrix": matrix_text(run),
        "Workload binary": _hash(
            programs(manifest).get(run.experiment.workload.program, {}).get("binary_sha256")
        ),
        **{
            f"Conditions of {name}": _conditions(regime)
            for name, regime in run.experiment.protocol_regimes(run.protocol).items()
        },
        "Seed": str(run.experiment.seed),
        "kdelta": _version(manifest.get("kdelta") or {}),
        "Written": _text(manifest.get("written_at")),
    }


def arm_facts(run: RunFolder, arm: str) -> str:
    """Which bytes an arm is, what made them if not what made the baseline, how it is booted."""
    booted = run.experiment.booted_arms()[arm]
    kernels = run.manifest.get("kernels", {})
    image = kernels.get(booted, {})
    # A file of several commits is listed with each.
    hashes = dict.fromkeys(_hash(patch.get("sha256")) for patch in image.get("patches", []))
    facts = [f"image {_hash(image.get('key'))}"]
    facts.append(f"patches {', '.join(hashes)}" if hashes else "no patch")
    compiler, usual = (
        kernel.get("compiler") for kernel in (image, kernels.get(run.experiment.baseline, {}))
    )
    if compiler and usual and compiler != usual:
        facts.append(compiler)
    if booting := run.experiment.arm(booted).booting_words:
        facts.append(f"booted with {booting}")
    return ", ".join(facts)


def setup_differences(a: RunFolder, b: RunFolder) -> list[tuple[str, str, str]]:
    """What differs: label, A's fact, B's fact. A fact that only one has is `-` in the other."""
    ours, theirs = setup_facts(a), setup_facts(b)
    labels = dict.fromkeys([*ours, *theirs])
    rows = [(label, ours.get(label, "-"), theirs.get(label, "-")) for label in labels]
    return [row for row in rows if row[1] != row[2]]


def _distinct(records: Iterable[Json], key: str) -> str:
    values = dict.fromkeys(_text(record.get(key)) for record in records)
    return "; ".join(values) or NOT_RECORDED


def _text(value: object) -> str:
    if value is None or value == "":
        return NOT_RECORDED
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hash(value: object) -> str:
    return _text(value)[:12]


def _source(source: Json | None) -> str:
    if not source:
        return NOT_RECORDED
    # Name and version, or address and commit; hashes of the same are of no use beside them.
    keys = ("package", "version", "url", "commit")
    return " ".join(str(source[key]) for key in keys if source.get(key)) or _text(source.get("id"))


def matrix_text(run: RunFolder) -> str:
    """The factors of a run with their levels."""
    return " x ".join(
        f"{factor} {', '.join(map(_text, levels))}"
        for factor, levels in run.experiment.matrix.items()
    )


def _arguments(run: RunFolder) -> str:
    given = run.experiment.workload.arguments
    told = {
        name: parse_size_bytes(str(value)) if name.endswith("_size") else value
        for name, value in given.items()
    }
    return ", ".join(f"{name}={_text(told[name])}" for name in sorted(told)) or "defaults"


def _conditions(regime: Regime) -> str:
    facts = regime.model_dump(
        mode="json", exclude={"title", "description", "expects"}, exclude_defaults=True
    )
    if not facts:
        return "none"
    stressor = facts.pop("stressor", None)
    words = [f"{key} {json.dumps(value, sort_keys=True)}" for key, value in facts.items()]
    if stressor:
        words.append(" ".join(stressor.pop("command")))
        words += [f"{key} {value}" for key, value in stressor.items()]
    return ", ".join(words)


def _version(kdelta: Json) -> str:
    commit = str(kdelta.get("commit") or "")
    words = [_text(kdelta.get("version"))]
    words += [commit[:12]] if commit else []
    words += ["changed"] if kdelta.get("changed") else []
    return ", ".join(words)
