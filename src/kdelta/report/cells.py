# SPDX-License-Identifier: GPL-2.0-only
"""Fields of the tables' rows: numbers, and a cell's levels in words."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

from kdelta.report.context import Factor, ReportContext
from kdelta.report.formatting import format_size

Row = Mapping[Hashable, object]


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


def level_label(factor: Factor, level: str) -> str:
    """A level as it is shown: bytes as ``64 KiB``, everything else as in the tables."""
    if factor.unit in ("B", "bytes") and level.isdigit():
        return format_size(int(level))
    return level


def level_words(factor: Factor, level: str) -> str:
    """A factor with one of its levels: ``write size = 64 KiB``, ``load = 50 %``."""
    label = level_label(factor, level)
    unit = f" {factor.unit}" if factor.unit and label == level else ""
    return f"{factor.title} = {label}{unit}"


def cell_heads(context: ReportContext) -> tuple[str, ...]:
    """The headings over ``cell_labels``."""
    return tuple(factor.title for factor in context.factors)


def cell_labels(context: ReportContext, row: Row) -> tuple[str, ...]:
    """The levels of a row's cell, one per factor."""
    return tuple(level_label(factor, str(row[factor.name])) for factor in context.factors)


def cell_words(context: ReportContext, row: Row) -> str:
    """A row's cell in words: ``writers = 1, readers = 5``."""
    return ", ".join(level_words(factor, str(row[factor.name])) for factor in context.factors)
