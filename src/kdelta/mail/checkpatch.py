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
class Checked:
    """What checkpatch says of one mail.

    Attributes:
        name: the mail's file name.
        errors: things to mend.
        warnings: things to look at.
        checks: matters of taste, which `--strict` tells of.
        output: every word of it.
        finished: whether it counted; otherwise the output says why not.
    """

    name: str
    errors: int
    warnings: int
    checks: int
    output: str
    finished: bool


@dataclass(frozen=True)
class Checkpatch:
    """What checkpatch says of a series; without `mails`, `why_not` says why it did not run."""

    mails: tuple[Checked, ...] = ()
    why_not: str = ""

    @property
    def errors(self) -> int:
        """Errors of all mails; a mail that could not be checked to the end is one."""
        return sum(mail.errors + (not mail.finished) for mail in self.mails)

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        if self.why_not:
            return f"checkpatch: not run: {self.why_not}"
        counts = (
            f"{self.errors} errors",
            f"{sum(mail.warnings for mail in self.mails)} warnings",
            f"{sum(mail.checks for mail in self.mails)} checks",
        )
        return f"checkpatch --strict: {', '.join(counts)} in {len(self.mails)} patches"

    @property
    def text(self) -> str:
        """The file that is kept: the summary, then what was said of each mail."""
        parts = [f"== {mail.name} ==\n\n{mail.output.strip()}\n" for mail in self.mails]
        return "\n".join([f"{self.summary}\n", *parts])


def run_checkpatch(tree: Path, patches: Sequence[Path]) -> Checkpatch:
    """Run the tree's own `checkpatch.pl --strict` over patches.

    Args:
        tree: the kernel tree that they are for; only read.
        patches: the mails, without the cover letter, which is no patch.
    """
    script = tree / SCRIPT
    if not script.is_file():
        return Checkpatch(why_not=f"this kernel source has no {SCRIPT}")
    perl = shutil.which("perl")
    if perl is None:
        return Checkpatch(why_not="perl is not installed")
    with folder_beside(tree) as folder:
        return Checkpatch(
            tuple(_run(perl, script.resolve(), folder, patch.resolve()) for patch in patches)
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


def _run(perl: str, script: Path, folder: Path, patch: Path) -> Checked:
    tree = script.parents[1]
    done = subprocess.run(
        [perl, str(script), f"--root={tree}", "--strict", "--color=never", str(patch)],
        cwd=folder,
        # Its Python scripts must leave nothing in the tree; no settings of the user count.
        env=clean_environment({"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace").replace(f"{patch.parent}/", "")
    total = _TOTAL.search(output)
    if total is None:
        said = output or f"checkpatch ended with status {done.returncode} and no output"
        return Checked(patch.name, 0, 0, 0, said, finished=False)
    errors, warnings, checks = (int(count or 0) for count in total.groups())
    return Checked(patch.name, errors, warnings, checks, output, finished=True)
