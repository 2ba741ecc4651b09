# SPDX-License-Identifier: GPL-2.0-only
"""What runs in which order: a pure function of the experiment and its seed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

from kdelta.experiment import Experiment, Level

Cell = dict[str, Level]


@dataclass(frozen=True)
class Schedule:
    """One block: its arms in boot order (arm, variant) and its cells in run order."""

    regime: str
    block: int
    seed: str
    arms: tuple[tuple[str, str], ...]
    cells: tuple[Cell, ...]


def cells(experiment: Experiment) -> list[Cell]:
    """All cells of the matrix, the last factor varying fastest."""
    factors = list(experiment.matrix)
    levels = itertools.product(*experiment.matrix.values())
    return [dict(zip(factors, combination, strict=True)) for combination in levels]


def block_schedule(experiment: Experiment, regime: str, block: int) -> Schedule:
    """The schedule of one block (counted from 1).

    The arms' order and the cells' order are shuffled by the experiment's seed,
    the regime and the block's number. All arms of a block share the cells'
    order, so that what a cell runs after is the same on both sides of a ratio.
    """
    seed = f"{experiment.seed}/{regime}/{block}"
    # Seeding with text goes through SHA-512: the same on every Python 3.
    shuffled = random.Random(seed)
    arms = list(experiment.arms().items())
    order = cells(experiment)
    shuffled.shuffle(arms)
    shuffled.shuffle(order)
    return Schedule(regime, block, seed, tuple(arms), tuple(order))


def schedule_record(schedule: Schedule, experiment: Experiment, protocol: str) -> dict[str, Any]:
    """The schedule as `schedule.json` holds it."""
    chosen = experiment.protocols[protocol]
    return {
        "schema": 1,
        "experiment": experiment.name,
        "protocol": protocol,
        "regime": schedule.regime,
        "block": schedule.block,
        "seed": schedule.seed,
        "arms": [{"arm": arm, "variant": variant} for arm, variant in schedule.arms],
        "cells": list(schedule.cells),
        "duration_s": chosen.duration_s[schedule.regime],
        "warmup_s": chosen.warmup_s,
    }
