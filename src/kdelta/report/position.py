# SPDX-License-Identifier: GPL-2.0-only
"""Whether it matters at which place an arm runs a cell: the table, and words on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kdelta.report.context import Regime
from kdelta.report.formatting import Row, format_interval, format_percent, plural
from kdelta.report.frames import number, whole
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import HEADLINE_DECIMALS, confidence_label, magnitude


@dataclass(frozen=True)
class BootOrder:
    """The effect of an arm's place in every regime."""

    sentence: str
    grid: Grid


def boot_order(run: Results) -> BootOrder:
    """The table of all regimes and what it says."""
    found = list(position_rows(run))
    rows = tuple(
        (
            regime.title,
            " ".join(position_effect(row)),
            p_words(number(row["p_holm"])),
            magnitude(row["largest_bias_percent"]),
            str(whole(row["blocks"])),
        )
        for regime, row in found
    )
    tested = [row for _, row in found if math.isfinite(number(row["p_holm"]))]
    differing = sum(bool(row["differs"]) for row in tested)
    verdict = "No regime has blocks enough to tell it from noise."
    if tested:
        verdict = (
            f"It is more than noise in {differing} of {plural(len(tested), 'regime')} with an "
            "interval."
        )
    return BootOrder(
        f"How much {run.primary.short} changes from one arm that runs a cell to the next, "
        f"whichever they are. {verdict}",
        Grid(
            f"Change of {run.primary.short} per place later in a cell's run "
            f"[{confidence_label(run)} interval over blocks], its p-value adjusted for the "
            "number of regimes, and the most that it moves the delta of any arm in any cell, given "
            "the orders that were measured.",
            ("regime", "per position", "p", "largest bias", "blocks"),
            (Group("", rows),),
        ),
    )


def position_rows(run: Results) -> Iterator[tuple[Regime, Row]]:
    """The regimes that have a row, with it."""
    table = run.frames.position[run.frames.position["metric"] == run.primary.name]
    for regime in run.regimes:
        for row in table[table["regime"] == regime.name].to_dict("records"):
            yield regime, row


def position_effect(row: Row) -> tuple[str, str]:
    """Change per position and its interval."""
    low, high = (number(row[f"position_{end}_percent"]) for end in ("low", "high"))
    change = format_percent(number(row["position_percent"]), HEADLINE_DECIMALS)
    return change, format_interval(low, high, HEADLINE_DECIMALS)


def p_words(value: float) -> str:
    """A p-value; ``n/a`` where there is none."""
    if math.isnan(value):
        return "n/a"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
