# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, times, names of settings and levels of factors, as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

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


_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age_s(text: str) -> int:
    """Seconds of an age such as ``30d``, ``12h`` or ``2w``.

    Raises:
        ValueError: not an age.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an age; write for example 30d, 12h or 2w")
    return int(match[1]) * _SECONDS[match[2]]


# Of --duration and --timeout. Shorter ones are gone before a cell's processes have started.
MIN_DURATION_S = 0.001
MIN_TIMEOUT_S = 1
MAX_SECONDS = 86400


def _checked_size(text: str) -> str:
    parse_size_bytes(text)
    return text


Size = Annotated[str, AfterValidator(_checked_size)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=MIN_DURATION_S, le=MAX_SECONDS, allow_inf_nan=False)]
Timeout = Annotated[float, Field(ge=MIN_TIMEOUT_S, le=MAX_SECONDS, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
SysctlName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)+$")]
"""Such as ``vm.swappiness``."""


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
