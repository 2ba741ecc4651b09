# SPDX-License-Identifier: GPL-2.0-only
"""Result tables as frames, and frames as CSV: the same frame always gives the same bytes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from kdelta.analysis.forked import begun
from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.schema import BY_PATH, FACTOR, PARAMETER, RULE, VALUE

Columns = dict[str, np.ndarray | ExtensionArray]
"""Name -> values, all of one length."""

ROWS = 20_000
"""Of a table, that are written at once."""


def frame_of(
    path: str,
    rows: Iterable[Mapping[str, object]],
    factors: Sequence[str] = (),
    *,
    rules: Sequence[str] = (),
) -> pd.DataFrame:
    """Rows as a table of `kdelta.schema`: its columns in order and type.

    A value that a row lacks is missing.

    Args:
        path: of the table.
        rows: values by column.
        factors: of the matrix.
        rules: that were broken.
    """
    places: dict[str, dict[str, str | None]] = {
        FACTOR: dict.fromkeys(factors),
        RULE: dict.fromkeys(rules, "int64"),
    }
    dtypes = _dtypes(path, places)
    return _typed(pd.DataFrame(list(rows), columns=list(dtypes)), dtypes)


def arrays_of(
    path: str,
    columns: Mapping[str, Sequence[Any]],
    *,
    values: Mapping[str, str],
) -> Columns:
    """Columns of such a table as arrays of their types; one that has none there stays as it is.

    Args:
        path: of the table.
        columns: values by column; None is missing.
        values: of the workload: name -> type in pandas.
    """
    dtypes = _dtypes(path, {VALUE: dict(values)})
    return {name: array_of(column, dtypes.get(name)) for name, column in columns.items()}


def array_of(column: Sequence[Any], dtype: str | None) -> np.ndarray | ExtensionArray:
    """Values as an array: what pandas would make of them, without asking what each of them is.

    Args:
        column: the values; None is missing.
        dtype: in pandas; None: as they come.
    """
    match dtype:
        case "float64" | "int64" | "bool":
            return np.array(column, dtype=dtype)
        case "Int64" | "boolean":
            missing = np.zeros(len(column), dtype=bool)
            if None in column:
                missing = np.array([value is None for value in column])
                column = [0 if value is None else value for value in column]
            if dtype == "boolean":
                return pd.arrays.BooleanArray(np.array(column, dtype=bool), missing)
            numbers = np.fromiter(column, dtype=np.int64, count=len(column))
            return pd.arrays.IntegerArray(numbers, missing)
    return pd.Series(column, dtype=dtype).array


def order_of(
    path: str,
    *,
    factors: Sequence[str],
    parameters: Sequence[str],
    values: Sequence[str],
) -> list[str]:
    """The names of such a table's columns.

    Args:
        path: of the table.
        factors: of the matrix.
        parameters: of the workload that are the same in every cell.
        values: of the workload.
    """
    places: dict[str, dict[str, str | None]] = {
        FACTOR: dict.fromkeys(factors),
        PARAMETER: dict.fromkeys(parameters),
        VALUE: dict.fromkeys(values),
    }
    return list(_dtypes(path, places))


def _dtypes(path: str, places: Mapping[str, Mapping[str, str | None]]) -> dict[str, str | None]:
    """Column -> its type, None where it is as it comes.

    Args:
        path: of the table.
        places: name of a column that stands for others -> those, with their types.
    """
    dtypes: dict[str, str | None] = {}
    for column in BY_PATH[path].columns:
        if column.name in (FACTOR, PARAMETER, VALUE, RULE):
            dtypes |= places.get(column.name, {})
        else:
            dtypes[column.name] = column.dtype
    return dtypes


def _typed(frame: pd.DataFrame, dtypes: Mapping[str, str | None]) -> pd.DataFrame:
    return frame.astype({name: dtype for name, dtype in dtypes.items() if dtype is not None})


def numbered(
    frame: pd.DataFrame, keys: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows with the same keys, numbered as they come, and the first row of each number."""
    numbers = np.asarray(frame.groupby(list(keys), sort=False).ngroup(), dtype=np.int64)
    return numbers, np.unique(numbers, return_index=True)[1]


def csv_text(frame: pd.DataFrame) -> str:
    r"""The frame as CSV: `\n` line ends, 10 significant digits, true/false, empty if missing."""
    with csv_pieces(frame) as pieces:
        return b"".join(pieces).decode()


def csv_pieces(frame: pd.DataFrame) -> AbstractContextManager[Iterator[bytes]]:
    """The same in pieces of `ROWS` rows, begun by all CPUs: a million rows take ten seconds."""
    pieces = range(0, max(1, len(frame)), ROWS)
    return begun(_piece, frame, pieces, worth_it=len(pieces) > 1)


def _piece(frame: pd.DataFrame, first: int) -> bytes:
    piece = frame.iloc[first : first + ROWS]
    columns = [_texts(column) for _, column in piece.items()]
    rows = [",".join(map(_text, piece.columns))] if first == 0 else []
    rows += map(",".join, zip(*columns, strict=True))
    return "".join(f"{row}\n" for row in rows).encode()


def _texts(column: pd.Series) -> list[str]:
    """A column's values as they are to be printed: `DataFrame.to_csv` takes four times as long.

    Most columns have few values in so many rows, so that only these are made text.
    """
    if pd.api.types.is_float_dtype(column.dtype):
        numbers = column.to_numpy(dtype=float, na_value=math.nan).tolist()
        return ["" if number != number else f"{number:.10g}" for number in numbers]
    missing = column.isna().to_numpy()
    if column.dtype == object:  # true is not 1 here
        found = np.array([*map(_text, column.tolist())], dtype=object)
    else:
        whole = pd.api.types.is_integer_dtype(column.dtype)
        plain = column.to_numpy(dtype=np.int64, na_value=0) if whole else column
        codes, distinct = pd.factorize(plain)
        words = map(str if whole else _text, distinct.tolist())
        found = np.array([*words, ""], dtype=object)[codes]
    found[missing] = ""
    return list(found)


def _text(value: object) -> str:
    """A value as a field of CSV."""
    if isinstance(value, bool | int):
        return str(value).lower()
    text = io.StringIO()
    # Beside another field: one that is empty and alone would be quoted.
    csv.writer(text, lineterminator="\n").writerow([value, ""])
    return text.getvalue()[:-2]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes the file in one step: readers see the old one or the new one, never a part.

    Raises:
        KdeltaError: the folder cannot be written, or the disk is full.
    """
    with csv_pieces(frame) as pieces:
        write_pieces(pieces, path)


def write_pieces(pieces: Iterable[bytes], path: Path) -> None:
    """The same of what `csv_pieces` has begun."""
    try:
        write_atomically(path, pieces)
    except OSError as error:
        raise KdeltaError(
            f"{path}: cannot be written: {error.strerror}; "
            "make room or mend the folder's permissions, and start again"
        ) from None
