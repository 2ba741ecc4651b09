# SPDX-License-Identifier: GPL-2.0-only
"""A plain table: the same strings in every output, each of which lays them out its own way."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

_HEAD_WIDTH = 10
_ROWS_PER_PAGE = 40
_LONG_PROSE = 40

Row = tuple[str, ...]


class Group(NamedTuple):
    """Rows under a heading of their own; an empty heading is none."""

    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Grid:
    """A table of strings.

    Attributes:
        caption: One or two sentences.
        head: The column headings.
        groups: The rows, each with one string per column.
        labels: How many leading columns name the row; the others hold its values.
        prose: Value columns of words, which are set flush left.
        statuses: Value columns of one word that the page shows as a tag.
    """

    caption: str
    head: Row
    groups: tuple[Group, ...]
    labels: int = 1
    prose: frozenset[int] = field(default=frozenset())
    statuses: frozenset[int] = field(default=frozenset())

    def __bool__(self) -> bool:
        return any(group.rows for group in self.groups)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row, group by group."""
        return tuple(row for group in self.groups for row in group.rows)

    def flush_left(self, column: int) -> bool:
        """Whether a column holds words rather than numbers."""
        return column < self.labels or column in self.prose or column in self.statuses

    def is_long(self, column: int) -> bool:
        """Whether a column of words needs folding on a page of paper."""
        return column in self.prose and any(len(row[column]) > _LONG_PROSE for row in self.rows)

    def head_lines(self, column: int) -> list[str]:
        """A heading folded to about the width of its column's values."""
        values = max((len(row[column]) for row in self.rows), default=0)
        title = self.head[column]
        width = max([values, *map(len, title.split()), min(len(title), _HEAD_WIDTH)])
        return textwrap.wrap(title, width, break_on_hyphens=False) or [""]

    def pages(self, rows: int = _ROWS_PER_PAGE) -> Iterator[Grid]:
        """The grid in pieces that fit a page of paper, headings repeated where one is cut."""
        piece: list[Group] = []
        left, first = rows, True
        for group in self.groups:
            rest = group.rows
            while rest:
                # A heading with a row or two under it at the foot of a page helps nobody.
                if left < min(3, len(rest)):
                    yield self._piece(piece, first)
                    piece, left, first = [], rows, False
                piece.append(Group(group.heading, rest[:left]))
                taken, rest = len(rest[:left]), rest[left:]
                left -= taken + bool(group.heading)
        if piece:
            yield self._piece(piece, first)

    def _piece(self, groups: Iterable[Group], first: bool) -> Grid:
        caption = (
            self.caption if first else f"{self.caption.split('. ')[0].rstrip('.')}, continued."
        )
        return replace(self, caption=caption, groups=tuple(groups))
