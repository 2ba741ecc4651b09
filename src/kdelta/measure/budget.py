# SPDX-License-Identifier: GPL-2.0-only
"""What protocols amount to, and protocols for a time: `standard-30m` has as many blocks as fit."""

from __future__ import annotations

import math
import re

from kdelta.experiment import Experiment
from kdelta.measure.progress import block_seconds, trace_seconds
from kdelta.measure.schedule import cells
from kdelta.plain import plural
from kdelta.progress import duration_text
from kdelta.regimes import Protocol

BUDGET = re.compile(r"([1-9][0-9]{0,3})(m|h)")
_NAMED = re.compile(rf"(.+)-({BUDGET.pattern})")

FEWEST_BLOCKS = 3
"""With fewer there are no intervals."""

MOST_BLOCKS, MOST_ROUNDS = 200, 12
"""Of a protocol that is planned: more are for those who know what they want them for."""


def budget_seconds(text: str) -> int:
    """Seconds of a budget such as `30m` or `2h`; it has the form of `BUDGET`."""
    return int(text[:-1]) * (60 if text.endswith("m") else 3600)


def protocol_name(protocol: str, budget: str | None) -> str:
    """What a protocol is called that is planned for a time."""
    return protocol if budget is None else f"{protocol}-{budget}"


def with_protocol(experiment: Experiment, name: str) -> Experiment:
    """The experiment as a protocol runs it, which may be one of its protocols with a budget.

    Blocks and rounds come from what they take by the experiment file, and not from how fast this
    machine is, so that a budget plans the same run everywhere.

    Args:
        experiment: the experiment.
        name: `NAME`, or `NAME-30m`.

    Raises:
        ValueError: there is no such protocol, or the time is too short for it.
    """
    match = _NAMED.fullmatch(name)
    if name in experiment.protocols or match is None or match[1] not in experiment.protocols:
        return experiment.of_protocol(name)
    chosen = experiment.of_protocol(match[1])
    least_rounds = chosen.protocols[match[1]].rounds
    traces_s, block_s = _seconds(chosen, match[1])
    left_s = budget_seconds(match[2]) - traces_s
    if left_s < FEWEST_BLOCKS * block_s:
        least_s = traces_s + FEWEST_BLOCKS * block_s
        raise ValueError(
            f"{match[2]} are too few for protocol {match[1]}: with fewer than {FEWEST_BLOCKS} "
            f"blocks there are no intervals, and these take about {-(-least_s // 60):.0f}m, "
            "besides building"
        )
    plans = []
    for rounds in range(least_rounds, max(least_rounds, MOST_ROUNDS) + 1):
        plan = _with_rounds(chosen, match[1], rounds)
        blocks = min(int(left_s // _seconds(plan, match[1])[1]), MOST_BLOCKS)
        if blocks >= FEWEST_BLOCKS:
            plans.append(plan.protocols[match[1]].model_copy(update={"blocks": blocks}))
    best = min(plans, key=lambda plan: _width(plan, chosen.statistics.confidence))
    return chosen.model_copy(update={"protocols": {name: best}})


def _seconds(experiment: Experiment, name: str) -> tuple[float, float]:
    """What all mechanism boots of a protocol take, and one block of each of its regimes."""
    traces_s = len(experiment.mechanism_regimes(name)) * trace_seconds(experiment)
    regimes = experiment.protocol_regimes(name)
    return traces_s, sum(block_seconds(experiment, name, regime) for regime in regimes)


def _with_rounds(experiment: Experiment, name: str, rounds: int) -> Experiment:
    """The same slices, in so many rounds."""
    protocol = experiment.protocols[name]
    durations = {regime: rounds * protocol.slice_s(regime) for regime in protocol.duration_s}
    changed = protocol.model_copy(update={"rounds": rounds, "duration_s": durations})
    return experiment.model_copy(update={"protocols": {name: changed}})


def _width(protocol: Protocol, confidence: float) -> float:
    """Of an interval, up to a factor: what spreads is taken for the slices alone."""
    from scipy import stats  # takes a second to load, and only budgets need it

    quantile = float(stats.t.isf((1 - confidence) / 2, protocol.blocks - 1))
    return quantile / math.sqrt(protocol.rounds * protocol.blocks)


def amount(experiment: Experiment, name: str) -> str:
    """What a protocol amounts to: blocks, guests, rounds and minutes."""
    protocol = experiment.protocols[name]
    experiment = experiment.of_protocol(name)
    blocks = protocol.blocks * len(protocol.duration_s)
    arms = len(experiment.booted_arms())
    traces_s, block_s = _seconds(experiment, name)
    seconds = traces_s + protocol.blocks * block_s
    traced = len(experiment.mechanism_regimes(name))
    traces = f" and {traced * arms} mechanism boots" if traced else ""
    return (
        f"{plural(blocks, 'block')} of {plural(arms, 'guest')}, "
        f"{plural(protocol.rounds, 'round')} of {plural(len(cells(experiment)), 'cell')}{traces}: "
        f"about {duration_text(seconds)}"
    )
