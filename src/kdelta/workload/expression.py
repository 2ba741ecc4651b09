# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic that a workload declares: values made of other values, and what has to hold of them.

`writes * write_size - bytes_written` is written as in Python, with names of values, numbers,
arithmetic, comparisons, `and`, `or`, `not`, and the functions min, max and abs.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_FUNCTIONS = {"min": min, "max": max, "abs": abs}
_REACHABLE: dict[str, Any] = {"__builtins__": {}, **_FUNCTIONS}
_ALLOWED = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name),
    *(ast.Load, ast.Constant, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


@dataclass(frozen=True)
class Expression:
    """One expression, checked and compiled once.

    Attributes:
        text: as it was written.
        names: of the values that it needs.
    """

    text: str
    names: frozenset[str] = field(compare=False)
    _code: CodeType = field(compare=False, repr=False)
    _loop: CodeType = field(compare=False, repr=False)

    @classmethod
    def of(cls, text: str) -> Self:
        """From what a file says.

        Raises:
            ValueError: it is no such expression.
        """
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError as error:
            raise ValueError(
                f"{text!r} is no expression: {error.msg}; write for example writes * write_size"
            ) from None
        for node in ast.walk(tree):
            if not isinstance(node, _ALLOWED):
                raise ValueError(
                    f"{text!r}: {type(node).__name__.lower()} is not for expressions, which have "
                    "names, numbers, + - * / // % **, comparisons, and, or, not, min, max and abs"
                )
            if isinstance(node, ast.Call) and not (
                isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            ):
                raise ValueError(f"{text!r}: the functions of expressions are min, max and abs")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names -= _FUNCTIONS.keys()
        return cls(text, frozenset(names), compile(tree, text, "eval"), _loop(tree, names))

    def value(self, values: Mapping[str, Any]) -> float:
        """What it comes to; NaN where a value is missing, or where it is not defined there.

        Args:
            values: by name; None is a missing one.
        """
        for name in self.names:  # each sample asks several times: any() takes twice as long
            if values.get(name) is None:
                return math.nan
        try:
            # Nothing but the names above can be reached.
            found = eval(self._code, _REACHABLE, values)
        except (ArithmeticError, TypeError):
            return math.nan
        return found if isinstance(found, int | float) else math.nan

    def values(self, columns: Mapping[str, Sequence[Any]], number: int) -> list[float]:
        """What it comes to in each of many samples: `value` of each, in a tenth of the time.

        Args:
            columns: by name, one value per sample.
            number: of samples.
        """
        missing = [None] * number
        used = {name: columns.get(name, missing) for name in sorted(self.names)}
        rows = list(zip(*used.values(), strict=True)) if used else [()] * number
        if not any(None in column for column in used.values()):
            try:
                found: list[float] = eval(self._loop, _REACHABLE, {"_rows": rows})
            except (ArithmeticError, TypeError):
                pass  # in one of them: each by itself then
            else:
                if {*map(type, found)} <= {int, float, bool}:
                    return found
        return [self.value(dict(zip(used, row, strict=True))) for row in rows]

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.of,
            core_schema.str_schema(strict=True),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda found: found.text, return_schema=core_schema.str_schema()
            ),
        )


def _loop(tree: ast.Expression, names: set[str]) -> CodeType:
    """`[a * b for (a, b) in _rows]`, a row having the values of `names`, sorted."""
    row = ast.Tuple([ast.Name(name, ast.Store()) for name in sorted(names)], ast.Store())
    every = ast.comprehension(row, ast.Name("_rows", ast.Load()), ifs=[], is_async=0)
    loop = ast.Expression(ast.ListComp(tree.body, [every]))
    return compile(ast.fix_missing_locations(loop), "loop", "eval")
