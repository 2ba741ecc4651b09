# SPDX-License-Identifier: GPL-2.0-only
r"""Names of LaTeX macros: letters only, and never the same for two different things.

A name such as ``memory-pressure`` is spelled as words that begin with a capital:
``MemoryPressure``. What is no letter is spelled out. A word that means something else in a
macro's name, ``Overall`` say, is marked by ``Word`` behind it when it is part of a name.
"""

from __future__ import annotations

import re

PREFIX = "kd"
OVERALL = "Overall"
METRIC_WORDS = {
    "throughput_mib_s": "Throughput",
    "latency_mean_ns": "LatencyMean",
    "latency_p50_ns": "LatencyMedian",
    "latency_p99_ns": "LatencyTail",
}
"""Column of the results -> its words in a macro's name; the tail is the 99th percentile."""

_MARK = "Word"
_CHARACTERS = {
    **dict(
        zip(
            "0123456789",
            ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"),
            strict=True,
        )
    ),
    "-": "Dash",
    ".": "Dot",
    "_": "Underscore",
}
# Metrics begin with one of these two; between Overall and them stands the regime's name.
_STRUCTURE = (OVERALL, "Throughput", "Latency")
_TAKEN = frozenset({*_CHARACTERS.values(), *_STRUCTURE, _MARK})
# A dash between letters only separates two words.
_PARTS = re.compile(r"(?P<word>[a-z]+)|(?<=[a-z])-(?=[a-z])|(?P<other>[0-9._-])")


def spell(name: str) -> str:
    """A name of the experiment file in letters; two names never give the same.

    Args:
        name: lower-case letters, digits, dots, underscores and dashes.

    Raises:
        ValueError: another character.
    """
    parts = []
    end = 0
    for part in _PARTS.finditer(name):
        if part.start() != end:
            break
        end = part.end()
        if part["word"]:
            word = part["word"].capitalize()
            parts.append(word + _MARK if word in _TAKEN else word)
        elif part["other"]:
            parts.append(_CHARACTERS[part["other"]])
    if end != len(name):
        raise ValueError(f"{name!r}: {name[end]!r} has no spelling in a macro's name")
    return "".join(parts)


def overall(arm: str, regime: str, metric: str, what: str = "") -> str:
    """The name of an arm's overall effect, or of what belongs to it (``Low``, ``Verdict`` ...).

    Args:
        arm: the arm's name; empty for the short form.
        regime: the regime's name.
        metric: a key of ``METRIC_WORDS``.
        what: letters to add.
    """
    return f"{PREFIX}{spell(arm)}{OVERALL}{spell(regime)}{METRIC_WORDS[metric]}{what}"


def noise_floor(regime: str, metric: str) -> str:
    """The name of a table's noise floor."""
    return f"{PREFIX}NoiseFloor{spell(regime)}{METRIC_WORDS[metric]}"


def claims(metric: str, status: str = "") -> str:
    """The name of the number of claims about a metric, or of those with a status."""
    words = "".join(word.capitalize() for word in status.split())
    return f"{PREFIX}Claims{METRIC_WORDS[metric]}{words}"


def plain(what: str) -> str:
    """The name of a fact of the whole run."""
    return f"{PREFIX}{what}"
