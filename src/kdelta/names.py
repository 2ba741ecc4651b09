# SPDX-License-Identifier: GPL-2.0-only
"""Names that an experiment file gives, and those that our own files and folders have already.

Names become names of files and folders (results/README.md). Every file of ours has an extension
that begins with a letter, and a name has dots only between digits (`linux-6.12`): the two never
meet. What is left are the names below. All names are lower-case, so that they stay apart where a
file system takes `A` for `a`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

CONTROL_ARM = "control"

Kind = Literal["name", "arms", "regimes", "protocols", "workloads"]

RESERVED: dict[Kind, dict[str, str]] = {
    "name": {
        "reference": "results/reference/ holds the runs that ship with the project",
        "from-reference": "results/from-reference/ is made from the runs that ship",
    },
    "arms": {
        CONTROL_ARM: "this name is kept for the A/A arm",
        "schedule": "a block's schedule.json lies beside its arms' files",
        "host": "a block's host.json lies beside its arms' files",
        "attempts": "a block's attempts.log lies beside its arms' files",
    },
    "regimes": {},
    "protocols": {
        "kernels": "results/<name>/kernels/ holds the kernels of all protocols",
        "programs": "results/<name>/programs/ holds what guests run, of all protocols",
    },
    # Folders of a run.
    "workloads": dict.fromkeys(
        ("raw", "mechanism", "tables", "report", "figures", "exports"),
        "a run's folder has one of this name already",
    ),
}
"""The key of the experiment file -> the names that it may not give, with the reason."""

_DOT = re.compile(r"(?<![0-9])\.|\.(?![0-9])")


def _checked_name(text: str) -> str:
    if _DOT.search(text):
        raise ValueError(
            "should have dots only between digits, as linux-6.12 does; write a dash instead of a "
            f"dot, found {text!r}"
        )
    return text


Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64),
    AfterValidator(_checked_name),
]


def check_name(kind: Kind, name: str) -> None:
    """Refuse a name that a file or folder of ours has.

    Raises:
        ValueError: naming the key, the name and the reason.
    """
    reason = RESERVED[kind].get(name)
    if reason is not None:
        key = f"name: {name!r}" if kind == "name" else f"{kind}.{name}"
        what = "experiment" if kind == "name" else kind.removesuffix("s")
        raise ValueError(f"{key}: {reason}; rename the {what}")
