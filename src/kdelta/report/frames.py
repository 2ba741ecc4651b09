# SPDX-License-Identifier: GPL-2.0-only
"""The analysed tables of one results folder, and the fields of their rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdelta.errors import KdeltaError
from kdelta.report.formatting import format_level
from kdelta.schema import TABLES

_COLUMNS = [column for table in TABLES for column in table.columns]
_TEXTS = {column.name for column in _COLUMNS if column.type == "string"}
_TRUTHS = {c.name for c in _COLUMNS if c.type == "boolean" and not c.missing}


@dataclass(frozen=True)
class ReportFrames:
    """The tables of ``docs/contracts.md``; factor columns hold text labels."""

    samples: pd.DataFrame
    validity: pd.DataFrame
    deltas: pd.DataFrame
    overall: pd.DataFrame
    control: pd.DataFrame
    position: pd.DataFrame
    nodes: pd.DataFrame
    ratios: pd.DataFrame
    deltas_all: pd.DataFrame
    overall_all: pd.DataFrame
    set_aside: pd.DataFrame
    disturbance: pd.DataFrame
    pressure: pd.DataFrame
    counters: pd.DataFrame
    expectations: pd.DataFrame
    claims: pd.DataFrame
    negative_controls: pd.DataFrame
    mechanism: pd.DataFrame
    locks: pd.DataFrame
    latency: pd.DataFrame
    costs: pd.DataFrame
    symbols: pd.DataFrame
    factors: tuple[str, ...]

    def deltas_of(self, regime: str, arm: str, metric: str) -> pd.DataFrame:
        """The rows of one table: one per cell."""
        return select(self.deltas, regime=regime, arm=arm, metric=metric)

    def overall_of(self, regime: str, arm: str, metric: str) -> pd.Series | None:
        """The overall effect of a regime, or None where there is none."""
        return _first(select(self.overall, regime=regime, arm=arm, metric=metric))

    def control_of(self, regime: str, metric: str) -> pd.Series | None:
        """The noise floor of a table, or None without a control arm."""
        return _first(select(self.control, regime=regime, metric=metric))

    @property
    def rules(self) -> tuple[str, ...]:
        """The validity rules that were broken anywhere: columns of ``set_aside``."""
        columns = list(self.set_aside.columns)
        return tuple(columns[columns.index("set_aside") + 1 :])

    def levels(self, factor: str) -> tuple[str, ...]:
        """The labels of a factor that occur in any table, unordered."""
        frames = (self.samples, self.deltas, self.ratios)
        return tuple({label for f in frames if factor in f for label in f[factor]})


def load_frames(results_dir: Path) -> ReportFrames:
    """Read the analysed tables of ``results/<experiment>/``.

    Args:
        results_dir: The folder that holds ``samples.csv``, ``validity.csv`` and ``tables/``.

    Raises:
        KdeltaError: A table is missing, unreadable or lacks a column.
    """
    tables = {table.path: _read(results_dir / table.path, tuple(table.dtypes)) for table in TABLES}
    deltas = tables["tables/deltas.csv"]
    columns = list(deltas.columns)
    factors = tuple(c for c in columns[: columns.index("metric")] if c not in ("regime", "arm"))
    for frame in tables.values():
        for factor in factors:
            if factor in frame:
                frame[factor] = pd.Series(
                    [format_level(v) for v in frame[factor]], index=frame.index, dtype=object
                )
    return ReportFrames(
        **{Path(name).stem: frame for name, frame in tables.items()}, factors=factors
    )


def _read(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    try:
        # A level may well be called "None" or "NA": only an empty field is a missing one.
        texts = dict.fromkeys(_TEXTS, "str")
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=["", "nan", "NaN"])
    except FileNotFoundError:
        raise KdeltaError(
            f"{path}: no such table; run the analysis of this results folder first"
        ) from None
    except (OSError, ValueError) as error:
        raise KdeltaError(f"{path}: not readable as CSV: {error}") from error
    missing = [column for column in required if column not in frame]
    if missing:
        raise KdeltaError(
            f"{path}: column {', '.join(missing)} is missing; "
            "the file is from another version: run the analysis again"
        )
    for column in _TEXTS:
        if column in frame:
            frame[column] = frame[column].astype(object).fillna("").astype(str)
    for column in _TRUTHS:
        if column in frame:
            frame[column] = [str(v).lower() == "true" for v in frame[column]]
            frame[column] = frame[column].astype(bool)
    return frame


def select(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def _first(frame: pd.DataFrame) -> pd.Series | None:
    return None if frame.empty else frame.iloc[0]


def number(value: object) -> float:
    """A field as a float; NaN where it is empty or no number."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def whole(value: object) -> int | None:
    """A field as a whole number, or None where it is empty."""
    result = number(value)
    return int(result) if math.isfinite(result) else None
