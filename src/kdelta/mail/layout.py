# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables at the width of a mail: one line a row where that fits, else more, aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kdelta.report.cells import level_words
from kdelta.report.tables import Cell, DeltaTable

WIDTH = 78
_INDENT = "  "
_GAP = "  "
_MISSING = "missing"

# A column laid out: its heading, and for every row of the table as many lines as the form has.
_Column = tuple[str, list[list[str]]]


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
        "\n\n".join(_render(table, group) for group in _groups(table, columns, width))
        for table, columns in zip(tables, laid, strict=True)
    ]


def _one_line(table: DeltaTable, index: int) -> _Column:
    cells = _cells(table, index)
    base, value = _widest(c.baseline for c in cells), _widest(c.value for c in cells)
    delta, interval = _widest(c.delta for c in cells), _widest(c.interval for c in cells)
    return _heading(table, index), [
        [
            f"{c.baseline:>{base}} -> {c.value:>{value}} "
            f"{f'({c.delta:>{delta}} {c.interval})':<{delta + interval + 3}} {_mark(c)}"
        ]
        if c.measured
        else [_unmeasured(c)]
        for c in cells
    ]


def _two_lines(table: DeltaTable, index: int) -> _Column:
    cells = _cells(table, index)
    return _heading(table, index), [
        [*values, f"{c.delta} {c.interval} {_mark(c)}"] if c.measured else [_unmeasured(c), ""]
        for c, values in zip(cells, _values(cells), strict=True)
    ]


def _three_lines(table: DeltaTable, index: int) -> _Column:
    cells = _cells(table, index)
    return _heading(table, index), [
        [*values, f"{c.delta} {_mark(c)}", c.interval] if c.measured else [_unmeasured(c), "", ""]
        for c, values in zip(cells, _values(cells), strict=True)
    ]


_FORMS: tuple[Callable[[DeltaTable, int], _Column], ...] = (_one_line, _two_lines, _three_lines)


def _values(cells: Sequence[Cell]) -> list[list[str]]:
    """The first line of each cell, arrows one below the other."""
    base, value = _widest(c.baseline for c in cells), _widest(c.value for c in cells)
    return [[f"{c.baseline:>{base}} -> {c.value:>{value}}"] for c in cells]


def _cells(table: DeltaTable, index: int) -> list[Cell]:
    return [row[index] for row in table.rows]


def _heading(table: DeltaTable, index: int) -> str:
    factor = table.column_factor
    if factor is None:  # the line above the table names metric and unit
        return ""
    return level_words(factor, table.columns[index]).replace(" = ", "=")


def _mark(cell: Cell) -> str:
    return f"{cell.mark}{'*' if cell.short_of_blocks else ''}"


def _unmeasured(cell: Cell) -> str:
    return f"{cell.mark} {cell.verdict}" if cell.invalid else _MISSING


def _groups(table: DeltaTable, columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    groups: list[list[_Column]] = [[]]
    for column in columns:
        if groups[-1] and _width(table, [*groups[-1], column]) > width:
            groups.append([])
        groups[-1].append(column)
    return groups


def _render(table: DeltaTable, columns: Sequence[_Column]) -> str:
    labels = _label_width(table)
    widths = [_column_width(column) for column in columns]
    lines = [_line(f"{table.row_factor.title:>{labels}}", [c[0] for c in columns], widths)]
    for row, label in enumerate(table.row_labels):
        parts = zip(*(column[1][row] for column in columns), strict=True)
        for number, line in enumerate(parts):
            # Lines that no cell of the row has anything on, as all are missing, say nothing.
            if number == 0 or any(line):
                shown = label if number == 0 else ""
                lines.append(_line(f"{shown:>{labels}}", line, widths))
    return "\n".join(lines)


def _line(label: str, parts: Sequence[str], widths: Sequence[int]) -> str:
    cells = (f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
    return f"{_INDENT}{label}{_GAP}{_GAP.join(cells)}".rstrip()


def _width(table: DeltaTable, columns: Sequence[_Column]) -> int:
    """Columns of the widest line; trailing blanks do not count."""
    return max(map(len, _render(table, columns).split("\n")))


def _column_width(column: _Column) -> int:
    heading, rows = column
    return max(len(heading), _widest(line for row in rows for line in row))


def _label_width(table: DeltaTable) -> int:
    return max(len(table.row_factor.title), _widest(table.row_labels))


def _widest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)
