# SPDX-License-Identifier: GPL-2.0-only
"""Tables as aligned text within a width: plain ones, and the columns of delta tables.

Which lines a cell of a delta table has is for the report's text and for the mails to say; how
columns become lines is here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

from kdelta.report.formatting import level_words
from kdelta.report.grid import Grid
from kdelta.report.tables import Cell, DeltaTable

_INDENT = "    "
GAP = "  "
_MIN_PROSE = 20
_MISSING = "missing"

Column = tuple[str, list[list[str]]]
"""A laid-out column: its heading, then one list of lines per row of the table."""


def format_grid(grid: Grid, width: int) -> str:
    """Lay a grid out.

    Columns of words are folded where the table is too wide; where that does not suffice, the
    value columns follow in parts below each other, each with the labels before it.

    Args:
        grid: What to show.
        width: Columns of the output; labels and one value column may exceed it.
    """
    widths = _widths(grid)
    labels = list(range(grid.labels))
    values = list(range(grid.labels, len(grid.head)))
    if _total(widths, labels + values) > width:
        _fold_prose(grid, widths, width)
    parts: list[list[int]] = [[]]
    for column in values:
        if parts[-1] and _total(widths, [*labels, *parts[-1], column]) > width:
            parts.append([])
        parts[-1].append(column)
    return "\n\n".join(_part(grid, [*labels, *part], widths) for part in parts)


def _widths(grid: Grid) -> list[int]:
    heads = [max(map(len, grid.head_lines(i))) for i in range(len(grid.head))]
    return [max([h, *(len(row[i]) for row in grid.rows)]) for i, h in enumerate(heads)]


def _fold_prose(grid: Grid, widths: list[int], width: int) -> None:
    """Narrow the columns of words, the widest first, until the table fits or none can give."""
    least = {column: min(_MIN_PROSE, widths[column]) for column in grid.prose}
    for _ in range(_total(widths, range(len(grid.head))) - width):
        giving = [column for column in sorted(grid.prose) if widths[column] > least[column]]
        if not giving:
            return
        widths[max(giving, key=lambda column: widths[column])] -= 1


def _total(widths: Sequence[int], columns: Sequence[int]) -> int:
    return len(_INDENT) + sum(widths[c] for c in columns) + len(GAP) * (len(columns) - 1)


def _part(grid: Grid, columns: Sequence[int], widths: Sequence[int]) -> str:
    heads = [grid.head_lines(c) for c in columns]
    height = max(map(len, heads))
    lines = _lines(grid, columns, widths, [[""] * (height - len(h)) + h for h in heads])
    for group in grid.groups:
        if group.heading and group.rows:
            lines.append(f"{_INDENT[:-2]}{group.heading}:")
        for row in group.rows:
            # Not at hyphens: a date or a name cut there is hard to read and to search for.
            cells = [
                textwrap.wrap(row[c], widths[c], break_on_hyphens=False) or [""] for c in columns
            ]
            tallest = max(map(len, cells))
            padded = [cell + [""] * (tallest - len(cell)) for cell in cells]
            lines += _lines(grid, columns, widths, padded)
    return "\n".join(lines)


def _lines(
    grid: Grid, columns: Sequence[int], widths: Sequence[int], cells: Sequence[Sequence[str]]
) -> list[str]:
    out = []
    for parts in zip(*cells, strict=True):
        padded = (
            part.ljust(widths[c]) if grid.flush_left(c) else part.rjust(widths[c])
            for part, c in zip(parts, columns, strict=True)
        )
        out.append((_INDENT + GAP.join(padded)).rstrip())
    return out


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
