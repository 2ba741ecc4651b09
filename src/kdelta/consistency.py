# SPDX-License-Identifier: GPL-2.0-only
"""What keys of an experiment file have to be to each other, so that what is accepted can be run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdelta.names import check_name
from kdelta.units import parse_size_bytes
from kdelta.workload_options import (
    REQUIRED_OPTIONS,
    check_option,
    highest_cpu,
    memory_bytes,
    option_meaning,
)

if TYPE_CHECKING:
    from kdelta.experiment import Experiment, Level

MAX_CELLS = 10_000
MAX_DAYS = 60
# Of a cell's own time; a short warm-up is none too long, however short the cell is.
MAX_WARMUP_SHARE, SHORT_WARMUP_S = 10, 1.0


def check_names(experiment: Experiment) -> None:
    """Names that files and folders of ours have are not given to anything else.

    Raises:
        ValueError: naming key, name and reason.
    """
    check_name("name", experiment.name)
    for name in experiment.variants:
        check_name("variants", name)
    for name in experiment.regimes:
        check_name("regimes", name)
    for name in experiment.protocols:
        check_name("protocols", name)


def check_cells(experiment: Experiment) -> None:
    """Every combination of levels is one cell, which the guest can run.

    Raises:
        ValueError: naming key, value and what to do.
    """
    matrix, arguments = experiment.matrix, experiment.workload.arguments
    for factor, levels in matrix.items():
        for level in levels:
            check_option(f"matrix.{factor}", factor, level)
        _require_distinct(factor, levels)
        if factor in arguments:
            raise ValueError(
                f"workload.arguments.{factor}: it is a factor of the matrix too; keep one"
            )
    for option, value in arguments.items():
        check_option(f"workload.arguments.{option}", option, value)
    for option in REQUIRED_OPTIONS:
        if option not in matrix and option not in arguments:
            raise ValueError(
                f"matrix: nothing says how many {option} a cell has; make {option!r} a factor, "
                f"or write workload.arguments.{option}: 1"
            )
    count = math.prod(len(levels) for levels in matrix.values())
    if count > MAX_CELLS:
        raise ValueError(
            f"matrix: {count} cells; a boot runs every one of them, and more than {MAX_CELLS} "
            "are never measured: leave levels out"
        )
    _require_room(experiment)


def check_times(experiment: Experiment) -> None:
    """Times that make sense together.

    Raises:
        ValueError: naming key, value and what to do.
    """
    boots = len(experiment.arms())
    cells = math.prod(len(levels) for levels in experiment.matrix.values())
    for name, protocol in experiment.protocols.items():
        key = f"protocols.{name}"
        shortest = min(protocol.duration_s.values())
        if protocol.warmup_s > max(SHORT_WARMUP_S, MAX_WARMUP_SHARE * shortest):
            raise ValueError(
                f"{key}.warmup_s: {protocol.warmup_s:g} s before each cell of {shortest:g} s: "
                f"more than {MAX_WARMUP_SHARE} times what is measured; shorten it, or measure "
                "longer"
            )
        seconds = sum(duration + protocol.warmup_s for duration in protocol.duration_s.values())
        days = protocol.blocks * boots * cells * seconds / 86400
        if days > MAX_DAYS:
            raise ValueError(
                f"{key}: {protocol.blocks} blocks of {boots} boots of {cells} cells take "
                f"{days:.0f} days in the cells alone, more than {MAX_DAYS}: fewer blocks, cells "
                "or seconds"
            )
    for name, regime in experiment.regimes.items():
        stressor = regime.stressor
        if stressor and (stressor.settle_s or 0) > stressor.settle_timeout_s:
            raise ValueError(
                f"regimes.{name}.stressor.settle_s: {stressor.settle_s:g} is longer than its "
                f"settle_timeout_s, {stressor.settle_timeout_s:g}; raise that"
            )


def _require_distinct(factor: str, levels: Sequence[Level]) -> None:
    for one, other in itertools.combinations(levels, 2):
        if option_meaning(factor, one) == option_meaning(factor, other):
            raise ValueError(
                f"matrix.{factor}: a level is listed twice in {levels}"
                if one == other
                else f"matrix.{factor}: {one!r} and {other!r} are the same level; keep one"
            )


def _require_room(experiment: Experiment) -> None:
    """The guest has the CPUs that workers are pinned to, and memory for the largest cell."""
    given = {**{k: [v] for k, v in experiment.workload.arguments.items()}, **experiment.matrix}
    vcpus = experiment.guest.vcpus
    cpus = [cpu for pin in given.get("pin", []) if (cpu := highest_cpu(pin)) is not None]
    if isinstance(vcpus, int) and cpus and max(cpus) >= vcpus:
        where = "matrix" if "pin" in experiment.matrix else "workload.arguments"
        raise ValueError(
            f"{where}.pin: CPU {max(cpus)} is none of the guest's, which has {vcpus} "
            f"(guest.vcpus), numbered from 0"
        )
    largest = {
        option: max(values, key=lambda value: _as_number(option, value))
        for option, values in given.items()
    }
    needed, memory = memory_bytes(largest), parse_size_bytes(experiment.guest.memory)
    if needed > memory:
        raise ValueError(
            f"guest.memory: {experiment.guest.memory} is less than the {needed // 2**20} MiB of "
            "the largest cell, a buffer for each worker and a full pipe; raise it, or lower "
            "write_size, read_size, pipe_size or the number of workers"
        )


def _as_number(option: str, value: object) -> int:
    meaning = option_meaning(option, value)
    return meaning if isinstance(meaning, int) else 0
