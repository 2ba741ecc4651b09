# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of shipped files share: the checkout, its files, the lock."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]


def read(path: Path) -> str:
    """A file's text; what is not UTF-8 shows as replacement characters."""
    return path.read_text(encoding="utf-8", errors="replace")


@cache
def shipped() -> tuple[Path, ...]:
    """Every file that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


@cache
def lock_lines() -> tuple[str, ...]:
    """The requirements of requirements.lock, each on one line with its hashes."""
    logical = read(ROOT / "requirements.lock").replace("\\\n", " ").splitlines()
    return tuple(line.strip() for line in logical if line.strip() and not line.startswith("#"))


def locked(python: str) -> list[Requirement]:
    """What is installed on that Python, for example ``3.13``."""
    requirements = [Requirement(re.split(r"\s+--hash=", line)[0]) for line in lock_lines()]
    environment = {"python_version": python, "python_full_version": f"{python}.5"}
    return [r for r in requirements if r.marker is None or r.marker.evaluate(environment)]
