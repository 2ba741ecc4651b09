# SPDX-License-Identifier: GPL-2.0-only
"""Levels of factors compared by what they mean: `64K` is 65536, and true is not 1."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kdelta.analysis.records import Bench, Cell, Level
from kdelta.units import parse_size_bytes

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


def wrong_level(bench: Bench, cell: Mapping[str, Level]) -> str | None:
    """The first factor that the workload ran with another level of, in words; None if none.

    A factor that the workload does not report cannot be compared.
    """
    for factor, asked in cell.items():
        used = _used(bench, factor)
        if used is not None and level_value(used) != level_value(asked):
            return f"{factor}: asked {_text(asked)}, the workload used {_text(used)}"
    return None


def _used(bench: Bench, factor: str) -> Level | None:
    if factor == "processes":
        return bench.mode == "processes"
    used = vars(bench).get(factor)
    return used if isinstance(used, bool | int | float | str) else None


def _text(level: Level) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)
