# SPDX-License-Identifier: GPL-2.0-only
"""What keys of an experiment file have to be to each other, so that what is accepted can be run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdelta.names import check_name
from kdelta.units import parse_size_bytes
from kdelta.workload.parameters import highest_cpu

if TYPE_CHECKING:
    from kdelta.experiment import Experiment
    from kdelta.workload.parameters import Level, Parameter

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
    for name in experiment.arms:
        check_name("arms", name)
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
    program, workload = experiment.workload.program, experiment.workload.declaration
    for factor, levels in matrix.items():
        for level in levels:
            workload.check_parameter(f"matrix.{factor}", factor, level, program)
        _require_distinct(factor, levels, workload.parameters[factor])
        if factor in arguments:
            raise ValueError(
                f"workload.arguments.{factor}: it is a factor of the matrix too; keep one"
            )
    for option, value in arguments.items():
        workload.check_parameter(f"workload.arguments.{option}", option, value, program)
    for limit in experiment.workload.limits:
        if limit not in workload.limits:
            raise ValueError(
                f"workload.limits.{limit}: not a limit of {program}; limits are "
                f"{', '.join(workload.limits) or '(none)'}"
            )
    for option in workload.required():
        if option not in matrix and option not in arguments:
            raise ValueError(
                f"matrix: nothing says which {option} a cell has; make {option!r} a factor, "
                f"or write workload.arguments.{option}"
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
    boots = len(experiment.booted_arms())
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


def _require_distinct(factor: str, levels: Sequence[Level], parameter: Parameter) -> None:
    for one, other in itertools.combinations(levels, 2):
        if parameter.meaning(one) == parameter.meaning(other):
            raise ValueError(
                f"matrix.{factor}: a level is listed twice in {levels}"
                if one == other
                else f"matrix.{factor}: {one!r} and {other!r} are the same level; keep one"
            )


def _require_room(experiment: Experiment) -> None:
    """The guest has the CPUs that workers are pinned to, and memory for the largest cell."""
    workload = experiment.workload.declaration
    given = {**{k: [v] for k, v in experiment.workload.arguments.items()}, **experiment.matrix}
    vcpus = experiment.guest.vcpus
    if isinstance(vcpus, int):
        for name, cpu in named_cpus(experiment).items():
            if cpu >= vcpus:
                where = "matrix" if name in experiment.matrix else "workload.arguments"
                raise ValueError(
                    f"{where}.{name}: CPU {cpu} is none of the guest's, which has {vcpus} "
                    f"(guest.vcpus), numbered from 0"
                )
    largest = {
        name: max(values, key=lambda value: _as_number(workload.parameters[name], value))
        for name, values in given.items()
    }
    needed, memory = workload.needed_bytes(largest), parse_size_bytes(experiment.guest.memory)
    if needed > memory:
        assert workload.memory is not None
        raise ValueError(
            f"guest.memory: {experiment.guest.memory} is less than the {needed / 2**20:.0f} MiB of "
            f"the largest cell ({workload.memory.text}); raise it, or lower "
            f"{', '.join(sorted(workload.memory.names))}"
        )


def named_cpus(experiment: Experiment) -> dict[str, int]:
    """The highest CPU of the guest that each parameter names, of those that name one."""
    given = {**{k: [v] for k, v in experiment.workload.arguments.items()}, **experiment.matrix}
    parameters = experiment.workload.declaration.parameters
    found: dict[str, int] = {}
    for name, values in given.items():
        if parameters[name].type == "cpus":
            cpus = [cpu for value in values if (cpu := highest_cpu(value)) is not None]
            found |= {name: max(cpus)} if cpus else {}
    return found


def _as_number(parameter: Parameter, value: object) -> int:
    meaning = parameter.meaning(value)
    return meaning if isinstance(meaning, int) else 0
