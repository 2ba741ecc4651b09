# SPDX-License-Identifier: GPL-2.0-only
"""Levels of factors compared by what they mean: `64K` is 65536, and true is not 1."""

from __future__ import annotations

import re

from kdelta.analysis.records import Cell
from kdelta.units import parse_size_bytes
from kdelta.workload.parameters import Level

_SIZE = re.compile(r"[0-9]{1,15}[KMGT]?")


def level_value(level: Level) -> tuple[str, object]:
    """What a level stands for, to be compared with ==: its kind, and its value."""
    if isinstance(level, bool):
        return ("truth", level)
    if isinstance(level, str):
        if _SIZE.fullmatch(level):
            return ("number", parse_size_bytes(level) if level.strip("0KMGT") else 0)
        return ("text", level)
    return ("number", level)


def cell_value(cell: Cell) -> tuple[tuple[str, object], ...]:
    """The same for a whole cell."""
    return tuple(level_value(level) for level in cell)
