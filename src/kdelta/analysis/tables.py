# SPDX-License-Identifier: GPL-2.0-only
"""Writes frames as CSV: the same frame always gives the same bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pandas as pd

from kdelta.errors import KdeltaError


def csv_text(frame: pd.DataFrame) -> str:
    r"""The frame as CSV: `\n` line ends, 10 significant digits, true/false, empty if missing."""
    plain = frame.copy()
    for name in plain.columns:
        if pd.api.types.is_bool_dtype(plain[name].dtype) or plain[name].dtype == object:
            plain[name] = plain[name].map(_plain_bool, na_action="ignore")
    return plain.to_csv(index=False, lineterminator="\n", float_format="%.10g", na_rep="")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes the file in one step: readers see the old one or the new one, never a part.

    Raises:
        KdeltaError: the folder cannot be written, or the disk is full.
    """
    text = csv_text(frame)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            newline="",
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # NamedTemporaryFile's 0600 would hide results from colleagues
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise KdeltaError(
            f"{path}: cannot be written: {error.strerror}; "
            "make room or mend the folder's permissions, and start again"
        ) from None


def _plain_bool(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
