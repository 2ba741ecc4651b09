# SPDX-License-Identifier: GPL-2.0-only
"""The answers drawn as intervals on one scale: positions in per cent of its width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kdelta.report.context import Arm, Regime
from kdelta.report.formatting import format_percent
from kdelta.report.frames import number
from kdelta.report.results import Results
from kdelta.report.tables import INVALID

_PADDING = 0.06
_FEW_TICKS = 6


class Mark(NamedTuple):
    """A delta and its interval; equal ends where there is no interval."""

    at: float
    low: float
    high: float


class Tick(NamedTuple):
    """A labelled place of the scale."""

    at: float
    label: str


@dataclass(frozen=True)
class AnswerScale:
    """One scale for all regimes and arms, so that they can be compared at a glance.

    ``margin`` is the band of effects called equivalent.
    """

    ticks: tuple[Tick, ...]
    margin: tuple[float, float]
    marks: Mapping[tuple[str, str], Mark]

    def mark(self, regime: Regime, arm: Arm) -> Mark | None:
        """Where an answer is drawn; None for one that is invalid or was not measured."""
        return self.marks.get((regime.name, arm.name))


def answer_scale(run: Results) -> AnswerScale | None:
    """The scale of a run; None where there is nothing to draw."""
    effects = {}
    for regime in run.regimes:
        for arm in run.treatments:
            row = run.overall(regime, arm)
            if row is None or row["verdict"] == INVALID:
                continue
            delta, low, high = (
                number(row[f"{name}_percent"]) for name in ("delta", "delta_low", "delta_high")
            )
            if math.isfinite(delta):
                ends = (low, high) if math.isfinite(low + high) else (delta, delta)
                effects[regime.name, arm.name] = (delta, *ends)
    if not effects:
        return None
    margin = run.equivalence_margin
    band = ((1 / (1 + margin) - 1) * 100, margin * 100)
    low = min(*band, *(e[1] for e in effects.values()))
    high = max(*band, *(e[2] for e in effects.values()))
    pad = (high - low) * _PADDING
    low, high = low - pad, high + pad

    def place(percent: float) -> float:
        return round((percent - low) / (high - low) * 100, 2)

    return AnswerScale(
        ticks=tuple(Tick(place(t), format_percent(t, 0) if t else "0%") for t in _ticks(low, high)),
        margin=(place(band[0]), place(band[1])),
        marks={key: Mark(*map(place, effect)) for key, effect in effects.items()},
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, zero among them."""
    rough = (high - low) / _FEW_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(1.0, next(power * m for m in (1, 2, 5, 10) if power * m >= rough))
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
