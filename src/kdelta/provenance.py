# SPDX-License-Identifier: GPL-2.0-only
"""What ran, on what, from which bytes: the manifest of a run."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.image import sha256_file
from kdelta.workload.guest_root import RECORD as ROOT_RECORD

Json = dict[str, Any]

MANIFEST = "manifest.json"
PACK_RECORD = "reference.json"
CONSOLE = ".console.log"


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
    kernels = {name: read_json(base / "kernels" / name / "image.json") for name in experiment.arms}
    folders = block_folders(experiment, protocol, run)
    hosts = [read_json(folder / "host.json") for folder in folders]
    distinct = distinct_hosts(hosts)
    programs = base / "programs" / "programs.json"
    root_record = base / "programs" / ROOT_RECORD
    content: Json = {
        "schema": 1,
        "experiment": json.loads(experiment.model_dump_json(by_alias=True)),
        "protocol": protocol,
        "kernels": kernels,
        "programs": read_json(programs) if programs.exists() else {},
        **({"guest_root": read_json(root_record)} if root_record.exists() else {}),
        "workloads": {
            chosen.program: chosen.declaration.model_dump(mode="json")
            for chosen in experiment.workloads.values()
        },
        "acceleration": read_json(base / "acceleration.json"),
        "hosts": distinct,
        "blocks": [
            {
                "regime": folder.parent.name,
                "block": folder.name,
                "host": distinct.index(_host_of(host)) + 1,
                **({"node": host["node"]} if host.get("node") else {}),
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
    words = [f"experiment={file}", f"protocol={protocol}"]
    if arch := (manifest["experiment"].get("kernel") or {}).get("arch"):
        words.append(f"arch={arch}")
    chosen = shlex.join(words)
    return f"snakemake --cores all --config {chosen}"


def distinct_hosts(records: list[Json]) -> list[Json]:
    """The hosts, guests and accelerations that blocks were measured on, each once."""
    seen: dict[str, Json] = {}
    for facts in map(_host_of, records):
        seen.setdefault(json.dumps(facts, sort_keys=True), facts)
    return list(seen.values())


def _host_of(record: Json) -> Json:
    """What a block's host.json says of host, guest and acceleration."""
    names = ("host", "vcpus", "overcommitted", "memory_mib", "acceleration")
    return {name: record[name] for name in names}


def block_folders(experiment: Experiment, protocol: str, run: Path) -> list[Path]:
    """The planned blocks that were measured; folders of an older, longer run are left out."""
    blocks = experiment.protocols[protocol].blocks
    planned = _planned_folders(run, experiment.protocol_regimes(protocol), blocks)
    return [folder for folder in planned if (folder / "host.json").exists()]


def _planned_folders(run: Path, regimes: Iterable[str], blocks: int) -> list[Path]:
    numbers = range(1, blocks + 1)
    return [run / "raw" / regime / f"block-{n:03d}" for regime in regimes for n in numbers]


def mechanism_folders(experiment: Experiment, protocol: str, run: Path) -> list[Path]:
    """The folders of mechanism boots."""
    return [run / "mechanism" / regime for regime in experiment.mechanism_regimes(protocol)]


def raw_files(folder: Path) -> list[Path]:
    """The files of a block or of mechanism boots that the analysis reads, consoles too.

    What measuring keeps of a failed boot (*.partial.jsonl) is not data.
    """
    return sorted(
        path
        for pattern in ("*.json", "*.jsonl", f"*{CONSOLE}")
        for path in folder.glob(pattern)
        if not path.name.endswith(".partial.jsonl")
    )


def raw_hashes(run: Path, folders: list[Path]) -> dict[str, str]:
    """sha256 of every raw file of the blocks, by its path below the run's folder."""
    return {
        path.relative_to(run).as_posix(): sha256_file(path)
        for folder in folders
        for path in raw_files(folder)
    }


def expected_hashes(manifest: Json, record: Json | None = None) -> dict[str, str]:
    """Path below the run's folder -> sha256 that its raw file must have.

    Args:
        manifest: of the run.
        record: of a packed run: what scrubbing has made of some of the files.
    """
    changed = (record or {}).get("changed", {})
    shipped = {name: entry["shipped"] for name, entry in changed.items()}
    return {**manifest.get("raw_sha256", {}), **shipped}


def unverified_consoles(expected: Mapping[str, str]) -> list[str]:
    """The consoles that must be there and whose content nobody recorded.

    Manifests of earlier versions list no console; every boot that has records has one.
    """
    boots = (name.removesuffix(".jsonl") for name in expected if name.endswith(".jsonl"))
    consoles = {f"{boot}{CONSOLE}" for boot in boots}
    return sorted(consoles - expected.keys())


def check_raw(run: Path, manifest: Json) -> str | None:
    """See to it that a run's raw files are those that its manifest lists.

    Args:
        run: the run's folder, or one that a packed run was laid out in.
        manifest: of the run.

    Returns:
        A note, if the manifest is of an earlier version, which hashed no consoles.

    Raises:
        KdeltaError: a file is missing, another one than was measured, or not listed.
    """
    record = run / PACK_RECORD
    expected = expected_hashes(manifest, read_json(record) if record.is_file() else None)
    unverified = unverified_consoles(expected)
    folders = {(run / name).parent for name in expected}
    # A block that was measured later is read, too; one of an older, longer run is not.
    protocol = manifest["experiment"]["protocols"][manifest["protocol"]]
    planned = _planned_folders(run, protocol["duration_s"], protocol["blocks"])
    folders |= {folder for folder in planned if raw_files(folder)}
    found = raw_hashes(run, sorted(folders))
    words = [f"{name} is missing" for name in sorted({*expected, *unverified} - found.keys())]
    words += [
        f"{name} is not the file that was measured"
        if name in expected
        else f"{name} is not in {MANIFEST}"
        for name in sorted(found.keys() - set(unverified))
        if found[name] != expected.get(name)
    ]
    if words:
        more = f" (and {len(words) - 1} more like that)" if len(words) > 1 else ""
        raise KdeltaError(
            f"{run}: {words[0]}{more}: the raw files are not those whose hashes are in "
            f"{MANIFEST}. Put them back; or, if blocks were measured since it was written, make it "
            "again with `kdelta manifest`"
        )
    if unverified:
        return (
            f"{run / MANIFEST}: of an earlier version, which hashed no consoles: all "
            f"{len(unverified)} are there, that they are unchanged is not proven"
        )
    return None


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
