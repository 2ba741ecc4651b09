# SPDX-License-Identifier: GPL-2.0-only
"""What a packed run consists of: file names, and which of them are compressed."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.provenance import CONSOLE

Json = dict[str, Any]

SUMS = "SHA256SUMS"
RECORD_SCHEMA = 1

_COMPRESSED = (".jsonl", CONSOLE)
_LEVEL = 9


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
