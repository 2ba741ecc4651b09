# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables as aligned columns of text: what the report's text and the mails share.

Which lines a cell has is for each of them to say; how columns become lines is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kdelta.report.cells import level_words
from kdelta.report.tables import Cell, DeltaTable

GAP = "  "
_MISSING = "missing"

Column = tuple[str, list[list[str]]]
"""A laid-out column: its heading, then one list of lines per row of the table."""


def heading(table: DeltaTable, label: str) -> str:
    """The head of a column; empty without a column factor: the line above names the metric."""
    factor = table.column_factor
    return level_words(factor, label).replace(" = ", "=") if factor else ""


def mark(cell: Cell) -> str:
    """The sign of a cell's verdict, with a star if it rests on fewer blocks than planned."""
    return f"{cell.mark}{'*' if cell.short_of_blocks else ''}"


def unmeasured(cell: Cell) -> str:
    """What stands in the place of a cell that has no values."""
    return f"{cell.mark} {cell.verdict}" if cell.invalid else _MISSING


def groups(
    columns: Sequence[Column], fits: Callable[[Sequence[Column]], bool]
) -> list[list[Column]]:
    """The columns in groups that fit beside each other; one that never fits stands alone."""
    found: list[list[Column]] = [[]]
    for column in columns:
        if found[-1] and not fits([*found[-1], column]):
            found.append([])
        found[-1].append(column)
    return found


def render(table: DeltaTable, columns: Sequence[Column], indent: str) -> str:
    """The columns beside each other, the row factor's levels before them; no line end.

    Lines of a row that no cell has anything on, as all are missing, say nothing and are left out.
    """
    labels = label_width(table)
    widths = [column_width(column) for column in columns]

    def line(label: str, parts: Sequence[str]) -> str:
        cells = (f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
        return f"{indent}{label:>{labels}}{GAP}{GAP.join(cells)}".rstrip()

    lines = [line(table.row_factor.title, [column[0] for column in columns])]
    for row, label in enumerate(table.row_labels):
        parts = zip(*(column[1][row] for column in columns), strict=True)
        lines += [
            line("" if number else label, part)
            for number, part in enumerate(parts)
            if number == 0 or any(part)
        ]
    return "\n".join(lines)


def column_width(column: Column) -> int:
    """Letters of a column's widest line, heading included."""
    title, rows = column
    return max(len(title), widest(line for row in rows for line in row))


def label_width(table: DeltaTable) -> int:
    """Letters of the widest label of a row, the factor's title included."""
    return max(len(table.row_factor.title), widest(table.row_labels))


def widest(texts: Iterable[str]) -> int:
    """Letters of the longest text; 0 if there is none."""
    return max(map(len, texts), default=0)
