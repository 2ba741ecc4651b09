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

from kdelta.analysis import columns, table_columns
from kdelta.analysis.settings import METRICS
from kdelta.export.datapackage import columns_of
from kdelta.export.dictionary import TABLES
from kdelta.export.dictionary_page import page
from kdelta.export.dictionary_types import FACTOR, RULE, Table
from kdelta.export.run_folder import RunFolder
from kdelta.result_files import RESULT_FILES
from tests.conftest import CHECKOUT
from tests.unit.analysis.synthetic import edit

TYPES = {
    "str": "string",
    "int64": "integer",
    "Int64": "integer",
    "float64": "number",
    "bool": "boolean",
    "boolean": "boolean",
}
DTYPES = {
    "samples.csv": columns.SAMPLE_DTYPES,
    "tables/position.csv": table_columns.POSITION_DTYPES,
    "tables/set_aside.csv": table_columns.SET_ASIDE_DTYPES,
    "tables/pressure.csv": table_columns.PRESSURE_DTYPES,
    "tables/expectations.csv": table_columns.EXPECTATION_DTYPES,
    "tables/claims.csv": table_columns.CLAIM_DTYPES,
    "tables/negative_controls.csv": table_columns.NEGATIVE_CONTROL_DTYPES,
    "tables/mechanism.csv": table_columns.MECHANISM_DTYPES,
}


@functools.cache
def spoilt() -> RunFolder:
    """A run in which a rule is broken, so that every table has all its columns."""

    def spoil(raw: Path) -> None:
        file = raw / "idle" / "block-002" / "patched.jsonl"
        edit(file, lambda records: records[1].update(stressor_alive=False))

    return make_run(Path(tempfile.mkdtemp()) / "run", spoil=spoil)


def fixed(table: Table) -> dict[str, str]:
    return {c.name: c.type for c in table.columns if c.name not in (FACTOR, RULE)}


def test_every_result_file_is_described() -> None:
    assert tuple(TABLES) == RESULT_FILES


@pytest.mark.parametrize("path", DTYPES)
def test_columns_and_types_are_those_of_the_code(path: str) -> None:
    wanted = {name: TYPES[dtype] for name, dtype in DTYPES[path].items()}
    assert list(fixed(TABLES[path]).items()) == list(wanted.items())


@pytest.mark.parametrize("path", [p for p in RESULT_FILES if p not in DTYPES])
def test_types_of_the_delta_tables(path: str) -> None:
    known = columns.TABLE_DTYPES
    for name, kind in fixed(TABLES[path]).items():
        if name in known:
            assert kind == TYPES[known[name]], name


@pytest.mark.parametrize("path", RESULT_FILES)
def test_columns_are_those_of_the_files_in_order(path: str) -> None:
    run = spoilt()
    header = list(run.table(path).columns)
    wanted: list[str] = []
    for column in TABLES[path].columns:
        rules = [name for name in header if name == "stressor-dead"]
        wanted += {FACTOR: list(run.factors), RULE: rules}.get(column.name, [column.name])
    assert header == wanted
    assert [c.name for c in columns_of(TABLES[path], header, run.experiment.matrix)] == header


@pytest.mark.parametrize("path", RESULT_FILES)
def test_every_column_says_what_it_is(path: str) -> None:
    table = TABLES[path]
    assert len({c.name for c in table.columns}) == len(table.columns)
    assert set(table.key) <= set(fixed(table))
    for column in table.columns:
        assert column.meaning
        assert not column.meaning.endswith(".")


@pytest.mark.parametrize("path", RESULT_FILES)
def test_the_key_is_one(path: str) -> None:
    run, table = spoilt(), TABLES[path]
    frame = run.table(path)
    factors = run.factors if any(c.name == FACTOR for c in table.columns) else ()
    assert not frame.duplicated([*table.key, *factors]).any()


def test_units_of_the_metrics() -> None:
    units = {column.name: column.unit for column in TABLES["samples.csv"].columns}
    assert {metric.name: units[metric.name] for metric in METRICS} == {
        metric.name: metric.unit for metric in METRICS
    }


def test_the_page_is_the_one_that_is_shipped() -> None:
    shipped = (CHECKOUT / "docs" / "data-dictionary.md").read_text()
    assert shipped == page(), (
        "make it anew: python -m kdelta.export.dictionary_page > docs/data-dictionary.md"
    )
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", page(), re.MULTILINE)
    assert len(rows) == sum(len(table.columns) for table in TABLES.values()) + 5


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (["regime", "metric"], "cells"),
        ([*(c.name for c in TABLES["tables/control.csv"].columns), "surprise"], "surprise"),
    ],
)
def test_a_strange_header(header: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}$"):
        columns_of(TABLES["tables/control.csv"], header, {})


def test_pandas_reads_the_types_that_the_dictionary_gives() -> None:
    run = spoilt()
    frame = pd.read_csv(run.path / "samples.csv", dtype_backend="numpy_nullable")
    kinds = {"string": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}
    for column in TABLES["samples.csv"].columns:
        # A column without any value has no type to read.
        if column.name != FACTOR and frame[column.name].notna().any():
            found = str(frame[column.name].dtype)
            # A float that happens to be whole is read as an integer.
            assert found == kinds[column.type] or (column.type, found) == ("number", "Int64")
