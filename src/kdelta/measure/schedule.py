# SPDX-License-Identifier: GPL-2.0-only
"""What runs in which order: a pure function of the experiment and its seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kdelta.experiment import Experiment
from kdelta.workload.chosen import Cell


@dataclass(frozen=True)
class Turn:
    """A cell in one round of a block: its number in `Schedule.cells`, and the order of the arms."""

    cell: int
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """One block.

    Attributes:
        arms: in the order in which they are booted.
        workloads: the workload of each cell.
        cells: all cells of all workloads.
        rounds: in each round every cell once, in the order in which they are run.
    """

    regime: str
    block: int
    seed: str
    arms: tuple[str, ...]
    workloads: tuple[str, ...]
    cells: tuple[Cell, ...]
    rounds: tuple[tuple[Turn, ...], ...]


def cells(experiment: Experiment) -> list[tuple[str, Cell]]:
    """All cells of all workloads, each with its workload's name."""
    return [
        (name, cell) for name, chosen in experiment.workloads.items() for cell in chosen.cells()
    ]


def traced_cells(experiment: Experiment) -> list[tuple[str, Cell]]:
    """The cells of mechanism boots, likewise."""
    traced = experiment.mechanism
    if traced is None:
        return []
    name = experiment.named(traced.workload)
    return [(name, cell) for cell in experiment.workloads[name].cells(traced.cells)]


def block_schedule(
    experiment: Experiment,
    regime: str,
    block: int,
    rounds: int = 1,
    of: Sequence[tuple[str, Cell]] | None = None,
) -> Schedule:
    """The schedule of one block (counted from 1).

    In a round, the cells come in random order, and within a cell the arms run one right after
    the other. Their orders in one cell, from round to round and from block to block, are the
    rows of Williams squares, one square after another, each drawn anew by the experiment's seed,
    the regime and the cell (`arm_orders`). So a block's orders do not depend on how many blocks
    there are: blocks that are added later go on in the sequence. The order in which the arms are
    booted is drawn likewise; nothing is measured by then.

    Args:
        experiment: the experiment.
        regime: name of the regime.
        block: number of the block.
        rounds: of the block; all blocks of a run have as many.
        of: the cells, each with its workload's name; None: all.
    """
    seed = f"{experiment.seed}/{regime}/{block}"
    arms = experiment.booted_arms()
    every = cells(experiment) if of is None else of
    # Seeding with text goes through SHA-512: the same on every Python 3.
    drawn = random.Random(seed)
    booted = _order(arms, f"{experiment.seed}/{regime}/arms", block - 1)
    turns = []
    for number in range(rounds):
        order = list(range(len(every)))
        drawn.shuffle(order)
        row = (block - 1) * rounds + number
        turns.append(
            tuple(
                Turn(cell, _order(arms, f"{experiment.seed}/{regime}/cell-{cell}", row))
                for cell in order
            )
        )
    names, levels = zip(*every, strict=True)
    return Schedule(regime, block, seed, booted, names, levels, tuple(turns))


def _order(arms: Iterable[str], seed: str, row: int) -> tuple[str, ...]:
    """One order of a sequence of balanced ones; `row` counts from 0."""
    names = tuple(arms)
    cycle, row = divmod(row, _rows(len(names)))
    return arm_orders(names, f"{seed}/{cycle}")[row]


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
        "arms": list(schedule.arms),
        "workloads": list(schedule.workloads),
        "cells": list(schedule.cells),
        "rounds": [
            [{"cell": turn.cell, "arms": list(turn.arms)} for turn in turns]
            for turns in schedule.rounds
        ],
        "slice_s": chosen.slice_s(schedule.regime),
        "warmup_s": chosen.warmup_s,
    }
