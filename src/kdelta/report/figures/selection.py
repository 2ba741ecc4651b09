# SPDX-License-Identifier: GPL-2.0-only
"""Which cells the figure of latencies shows: nine of them stay readable, forty do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from kdelta.report.context import Factor, ReportContext
from kdelta.report.formatting import join_words, level_words

MOST_LEVELS = 3

T = TypeVar("T")

CellLevels = tuple[tuple[Factor, str], ...]
"""A cell, as its factors with their levels."""


def first_middle_last(levels: Sequence[T]) -> tuple[T, ...]:
    """All of up to three levels, else the first, the middle and the last."""
    if len(levels) <= MOST_LEVELS:
        return tuple(levels)
    return (levels[0], levels[len(levels) // 2], levels[-1])


def fixed_level(levels: Sequence[str]) -> str:
    """The level at which a factor without an axis in the grid is drawn: the middle one, if any."""
    return levels[len(levels) // 2] if len(levels) >= MOST_LEVELS else levels[0]


def shown_cells(
    context: ReportContext, levels: Mapping[str, Sequence[str]]
) -> tuple[tuple[CellLevels, ...], ...]:
    """The cells that are drawn, row by row of the grid, each without the fixed factors.

    Args:
        context: The facts of the run.
        levels: All levels of each factor, in order; at least one each.
    """
    rows = [(context.factor(context.row_factor), v) for v in levels[context.row_factor]]
    if context.column_factor is None:
        chosen = rows if len(rows) <= MOST_LEVELS**2 else first_middle_last(rows)
        return tuple(
            tuple((one,) for one in chosen[start : start + MOST_LEVELS])
            for start in range(0, len(chosen), MOST_LEVELS)
        )
    columns = [(context.factor(context.column_factor), v) for v in levels[context.column_factor]]
    return tuple(
        tuple((row, column) for column in first_middle_last(columns))
        for row in first_middle_last(rows)
    )


def fixed_factors(context: ReportContext, levels: Mapping[str, Sequence[str]]) -> CellLevels:
    """The factors without an axis in the grid, at the level that is drawn."""
    return tuple((factor, fixed_level(levels[factor.name])) for factor in context.extra_factors)


def selection_sentence(context: ReportContext, levels: Mapping[str, Sequence[str]]) -> str:
    """Which cells are drawn, for the caption; empty where all are.

    Args:
        context: The facts of the run.
        levels: As for ``shown_cells``.
    """
    shown = {
        factor.name: {
            level
            for row in shown_cells(context, levels)
            for cell in row
            for f, level in cell
            if f == factor
        }
        for factor in context.factors
    }
    names = (context.row_factor, context.column_factor)
    cut = [
        factor.title
        for factor in context.factors
        if factor.name in names and len(shown[factor.name]) < len(levels[factor.name])
    ]
    parts = [f"the first, middle and last level of {join_words(cut)}"] if cut else []
    fixed = [
        level_words(factor, level)
        for factor, level in fixed_factors(context, levels)
        if len(levels[factor.name]) > 1
    ]
    if fixed:
        parts.append(f"the cells with {join_words(fixed)}")
    return f"Drawn: {', of '.join(parts)}." if parts else ""
