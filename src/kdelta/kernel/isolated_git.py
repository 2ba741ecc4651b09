# SPDX-License-Identifier: GPL-2.0-only
"""Git as it is everywhere: no settings of the user, the system or a repository around us."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.process import clean_environment

# Bytes as they are: neither line ends nor keywords are converted.
RAW_ATTRIBUTES = "* -text -ident -filter -working-tree-encoding\n"
# Whoever commits, unless a caller says who: so that equal contents give equal commits.
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "kdelta"),
        ("EMAIL", "kdelta@example.org"),
        ("DATE", "1970-01-01T00:00:00Z"),
    )
}


def run_git(
    arguments: Sequence[str],
    folder: Path,
    extra: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder, whatever comes of it.

    Args:
        arguments: behind ``git``.
        folder: to run it in; no repository above it counts.
        extra: further environment, such as whose a commit is.
        stdin: its standard input.

    Raises:
        KdeltaError: git is not installed.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment(folder, extra),
            input=stdin,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise KdeltaError("git is not installed; patches cannot be read without it") from None


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment that git gets in a folder, where nothing around it may count."""
    isolation = {
        **_NOBODY,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
        "GIT_TERMINAL_PROMPT": "0",
        # Attributes and ignored names of the user lie there, too.
        "HOME": "/nonexistent",
    }
    return clean_environment({**isolation, **(extra or {})})


def git(
    arguments: Sequence[str],
    folder: Path,
    extra: Mapping[str, str] | None = None,
    stdin: bytes = b"",
) -> bytes:
    """What git prints, if it succeeds; arguments as for `run_git`.

    Raises:
        KdeltaError: it does not, or is not installed.
    """
    done = run_git(arguments, folder, extra, stdin)
    if done.returncode != 0:
        raise KdeltaError(f"{folder}: git {' '.join(arguments[:2])} failed: {said(done)}")
    return done.stdout


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """What git said of a failure, on one line, without its hints."""
    text = (done.stderr or done.stdout).decode("utf-8", "replace")
    lines = (line.strip() for line in text.splitlines())
    return "; ".join(
        line for line in lines if line and not line.startswith(("hint:", "Patch failed at"))
    )


def init(folder: Path, *, bare: bool = False) -> None:
    """Make a folder a repository that takes files as they are."""
    kind = ["--bare"] if bare else []
    branch = ["-c", "init.defaultBranch=main"]
    git([*branch, "init", "--quiet", "--template=", *kind, "."], folder)
    info = (folder if bare else folder / ".git") / "info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "attributes").write_text(RAW_ATTRIBUTES)


@contextmanager
def scratch_repository() -> Iterator[Path]:
    """A temporary folder that is an empty repository."""
    with tempfile.TemporaryDirectory(prefix="kdelta-git-") as name:
        folder = Path(name)
        init(folder)
        yield folder
