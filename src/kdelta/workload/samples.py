# SPDX-License-Identifier: GPL-2.0-only
"""From a sample's output to its values, and to what is wrong with them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdelta.workload.declaration import ELAPSED, Check, Workload
from kdelta.workload.parameters import Level
from kdelta.workload.readers import ReadError, as_number, read_outputs

Values = dict[str, Any]

_PLAIN: dict[str, type] = {"number": float, "integer": int, "text": str, "flag": bool}
"""Of a value's type, the one in Python."""


@dataclass(frozen=True)
class Broken:
    """A check that does not hold of a sample.

    Attributes:
        rule: its name.
        value: what was looked at; None where it is not defined.
        limit: the bound.
        detail: in words.
    """

    rule: str
    value: float | None
    limit: float
    detail: str


@dataclass(frozen=True)
class Understood:
    """What the outputs of many samples say.

    Attributes:
        values: name -> one value per sample, in its type: those read, and those made of them. None
            where a sample lacks it, and in every column where it was not understood.
        misread: place of a sample that was not understood -> why.
        reported: parameter -> the value that each program said it used; None where it did not.
        distribution: of each, as it stands in the output; None where there is none.
    """

    values: dict[str, list[Any]]
    misread: dict[int, str]
    reported: dict[str, list[Any]]
    distribution: list[Any]


def understand(
    workload: Workload,
    outputs: Sequence[Any],
    cells: Sequence[Mapping[str, Level]],
    elapsed_s: Sequence[float | None],
    script: Path | None = None,
) -> Understood:
    """All values of many samples: those read, in their types, and those made of them.

    A sample is not understood if its output is not the workload's, a value is not of its type, or
    a metric is missing. Other values may be: an older version of the program may not tell them.

    Args:
        workload: what was run.
        outputs: what it printed.
        cells: parameters that were set.
        elapsed_s: seconds that its command ran, where that was recorded.
        script: of a workload with a script.
    """
    read, reported, misread = _read(workload, outputs, script)
    distribution = read.pop(_DISTRIBUTION, [None] * len(outputs))
    values = {
        name: _column(name, workload.types[name], column, misread) for name, column in read.items()
    }
    known: dict[str, Sequence[Any]] = {
        **_parameters(workload, cells),
        ELAPSED: elapsed_s,
        **values,
    }
    # In the order of the file, so that one may rest on another before it.
    for name, value in workload.recorded.items():
        if value.expression is not None:
            values[name] = value.expression.values(known, len(outputs))
        elif value.read is None and name == ELAPSED:
            values[name] = [*elapsed_s]
        known[name] = values[name]
    for name, metric in workload.metrics.items():
        column = values[name]
        where = f" ({metric.read})" if metric.read not in (None, name) else ""
        if None not in column and all(map(math.isfinite, column)):
            continue
        for place, number in enumerate(column):
            if number is None and name == ELAPSED:
                continue  # of a record that does not tell it
            if number is None or not math.isfinite(number):
                misread.setdefault(place, f"it has no {name}{where}")
    for place in misread:
        for column in values.values():
            column[place] = None
    return Understood(values, misread, reported, distribution)


_DISTRIBUTION = "(distribution)"
"""No name of a value: these are words."""


def _read(
    workload: Workload, outputs: Sequence[Any], script: Path | None
) -> tuple[dict[str, list[Any]], dict[str, list[Any]], dict[int, str]]:
    """Values and the distribution, parameters as the program reports them, and what is misread."""
    wanted = dict(workload.places)
    if workload.distribution is not None and workload.output == "json":
        wanted[_DISTRIBUTION] = workload.distribution.read
    of_parameters = {f"({name})": (name, where) for name, where in workload.reported.items()}
    wanted |= {key: where for key, (_, where) in of_parameters.items()}
    read, misread = read_outputs(workload.output, outputs, wanted, script, needed=workload.places)
    reported = {name: read.pop(key) for key, (name, _) in of_parameters.items()}
    return read, reported, misread


def _parameters(
    workload: Workload, cells: Sequence[Mapping[str, Level]]
) -> dict[str, list[object]]:
    """What the parameters that anything is made of come to in each sample.

    Those of a cell are one mapping, often.
    """
    names = [name for name in workload.parameters if name in workload.used]
    distinct = {id(cell): cell for cell in cells}
    meanings = {key: workload.meanings(cell) for key, cell in distinct.items()}
    rows = [meanings[id(cell)] for cell in cells] if names else []
    return {name: [row[name] for row in rows] for name in names}


def values_of(
    workload: Workload,
    output: Any,
    cell: Mapping[str, Level],
    elapsed_s: float | None = None,
    script: Path | None = None,
) -> Values:
    """All values of one sample that it has; arguments as for `understand`.

    Raises:
        ReadError: it was not understood.
    """
    found = understand(workload, [output], [cell], [elapsed_s], script)
    for why in found.misread.values():
        raise ReadError(why)
    return {name: value for name, (value,) in found.values.items() if value is not None}


def _column(name: str, kind: str, column: list[Any], misread: dict[int, str]) -> list[Any]:
    """Values in their type; where one is none of that, its sample is misread."""
    # Nearly every value of a program that prints JSON, where 5.0 may be written as 5.
    kinds = {*map(type, column)}
    if kind == "number" and kinds <= {float, int}:
        numbers = column if kinds == {float} else [*map(_float, column)]
        if all(map(math.isfinite, numbers)):
            return numbers
    elif kinds == {_PLAIN[kind]} and (kind != "integer" or _fits(min(column), max(column))):
        return column
    typed: list[Any] = []
    for place, told in enumerate(column):
        try:
            typed.append(None if told is None else _typed(name, kind, told))
        except ReadError as error:
            typed.append(None)
            misread.setdefault(place, str(error))
    return typed


def _fits(*numbers: int) -> bool:
    """Whether columns, whose integers have 64 bits, can hold them."""
    return all(-(2**63) <= number < 2**63 for number in numbers)


def _float(number: float) -> float:
    """A number; infinite where it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _typed(name: str, kind: str, found: Any) -> Any:
    """A value in its type.

    Raises:
        ReadError: it is none of that.
    """
    match kind:
        case "text":
            return str(found)
        case "flag":
            if isinstance(found, bool):
                return found
            if str(found).lower() in ("true", "false"):
                return str(found).lower() == "true"
        case _:
            if isinstance(found, int | float) and not isinstance(found, bool):
                number: float | None = found
            else:
                number = as_number(found) if isinstance(found, str) else None
            if number is not None and math.isfinite(exact := _float(number)):
                if kind == "number":
                    return exact
                if exact.is_integer() and _fits(int(number)):
                    return int(number)
    kind = "integer of 64 bits" if kind == "integer" else kind
    raise ReadError(f"{name}: the output says {found!r}, which is no {kind}")


def wrong_parameters(
    workload: Workload,
    reported: Mapping[str, Sequence[Any]],
    cells: Sequence[Mapping[str, Level]],
) -> dict[int, str]:
    """Place of a sample -> the first parameter that its program used another value of, in words.

    One that the output does not tell cannot be compared.

    Args:
        workload: what was run.
        reported: as `understand` gives it.
        cells: parameters that were set.
    """
    asked = dict.fromkeys(name for cell in cells for name in cell)
    found: dict[int, str] = {}
    for name in asked:
        if name not in reported:
            continue
        column, wanted = reported[name], [cell.get(name) for cell in cells]
        if column == wanted and [*map(type, column)] == [*map(type, wanted)]:  # nearly always
            continue
        parameter = workload.parameters[name]
        for place, (level, used) in enumerate(zip(wanted, column, strict=True)):
            if type(used) is type(level) and used == level:
                continue
            if used is None or level is None or place in found:
                continue
            if parameter.reported_true is not None:
                used = used == parameter.reported_true
            elif isinstance(used, str) and parameter.type in ("count", "flag"):
                used = {"true": True, "false": False}.get(used.lower(), as_number(used))
            if isinstance(used, float) and used.is_integer():
                used = int(used)
            if parameter.meaning(used) != parameter.meaning(level):
                found[place] = f"{name}: asked {_text(level)}, the workload used {_text(used)}"
    return found


def _text(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)


def check_all(
    workload: Workload,
    values: Mapping[str, Sequence[Any]],
    cells: Sequence[Mapping[str, Level]],
    limits: Mapping[str, float],
) -> dict[int, list[Broken]]:
    """Place of a sample -> the checks that do not hold of it, the first of each rule.

    Args:
        workload: what was run.
        values: of the samples, as `understand` gives them.
        cells: parameters that were set.
        limits: what the experiment sets; the others are the workload's own.
    """
    bounds = {name: limit.default for name, limit in workload.limits.items()} | dict(limits)
    # A limit may be called as the value that it bounds.
    known: dict[str, Sequence[Any]] = {
        **_parameters(workload, cells),
        **{name: [bound] * len(cells) for name, bound in bounds.items()},
        **values,
    }
    found: dict[int, list[Broken]] = {}
    for check in workload.checks:
        kind, bound = check.bound
        limit = bounds[bound] if isinstance(bound, str) else bound
        holds = _HOLDS[kind]
        found_values = np.array([*map(_float, check.value.values(known, len(cells)))], dtype=float)
        for place in np.flatnonzero(~holds(found_values, limit)).tolist():
            here = {**workload.meanings(cells[place]), **{n: c[place] for n, c in known.items()}}
            here = {name: value for name, value in here.items() if value is not None}
            told = found.get(place, [])
            if check.rule in (one.rule for one in told) or _true(check, here):
                continue
            value = float(found_values[place])
            number = None if math.isnan(value) else value
            found[place] = [*told, Broken(check.rule, number, limit, _detail(check, here))]
    return found


def broken_checks(
    workload: Workload,
    values: Mapping[str, Any],
    cell: Mapping[str, Level],
    limits: Mapping[str, float],
) -> list[Broken]:
    """The same of one sample."""
    columns = {name: [value] for name, value in values.items()}
    return check_all(workload, columns, [cell], limits).get(0, [])


def without_ratio(workload: Workload, value: Any) -> list[str]:
    """Why a sample has no ratio to another, in words; nothing if it has one.

    Args:
        workload: what was run.
        value: the sample's, of the primary metric.
    """
    if float(value or 0) > 0:
        return []
    return [f"{workload.primary} is not above zero: it has no ratio to another"]


# NaN breaks each of them: what cannot be checked does not count.
_HOLDS: dict[str, Callable[[NDArray[np.float64], float], NDArray[np.bool_]]] = {
    "equals": operator.eq,
    "at_least": operator.ge,
    "at_most": operator.le,
    "within": lambda values, limit: np.abs(values) <= limit,
}


def _true(check: Check, known: Mapping[str, Any]) -> bool:
    found = check.unless.value(known) if check.unless else math.nan
    return bool(found) and not math.isnan(found)


def _detail(check: Check, known: Mapping[str, Any]) -> str:
    try:
        return check.detail.format_map(known)
    except (KeyError, ValueError, TypeError):
        return check.detail
