# SPDX-License-Identifier: GPL-2.0-only
"""What `kdelta plan` prints."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from kdelta.analysis.inference import MAX_BLOCKS_TO_SETTLE
from kdelta.analysis.planning import Need, within_margin
from kdelta.analysis.power import Design
from kdelta.commands.boot_time import BootTime

WIDTH = 96
_WHOLE_RUN = "whole run"
_HEADER = ("regime", "verdict on", "spread", "blocks", "boots", "hours")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        effect_percent: as given.
        effect: the same as a log ratio, not negative.
        power: wanted probability of the right verdict.
    """

    effect_percent: float
    effect: float
    power: float


def plan_text(
    wish: Wish,
    needs: Sequence[Need],
    design: Design,
    times: dict[str, BootTime],
    arms: Sequence[str],
) -> str:
    """The plan as lines for a terminal.

    Args:
        wish: effect and power.
        needs: what every regime needs.
        design: family, levels and margin.
        times: of one boot, by regime.
        arms: each is booted once in a block.
    """
    rows = [
        (
            need.regime,
            need.question,
            f"{100 * math.expm1(need.spread.log_sd):.2f} %",
            *_costs(need.blocks, [times[need.regime].seconds], arms),
        )
        for need in needs
    ]
    for question in ("a cell", "overall"):
        # One protocol has one number of blocks: the regime that needs most has its way.
        wanted = [need.blocks for need in needs if need.question == question]
        known = [blocks for blocks in wanted if blocks is not None]
        blocks = max(known) if len(known) == len(wanted) else None
        seconds = [time.seconds for time in times.values()]
        rows.append((_WHOLE_RUN, question, "", *_costs(blocks, seconds, arms)))
    sections = ["\n".join(_wrapped(_question(wish, design), "")), _table(rows)]
    notes = _notes(needs, times, arms)
    return "\n\n".join([*sections, "\n".join(line for note in notes for line in _wrapped(note))])


def _question(wish: Wish, design: Design) -> str:
    equivalent = within_margin(wish.effect, design.margin)
    margin = f"margin of equivalence {100 * design.margin:g} %"
    text = (
        f"Blocks that call a true effect of {wish.effect_percent:+g} % on throughput "
        f"{'equivalent' if equivalent else 'faster or slower'} with {100 * wish.power:g} % "
        f"probability (confidence {100 * design.confidence:g} %, {margin}, one family of "
        f"{design.cells} cells over all regimes)."
    )
    if equivalent:
        text += (
            " The effect lies within the margin: no number of blocks is meant to call it a "
            "difference."
        )
    return text


def _costs(blocks: int | None, seconds: Sequence[float], arms: Sequence[str]) -> tuple[str, ...]:
    if blocks is None:
        return (f"> {MAX_BLOCKS_TO_SETTLE}", "-", "-")
    boots = blocks * len(arms)
    hours = boots * sum(seconds) / 3600
    return (
        str(blocks),
        str(boots * len(seconds)),
        f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = []
    for row in (_HEADER, *rows):
        names = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*names, *numbers]))
    return "\n".join(lines)


def _notes(needs: Sequence[Need], times: dict[str, BootTime], arms: Sequence[str]) -> list[str]:
    notes = [
        f"A block boots every arm once ({', '.join(arms)}). All regimes of a protocol have one "
        "number of blocks: the whole run takes the largest.",
        "spread: standard deviation of the ratios over blocks; "
        + _by_regime({need.regime: need.source for need in needs}),
        "time: "
        + _by_regime(
            {r: f"{time.seconds:.1f} s per boot, {time.source}" for r, time in times.items()}
        ),
    ]
    known = min(need.spread.df for need in needs)
    if math.isfinite(known):
        notes.append(
            f"A pilot knows its spread only roughly ({known:g} degrees of freedom); the numbers "
            "of blocks allow for that."
        )
    return notes


def _by_regime(texts: dict[str, str]) -> str:
    """The texts, named by their regimes unless they are all the same."""
    if len(set(texts.values())) == 1:
        return f"{next(iter(texts.values()))}."
    return "; ".join(f"{regime}: {text}" for regime, text in texts.items()) + "."


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
