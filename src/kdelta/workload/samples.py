# SPDX-License-Identifier: GPL-2.0-only
"""From a sample's output to its values, and to what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.workload.declaration import ELAPSED, Check, Workload
from kdelta.workload.parameters import Level
from kdelta.workload.readers import ReadError, as_number, read_output

Values = dict[str, Any]

_PLAIN: dict[str, type] = {"number": float, "integer": int, "text": str, "flag": bool}


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


def values_of(
    workload: Workload,
    output: Any,
    cell: Mapping[str, Level],
    elapsed_s: float | None = None,
    script: Path | None = None,
) -> Values:
    """All values of a sample: those read, in their types, and those made of them.

    Args:
        workload: what was run.
        output: what it printed.
        cell: parameters that were set.
        elapsed_s: seconds that its command ran, where that was recorded.
        script: of a workload with a script.

    Raises:
        ReadError: the output is not the workload's, a value is not of its type, or a metric is
            missing. Other values may be: an older version of the program may not tell them.
    """
    recorded, types = workload.recorded, workload.types
    found = read_output(workload.output, output, workload.places, script)
    values: Values = {}
    for name, told in found.items():
        kind = types[name]
        # Nearly every value of a program that prints JSON.
        plain = type(told) is _PLAIN[kind] and (type(told) is not float or math.isfinite(told))
        values[name] = told if plain else _typed(name, kind, told)
    known = {**workload.meanings(cell), ELAPSED: elapsed_s, **values}
    # In the order of the file, so that one may rest on another before it.
    for name, value in recorded.items():
        if value.expression is not None:
            values[name] = known[name] = value.expression.value(known)
        elif value.read is None and name == ELAPSED:
            values[name] = elapsed_s
    for name, metric in workload.metrics.items():
        number = values.get(name)
        if number is None and name == ELAPSED:
            continue  # of a record that does not tell it
        if number is None or not math.isfinite(number):
            where = f" ({metric.read})" if metric.read not in (None, name) else ""
            raise ReadError(f"it has no {name}{where}")
    return values


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
            if number is not None and math.isfinite(number):
                if kind == "number":
                    return float(number)
                if float(number).is_integer():
                    return int(number)
    raise ReadError(f"{name}: the output says {found!r}, which is no {kind}")


def wrong_parameter(
    workload: Workload, output: Any, cell: Mapping[str, Level], script: Path | None = None
) -> str | None:
    """The first parameter that the program used another value of, in words; None if none.

    One that the output does not tell cannot be compared.
    """
    wanted = {name: workload.reported[name] for name in cell if name in workload.reported}
    if not wanted:
        return None
    try:
        told = read_output(workload.output, output, wanted, script)
    except ReadError:
        return None
    for name, asked in cell.items():
        if name not in told:
            continue
        parameter, used = workload.parameters[name], told[name]
        if type(used) is type(asked) and used == asked:
            continue
        if parameter.reported_true is not None:
            used = used == parameter.reported_true
        elif isinstance(used, str) and parameter.type in ("count", "flag"):
            used = {"true": True, "false": False}.get(used.lower(), as_number(used))
        if isinstance(used, float) and used.is_integer():
            used = int(used)
        if parameter.meaning(used) != parameter.meaning(asked):
            return f"{name}: asked {_text(asked)}, the workload used {_text(used)}"
    return None


def _text(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)


def broken_checks(
    workload: Workload,
    values: Mapping[str, Any],
    cell: Mapping[str, Level],
    limits: Mapping[str, float],
) -> Iterator[Broken]:
    """Checks that do not hold of a sample, the first of each rule.

    Args:
        workload: what was run.
        values: the sample's.
        cell: parameters that were set.
        limits: what the experiment sets; the others are the workload's own.
    """
    bounds = {name: limit.default for name, limit in workload.limits.items()} | dict(limits)
    # A limit may be called as the value that it bounds.
    known = {**workload.meanings(cell), **bounds, **values}
    told: set[str] = set()
    for check in workload.checks:
        if check.rule in told:
            continue
        kind, bound = check.bound
        limit = bounds[bound] if isinstance(bound, str) else bound
        value = float(check.value.value(known))
        if _holds(kind, value, limit) or (check.unless and _true(check, known)):
            continue
        told.add(check.rule)
        yield Broken(check.rule, None if math.isnan(value) else value, limit, _detail(check, known))


def without_ratio(workload: Workload, values: Mapping[str, Any]) -> Iterator[str]:
    """Why a sample has no ratio to another, in words; nothing if it has one."""
    if not float(values[workload.primary] or 0) > 0:
        yield f"{workload.primary} is not above zero: it has no ratio to another"


def _holds(kind: str, value: float, limit: float) -> bool:
    # NaN breaks each of them: what cannot be checked does not count.
    match kind:
        case "equals":
            return value == limit
        case "at_least":
            return value >= limit
        case "at_most":
            return value <= limit
    return abs(value) <= limit


def _true(check: Check, known: Mapping[str, Any]) -> bool:
    found = check.unless.value(known) if check.unless else math.nan
    return bool(found) and not math.isnan(found)


def _detail(check: Check, known: Mapping[str, Any]) -> str:
    try:
        return check.detail.format_map(known)
    except (KeyError, ValueError, TypeError):
        return check.detail
