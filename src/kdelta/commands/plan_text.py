# SPDX-License-Identifier: GPL-2.0-only
"""What `kdelta plan` prints."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdelta.analysis.inference import MAX_BLOCKS_TO_SETTLE
from kdelta.analysis.planning import Need, RegimeSpread, Split, within_margin
from kdelta.analysis.power import Design, Spread, smallest_effect
from kdelta.commands.block_time import BlockTime
from kdelta.experiment import Experiment
from kdelta.measure.budget import amount
from kdelta.measure.schedule import cells

WIDTH = 80
QUESTIONS = ("a cell", "overall")
_WHOLE_RUN = "whole run"
_HEADER = ("regime", "verdict on", "spread", "blocks", "hours")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        effect_percent: as given.
        metric: what it is on, within a sentence.
        effect: the same as a log ratio, not negative.
        power: wanted probability of the right verdict.
    """

    effect_percent: float
    metric: str
    effect: float
    power: float


@dataclass(frozen=True)
class RoundsChoice:
    """What a number of rounds in a block would cost: as `plan_text` takes needs and times."""

    rounds: int
    needs: Sequence[Need]
    times: dict[str, BlockTime]


def primary_of(experiment: Experiment) -> str:
    """The metric that is planned for, within a sentence."""
    workload = experiment.workload.declaration
    return workload.metrics[workload.primary].in_sentence


def plan_text(
    wish: Wish,
    needs: Sequence[Need],
    design: Design,
    times: dict[str, BlockTime],
    arms: Sequence[str],
    splits: Mapping[str, Split],
    choices: Sequence[RoundsChoice] = (),
) -> str:
    """The plan as lines for a terminal.

    Args:
        wish: effect and power.
        needs: what every regime needs.
        design: family, levels and margin.
        times: of one block, by regime.
        arms: of a block.
        splits: of the pilot's variance; empty without one, or if it had one round.
        choices: numbers of rounds to compare.
    """
    rows = [
        (
            need.regime,
            need.question,
            f"{100 * math.expm1(need.spread.log_sd):.2f} %",
            *_costs(need.blocks, [times[need.regime].seconds]),
        )
        for need in needs
    ]
    for question in QUESTIONS:
        rows.append((_WHOLE_RUN, question, "", *_whole_run(question, needs, times)))
    sections = ["\n".join(_wrapped(_question(wish, design), "")), _table(rows)]
    if choices:
        sections.append(_rounds(splits, choices))
    notes = _notes(needs, times, arms)
    return "\n\n".join([*sections, "\n".join(line for note in notes for line in _wrapped(note))])


def _whole_run(
    question: str, needs: Sequence[Need], times: dict[str, BlockTime]
) -> tuple[str, ...]:
    """One protocol has one number of blocks: the regime that needs most has its way."""
    wanted = [need.blocks for need in needs if need.question == question]
    known = [blocks for blocks in wanted if blocks is not None]
    blocks = max(known) if len(known) == len(wanted) else None
    return _costs(blocks, [time.seconds for time in times.values()])


def _rounds(splits: Mapping[str, Split], choices: Sequence[RoundsChoice]) -> str:
    """What more rounds in a block would cost and save."""
    header = ("rounds", *(f"{q}: {what}" for q in QUESTIONS for what in ("blocks", "hours")))
    rows = [
        (
            str(choice.rounds),
            *(text for q in QUESTIONS for text in _whole_run(q, choice.needs, choice.times)),
        )
        for choice in choices
    ]
    split = "; ".join(
        f"{regime}: {', '.join(f'{name} {_percent(part)}' for name, part in parts)}"
        for regime, one in splits.items()
        for parts in ((("block", one.block), ("cell in a block", one.cell), ("round", one.slice)),)
    )
    text = f"Spread of log ratios by where it is from: {split}. The whole run by rounds of a block:"
    return "\n".join([*_wrapped(text, ""), _table(rows, header, names=0)])


def _percent(variance: float) -> str:
    return f"{100 * math.expm1(math.sqrt(variance)):.2f} %"


def _question(wish: Wish, design: Design) -> str:
    equivalent = within_margin(wish.effect, design.margin)
    margin = f"margin of equivalence {100 * design.margin:g} %"
    text = (
        f"Blocks that call a true effect of {wish.effect_percent:+g} % on {wish.metric} "
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


def _costs(blocks: int | None, seconds: Sequence[float]) -> tuple[str, ...]:
    if blocks is None:
        return (f"> {MAX_BLOCKS_TO_SETTLE}", "-")
    hours = blocks * sum(seconds) / 3600
    return (str(blocks), f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}")


def _table(
    rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = _HEADER, names: int = 2
) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        places = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(t.ljust(w) if i < names else t.rjust(w) for i, (t, w) in places))
    return "\n".join(lines)


def _notes(needs: Sequence[Need], times: dict[str, BlockTime], arms: Sequence[str]) -> list[str]:
    notes = [
        f"In a block all arms run in turns ({', '.join(arms)}). All regimes of a protocol have one "
        "number of blocks: the whole run takes the largest.",
        "spread: standard deviation of the ratios over blocks; "
        + _by_regime({need.regime: need.source for need in needs}),
        "time: "
        + _by_regime(
            {r: f"{time.seconds:.1f} s per block, {time.source}" for r, time in times.items()}
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


def foreseen_text(
    experiment: Experiment, protocol: str, spreads: Mapping[str, RegimeSpread], power: float
) -> str:
    """What a protocol amounts to, and what effect it would see, as lines for a terminal.

    Args:
        experiment: the experiment.
        protocol: its protocol.
        spreads: by regime, for as many rounds as the protocol has.
        power: probability of the verdict.
    """
    statistics = experiment.statistics
    blocks = experiment.protocols[protocol].blocks
    family = len(cells(experiment)) * len(spreads)

    def seen(spread: Spread, tests: int) -> str:
        design = Design(blocks, tests, statistics.confidence, statistics.equivalence_margin)
        return f"{100 * math.expm1(smallest_effect(spread, design, power)):.1f} %"

    rows = [
        (regime, seen(one.overall, 1), seen(one.cell, family)) for regime, one in spreads.items()
    ]
    question = (
        f"True effects on {primary_of(experiment)} that would be called faster or slower with "
        f"{100 * power:g} % probability:"
    )
    return "\n".join(
        [
            *_wrapped(f"{protocol}: {amount(experiment, protocol)}, besides building.", ""),
            *_wrapped(question, ""),
            _table(rows, ("regime", "overall", "a cell"), names=1),
            *_wrapped("spread: " + _by_regime({r: one.source for r, one in spreads.items()})),
        ]
    )
