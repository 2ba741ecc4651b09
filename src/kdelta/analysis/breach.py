# SPDX-License-Identifier: GPL-2.0-only
"""A validity rule that was broken."""

from __future__ import annotations

from dataclasses import dataclass

from kdelta import plain


@dataclass(frozen=True)
class Breach:
    """A rule broken: what was found, what was allowed (None: no number to give), in words."""

    rule: str
    value: float | None
    limit: float | None
    detail: str

    def __post_init__(self) -> None:
        # Consoles and errors of a guest come in here, and go out to terminals and pages.
        object.__setattr__(self, "detail", plain.one_line(self.detail))


def one_line(text: str) -> str:
    """The text on one line, at most 200 characters."""
    return plain.one_line(text, 200)
