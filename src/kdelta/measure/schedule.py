# SPDX-License-Identifier: GPL-2.0-only
"""What runs in which order: a pure function of the experiment and its seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
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
    """The schedule of one block (counted from 1): balanced order of arms, random order of cells.

    The arms of block 1, 2, 3 ... are the rows of Williams squares, one square after another,
    each drawn anew by the experiment's seed and the regime (`arm_orders`). So a block's order
    does not depend on how many blocks there are: blocks that are added later go on in the
    sequence.

    The cells' order is shuffled by seed, regime and the block's number. All arms of a block
    share it, so that what a cell runs after is the same on both sides of a ratio.
    """
    seed = f"{experiment.seed}/{regime}/{block}"
    variants = experiment.arms()
    cycle, row = divmod(block - 1, _rows(len(variants)))
    arms = arm_orders(variants, f"{experiment.seed}/{regime}/arms/{cycle}")[row]
    order = cells(experiment)
    # Seeding with text goes through SHA-512: the same on every Python 3.
    random.Random(seed).shuffle(order)
    return Schedule(regime, block, seed, tuple((a, variants[a]) for a in arms), tuple(order))


def arm_orders(arms: Iterable[str], seed: str) -> list[tuple[str, ...]]:
    """One cycle of arm orders, as many as `_rows` says: a Williams square drawn by the seed.

    In the n rows of a Williams square every arm comes once at every position, and for even n
    every arm comes once right after every other one (E. J. Williams, 1949). For odd n that
    takes two squares, one the mirror of the other: no square of 3, 5 or 7 arms does it alone.

    The rows follow each other such that the arms' mean positions stay as equal as they can,
    ties broken by the seed. In a number of such cycles and any part of one,

    - an arm has been at one position at most once more often than at another, and than any
      other arm has been there;
    - one arm has come right after another at most once more often than any two others have;
      with an odd number of arms at most twice;
    - the arms' mean positions are equal after every even number of blocks if the number of
      arms is even, since a row is then followed by its mirror; if it is odd, after every
      multiple of it. In between they differ by at most (n - 1) / blocks positions. For an odd
      n the mirror cannot follow at once: an arm would be in the middle twice, and others
      never.

    Args:
        arms: their names, each once; their order does not count.
        seed: what the square is drawn by.
    """
    drawn = random.Random(seed)
    names = sorted(arms)
    drawn.shuffle(names)
    n = len(names)
    # 0, 1, n-1, 2, n-2 ...: no two neighbours are equally far apart.
    first = [(i + 1) // 2 if i % 2 else (n - i // 2) % n for i in range(n)]
    square = [[(arm + shift) % n for arm in first] for shift in range(n)]
    squares = [square] if n % 2 == 0 else [square, [row[::-1] for row in square]]
    return [tuple(names[arm] for arm in row) for rows in squares for row in _levelled(rows, drawn)]


def balanced_blocks(arms: int, blocks: int) -> int:
    """The fewest blocks, `blocks` or more, after which all arms have the same mean position."""
    step = 2 if arms % 2 == 0 else arms
    return -(-blocks // step) * step


def _rows(arms: int) -> int:
    """Rows of one cycle of arm orders."""
    return arms if arms % 2 == 0 else 2 * arms


def _levelled(rows: Sequence[Sequence[int]], drawn: random.Random) -> list[Sequence[int]]:
    """The rows of a Latin square, each next one that which levels the sums of positions best."""
    left = list(rows)
    drawn.shuffle(left)
    sums = [0] * len(left)
    ordered = []
    while left:
        spreads = []
        for row in left:
            after = [sums[arm] + position for position, arm in enumerate(row)]
            spreads.append(max(after) - min(after))
        ordered.append(left.pop(spreads.index(min(spreads))))
        for position, arm in enumerate(ordered[-1]):
            sums[arm] += position
    return ordered


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
