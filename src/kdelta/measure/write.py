# SPDX-License-Identifier: GPL-2.0-only
"""Writing raw files so that a power cut leaves whole ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError

Json = dict[str, Any]


def write_json(path: Path, value: Json) -> None:
    """Write one JSON object, synced."""
    _write_synced(path, json.dumps(value, indent=1) + "\n")


def write_lines(path: Path, records: list[Json]) -> None:
    """Write one JSON object a line, synced."""
    _write_synced(path, "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))


def _write_synced(path: Path, text: str) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KdeltaError(f"{path}: cannot be written: {error}") from error
