# SPDX-License-Identifier: GPL-2.0-only
"""Plain tables as aligned text within a width."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kdelta.report.grid import Grid

_INDENT = "    "
_GAP = "  "
_MIN_PROSE = 20


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


def _fold(text: str, width: int) -> list[str]:
    # Not at hyphens: a date or a name cut there is hard to read and to search for.
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
