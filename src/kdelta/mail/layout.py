# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables at the width of a mail: one line a row where that fits, else more, aligned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdelta.report.tables import Cell, DeltaTable
from kdelta.report.text_tables import Column, groups, heading, mark, render, unmeasured, widest

WIDTH = 78
_INDENT = "  "


def format_tables(tables: Sequence[DeltaTable], width: int = WIDTH) -> list[str]:
    """Lay tables out in one form, the most compact in which all of them fit.

    The forms are, for each row of a table: one line, as in a cover letter; two, values above
    and delta with interval below; three, the interval in a line of its own. Where even that is
    too wide, columns follow below each other in groups. A column is never cut: one that is
    wider than the mail stays whole, and aligned.

    Args:
        tables: readers compare them, hence one form for all.
        width: columns of the mail.

    Returns:
        One text per table, without a line end.
    """
    for form in _FORMS:
        laid = [[form(table, index) for index in range(len(table.columns))] for table in tables]
        if all(_width(t, columns) <= width for t, columns in zip(tables, laid, strict=True)):
            break
    return [
        "\n\n".join(render(table, group, _INDENT) for group in _fitting(table, columns, width))
        for table, columns in zip(tables, laid, strict=True)
    ]


def _fitting(table: DeltaTable, columns: Sequence[Column], width: int) -> list[list[Column]]:
    return groups(columns, lambda group: _width(table, group) <= width)


def _one_line(table: DeltaTable, index: int) -> Column:
    cells = _cells(table, index)
    base, value = widest(c.baseline for c in cells), widest(c.value for c in cells)
    delta, interval = widest(c.delta for c in cells), widest(c.interval for c in cells)
    return heading(table, table.columns[index]), [
        [
            f"{c.baseline:>{base}} -> {c.value:>{value}} "
            f"{f'({c.delta:>{delta}} {c.interval})':<{delta + interval + 3}} {mark(c)}"
        ]
        if c.measured
        else [unmeasured(c)]
        for c in cells
    ]


def _two_lines(table: DeltaTable, index: int) -> Column:
    cells = _cells(table, index)
    return heading(table, table.columns[index]), [
        [*values, f"{c.delta} {c.interval} {mark(c)}"] if c.measured else [unmeasured(c), ""]
        for c, values in zip(cells, _values(cells), strict=True)
    ]


def _three_lines(table: DeltaTable, index: int) -> Column:
    cells = _cells(table, index)
    return heading(table, table.columns[index]), [
        [*values, f"{c.delta} {mark(c)}", c.interval] if c.measured else [unmeasured(c), "", ""]
        for c, values in zip(cells, _values(cells), strict=True)
    ]


_FORMS: tuple[Callable[[DeltaTable, int], Column], ...] = (_one_line, _two_lines, _three_lines)


def _values(cells: Sequence[Cell]) -> list[list[str]]:
    """The first line of each cell, arrows one below the other."""
    base, value = widest(c.baseline for c in cells), widest(c.value for c in cells)
    return [[f"{c.baseline:>{base}} -> {c.value:>{value}}"] for c in cells]


def _cells(table: DeltaTable, index: int) -> list[Cell]:
    return [row[index] for row in table.rows]


def _width(table: DeltaTable, columns: Sequence[Column]) -> int:
    """Columns of the widest line; trailing blanks do not count."""
    return widest(render(table, columns, _INDENT).split("\n"))
