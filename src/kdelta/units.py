# SPDX-License-Identifier: GPL-2.0-only
"""Sizes as people write them, and levels of factors by what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)")
_SUFFIX = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size_bytes(text: str) -> int:
    """Bytes of a size such as ``1G``, ``2048M`` or ``65536`` (binary suffixes).

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size; write for example 1G, 2048M or 65536")
    return int(match[1]) * _SUFFIX[match[2]]


def level_value(level: object) -> tuple[str, object]:
    """What a level stands for, to be compared with ==: its kind, and its value."""
    if isinstance(level, bool):
        return ("truth", level)
    if isinstance(level, str):
        if _SIZE.fullmatch(level):
            return ("number", parse_size_bytes(level) if level.strip("0KMGT") else 0)
        return ("text", level)
    return ("number", level)


def cell_value(cell: Iterable[object]) -> tuple[tuple[str, object], ...]:
    """The same for a whole cell."""
    return tuple(level_value(level) for level in cell)
