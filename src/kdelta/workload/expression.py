# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic that a workload declares: values made of other values, and what has to hold of them.

`writes * write_size - bytes_written` is written as in Python, with names of values, numbers,
arithmetic, comparisons, `and`, `or`, `not`, and the functions min, max and abs.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
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
        return cls(text, frozenset(names - _FUNCTIONS.keys()), compile(tree, text, "eval"))

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
