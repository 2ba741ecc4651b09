# SPDX-License-Identifier: GPL-2.0-only
"""What programs print, as values: the formats, and output that is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.workload.declaration import Reader
from kdelta.workload.readers import (
    as_number,
    lookup,
    lookup_all,
    read_outputs,
)


def read_output(
    reader: Reader, output: Any, wanted: dict[str, str], script: Path | None = None
) -> dict[str, Any] | str:
    """What is found in one output, or why it was not understood."""
    columns, wrong = read_outputs(reader, [output], wanted, script)
    found = {name: value for name, (value,) in columns.items() if value is not None}
    return wrong.get(0, found)


FIO = {"jobs": [{"read": {"bw": 12, "lat": {"p99.9": 7}}}], "p99": {"9": "not this one"}}
KTAP = """\
KTAP version 1
1..2
ok 1 writers=1 readers=1 # 812.5 MiB/s, mean 12.5
    ok 1 nested # 99.0 MiB/s
ok 2 writers=2 readers=1 # 900.1 MiB/s
"""
TABLE = """\
# a remark
name, ops, seconds
one, 5, 0.5
two, 1200, 2.5
"""

CASES: list[tuple[Reader, Any, dict[str, str], dict[str, Any]]] = [
    ("json", json.dumps(FIO), {"bw": "jobs.0.read.bw"}, {"bw": 12}),
    ("json", FIO, {"tail": "jobs.0.read.lat.p99.9"}, {"tail": 7}),
    ("json", "a greeting\n" + json.dumps(FIO), {"bw": "jobs.0.read.bw"}, {"bw": 12}),
    ("regex", "Time: 1.5\nTime: 2.5\n", {"t": "^Time: ([0-9.]+)"}, {"t": "2.5"}),
    ("regex", "x 12 usecs/op y", {"t": "[0-9]+ usecs"}, {"t": "12 usecs"}),
    (
        "key-value",
        "ops: 12\nrate = 3.5 MB/s\n",
        {"o": "ops", "r": "rate"},
        {"o": "12", "r": "3.5 MB/s"},
    ),
    ("key-value", "ops=12 rate=3", {"o": "ops", "r": "rate"}, {"o": "12", "r": "3"}),
    ("csv", TABLE, {"ops": "ops", "s": "seconds"}, {"ops": "1200", "s": "2.5"}),
    ("ktap", KTAP, {"rate": "([0-9.]+) MiB/s"}, {"rate": "900.1"}),
    ("nothing", "whatever", {}, {}),
]


@pytest.mark.parametrize(("reader", "output", "wanted", "found"), CASES)
def test_what_is_read(
    reader: Reader, output: Any, wanted: dict[str, str], found: dict[str, Any]
) -> None:
    assert read_output(reader, output, wanted) == found


@pytest.mark.parametrize(
    ("reader", "output", "said"),
    [
        ("json", "no document", "holds no JSON document"),
        ("json", "{}", "holds none of a.b"),
        ("regex", "", "holds none of"),
        ("csv", "", "holds no table"),
        ("ktap", "not ok 1 it broke\nok 2 fine", "not ok: it broke"),
        ("ktap", "hello", "holds no KTAP results"),
    ],
)
def test_output_that_is_another_one(reader: Reader, output: str, said: str) -> None:
    assert said in read_output(reader, output, {"value": "a.b"})


def test_a_value_that_is_only_sometimes_there() -> None:
    assert read_output("json", {"a": 1, "b": None}, {"a": "a", "b": "b", "c": "c"}) == {"a": 1}


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "parse.py"
    script.write_text(
        "def parse(text):\n    return {'words': len(text.split()), 'deep': {'a': 1}}\n"
    )
    wanted = {"n": "words", "a": "deep.a"}
    assert read_output("script", "one two", wanted, script) == {"n": 2, "a": 1}
    script.write_text("def parse(text):\n    return text.split()[9]\n")
    why = "parse.py: IndexError: list index out of range"
    assert read_output("script", "one two", wanted, script) == why


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3.5 MB/s", 3.5),
        ("about -1,234,567.5", -1234567.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("", None),
    ],
)
def test_numbers_in_words(text: str, number: float | None) -> None:
    assert as_number(text) == number


DOCUMENTS = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab.", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
PATHS = st.text("ab.019")


@given(DOCUMENTS, PATHS)
def test_no_path_fails(document: Any, path: str) -> None:
    lookup(document, path)


@given(st.lists(DOCUMENTS, max_size=5), st.lists(PATHS, max_size=3))
def test_many_documents_are_each_by_itself(documents: list[Any], paths: list[str]) -> None:
    """Those that have the same keys are looked into together."""
    found = lookup_all(documents, paths)
    assert found == {path: [lookup(one, path) for one in documents] for path in paths}


def test_outputs_that_are_not_understood_leave_the_others_alone() -> None:
    outputs = [{"a": {"b": 1}}, "no document", {"c": 2}, '{"a": {"b": 3}}']
    columns, wrong = read_outputs("json", outputs, {"value": "a.b"})
    assert columns == {"value": [1, None, None, 3]}
    assert wrong == {
        1: "the output holds no JSON document",
        2: "the output holds none of a.b",
    }
