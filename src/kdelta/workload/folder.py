# SPDX-License-Identifier: GPL-2.0-only
"""The folders of workloads/: finding one, and reading what it declares."""

from __future__ import annotations

import functools
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.workload.declaration import Workload
from kdelta.yaml_file import parse_model, read_yaml

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDER = "workloads"
DECLARATION = "workload.yaml"


def load_workload(name: str, root: Path | None = None) -> Workload:
    """What a workload declares.

    Args:
        name: of the workload.
        root: the project's root; None: this checkout.

    Raises:
        ValueError: there is none of that name; the message says which there are.
        KdeltaError: its workload.yaml is wrong.
    """
    folders = (root or CHECKOUT) / FOLDER
    file = folders / name / DECLARATION
    if not file.is_file():
        known = sorted(path.parent.name for path in folders.glob(f"*/{DECLARATION}"))
        raise ValueError(
            f"there is no workload {name!r} in {folders}; there are "
            f"{', '.join(known) or '(none)'}. `kdelta new workload {name}` makes one"
        )
    stat = file.stat()
    return _load(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _load(file: Path, _mtime_ns: int, _size: int) -> Workload:
    workload = parse_model(Workload, read_yaml(file), file)
    for key, names in (
        ("program.source", [workload.program.source]),
        ("script", [workload.script]),
        ("fragments", workload.fragments),
    ):
        for name in names:
            if name and not (file.parent / name).is_file():
                raise KdeltaError(f"{file}: {key}: no such file: {file.parent / name}")
    return workload
