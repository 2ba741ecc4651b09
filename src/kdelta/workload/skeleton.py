# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta new workload NAME`: a folder to begin with, whose test passes."""

from __future__ import annotations

import re
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.workload.folder import FOLDER

_DECLARATION = """\
# What docs/workloads.md describes. Replace what is here, what the program prints in
# example-output.txt, and in the test beside it what that means.
title: "{name}: say what it does"
summary: One or two sentences for the report.

parameters:
  items: {{type: count, maximum: 1000000, default: 100000, title: lines}}

program:
  package: coreutils
  command: sort
command: ["/bin/sh", -c, "seq {{items}} | {{program}} --random-sort | wc --lines"]

output: regex
metrics:
  lines: {{read: "^([0-9]+)$", title: Lines, unit: lines, better: higher, shown: detail}}
  elapsed_s: {{title: Time, unit: s, better: lower, primary: true}}
checks:
  - {{rule: complete, value: lines - items, equals: 0, detail: "{{lines:.0f}} lines came out"}}
"""

_EXAMPLE = "100000\n"

_TEST = '''\
# SPDX-License-Identifier: GPL-2.0-only
"""What {name} prints is understood; example-output.txt was printed by it."""

from pathlib import Path

from kdelta.workload.folder import load_workload
from kdelta.workload.samples import broken_checks, values_of

HERE = Path(__file__).parent


def test_the_example_is_understood():
    workload = load_workload("{name}", HERE.parents[1])
    cell = {{"items": 100000}}
    values = values_of(workload, (HERE / "example-output.txt").read_text(), cell, elapsed_s=0.5)
    assert values == {{"lines": 100000.0, "elapsed_s": 0.5}}
    assert list(broken_checks(workload, values, cell, {{}})) == []
'''


def new_workload(name: str, root: Path) -> list[Path]:
    """Write the folder of a new workload.

    Args:
        name: of the workload: lower-case letters, digits and dashes.
        root: the project's root.

    Returns:
        The files, in the order to be read.

    Raises:
        KdeltaError: the name cannot be one, or there is such a folder.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", name):
        raise KdeltaError(f"{name!r}: should be lower-case letters, digits and dashes")
    folder = root / FOLDER / name
    if folder.exists():
        raise KdeltaError(f"{folder}: exists already; choose another name")
    folder.mkdir(parents=True)
    files = {
        "workload.yaml": _DECLARATION.format(name=name),
        "example-output.txt": _EXAMPLE,
        f"test_{name.replace('-', '_')}.py": _TEST.format(name=name),
    }
    for file, text in files.items():
        (folder / file).write_text(text)
    return [folder / file for file in files]
