# SPDX-License-Identifier: GPL-2.0-only
"""Tables as aligned text within a width, for terminals and mails: plain ones and delta tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdelta.report.formatting import level_words
from kdelta.report.grid import Grid
from kdelta.report.tables import Cell, DeltaTable

_INDENT = "    "
_GAP = "  "
_MIN_PROSE = 20
_MISSING = "missing"


class _Column(NamedTuple):
    """A laid-out column: its heading, and one list of lines per row of the table."""

    head: str
    rows: list[list[str]]


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
    return len(_INDENT) + sum(widths[c] for c in columns) + len(_GAP) * (len(columns) - 1)


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
        out.append((_INDENT + _GAP.join(padded)).rstrip())
    return out


def form_of(tables: Sequence[DeltaTable], width: int, forms: Sequence[int], indent: str) -> int:
    """The most compact form in which all tables fit: readers compare them, hence one for all.

    Args:
        tables: to be laid out.
        width: columns of the output.
        forms: lines that a row may take, the fewest first: one, as in a cover letter; two,
            values above and delta with interval below; three, the interval in a line of its own.
        indent: before every line.

    Returns:
        One of the forms; the last where none fits.
    """
    for lines in forms:
        if all(_fits(table, _columns(table, lines), width, indent) for table in tables):
            return lines
    return forms[-1]


def format_table(table: DeltaTable, width: int, lines: int, indent: str) -> str:
    """A delta table in a form as `form_of` gives it, without a line end.

    Columns that do not fit beside each other follow below in groups. A column is never cut: one
    that is wider than the output stays whole, and aligned.
    """
    groups: list[list[_Column]] = [[]]
    for column in _columns(table, lines):
        if groups[-1] and not _fits(table, [*groups[-1], column], width, indent):
            groups.append([])
        groups[-1].append(column)
    return "\n\n".join(_render(table, group, indent) for group in groups)


def _columns(table: DeltaTable, lines: int) -> list[_Column]:
    """Every column with its heading, which needs no name of the metric: that stands above."""
    factor = table.column_factor
    return [
        _Column(
            level_words(factor, label).replace(" = ", "=") if factor else "",
            _cells([row[index] for row in table.rows], lines),
        )
        for index, label in enumerate(table.columns)
    ]


def _cells(cells: Sequence[Cell], lines: int) -> list[list[str]]:
    """The cells of a column, with 1, 2 or 3 lines each."""
    base, value = _widest(c.baseline for c in cells), _widest(c.value for c in cells)
    delta, interval = _widest(c.delta for c in cells), _widest(c.interval for c in cells)

    def laid(cell: Cell) -> list[str]:
        if not cell.measured:
            instead = f"{cell.mark} {cell.verdict}" if cell.invalid else _MISSING
            return [instead, *[""] * (lines - 1)]
        values = f"{cell.baseline:>{base}} -> {cell.value:>{value}}"
        mark = f"{cell.mark}{'*' if cell.short_of_blocks else ''}"
        if lines == 1:
            effect = f"({cell.delta:>{delta}} {cell.interval})"
            return [f"{values} {effect:<{delta + interval + 3}} {mark}"]
        if lines == 2:
            return [values, f"{cell.delta} {cell.interval} {mark}"]
        return [values, f"{cell.delta} {mark}", cell.interval]

    return [laid(cell) for cell in cells]


def _fits(table: DeltaTable, columns: Sequence[_Column], width: int, indent: str) -> bool:
    return _widest(_render(table, columns, indent).split("\n")) <= width


def _render(table: DeltaTable, columns: Sequence[_Column], indent: str) -> str:
    """The columns beside each other, the row factor's levels before them.

    Lines of a row that no cell has anything on, as all are missing, say nothing and are left out.
    """
    labels = max(len(table.row_factor.title), _widest(table.row_labels))
    widths = [
        max(len(column.head), _widest(line for row in column.rows for line in row))
        for column in columns
    ]

    def line(label: str, parts: Sequence[str]) -> str:
        cells = (f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
        return f"{indent}{label:>{labels}}{_GAP}{_GAP.join(cells)}".rstrip()

    lines = [line(table.row_factor.title, [column.head for column in columns])]
    for row, label in enumerate(table.row_labels):
        parts = zip(*(column.rows[row] for column in columns), strict=True)
        lines += [
            line("" if number else label, part)
            for number, part in enumerate(parts)
            if number == 0 or any(part)
        ]
    return "\n".join(lines)


def _widest(texts: Iterable[str]) -> int:
    """Letters of the longest text; 0 if there is none."""
    return max(map(len, texts), default=0)
