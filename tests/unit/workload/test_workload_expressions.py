# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic in workload.yaml: what it is worth, and what it cannot do."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.workload.expression import Expression

VALUES: dict[str, Any] = {"writes": 10, "write_size": 4096, "nothing": None, "zero": 0, "word": "a"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("writes * write_size", 40960),
        ("-writes ** 2 + 1", -99),
        ("min(writes, 3) / max(zero, 2)", 1.5),
        ("abs(zero - writes)", 10),
        ("0 <= zero <= writes and not zero", True),
        ("writes > 10 or write_size == 4096", True),
        ("7 // 2 % 2", 1),
    ],
)
def test_values(text: str, value: float) -> None:
    assert Expression.of(text).value(VALUES) == value


@pytest.mark.parametrize("text", ["writes / zero", "nothing + 1", "missing", "word * 2.5", "word"])
def test_what_is_not_defined_is_not_a_number(text: str) -> None:
    assert math.isnan(Expression.of(text).value(VALUES))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "writes +",
        "writes.real",
        "writes[0]",
        "__import__('os')",
        "(lambda: 1)()",
        "[x for x in y]",
        "print(writes)",
        "min.__class__",
        "a if b else c",
        "f'{writes}'",
        "writes := 3",
    ],
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"expression"):
        Expression.of(text)


def test_names_are_those_of_values() -> None:
    assert Expression.of("max(writes, 2) - gap_ns").names == {"writes", "gap_ns"}


@given(a=st.integers(-1000, 1000), b=st.integers(-1000, 1000), c=st.integers(1, 1000))
def test_it_is_the_arithmetic_of_python(a: int, b: int, c: int) -> None:
    found = Expression.of("a * b - a / c + b % c").value({"a": a, "b": b, "c": c})
    assert found == a * b - a / c + b % c


ONE = st.none() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["a", True])


@given(
    st.sampled_from(
        ["a / b", "a * b - 1", "0 <= a <= b", "not a or b", "max(a, b) ** 2", "a", "7 // 2"]
    ),
    st.lists(st.tuples(ONE, ONE), max_size=6),
    st.booleans(),
)
def test_many_at_once_are_each_by_itself(text: str, rows: list[tuple[Any, Any]], b: bool) -> None:
    columns = {"a": [row[0] for row in rows]} | ({"b": [row[1] for row in rows]} if b else {})
    expression = Expression.of(text)
    each = [
        expression.value({name: column[place] for name, column in columns.items()})
        for place in range(len(rows))
    ]
    assert list(map(repr, expression.values(columns, len(rows)))) == list(map(repr, each))
