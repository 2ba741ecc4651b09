# SPDX-License-Identifier: GPL-2.0-only
"""Text from elsewhere (a guest, a program, another person's file), safe to print.

A guest writes its console, its errors and its records. Terminals obey control characters: they
could retitle a window, hide a line, or show text in another order than it has. Whatever is
printed or put into a message, a table or a page goes through here once.
"""

from __future__ import annotations

import re
from typing import Any

# CSI sequences (colours, cursor), strings (window titles) and single escapes of ECMA-48.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# Control characters but for tab and line end; what turns the direction of text; lone surrogates.
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u061c\\u2028-\\u202e\\u2066-\\u2069"
    "\\ud800-\\udfff]"
)


def printable(text: str) -> str:
    """The text without control characters and terminal escapes; lines and tabs stay."""
    return _CONTROL.sub("", _ESCAPES.sub("", text))


def one_line(text: str, limit: int | None = None) -> str:
    """The same on one line, words apart by one blank, at most `limit` characters."""
    return " ".join(printable(" ".join(text.split())).split())[:limit]


def printable_values(value: Any) -> Any:
    """A JSON value with every text in it made printable, names of keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): printable_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_values(item) for item in value]
    return value


def plural(count: int, noun: str) -> str:
    """``1 block``, ``4 blocks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
