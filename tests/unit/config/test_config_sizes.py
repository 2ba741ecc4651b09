# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, and the values that pipe_bench's options take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdelta.units import parse_size_bytes
from kdelta.workload.declaration import Workload
from tests.workloads import PIPE_BENCH


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("65536", 65536), ("64K", 65536), ("2048M", 2**31), ("1G", 2**30), (" 1T ", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@given(number=st.integers(1, 10**12), suffix=st.sampled_from("KMGT"))
def test_a_suffix_is_a_power_of_1024(number: int, suffix: str) -> None:
    power = "KMGT".index(suffix) + 1
    assert parse_size_bytes(f"{number}{suffix}") == number * 1024**power


@pytest.mark.parametrize("text", ["", "0", "0K", "K", "-1", "1k", "1KB", "1.5G", "1e3", "9" * 5000])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size_bytes(text)


GOOD: list[tuple[str, list[Any]]] = [
    ("writers", [1, 1000]),
    ("readers", [5]),
    ("write_size", [1, 4096, "64K", "1M", 2**30]),
    ("read_size", ["1024M"]),
    ("pipe_size", [4096, "64K", "1M", 2**28]),
    ("processes", [True, False]),
    ("nonblock", [True, False]),
    ("pin", ["none", "auto", 0, "0-3,8"]),
]
BAD: list[tuple[str, list[Any]]] = [
    ("writers", [0, -1, 1001, True, "2", 10**400]),
    ("write_size", [0, "0K", "2G", "64k", True, -5, 2**30 + 1, "", "1.5K"]),
    ("pipe_size", [0, 1, 2048, 65535, "3M", "512M", False]),
    ("processes", [0, 1, "true"]),
    ("pin", [True, "", "0-", "a", "0,,1", "5-2", "0-1024", 1024]),
    ("threads", [1]),
]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD for v in values])
def test_values_that_pipe_bench_takes(name: str, value: Any) -> None:
    PIPE_BENCH.check_parameter("here", name, value, "pipe_bench")


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD for v in values])
def test_values_that_it_does_not(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^here: "):
        PIPE_BENCH.check_parameter("here", name, value, "pipe_bench")


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("write_size", "64K", 65536, True),
        ("pipe_size", "1M", "1024K", True),
        ("pin", "0-2", "0,1,2", True),
        ("pin", 3, "3", True),
        # Workers take CPUs in their order.
        ("pin", "0,1", "1,0", False),
        ("pin", "auto", "none", False),
        ("writers", 1, 2, False),
    ],
)
def test_values_that_mean_the_same(name: str, one: Any, other: Any, same: bool) -> None:
    meaning = PIPE_BENCH.parameters[name].meaning
    assert (meaning(one) == meaning(other)) == same


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("parameters", "unit"),
        ("parameters", "verdict"),
        ("metrics", "status"),
        ("metrics", "writers"),
        ("values", "regime"),
    ],
)
def test_nothing_that_a_workload_declares_takes_the_place_of_a_column(key: str, name: str) -> None:
    told = PIPE_BENCH.model_dump()
    one = next(iter(told[key].values()))
    told[key][name] = {**one, "primary": False} if key == "metrics" else one
    with pytest.raises(ValidationError, match=f"{key}.{name}: a result table has a column"):
        Workload.model_validate(told, strict=False)
