# SPDX-License-Identifier: GPL-2.0-only
r"""Every headline number as a LaTeX macro, so that no number is typed by hand.

Names are letters only, and never the same for two different things. One such as
``memory-pressure`` is spelled as words that begin with a capital: ``MemoryPressure``. What is no
letter is spelled out. A word that means something else in a macro's name, ``Overall`` say, is
marked by ``Word`` behind it when it is part of a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdelta.report.claims import CLAIM_STATUSES
from kdelta.report.context import Arm, Metric, Regime
from kdelta.report.formatting import format_percent, typeset_minus
from kdelta.report.frames import number, whole
from kdelta.report.results import Results
from kdelta.report.sentences import (
    HEADLINE_DECIMALS,
    NOISE_FLOOR,
    acceleration_label,
    confidence_label,
    magnitude,
)
from kdelta.report.tables import INVALID
from kdelta.report.tex_escape import Tex, escape

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


EMULATED_MARK = plain("EmulatedMark")
_NO_RESULT = "no result"


class Macro(NamedTuple):
    """One definition: the name without its backslash, its body as LaTeX, and its group."""

    name: str
    body: Tex
    group: str


def macros(run: Results) -> tuple[Macro, ...]:
    r"""Every macro of a run, group by group; no two share a name.

    An effect of an arm is ``\kd<Arm>Overall<Regime><Metric>``, with sign and unit, and the same
    name with ``Low``, ``High``, ``Verdict``, ``Blocks`` and ``Cells`` behind it. The arm that the
    published claims are about, else the first one under test, has the short form too, without
    its name.
    """
    found = [Macro(plain(n), body, "The run") for n, body in _run_facts(run)]
    names = Names(run.metrics)
    metrics = [m.name for m in run.metrics if m.name in set(run.frames.overall["metric"])]
    short_arm = _short_arm(run)
    for arm in run.compared:
        short = arm.name == short_arm
        for regime in run.regimes:
            for metric in metrics:
                group = f"{arm.name} against {run.baseline}"
                for what, body in _effect(run, regime, arm, metric):
                    name = names.overall(arm.name, regime.name, metric, what)
                    found.append(Macro(name, body, group))
                    if short:
                        alias = names.overall("", regime.name, metric, what)
                        found.append(Macro(alias, Tex(f"\\{name}"), f"{group}, short"))
    for regime in run.regimes if run.controls else ():
        for metric in metrics:
            row = run.frames.control_of(regime.name, metric)
            floor = math.nan if row is None else row["noise_floor_percent"]
            name = names.noise_floor(regime.name, metric)
            found.append(Macro(name, escape(magnitude(floor)), "Noise floors"))
    found += [Macro(name, escape(n), "Published claims") for name, n in _claims(run)]
    # Stable: within a group in the order found.
    order = list(dict.fromkeys(macro.group for macro in found))
    return tuple(sorted(found, key=lambda macro: order.index(macro.group)))


def headline(run: Results, regime: Regime, arm: Arm) -> Tex | None:
    """An overall effect on the primary metric, its interval and noise floor, as macros."""
    names, metric = Names(run.metrics), run.primary.name
    row = run.frames.overall_of(regime.name, arm.name, metric)
    if row is None or row["verdict"] == INVALID or not math.isfinite(number(row["ratio"])):
        return None
    if not math.isfinite(number(row["delta_low_percent"])):
        return None
    short = "" if arm.name == _short_arm(run) else arm.name
    value, low, high = (
        f"\\{names.overall(short, regime.name, metric, what)}{{}}" for what in ("", "Low", "High")
    )
    floor = f", {NOISE_FLOOR} \\{names.noise_floor(regime.name, metric)}{{}}"
    return Tex(f"{value} [{low}, {high}]{floor if run.controls else ''}")


def _short_arm(run: Results) -> str:
    claimed = list(dict.fromkeys(run.frames.claims["arm"]))
    treatments = [arm.name for arm in run.treatments]
    return str(claimed[0]) if len(claimed) == 1 else next(iter(treatments), "")


def _run_facts(run: Results) -> Iterator[tuple[str, Tex]]:
    mark = Tex(r"~(emulated)") if run.emulated else Tex("")
    yield "EmulatedMark", mark
    aside, samples = (int(run.frames.set_aside[c].sum()) for c in ("set_aside", "samples"))
    for what, value in (
        ("Experiment", run.experiment),
        ("Protocol", run.protocol),
        ("Run", run.provenance.get("Run", "unknown")),
        ("Acceleration", acceleration_label(run)),
        ("KernelRelease", run.kernel_release or "unknown"),
        ("Baseline", run.baseline),
        ("Blocks", run.blocks),
        ("Cells", run.cells),
        ("Samples", samples),
        ("SetAside", aside),
        ("Confidence", confidence_label(run)),
        ("EquivalenceMargin", f"{run.equivalence_margin * 100:g}%"),
        ("Vcpus", run.vcpus),
        ("HostCpus", run.host_cpus),
        ("GuestMemory", f"{run.memory_mib}\N{NO-BREAK SPACE}MiB"),
    ):
        yield what, escape(value)


def _effect(run: Results, regime: Regime, arm: Arm, metric: str) -> Iterator[tuple[str, Tex]]:
    row = run.frames.overall_of(regime.name, arm.name, metric)
    invalid = row is not None and row["verdict"] == INVALID
    if row is None or invalid or not math.isfinite(number(row["ratio"])):
        verdict = INVALID if invalid else _NO_RESULT
        for what in ("", "Low", "High"):
            yield what, escape(_NO_RESULT)
        yield "Verdict", escape(verdict)
        yield "Blocks", escape(0)
        yield "Cells", escape(0)
        return
    # Never a bare number of an emulated run, wherever an author may put it.
    yield "", Tex(f"{_percent(row['delta_percent'])}\\{EMULATED_MARK}{{}}")
    yield "Low", _percent(row["delta_low_percent"])
    yield "High", _percent(row["delta_high_percent"])
    yield "Verdict", escape(row["verdict"] or "no verdict")
    yield "Blocks", escape(whole(row["blocks"]) or 0)
    yield "Cells", escape(whole(row["cells"]) or 0)


def _percent(value: object) -> Tex:
    return escape(typeset_minus(format_percent(number(value), HEADLINE_DECIMALS)))


def _claims(run: Results) -> Iterator[tuple[str, int]]:
    names = Names(run.metrics)
    for metric, rows in run.frames.claims.groupby("metric", sort=False):
        if run.metric(str(metric)):
            yield names.claims(str(metric)), len(rows)
            for status in CLAIM_STATUSES:
                count = int((rows["status"] == status).sum())
                yield names.claims(str(metric), status), count
