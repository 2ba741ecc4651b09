# SPDX-License-Identifier: GPL-2.0-only
"""What stands along an axis, with its unit: the same words in every figure."""

from __future__ import annotations

from kdelta.report.cells import level_label
from kdelta.report.context import Factor, ReportContext
from kdelta.report.formatting import group_digits

CHANGE = "change (%)"
ARM = "arm"
REGIME = "regime"
BLOCK = "block number"

Cell = tuple[str, ...]
"""The levels of one cell, in the order of the context's factors."""


_THIN_SPACE = "\N{THIN SPACE}"


def tick_number(value: float) -> str:
    """A positive number at a tick, its digits in groups of three."""
    return group_digits(f"{value:.0f}", _THIN_SPACE) if value >= 1000 else f"{value:g}"


def squeeze(text: str, width: int) -> str:
    """At most so many characters: both ends of a longer text, where names differ most often."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def factor_name(factor: Factor) -> str:
    """A factor over its levels; the unit, unless every level carries it (``64 KiB``)."""
    if not factor.unit or factor.unit in ("B", "bytes"):
        return factor.title
    return f"{factor.title} ({factor.unit})"


def cells_name(context: ReportContext) -> str:
    """The factors over cells: ``writers · readers``."""
    return " · ".join(factor_name(factor) for factor in context.factors)


def cell_label(context: ReportContext, cell: Cell) -> str:
    """A cell under ``cells_name``: ``1 · 5``."""
    return " · ".join(level_label(f, v) for f, v in zip(context.factors, cell, strict=True))
