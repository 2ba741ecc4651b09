# SPDX-License-Identifier: GPL-2.0-only
"""Sizes as people write them."""

from __future__ import annotations

import re

_SUFFIX = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size_bytes(text: str) -> int:
    """Bytes of a size such as ``1G``, ``2048M`` or ``65536`` (binary suffixes).

    Raises:
        ValueError: not a size.
    """
    match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size; write for example 1G, 2048M or 65536")
    return int(match[1]) * _SUFFIX[match[2]]
