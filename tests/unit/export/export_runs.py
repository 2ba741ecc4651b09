# SPDX-License-Identifier: GPL-2.0-only
"""Finished runs with a known truth: raw files made up, tables by the real analysis."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from kdelta.analysis.run import analyse
from kdelta.experiment import Experiment
from kdelta.export.run_folder import RunFolder, read_run
from kdelta.provenance import raw_hashes
from kdelta.run_context import analysis_settings
from tests.unit.analysis.synthetic import Truth, write_raw

Json = dict[str, Any]

EXPERIMENT: Json = {
    "schema": 2,
    "name": "pipes",
    "title": "fs/pipe: faster & <better>",
    "kernel": {
        "source": {"type": "debian", "package": "linux-source-6.12"},
        "config": {"fragments": ["guest.config"]},
    },
    "arms": {"baseline": {"title": "as it was"}, "patched": {"title": "with the series"}},
    "workloads": {
        "pipe_bench": {
            "matrix": {"writers": [1, 2], "readers": [1, 5]},
            "arguments": {"write_size": 65536},
        }
    },
    "regimes": {
        "idle": {"title": "Nothing else"},
        "memory-pressure": {"title": "Pressed", "stressor": {"command": ["stress-ng", "--vm"]}},
    },
    "protocols": {"quick": {"blocks": 4, "duration_s": {"idle": 0.6}}},
    "seed": 7,
}
HOST: Json = {
    "host": {
        "cpu_model": "A Processor 1000",
        "architecture": "x86_64",
        "cpus": 4,
        "memory_mib": 8192,
        "swap_mib": 0,
        "sockets": 1,
        "cores": 4,
        "threads_per_core": 1,
        "smt": False,
        "numa_nodes": 1,
        "kernel": "6.1.0",
        "system": "Debian",
        "governor": None,
        "turbo": None,
        "mitigations": None,
        "hypervisor": None,
        "qemu": "QEMU 7.2",
        "virtme_ng": "1.42",
        "stress_ng": None,
    },
    "vcpus": 2,
    "overcommitted": False,
    "memory_mib": 1024,
}


def experiment_of(truth: Truth, **changes: Any) -> Json:
    """The experiment that a truth is an outcome of."""
    regimes = dict.fromkeys(truth.regimes, 0.6)
    experiment = copy.deepcopy(EXPERIMENT)
    chosen = experiment["workloads"]["pipe_bench"]
    chosen["arguments"] = changes.pop("arguments", chosen["arguments"])
    chosen["matrix"] = {name: list(levels) for name, levels in truth.factors.items()}
    for worker in {"writers", "readers"} - truth.factors.keys():
        chosen["arguments"] = {**chosen["arguments"], worker: 1}
    return {
        **experiment,
        "protocols": {"quick": {"blocks": truth.blocks, "duration_s": regimes}},
        **changes,
    }


def make_run(
    folder: Path,
    truth: Truth | None = None,
    *,
    mode: str = "tcg",
    host: Json | None = None,
    spoil: Any = None,
    **changes: Any,
) -> RunFolder:
    """A run's folder.

    Args:
        folder: where to.
        truth: what is true.
        mode: kvm or tcg.
        host: facts of the host that differ from `HOST`.
        spoil: called with the raw folder before it is analysed.
        changes: keys of the experiment, and `arguments` of its workload.
    """
    truth = truth or Truth()
    data = experiment_of(truth, **changes)
    experiment = Experiment.model_validate(data)
    write_raw(folder / "raw", truth)
    if spoil is not None:
        spoil(folder / "raw")
    analyse(folder / "raw", folder, analysis_settings(experiment, "quick"))
    manifest = manifest_of(experiment, folder, mode, host or {})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return read_run(folder)


def manifest_of(experiment: Experiment, folder: Path, mode: str, host: Json) -> Json:
    hashes = raw_hashes(folder, sorted(folder.glob("raw/*/block-*")))
    content: Json = {
        "experiment": json.loads(experiment.model_dump_json(by_alias=True)),
        "protocol": "quick",
        "kernels": {name: _image(name) for name in experiment.arms},
        "programs": {"pipe_bench": {"binary_sha256": "cd" * 32}},
        "workloads": {},
        "acceleration": {"mode": mode, "requested": "auto", "reason": "so it is"},
        "hosts": [{**HOST, "host": {**HOST["host"], **host}}],
        "blocks": [],
        "raw_sha256": hashes,
    }
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    kdelta = {"version": "0.1.0", "commit": "ab" * 20, "changed": False}
    return {"run_id": identity, "kdelta": kdelta, "argv": "", "schema": 1, **content}


def _image(arm: str) -> Json:
    digest = hashlib.sha256(arm.encode()).hexdigest()
    patches = [{"file": "a.patch", "sha256": "12" * 32, "subject": "faster"}]
    return {
        "kernel_release": "6.12.9",
        "key": digest,
        "config_sha256": "ef" * 32,
        "image_sha256": digest,
        "source": {"package": "linux-source-6.12", "version": "6.12.9-1"},
        "compiler": "gcc 12.2",
        "patches": patches if arm != "baseline" else [],
    }
