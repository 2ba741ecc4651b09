# SPDX-License-Identifier: GPL-2.0-only
"""Reading a file of published deltas, the `claims` of an experiment file.

Columns are described in config/README.md. A claim about a regime or a cell that the
experiment lacks is kept: the comparison says that it was not measured.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from kdelta.analysis.settings import Claim
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.units import cell_value, level_value
from kdelta.workload.parameters import Level, Parameter

T = TypeVar("T")

_BEFORE = ("regime", "metric")
_AFTER = ("baseline", "value", "delta_percent")
_REGIME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class _Row:
    """One line of the file: its place for messages, and its text by column."""

    path: Path
    line: int
    cells: dict[str, str]

    def get(self, column: str, convert: Callable[[str], T]) -> T:
        """The column's value; what `convert` finds wrong is told with its place."""
        text = self.cells[column].strip()
        try:
            return convert(text)
        except ValueError as error:
            raise KdeltaError(f"{self.path}:{self.line}: {column}: {error}") from None


def read_claims(path: Path, experiment: Experiment) -> tuple[Claim, ...]:
    """The claims in a CSV file, in the file's order.

    Args:
        path: the file.
        experiment: gives the factors that a cell has, and with `claims.arm` the arm.

    Raises:
        KdeltaError: unreadable, or not a file of claims about this matrix; the message names
            the file, line, column and value.
        ValueError: the experiment has no `claims`.
    """
    if experiment.claims is None:
        raise ValueError(f"experiment {experiment.name} names no claims")
    arm = experiment.claims.arm
    matrix = experiment.matrix
    line_of: dict[tuple[object, ...], int] = {}
    found = []
    for row in _rows(path, tuple(matrix)):
        claim = _claim(row, arm, experiment)
        cell = (claim.regime, claim.metric, *cell_value(tuple(claim.levels.values())))
        if cell in line_of:
            raise KdeltaError(
                f"{path}:{row.line}: this regime, metric and cell were given in line "
                f"{line_of[cell]} already; keep one"
            )
        line_of[cell] = row.line
        found.append(claim)
    if not found:
        raise KdeltaError(f"{path}: no claims below the header; add a line for each")
    return tuple(found)


def _rows(path: Path, factors: tuple[str, ...]) -> list[_Row]:
    expected = (*_BEFORE, *factors, *_AFTER)
    # strict: text after a closing quote is a mistake, not a value.
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, expected)
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise KdeltaError(
                    f"{path}:{reader.line_num}: {len(cells)} values, but the header has "
                    f"{len(header)} columns"
                )
            rows.append(_Row(path, reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise KdeltaError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None
    return rows


def _text(path: Path) -> str:
    try:
        # Spreadsheets begin a file with a byte order mark.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise KdeltaError(f"{path}: no such file; claims.file names it") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no possible path
        raise KdeltaError(f"{path}: cannot be read: {error}") from None


def _check_header(path: Path, header: list[str], expected: tuple[str, ...]) -> None:
    columns = f"columns are {', '.join(expected)} (the middle ones are the matrix's factors)"
    for name in header:
        if name not in expected:
            raise KdeltaError(f"{path}:1: unknown column {name!r}; {columns}")
        if header.count(name) > 1:
            raise KdeltaError(f"{path}:1: column {name!r} is there twice; keep one")
    missing = [name for name in expected if name not in header]
    if missing:
        raise KdeltaError(f"{path}:1: no column {missing[0]!r}; {columns}")


def _claim(row: _Row, arm: str, experiment: Experiment) -> Claim:
    workload = experiment.workload.declaration
    return Claim(
        regime=row.get("regime", _regime),
        arm=arm,
        metric=row.get("metric", partial(_metric, known=list(workload.metrics))),
        levels={
            name: row.get(name, partial(_level, parameter=workload.parameters[name], known=known))
            for name, known in experiment.matrix.items()
        },
        baseline=row.get("baseline", _positive),
        value=row.get("value", _positive),
        delta_percent=row.get("delta_percent", _number),
    )


def _regime(text: str) -> str:
    if not _REGIME.fullmatch(text):
        raise ValueError(f"should be the name of a regime, found {text!r}")
    return text


def _metric(text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ValueError(f"should be one of {', '.join(known)}, found {text!r}")
    return text


def _level(text: str, parameter: Parameter, known: Sequence[Level]) -> Level:
    """The level that a cell's text means, as the matrix writes it if it has the level.

    Raises:
        ValueError: no value that the workload takes.
    """
    level: Level = text
    if text.lower() in ("true", "false"):
        level = text.lower() == "true"
    elif re.fullmatch(r"[0-9]{1,18}", text):
        level = int(text)
    for other in known:
        if level_value(other) == level_value(level):
            return other
    if parameter.meaning(level) is None:
        raise ValueError(f"should be {parameter.takes}, found {level!r}")
    return level


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"should be a number, found {text!r}")
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise ValueError(f"should be more than 0, found {text!r}")
    return number
