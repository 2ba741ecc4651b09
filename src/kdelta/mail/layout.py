# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables at the width of a mail: one line a row where that fits, else more, aligned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kdelta.report.tables import Cell, DeltaTable
from kdelta.report.text_tables import Column, groups, heading, mark, render, unmeasured, widest

# Of a mail, so that it can be quoted twice on a terminal of 80 columns.
WIDTH = 75
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

    def fits(table: DeltaTable, columns: Sequence[Column]) -> bool:
        return widest(render(table, columns, _INDENT).split("\n")) <= width

    for lines in (1, 2, 3):
        laid = [[_column(t, index, lines) for index in range(len(t.columns))] for t in tables]
        if all(fits(table, columns) for table, columns in zip(tables, laid, strict=True)):
            break
    return [
        "\n\n".join(
            render(table, group, _INDENT) for group in groups(columns, partial(fits, table))
        )
        for table, columns in zip(tables, laid, strict=True)
    ]


def _column(table: DeltaTable, index: int, lines: int) -> Column:
    """A column in which a row of the table takes 1, 2 or 3 lines."""
    cells = [row[index] for row in table.rows]
    base, value = widest(c.baseline for c in cells), widest(c.value for c in cells)
    delta, interval = widest(c.delta for c in cells), widest(c.interval for c in cells)

    def laid(cell: Cell) -> list[str]:
        if not cell.measured:
            return [unmeasured(cell), *[""] * (lines - 1)]
        values = f"{cell.baseline:>{base}} -> {cell.value:>{value}}"
        if lines == 1:
            effect = f"({cell.delta:>{delta}} {cell.interval})"
            return [f"{values} {effect:<{delta + interval + 3}} {mark(cell)}"]
        if lines == 2:
            return [values, f"{cell.delta} {cell.interval} {mark(cell)}"]
        return [values, f"{cell.delta} {mark(cell)}", cell.interval]

    return heading(table, table.columns[index]), [laid(cell) for cell in cells]
