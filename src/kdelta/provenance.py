# SPDX-License-Identifier: GPL-2.0-only
"""What ran, on what, from which bytes: the manifest of a run."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.image import sha256_file

Json = dict[str, Any]


def read_json(path: Path) -> Json:
    """A JSON object from a file.

    Raises:
        KdeltaError: missing or not JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KdeltaError(f"{path}: no such file; has the run finished?") from None
    except (OSError, ValueError) as error:
        raise KdeltaError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise KdeltaError(f"{path}: expected a JSON object")
    return value


def build_manifest(
    experiment: Experiment, protocol: str, run: Path, root: Path, experiment_file: str = ""
) -> Json:
    """The manifest of a run, from the records that its steps have written.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        run: the run's folder, `results/<experiment>/<protocol>`.
        root: the project's root, for the state of its checkout.
        experiment_file: the file that the experiment was read from, as the configuration
            names it.
    """
    base = run.parent
    kernels = {
        name: read_json(base / "kernels" / name / "image.json") for name in experiment.variants
    }
    folders = block_folders(experiment, protocol, run)
    hosts = [read_json(folder / "host.json") for folder in folders]
    workload = base / "workload" / "pipe_bench.json"
    content: Json = {
        "schema": 1,
        "experiment": json.loads(experiment.model_dump_json(by_alias=True)),
        "protocol": protocol,
        "kernels": kernels,
        "workload": read_json(workload) if workload.exists() else {},
        "acceleration": read_json(base / "acceleration.json"),
        "hosts": distinct_hosts(hosts),
        "blocks": [
            {
                "regime": folder.parent.name,
                "block": folder.name,
                **{name: host[name] for name in ("boots", "environment", "earlier_attempts")},
            }
            for folder, host in zip(folders, hosts, strict=True)
        ],
        "raw_sha256": raw_hashes(run, folders + mechanism_folders(experiment, protocol, run)),
    }
    identity = json.dumps(content, sort_keys=True).encode()
    return {
        "run_id": hashlib.sha256(identity).hexdigest()[:16],
        "kdelta": {"version": __version__, **checkout_state(root)},
        "argv": os.environ.get("KDELTA_ARGV", ""),
        "experiment_file": experiment_file,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **content,
    }


def reproduction_command(manifest: Json, protocol: str) -> str:
    """What to type for a run like that of the manifest, in a checkout of its commit."""
    # Runs of earlier versions do not say; the experiments that ship are called as their files.
    name = manifest["experiment"]["name"]
    file = manifest.get("experiment_file") or f"config/experiments/{name}.yaml"
    chosen = shlex.join([f"experiment={file}", f"protocol={protocol}"])
    return f"snakemake --cores all --config {chosen}"


def distinct_hosts(records: list[Json]) -> list[Json]:
    """The hosts, guests and accelerations that blocks were measured on, each once."""
    seen: dict[str, Json] = {}
    for record in records:
        facts = {
            name: record[name]
            for name in ("host", "vcpus", "overcommitted", "memory_mib", "acceleration")
        }
        seen.setdefault(json.dumps(facts, sort_keys=True), facts)
    return list(seen.values())


def block_folders(experiment: Experiment, protocol: str, run: Path) -> list[Path]:
    """The planned blocks that were measured; folders of an older, longer run are left out."""
    planned = (
        run / "raw" / regime / f"block-{number:03d}"
        for regime in experiment.protocol_regimes(protocol)
        for number in range(1, experiment.protocols[protocol].blocks + 1)
    )
    return [folder for folder in planned if (folder / "host.json").exists()]


def mechanism_folders(experiment: Experiment, protocol: str, run: Path) -> list[Path]:
    """The folders of mechanism boots."""
    return [run / "mechanism" / regime for regime in experiment.mechanism_regimes(protocol)]


def raw_hashes(run: Path, folders: list[Path]) -> dict[str, str]:
    """sha256 of every raw file of the blocks, by its path below the run's folder."""
    return {
        str(path.relative_to(run)): sha256_file(path)
        for folder in folders
        for path in sorted(folder.glob("*.json*"))
        if not path.name.endswith(".partial.jsonl")
    }


def checkout_state(root: Path) -> Json:
    """Commit of the project's checkout and whether it was changed; empty outside of git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit, "changed": bool(git("status", "--porcelain"))}
