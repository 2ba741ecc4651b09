# SPDX-License-Identifier: GPL-2.0-only
"""Result tables as frames, and frames as CSV: the same frame always gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kdelta.analysis.forked import on_all_cpus
from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.schema import BY_PATH, FACTOR, PARAMETER, RULE, VALUE

ROWS = 50_000
"""Of a table, that are written at once."""


def frame_of(
    path: str,
    rows: Iterable[Mapping[str, object]],
    factors: Sequence[str] = (),
    *,
    parameters: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
    rules: Sequence[str] = (),
) -> pd.DataFrame:
    """Rows as a table of `kdelta.schema`: its columns in order and type.

    A value that a row lacks is missing.

    Args:
        path: of the table.
        rows: values by column.
        factors: of the matrix.
        parameters: of the workload that are the same in every cell.
        values: of the workload: name -> type in pandas.
        rules: that were broken.
    """
    places: dict[str, dict[str, str | None]] = {
        FACTOR: dict.fromkeys(factors),
        PARAMETER: dict.fromkeys(parameters),
        VALUE: dict(values or {}),
        RULE: dict.fromkeys(rules, "int64"),
    }
    dtypes: dict[str, str | None] = {}
    for column in BY_PATH[path].columns:
        dtypes |= places.get(column.name, {column.name: column.dtype})
    frame = pd.DataFrame(list(rows), columns=list(dtypes))
    return frame.astype({name: dtype for name, dtype in dtypes.items() if dtype is not None})


def csv_text(frame: pd.DataFrame) -> str:
    r"""The frame as CSV: `\n` line ends, 10 significant digits, true/false, empty if missing."""
    return b"".join(csv_pieces(frame)).decode()


def csv_pieces(frame: pd.DataFrame) -> Iterator[bytes]:
    """The same in pieces of `ROWS` rows, by all CPUs: a million rows take half a minute of one."""
    pieces = range(0, max(1, len(frame)), ROWS)
    return on_all_cpus(_piece, frame, pieces, worth_it=len(pieces) > 1)


def _piece(frame: pd.DataFrame, first: int) -> bytes:
    piece = frame.iloc[first : first + ROWS].copy()
    for name, column in piece.items():
        if pd.api.types.is_bool_dtype(column.dtype) or column.dtype == object:
            piece[name] = column.map(_plain_bool, na_action="ignore")
        elif pd.api.types.is_float_dtype(column.dtype):
            # As `float_format` would have it, in a third of its time.
            numbers = column.to_numpy(dtype=float, na_value=math.nan).tolist()
            texts = ["" if number != number else f"{number:.10g}" for number in numbers]
            piece[name] = pd.Series(texts, index=column.index, dtype=object)
    return piece.to_csv(index=False, header=first == 0, lineterminator="\n", na_rep="").encode()


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes the file in one step: readers see the old one or the new one, never a part.

    Raises:
        KdeltaError: the folder cannot be written, or the disk is full.
    """
    try:
        write_atomically(path, csv_pieces(frame))
    except OSError as error:
        raise KdeltaError(
            f"{path}: cannot be written: {error.strerror}; "
            "make room or mend the folder's permissions, and start again"
        ) from None


def _plain_bool(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
