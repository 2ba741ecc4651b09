# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own `checkpatch.pl`, run over the mails."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdelta.kernel.process import clean_environment

SCRIPT = "scripts/checkpatch.pl"
_TOTAL = re.compile(r"^total: (\d+) errors, (\d+) warnings, (?:(\d+) checks, )?", re.MULTILINE)


@dataclass(frozen=True)
class Checkpatch:
    """What checkpatch says of a series.

    Attributes:
        summary: one line: the counts, or why it did not run.
        output: every word of it; empty if it did not run.
        errors: things to mend; a mail that could not be checked to the end is one.
        remarks: things to look at, and matters of taste that `--strict` tells of.
    """

    summary: str
    output: str = ""
    errors: int = 0
    remarks: int = 0

    @property
    def text(self) -> str:
        """The file that is kept: the summary, then what was said."""
        return f"{self.summary}\n\n{self.output}\n" if self.output else f"{self.summary}\n"


def run_checkpatch(tree: Path, patches: Sequence[Path]) -> Checkpatch:
    """Run the tree's own `checkpatch.pl --strict` over patches.

    Args:
        tree: the kernel tree that they are for; only read.
        patches: the mails, without the cover letter, which is no patch.
    """
    script = tree.resolve() / SCRIPT
    perl = shutil.which("perl")
    if not script.is_file() or perl is None:
        lacking = "perl is not installed" if perl is None else f"this kernel source has no {SCRIPT}"
        return Checkpatch(f"checkpatch: not run: {lacking}")
    options = [f"--root={tree.resolve()}", "--strict", "--color=never"]
    with folder_beside(tree) as folder:
        done = subprocess.run(
            [perl, str(script), *options, *(str(patch.resolve()) for patch in patches)],
            cwd=folder,
            # Its Python scripts must leave nothing in the tree; no settings of the user count.
            env=clean_environment({"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    output = done.stdout.decode("utf-8", "replace").strip()
    for patch in patches:
        output = output.replace(str(patch.resolve()), patch.name)
    totals = _TOTAL.findall(output)
    errors, warnings, checks = (sum(int(one[n] or 0) for one in totals) for n in range(3))
    summary = f"{errors} errors, {warnings} warnings, {checks} checks in {len(patches)} patches"
    if unfinished := len(patches) - len(totals):
        summary += f"; {unfinished} not checked to the end (status {done.returncode})"
    return Checkpatch(
        f"checkpatch --strict: {summary}", output, errors + unfinished, warnings + checks
    )


@contextmanager
def folder_beside(tree: Path) -> Iterator[Path]:
    """A folder to run checkpatch in, which leaves files where it is run.

    It has links to all that is in the tree's top folder, for the programs that checkpatch calls.

    Args:
        tree: the kernel tree; only read.
    """
    with tempfile.TemporaryDirectory(prefix="kdelta-checkpatch-") as name:
        for entry in tree.resolve().iterdir():
            Path(name, entry.name).symlink_to(entry)
        yield Path(name)
