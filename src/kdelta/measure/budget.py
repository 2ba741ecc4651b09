# SPDX-License-Identifier: GPL-2.0-only
"""Protocols for a time: `standard-30m` is `standard` with as many blocks as 30 minutes allow."""

from __future__ import annotations

import re

from kdelta.experiment import Experiment
from kdelta.measure.progress import block_seconds, trace_seconds

BUDGET = re.compile(r"([1-9][0-9]{0,3})(m|h)")
_NAMED = re.compile(rf"(.+)-({BUDGET.pattern})")

FEWEST_BLOCKS = 3
"""With fewer there are no intervals."""


def budget_seconds(text: str) -> int:
    """Seconds of a budget such as `30m` or `2h`; it has the form of `BUDGET`."""
    return int(text[:-1]) * (60 if text.endswith("m") else 3600)


def protocol_name(protocol: str, budget: str | None) -> str:
    """What a protocol is called that is planned for a time."""
    return protocol if budget is None else f"{protocol}-{budget}"


def with_protocol(experiment: Experiment, name: str) -> Experiment:
    """The experiment as a protocol runs it, which may be one of its protocols with a budget.

    The number of blocks comes from what a block takes by the experiment file, and not from how
    fast this machine is, so that a budget plans the same run everywhere.

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
    traces = len(chosen.mechanism_regimes(match[1])) * trace_seconds(chosen)
    each = sum(block_seconds(chosen, match[1], r) for r in chosen.protocol_regimes(match[1]))
    blocks = int((budget_seconds(match[2]) - traces) // each)
    if blocks < FEWEST_BLOCKS:
        least = -(-(traces + FEWEST_BLOCKS * each) // 60)
        raise ValueError(
            f"{match[2]} are too few for protocol {match[1]}: with fewer than {FEWEST_BLOCKS} "
            f"blocks there are no intervals, and these take about {least:.0f}m, besides building"
        )
    protocol = chosen.protocols[match[1]].model_copy(update={"blocks": min(blocks, 200)})
    return chosen.model_copy(update={"protocols": {name: protocol}})
