# SPDX-License-Identifier: GPL-2.0-only
"""What the data dictionary is made of, and the columns that several tables share."""

from __future__ import annotations

from typing import Literal, NamedTuple

Type = Literal["string", "integer", "number", "boolean"]

FACTOR = "<factor>"
"""Stands for one column per factor of the matrix, of any type, in the experiment's order."""
RULE = "<rule>"
"""Stands for one column per validity rule that was broken, in alphabetical order."""


class Column(NamedTuple):
    """A column: what it is called, holds, is measured in and means."""

    name: str
    type: Type
    unit: str
    meaning: str


class Table(NamedTuple):
    """A CSV file below a run's folder: what a row is, and its columns in order.

    `key` names the columns that identify a row; the factors are among them where `FACTOR` is.
    """

    path: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


REGIME = Column("regime", "string", "", "condition of the guest, by its name")
ARM = Column("arm", "string", "", "kernel as run: a variant's name, or `control`")
BLOCK = Column("block", "integer", "", "number of the block, from 1")
FACTORS = Column(FACTOR, "string", "", "one column per factor of the matrix: the cell's level")
METRIC = (
    Column("metric", "string", "", "column of samples.csv that the row is about"),
    Column("unit", "string", "", "unit of the metric"),
    Column("direction", "string", "", "which way is better: higher or lower"),
)
VERDICT = Column(
    "verdict", "string", "", "faster, slower, equivalent, inconclusive or invalid; after Holm"
)
DELTA = (
    Column("delta_percent", "number", "%", "100 x (ratio - 1)"),
    Column("delta_low_percent", "number", "%", "lower end of the delta's interval"),
    Column("delta_high_percent", "number", "%", "upper end of the delta's interval"),
)
EFFECT = (
    Column("ratio", "number", "", "arm over baseline: geometric mean over blocks"),
    Column("ratio_low", "number", "", "lower end of the ratio's interval; empty below 3 blocks"),
    Column("ratio_high", "number", "", "upper end of the ratio's interval; empty below 3 blocks"),
    *DELTA,
    Column("confidence", "number", "", "of the interval, for example 0.95"),
    Column("p_value", "number", "", "two-sided t test of no change, on log ratios"),
    Column("p_holm", "number", "", "p_value adjusted by Holm over the family"),
    Column("p_sign_flip", "number", "", "sign-flip permutation test of no change"),
    VERDICT,
    Column(
        "blocks_to_settle", "integer", "", "blocks in all that would settle it; empty if settled"
    ),
)
