# SPDX-License-Identifier: GPL-2.0-only
"""Lays a packed run out again as the folder of a run that has been measured and no more."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from kdelta.errors import KdeltaError
from kdelta.export.run_folder import read_run
from kdelta.provenance import (
    CONSOLE,
    MANIFEST,
    PACK_RECORD,
    expected_hashes,
    read_json,
    unverified_consoles,
)
from kdelta.reference.layout import (
    RECORD_SCHEMA,
    claims_file,
    packed_name,
    unpack_file,
)

_RAW = ("raw", "mechanism")


def unpack(reference: Path, output: Path) -> int:
    """Write raw files, manifest and claims of a packed run below a folder, checked by hash.

    Raw files that are there already are removed first; everything else is left alone.

    Args:
        reference: the packed run.
        output: becomes the run's folder, and the root that its claims file is relative to.

    Returns:
        How many files were written.

    Raises:
        KdeltaError: no packed run, or a file is missing, damaged or not the one that was packed.
    """
    if not (reference / PACK_RECORD).is_file():
        raise KdeltaError(
            f"{reference}: no packed run here ({PACK_RECORD} does not exist); "
            "`kdelta reference --run RUN` makes one"
        )
    record = read_json(reference / PACK_RECORD)
    if record.get("schema") != RECORD_SCHEMA:
        raise KdeltaError(
            f"{reference / PACK_RECORD}: of another version of kdelta; pack the run again"
        )
    run = read_run(reference)
    expected = expected_hashes(run.manifest, record)
    for folder in _RAW:
        if (output / folder).exists():
            shutil.rmtree(output / folder)
    names = sorted({*expected, *unverified_consoles(expected), *_consoles(reference)})
    for name in names:
        data = unpack_file(reference / packed_name(name))
        if expected.get(name, _sha256(data)) != _sha256(data):
            raise KdeltaError(
                f"{reference / packed_name(name)}: not the file that was packed (sha256 differs); "
                "check it out again"
            )
        _put(output, name, data)
    claims = claims_file(run.experiment)
    # The manifest last: whoever finds it finds the rest.
    others = [name for name in (claims, PACK_RECORD, MANIFEST) if name is not None]
    for name in others:
        _put(output, name, unpack_file(reference / name))
    return len(names) + len(others)


def _consoles(reference: Path) -> list[str]:
    """The consoles, of which an earlier version's manifest has no hash."""
    found = (p for folder in _RAW for p in (reference / folder).rglob(f"*{CONSOLE}.gz"))
    return [path.relative_to(reference).as_posix().removesuffix(".gz") for path in found]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put(output: Path, name: str, data: bytes) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise KdeltaError(f"{name}: leads out of the run's folder; check the reference out again")
    path = output / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
