# SPDX-License-Identifier: GPL-2.0-only
"""Which modules of the package a module needs: what a result of it depends on."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

# Ten times as quick as parsing, which would be felt: the workflow's every job does it.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(kdelta[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    r"|import[ \t]+(kdelta[\w.]*))",
    re.MULTILINE,
)
_NAME = re.compile(r"\w+")


def closure(modules: Iterable[str]) -> list[Path]:
    """Files of modules of the package and of all that they import of it, directly or not.

    Imports inside of functions count too.

    Args:
        modules: names such as `kdelta.analysis.run`.
    """
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        file = _file(name)
        if file is None or name in found:
            continue
        found[name] = file
        todo += [name.rpartition(".")[0], *_imported(file)]
    return sorted(found.values())


def _file(module: str) -> Path | None:
    """The file of a module of the package; None: there is no such module in it."""
    first, *rest = module.split(".")
    if first != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*rest)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@functools.cache
def _imported(file: Path) -> tuple[str, ...]:
    """What a file imports of the package by full name; names in a module may be modules."""
    names: list[str] = []
    for module, listed, bare in _IMPORT.findall(file.read_text(encoding="utf-8")):
        names += [module or bare, *(f"{module}.{name}" for name in _NAME.findall(listed))]
    return tuple(names)
