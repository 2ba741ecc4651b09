# SPDX-License-Identifier: GPL-2.0-only
"""Hashes of the tables and figures of a run, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import re
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.schema import RESULT_FILES

SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_SHOWN = 5


def result_sums(run: Path) -> dict[str, str]:
    """Path below the run's folder -> sha256, of every table and figure.

    Raises:
        KdeltaError: a table is missing, or there is no figure.
    """
    figures = [p for end in ("svg", "pdf") for p in (run / "figures").glob(f"*.{end}")]
    if not figures:
        raise KdeltaError(f"{run / 'figures'}: no figure here; draw them first")
    names = sorted([*RESULT_FILES, *(p.relative_to(run).as_posix() for p in figures)])
    for name in names:
        if not (run / name).is_file():
            raise KdeltaError(f"{run / name}: no such file; analyse the run first")
    return {name: sha256_file(run / name) for name in names}


def write_sums(sums: dict[str, str]) -> str:
    """The text of a file of sums."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def read_sums(path: Path) -> dict[str, str]:
    """A file of sums.

    Raises:
        KdeltaError: missing, or a line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KdeltaError(f"{path}: cannot be read: {error.strerror}") from None
    matches = [_LINE.fullmatch(line) for line in lines]
    if not all(matches) or not lines:
        raise KdeltaError(f"{path}: not a list of sha256 sums; check it out again")
    return {match[2]: match[1] for match in matches if match}


def without_pdf(sums: dict[str, str]) -> dict[str, str]:
    """What does not depend on the fonts of a machine."""
    return {name: digest for name, digest in sums.items() if not name.endswith(".pdf")}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What differs, a few words for each file; empty if nothing does."""
    words = []
    for name in sorted({*expected, *found}):
        if name not in found:
            words.append(f"{name} is missing")
        elif name not in expected:
            words.append(f"{name} is new")
        elif expected[name] != found[name]:
            words.append(f"{name} differs")
    return words


def in_short(words: list[str]) -> str:
    """The first few of many differences."""
    rest = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
