# SPDX-License-Identifier: GPL-2.0-only
"""Looking up options in a kernel tree's Kconfig files, for hints in messages.

This reads what people would read; it does not evaluate anything. The kernel's
own tools decide, and this says where to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ENTRY = re.compile(r"^(?:menu)?config[ \t]+(\w+)[ \t]*$")
_LISTED = 4  # more selectors or dependencies than this help nobody


@dataclass
class Definition:
    """Where an option is defined, what it depends on, what selects it."""

    places: list[str] = field(default_factory=list)
    depends: list[str] = field(default_factory=list)
    selected_by: list[str] = field(default_factory=list)


def find_definitions(
    files: Iterable[tuple[str, str]], names: Iterable[str]
) -> dict[str, Definition]:
    """Look for options in Kconfig text.

    Args:
        files: (name, text) of Kconfig files.
        names: options without ``CONFIG_``.
    """
    found = {name: Definition() for name in names}
    for file, text in files:
        current = ""
        for number, line in enumerate(text.splitlines(), start=1):
            if (entry := _ENTRY.match(line)) is not None:
                current = entry[1]
                if current in found:
                    found[current].places.append(f"{file}:{number}")
                continue
            words = line.split()
            if len(words) > 2 and words[:2] == ["depends", "on"] and current in found:
                found[current].depends.append(" ".join(words[2:]))
            elif len(words) > 1 and words[0] == "select" and words[1] in found:
                found[words[1]].selected_by.append(current)
            elif words and words[0] in ("menu", "choice", "if", "endif", "endmenu", "endchoice"):
                current = ""
    return found


def hint(definition: Definition, asked: str) -> str:
    """Why an option may not have taken, in one clause."""
    if not definition.places:
        return "this kernel has no such option (a spelling mistake, or renamed or removed)"
    parts = [f"defined at {definition.places[0]}"]
    if asked == "n":
        if definition.selected_by:
            parts.append(f"selected by {_some(definition.selected_by)}")
        parts.append("it may be on by default without a question; CONFIG_EXPERT=y asks some more")
    elif definition.depends:
        parts.append(f"depends on {_some(definition.depends)}")
    else:
        parts.append("depends on the menu around it, or is one of a choice")
    return "; ".join(parts)


def _some(items: list[str]) -> str:
    unique = list(dict.fromkeys(item for item in items if item))
    more = f" and {len(unique) - _LISTED} more" if len(unique) > _LISTED else ""
    return ", ".join(unique[:_LISTED]) + more


def hints(tree: Path, asked: Mapping[str, str], source: str) -> dict[str, str]:
    """A hint for each option that did not take.

    Args:
        tree: the kernel tree whose Kconfig files are read.
        asked: option, with ``CONFIG_``, -> the value asked for.
        source: the architecture's folder in the tree.
    """
    bare = {name: name.removeprefix("CONFIG_") for name in asked}
    found = find_definitions(_kconfig_files(tree, source), bare.values())
    return {name: hint(found[bare[name]], value) for name, value in asked.items()}


def _kconfig_files(tree: Path, source: str) -> Iterable[tuple[str, str]]:
    # Other architectures define options of the same names.
    for file in sorted(tree.rglob("Kconfig*")):
        name = str(file.relative_to(tree))
        other = name.startswith("arch/") and name.count("/") > 1
        if file.is_file() and not (other and not name.startswith(f"{source}/")):
            yield name, file.read_text(errors="replace")
