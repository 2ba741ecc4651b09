# SPDX-License-Identifier: GPL-2.0-only
"""What keys of an experiment file have to be to each other, so that what is accepted can be run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kdelta.names import check_name
from kdelta.units import parse_size_bytes

if TYPE_CHECKING:
    from kdelta.experiment import Experiment
    from kdelta.workload.chosen import Chosen, Matrix
    from kdelta.workload.parameters import Level, Parameter

MAX_CELLS = 10_000
MAX_DAYS = 60
# Of a cell's own time; a short warm-up is none too long, however short the cell is.
MAX_WARMUP_SHARE, SHORT_WARMUP_S = 10, 1.0


def check_experiment(experiment: Experiment) -> None:
    """Everything that is about more than one key.

    Raises:
        ValueError: naming key, value and what to do.
    """
    _check_arms(experiment)
    _check_names(experiment)
    for name, chosen in experiment.workloads.items():
        _check_cells(f"workloads.{name}", chosen)
        _check_room(experiment, f"workloads.{name}", chosen)
    _check_pages(experiment)
    cells = sum(len(chosen.cells()) for chosen in experiment.workloads.values())
    if cells > MAX_CELLS:
        raise ValueError(
            f"workloads: {cells} cells; a boot runs every one of them, and more than {MAX_CELLS} "
            "are never measured: leave levels out"
        )
    _check_protocols(experiment)
    _check_times(experiment, cells)
    _check_mechanism(experiment)
    _check_references(experiment)


def _check_arms(experiment: Experiment) -> None:
    arms = experiment.arms
    if experiment.baseline not in arms:
        raise ValueError(
            f"baseline: {experiment.baseline!r} is not an arm; arms are {', '.join(arms)}"
        )
    for name in experiment.built_arms:
        if experiment.kernel is None:
            raise ValueError(
                f"arms.{name}: it has no image, and there is no key kernel that says what it is "
                "built from; give one of them"
            )


def _check_names(experiment: Experiment) -> None:
    """Names that files and folders of ours have are not given to anything else."""
    check_name("name", experiment.name)
    for name in experiment.arms:
        check_name("arms", name)
    for name in experiment.regimes:
        check_name("regimes", name)
    for name in experiment.protocols:
        check_name("protocols", name)
    if len(experiment.workloads) > 1:
        for name in experiment.workloads:
            check_name("workloads", name)


def _check_cells(key: str, chosen: Chosen) -> None:
    """Every combination of levels is one cell, which the program can run."""
    matrix, arguments, workload = chosen.matrix, chosen.arguments, chosen.declaration
    for factor, levels in matrix.items():
        for level in levels:
            workload.check_parameter(f"{key}.matrix.{factor}", factor, level, chosen.program)
        _require_distinct(f"{key}.matrix.{factor}", levels, workload.parameters[factor])
        if factor in arguments:
            raise ValueError(
                f"{key}.arguments.{factor}: it is a factor of the matrix too; keep one"
            )
    for option, value in arguments.items():
        workload.check_parameter(f"{key}.arguments.{option}", option, value, chosen.program)
    for limit in chosen.limits:
        if limit not in workload.limits:
            raise ValueError(
                f"{key}.limits.{limit}: not a limit of {chosen.program}; limits are "
                f"{', '.join(workload.limits) or '(none)'}"
            )
    for option in workload.required():
        if option not in matrix and option not in arguments:
            raise ValueError(
                f"{key}.matrix: nothing says which {option} a cell has; make {option!r} a factor, "
                f"or write {key}.arguments.{option}"
            )
    count = math.prod(len(levels) for levels in matrix.values())
    if count > MAX_CELLS:
        raise ValueError(
            f"{key}.matrix: {count} cells; a boot runs every one of them, and more than "
            f"{MAX_CELLS} are never measured: leave levels out"
        )


def _require_distinct(key: str, levels: Sequence[Level], parameter: Parameter) -> None:
    for one, other in itertools.combinations(levels, 2):
        if parameter.meaning(one) == parameter.meaning(other):
            raise ValueError(
                f"{key}: a level is listed twice in {levels}"
                if one == other
                else f"{key}: {one!r} and {other!r} are the same level; keep one"
            )


def _check_room(experiment: Experiment, key: str, chosen: Chosen) -> None:
    """Every guest has the CPUs that workers are pinned to, and memory for the largest cell."""
    needed = chosen.memory_bytes
    for name, arm in experiment.arms.items():
        of_arm = f"arms.{name}" if arm.vcpus is not None else "guest"
        vcpus = experiment.vcpus(name)
        for parameter, cpu in chosen.named_cpus.items():
            if isinstance(vcpus, int) and cpu >= vcpus:
                raise ValueError(
                    f"{key}.{chosen.key_of(parameter)}: CPU {cpu} is none of the guest's, which "
                    f"has {vcpus} ({of_arm}.vcpus), numbered from 0"
                )
        whose, memory = _memory(experiment, name)
        if needed > parse_size_bytes(memory):
            expression = chosen.declaration.memory
            assert expression is not None
            raise ValueError(
                f"{whose}: {memory} is less than the {needed / 2**20:.0f} MiB of the largest cell "
                f"of {key} ({expression.text}); raise it, or lower "
                f"{', '.join(sorted(expression.names))}"
            )


def _check_pages(experiment: Experiment) -> None:
    """What large pages cost by themselves leaves every guest some memory."""
    spent = experiment.arch.port_pages * (experiment.page_kib or 0) * 1024
    for name in experiment.arms:
        whose, memory = _memory(experiment, name)
        if spent > parse_size_bytes(memory) / 2:
            raise ValueError(
                f"{whose}: {memory} is too little with pages of {experiment.page_kib} KiB: the "
                f"buffers of its ports alone take {spent / 2**20:.0f} MiB, a page each; give it "
                f"{math.ceil(2 * spent / 2**30)}G, or ask for smaller pages (kernel.page_size)"
            )


def _memory(experiment: Experiment, arm: str) -> tuple[str, str]:
    """Which key says what memory guests of an arm have, and what it says."""
    own = experiment.arms[arm].memory
    return ("guest.memory", experiment.guest.memory) if own is None else (f"arms.{arm}.memory", own)


def _check_protocols(experiment: Experiment) -> None:
    for name, protocol in experiment.protocols.items():
        _require_known(f"protocols.{name}.arms", protocol.arms or (), "arm", experiment.arms)
        if protocol.mechanism and experiment.mechanism is None:
            raise ValueError(
                f"protocols.{name}.mechanism: {', '.join(protocol.mechanism)}: the experiment has "
                "no key mechanism; say there what is traced"
            )
        for key, regimes in (
            ("mechanism", protocol.mechanism or ()),
            ("duration_s", protocol.duration_s),
        ):
            _require_known(f"protocols.{name}.{key}", regimes, "regime", experiment.regimes)


def _require_known(key: str, names: Iterable[str], what: str, known: Iterable[str]) -> None:
    strange = [name for name in names if name not in known]
    if strange:
        raise ValueError(
            f"{key}: {', '.join(strange)}: no such {what}; {what}s are {', '.join(known)}"
        )


def _check_times(experiment: Experiment, cells: int) -> None:
    """Times that make sense together."""
    boots = len(experiment.booted_arms())
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


def _check_mechanism(experiment: Experiment) -> None:
    traced = experiment.mechanism
    if traced is None:
        return
    _require_known("mechanism.regimes", traced.regimes, "regime", experiment.regimes)
    matrix = _matrix_of(experiment, "mechanism", traced.workload)
    _check_levels("mechanism.cells", traced.cells, matrix)
    traced.probes_of(experiment.workloads[experiment.named(traced.workload)].declaration)


def _check_references(experiment: Experiment) -> None:
    """What names an arm, a workload or a cell names one that there is."""
    claims, mail, arms = experiment.claims, experiment.mail, experiment.arms
    if claims:
        if claims.arm not in arms or claims.arm == experiment.baseline:
            raise ValueError(
                f"claims.arm: {claims.arm!r} is not an arm beside the baseline; arms are "
                f"{', '.join(arms)}"
            )
        _matrix_of(experiment, "claims", claims.workload)
    patched = [name for name, arm in arms.items() if arm.patches]
    if mail and (mail.arm == experiment.baseline or mail.arm not in patched):
        raise ValueError(
            f"mail.arm: {mail.arm!r} is not an arm with patches beside the baseline; arms with "
            f"patches are {', '.join(patched) or '(none)'}"
        )
    for number, control in enumerate(experiment.negative_controls):
        key = f"negative_controls.{number}"
        _check_levels(f"{key}.cells", control.cells, _matrix_of(experiment, key, control.workload))


def _matrix_of(experiment: Experiment, key: str, workload: str | None) -> Matrix:
    name = experiment.named(workload)
    _require_known(f"{key}.workload", [name], "workload", experiment.workloads)
    return experiment.workloads[name].matrix


def _check_levels(key: str, cells: Matrix, matrix: Matrix) -> None:
    for factor, levels in cells.items():
        if factor not in matrix:
            raise ValueError(
                f"{key}.{factor}: not a factor of the matrix, which has {', '.join(matrix)}"
            )
        for level in levels:
            # 1 == True in Python, and is another level all the same.
            if (type(level), level) not in [(type(x), x) for x in matrix[factor]]:
                raise ValueError(
                    f"{key}.{factor}: {level!r} is not a level of the matrix, which has "
                    f"{', '.join(map(str, matrix[factor]))}"
                )
