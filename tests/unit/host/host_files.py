# SPDX-License-Identifier: GPL-2.0-only
"""A host's /proc and /sys as files."""

from __future__ import annotations

from pathlib import Path

CPU = "sys/devices/system/cpu"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text().strip()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
