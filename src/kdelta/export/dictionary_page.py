# SPDX-License-Identifier: GPL-2.0-only
"""docs/data-dictionary.md: `python -m kdelta.export.dictionary_page > docs/data-dictionary.md`."""

from __future__ import annotations

import textwrap

from kdelta.schema import FACTOR, PARAMETER, RUN_COLUMNS, TABLES, VALUE, Column

_HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-only -->
<!-- Made by `python -m kdelta.export.dictionary_page`; edit src/kdelta/schema.py. -->
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
