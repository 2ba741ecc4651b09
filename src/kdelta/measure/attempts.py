# SPDX-License-Identifier: GPL-2.0-only
"""Tries of a block that ended without data: remembered, so that none is repeated silently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.host.facts import job, node_name

Json = dict[str, Any]

NAME = "attempts.log"  # one JSON object a line; *.jsonl are the arms' records


@contextmanager
def remembered(folder: Path, earlier: int) -> Iterator[list[Json]]:
    """Try a block; what keeps it from its end is written down and raised.

    Args:
        folder: the block's.
        earlier: tries that were killed before they could write anything.

    Yields:
        The earlier tries, oldest first, for the block's own record. The file that held
        them is deleted at the end of a try that succeeds.
    """
    path = folder / NAME
    for _ in range(earlier):
        _append(path, "killed")
    with told(folder):
        yield _read(path)
    path.unlink(missing_ok=True)


@contextmanager
def told(folder: Path, when: str = "") -> Iterator[None]:
    """Write down what keeps a block from its end, and raise it.

    Args:
        folder: the block's.
        when: where a try was interrupted, in words.
    """
    path = folder / NAME
    try:
        yield
    except KeyboardInterrupt:
        _append(path, f"interrupted{when and f' {when}'}{_in_job()}")
        raise
    except Exception as error:
        _append(path, (str(error) if isinstance(error, KdeltaError) else repr(error)) + _in_job())
        raise


def _in_job() -> str:
    """The job on a cluster and its node, behind other words; empty where there is none."""
    found = job()
    return f" ({found[0]} job {found[1]} on {node_name()})" if found else ""


def _read(path: Path) -> list[Json]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _append(path: Path, reason: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with path.open("a", encoding="utf-8") as file:
            there = {"node": node} if (node := node_name()) else {}
            entry = {"at": now, "reason": " ".join(reason.split()), **there}
            file.write(json.dumps(entry) + "\n")
    except OSError:
        return  # a full disk: what keeps the block from its end is told anyway
