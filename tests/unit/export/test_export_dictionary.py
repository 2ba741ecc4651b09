# SPDX-License-Identifier: GPL-2.0-only
"""The data dictionary agrees with the code, with the files and with its page."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from export_runs import make_run

from kdelta.export.dictionary import columns_of, page
from kdelta.export.run_folder import RunFolder
from kdelta.schema import BY_PATH, FACTOR, PARAMETER, RESULT_FILES, RULE, TABLES, VALUE
from tests.conftest import CHECKOUT
from tests.unit.analysis.synthetic import edit


@functools.cache
def spoilt() -> RunFolder:
    """A run in which a rule is broken, so that every table has all its columns."""

    def spoil(raw: Path) -> None:
        file = raw / "idle" / "block-002" / "patched.jsonl"
        edit(file, lambda records: records[1].update(stressor_alive=False))

    return make_run(Path(tempfile.mkdtemp()) / "run", spoil=spoil)


@pytest.mark.parametrize("path", RESULT_FILES)
def test_columns_are_those_of_the_files_in_order(path: str) -> None:
    run = spoilt()
    header = list(run.table(path).columns)
    wanted: list[str] = []
    for column in BY_PATH[path].columns:
        rules = [name for name in header if name == "stressor-dead"]
        stands_for = {
            FACTOR: list(run.factors),
            PARAMETER: ["write_size", "pipe_size", "processes", "nonblock", "pin"],
            VALUE: list(run.workload.recorded),
            RULE: rules,
        }
        wanted += stands_for.get(column.name, [column.name])
    assert header == wanted
    found = columns_of(BY_PATH[path], header, run.experiment.matrix, run.workload)
    assert [c.name for c in found] == header


@pytest.mark.parametrize("path", RESULT_FILES)
def test_every_column_says_what_it_is(path: str) -> None:
    table = BY_PATH[path]
    assert len({c.name for c in table.columns}) == len(table.columns)
    assert set(table.key) <= set(table.dtypes)
    for column in table.columns:
        assert column.meaning
        assert not column.meaning.endswith(".")


@pytest.mark.parametrize("path", RESULT_FILES)
def test_the_key_is_one(path: str) -> None:
    run, table = spoilt(), BY_PATH[path]
    frame = run.table(path)
    factors = run.factors if table.has_factors else ()
    assert not frame.duplicated([*table.key, *factors]).any()


def test_the_page_is_the_one_that_is_shipped() -> None:
    shipped = (CHECKOUT / "docs" / "data-dictionary.md").read_text()
    assert shipped == page(), (
        "make it anew: python -m kdelta.export.dictionary > docs/data-dictionary.md"
    )
    rows = re.findall(r"^- `([^`]+)` \((\w+)[,)]", page(), re.MULTILINE)
    assert len(rows) == sum(len(table.columns) for table in TABLES) + 5


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (["regime", "metric"], "cells"),
        ([*(c.name for c in BY_PATH["tables/control.csv"].columns), "surprise"], "surprise"),
    ],
)
def test_a_strange_header(header: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}$"):
        columns_of(BY_PATH["tables/control.csv"], header, {})


def test_pandas_reads_the_types_that_the_dictionary_gives() -> None:
    run = spoilt()
    frame = pd.read_csv(run.path / "samples.csv", dtype_backend="numpy_nullable")
    kinds = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
    for column in BY_PATH["samples.csv"].columns:
        # A column without any value has no type to read.
        if not column.placeholder and frame[column.name].notna().any():
            found = str(frame[column.name].dtype)
            # A float that happens to be whole is read as an integer.
            assert found == kinds[column.type] or (column.type, found) == ("number", "Int64")
