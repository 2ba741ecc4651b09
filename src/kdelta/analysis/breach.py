# SPDX-License-Identifier: GPL-2.0-only
"""A validity rule that was broken."""

from __future__ import annotations

from dataclasses import dataclass

DISTURBANCE_RULES = ("host-load", "host-steal", "host-other-cpu", "guest-steal", "cpu-speed")
"""Validity rules that say that the host was disturbed."""


@dataclass(frozen=True)
class Breach:
    """A rule broken: what was found, what was allowed (None: no number to give), in words."""

    rule: str
    value: float | None
    limit: float | None
    detail: str


def one_line(text: str) -> str:
    """The text on one line, at most 200 characters."""
    return " ".join(text.split())[:200]
