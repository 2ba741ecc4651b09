# SPDX-License-Identifier: GPL-2.0-only
r"""Names of LaTeX macros: letters only, and never the same for two different things.

A name such as ``memory-pressure`` is spelled as words that begin with a capital:
``MemoryPressure``. What is no letter is spelled out. A word that means something else in a
macro's name, ``Overall`` say, is marked by ``Word`` behind it when it is part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdelta.report.context import Metric

PREFIX = "kd"
OVERALL = "Overall"
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
_TAKEN = frozenset({*_CHARACTERS.values(), OVERALL, _MARK})
# A dash between letters only separates two words.
_PARTS = re.compile(r"(?P<word>[a-z]+)|(?<=[a-z])-(?=[a-z])|(?P<other>[0-9._-])")


def spell(name: str, taken: frozenset[str] = frozenset()) -> str:
    """A name of the experiment file in letters; two names never give the same.

    Args:
        name: lower-case letters, digits, dots, underscores and dashes.
        taken: words that mean something else where the name stands.

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
            parts.append(word + _MARK if word in _TAKEN | taken else word)
        elif part["other"]:
            parts.append(_CHARACTERS[part["other"]])
    if end != len(name):
        raise ValueError(f"{name!r}: {name[end]!r} has no spelling in a macro's name")
    return "".join(parts)


class Names:
    """The names of a run's macros.

    Between ``Overall`` and a metric's words stands the regime's name: words that metrics begin
    with are marked in it.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._words = {metric.name: spell(metric.slug) for metric in metrics}
        starts = {metric.slug.partition("-")[0].capitalize() for metric in metrics}
        self._starts = frozenset(starts)

    def overall(self, arm: str, regime: str, metric: str, what: str = "") -> str:
        """The name of an arm's overall effect, or of what belongs to it (``Low``, ``Verdict`` ...).

        Args:
            arm: the arm's name; empty for the short form.
            regime: the regime's name.
            metric: the metric's name.
            what: letters to add.
        """
        return (
            f"{PREFIX}{self._spell(arm)}{OVERALL}{self._spell(regime)}{self._words[metric]}{what}"
        )

    def noise_floor(self, regime: str, metric: str) -> str:
        """The name of a table's noise floor."""
        return f"{PREFIX}NoiseFloor{self._spell(regime)}{self._words[metric]}"

    def claims(self, metric: str, status: str = "") -> str:
        """The name of the number of claims about a metric, or of those with a status."""
        words = "".join(word.capitalize() for word in status.split())
        return f"{PREFIX}Claims{self._words[metric]}{words}"

    def _spell(self, name: str) -> str:
        return spell(name, self._starts)


def plain(what: str) -> str:
    """The name of a fact of the whole run."""
    return f"{PREFIX}{what}"
