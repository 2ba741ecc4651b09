# SPDX-License-Identifier: GPL-2.0-only
"""A packed run: raw files and manifest of a finished one, compressed and scrubbed; and back."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.export.run_folder import Json, RunFolder, read_run
from kdelta.provenance import (
    CONSOLE,
    MANIFEST,
    PACK_RECORD,
    expected_hashes,
    raw_files,
    read_json,
    unverified_consoles,
)
from kdelta.reference.scrub import Scrubber

RECORD_SCHEMA = 1

_COMPRESSED = (".jsonl", CONSOLE)
_LEVEL = 9
_RAW = ("raw", "mechanism")


def compressed(name: str) -> bool:
    """Whether a file is kept compressed: records and consoles are, small documents are not."""
    return name.endswith(_COMPRESSED)


def packed_name(name: str) -> str:
    """The name that a file of a run has in its packed form."""
    return f"{name}.gz" if compressed(name) else name


def pack_bytes(name: str, data: bytes) -> bytes:
    """A file's content as it is shipped."""
    return gzip.compress(data, _LEVEL, mtime=0) if compressed(name) else data


def unpack_file(path: Path) -> bytes:
    """The content of a shipped file, decompressed if its name ends in .gz.

    Raises:
        KdeltaError: missing, unreadable or damaged.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except FileNotFoundError:
        raise KdeltaError(
            f"{path}: no such file; the reference is not complete: check it out again"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise KdeltaError(f"{path}: cannot be read: {error}; check it out again") from None


def claims_file(experiment: Experiment) -> str | None:
    """The file of published deltas, which goes with a run under its own name.

    Raises:
        KdeltaError: its path leads out of the project.
    """
    if experiment.claims is None:
        return None
    path = PurePosixPath(experiment.claims.file)
    if path.is_absolute() or ".." in path.parts:
        raise KdeltaError(
            f"claims.file: {experiment.claims.file}: a run that ships with the project needs its "
            "claims below the project's root; move the file there"
        )
    return str(path)


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
