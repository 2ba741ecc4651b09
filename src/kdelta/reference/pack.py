# SPDX-License-Identifier: GPL-2.0-only
"""Packs a finished run: its raw files and its manifest, compressed and scrubbed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.export.run_folder import RunFolder, read_run
from kdelta.provenance import MANIFEST, PACK_RECORD, raw_files, unverified_consoles
from kdelta.reference.layout import (
    RECORD_SCHEMA,
    Json,
    claims_file,
    pack_bytes,
    packed_name,
)
from kdelta.reference.scrub import Scrubber


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        files: written, the manifest and the like included.
        size: of all of them, in bytes.
        replaced: kind of private text -> how often it was replaced.
    """

    files: int
    size: int
    replaced: dict[str, int]


def pack(run_dir: Path, output: Path, root: Path, scrubber: Scrubber) -> Packed:
    """Pack a run's folder into a new folder.

    Args:
        run_dir: a finished run, `results/<experiment>/<protocol>`.
        output: the folder to make; an older packed run there is replaced.
        root: the project's root, for the file of published deltas.
        scrubber: removes what is private; its counts go into the record.

    Raises:
        KdeltaError: no finished run, a raw file that is not the measured one, or another folder
            is in the way.
    """
    run = read_run(run_dir)
    if len(run.experiment.workloads) > 1:
        raise KdeltaError(
            f"{run_dir}: has several workloads, and packed runs are of one: "
            f"{', '.join(run.experiment.workloads)}"
        )
    if output.exists() and any(output.iterdir()) and not (output / PACK_RECORD).is_file():
        raise KdeltaError(f"{output}: exists and is no packed run; name another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".reference-") as name:
        fresh = Path(name) / "run"
        packed = _write(run, fresh, root, scrubber)
        if output.exists():
            shutil.rmtree(output)
        fresh.rename(output)
    return packed


def _write(run: RunFolder, folder: Path, root: Path, scrubber: Scrubber) -> Packed:
    size = files = 0
    changed: Json = {}
    measured: dict[str, str] = run.manifest["raw_sha256"]

    def put(name: str, data: bytes) -> None:
        nonlocal size, files
        path = folder / packed_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = pack_bytes(name, data)
        path.write_bytes(content)
        size, files = size + len(content), files + 1

    unverified = set(unverified_consoles(measured))
    missing = {*measured, *unverified}
    for name in _raw_names(run):
        data = _read(run.path / name)
        before = hashlib.sha256(data).hexdigest()
        # An earlier version's manifest lists no console.
        if measured.get(name, before if name in unverified else None) != before:
            raise KdeltaError(
                f"{run.path / name}: not what was measured (sha256 is not the one in {MANIFEST}); "
                "make the manifest again, or measure the block again"
            )
        missing.discard(name)
        clean = _scrubbed(name, data, scrubber)
        if clean != data:
            changed[name] = {"measured": before, "shipped": hashlib.sha256(clean).hexdigest()}
        put(name, clean)
    if missing:
        raise KdeltaError(f"{run.path / min(missing)}: no such file, and {MANIFEST} lists it")
    put(MANIFEST, scrubber.json_file(_read(run.path / MANIFEST)))
    claims = claims_file(run.experiment)
    if claims is not None:
        put(claims, _read(root / claims))
    record = {
        "schema": RECORD_SCHEMA,
        "run_id": run.run_id,
        "packed_by": __version__,
        "replaced": dict(sorted(scrubber.counts.items())),
        "changed": changed,
    }
    put(PACK_RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return Packed(files, size, dict(scrubber.counts))


def _raw_names(run: RunFolder) -> Iterator[str]:
    """The raw files of the blocks that the manifest lists, and of the traced boots."""
    folders = [f"raw/{block['regime']}/{block['block']}" for block in run.manifest["blocks"]]
    folders += [f"mechanism/{r}" for r in run.experiment.mechanism_regimes(run.protocol)]
    if not run.manifest["blocks"]:
        raise KdeltaError(f"{run.path / MANIFEST}: blocks: lists none; is the run finished?")
    for folder in folders:
        for path in raw_files(run.path / folder):
            yield f"{folder}/{path.name}"


def _scrubbed(name: str, data: bytes, scrubber: Scrubber) -> bytes:
    if name.endswith(".jsonl"):
        return scrubber.json_lines(data)
    return scrubber.json_file(data) if name.endswith(".json") else scrubber.log_file(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KdeltaError(
            f"{path}: cannot be read: {error.strerror}; is the run finished?"
        ) from None
