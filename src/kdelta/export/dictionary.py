# SPDX-License-Identifier: GPL-2.0-only
"""The run's CSV files described: datapackage.json for programs, docs/data-dictionary.md for people.

datapackage.json is a Tabular Data Package, version 1
(https://specs.frictionlessdata.io/tabular-data-package/); `unit` is an addition of ours, which the
specification allows. The page is made by
`python -m kdelta.export.dictionary > docs/data-dictionary.md`.
"""

from __future__ import annotations

import csv
import json
import textwrap
from pathlib import Path

from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.export.run_folder import Json, RunFolder
from kdelta.kernel.image import sha256_file
from kdelta.schema import FACTOR, PARAMETER, RULE, RUN_COLUMNS, TABLES, VALUE, Column, Table, Type
from kdelta.workload.declaration import Value, Workload
from kdelta.workload.parameters import Level

FILE = "datapackage.json"
_TYPES: dict[str, Type] = {"integer": "integer", "text": "string", "flag": "boolean"}


def descriptor(run: RunFolder) -> Json:
    """The package: one resource per result file.

    Raises:
        KdeltaError: a file is missing, or has not the columns that this version writes.
    """
    emulated = " Emulated (TCG): not measurements of a kernel." if run.emulated else ""
    return {
        "profile": "tabular-data-package",
        "name": f"{run.experiment.name}-{run.protocol}",
        "id": run.run_id,
        "title": run.experiment.title,
        "description": f"Tables of a kdelta run, protocol {run.protocol}.{emulated}",
        "resources": [_resource(run, table) for table in TABLES],
    }


def write_descriptor(run: RunFolder) -> Path:
    """Writes datapackage.json into the run's folder, which its paths are relative to."""
    text = json.dumps(descriptor(run), indent=1, ensure_ascii=False) + "\n"
    write_atomically(run.path / FILE, text.encode())
    return run.path / FILE


def columns_of(
    table: Table,
    header: list[str],
    factors: dict[str, list[Level]],
    workload: Workload | None = None,
) -> list[Column]:
    """The table's columns as this file has them, the matrix's and the rules' own in place.

    Args:
        table: of the dictionary.
        header: of the file.
        factors: factor -> levels.
        workload: what was run; its parameters and values are columns of samples.csv.

    Raises:
        ValueError: the header is not that of the table; the message is the first name that is
            missing or that nobody knows.
    """
    fixed = {c.name: c for c in table.columns if not c.placeholder}
    known = {**fixed, **{name: _factor(name, levels) for name, levels in factors.items()}}
    if any(column.name == VALUE for column in table.columns) and workload is not None:
        values = {name: _value(name, value) for name, value in workload.recorded.items()}
        fixed |= values
        known = {**_parameters(workload), **known, **values}
    if any(column.name == RULE for column in table.columns):
        for name in header:
            meaning = "samples that break this rule"
            known.setdefault(name, Column(name, "integer", "", meaning))
    wanted = [*fixed, *(factors if table.has_factors else ())]
    strange = [name for name in [*wanted, *header] if name not in header or name not in known]
    if strange:
        raise ValueError(strange[0])
    return [known[name] for name in header]


def _resource(run: RunFolder, table: Table) -> Json:
    path = run.path / table.path
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError:
        raise KdeltaError(f"{path}: no such table; run the analysis first") from None
    try:
        columns = columns_of(table, header, run.experiment.matrix, run.workload)
    except ValueError as name:
        raise KdeltaError(
            f"{path}: column {name}: missing, or not of this version; run the analysis again"
        ) from None
    key = [*table.key, *(run.factors if table.has_factors else ())]
    return {
        "profile": "tabular-data-resource",
        "name": Path(table.path).stem,
        "path": table.path,
        "description": f"A row is {table.row}.",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": path.stat().st_size,
        "hash": f"sha256:{sha256_file(path)}",
        "dialect": {"delimiter": ",", "lineTerminator": "\n", "header": True},
        "schema": {
            "fields": [_field(column) for column in columns],
            "missingValues": [""],
            "primaryKey": key,
        },
    }


def _field(column: Column) -> Json:
    field: Json = {"name": column.name, "type": column.type, "description": column.meaning}
    return field | ({"unit": column.unit} if column.unit else {})


def _value(name: str, value: Value) -> Column:
    kind: Type = _TYPES.get(value.type, "number")
    return Column(name, kind, value.unit, value.meaning or f"{name} of the workload")


def _parameters(workload: Workload) -> dict[str, Column]:
    kinds: dict[str, Type] = {"count": "integer", "flag": "boolean"}
    return {
        name: Column(
            name,
            kinds.get(parameter.type, "string"),
            parameter.unit,
            parameter.title or f"{name} of the workload",
        )
        for name, parameter in workload.parameters.items()
    }


def _factor(name: str, levels: list[Level]) -> Column:
    # bool before int: true is an int in Python.
    kinds: dict[type, Type] = {bool: "boolean", int: "integer"}
    found = {kinds.get(type(level), "string") for level in levels}
    kind: Type = found.pop() if len(found) == 1 else "string"
    return Column(name, kind, "", "level of this factor of the matrix")


_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
<!-- Made by `python -m kdelta.export.dictionary`; edit src/kdelta/schema.py. -->
# Data dictionary

Every column of every CSV file in a run's folder, `results/<experiment>/<protocol>/`, in order.
The rules behind the numbers are in [contracts.md](contracts.md) and
[methodology.md](methodology.md). The same is in `datapackage.json` beside the files (a
[Frictionless](https://specs.frictionlessdata.io/tabular-data-package/) tabular data package),
with the types of the run's own factors:

```python
import pandas as pd

samples = pd.read_csv("results/pipe-prealloc/quick/samples.csv", dtype_backend="numpy_nullable")
```

All files: UTF-8, comma, a header line, `\\n` line ends, 10 significant digits, `true`/`false`,
empty for missing. `<factor>` stands for one column per factor of the experiment's matrix
(flagship: `writers`, `readers`), `<parameter>` for one per parameter of the workload that is the
same in every cell, `<value>` for one per value and metric that `workloads/<name>/workload.yaml`
declares with unit and meaning, and `<rule>` for one per rule that was broken.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for table in TABLES:
        row = _paragraph(f"A row is {table.row}.")
        parts.append(f"## `{table.path}`\n\n{row}\n\n{_rows(table.columns)}")
    what = _paragraph(
        "`kdelta export --format samples`: samples.csv, with what tells runs apart before its "
        "columns, so that files of several runs can be concatenated."
    )
    parts.append(f"## `exports/samples.csv.gz`\n\n{what}\n\n{_rows(RUN_COLUMNS)}")
    return "\n".join(parts)


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _rows(columns: tuple[Column, ...]) -> str:
    return "".join(f"{_paragraph(_row(column), '  ')}\n" for column in columns)


def _row(column: Column) -> str:
    kind = "any" if column.name in (FACTOR, PARAMETER, VALUE) else column.type
    unit = f", {column.unit}" if column.unit else ""
    return f"- `{column.name}` ({kind}{unit}): {column.meaning}"


if __name__ == "__main__":
    print(page(), end="")
