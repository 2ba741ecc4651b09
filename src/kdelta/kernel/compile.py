# SPDX-License-Identifier: GPL-2.0-only
"""Running make, with progress, and saying what went wrong when it fails."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kdelta.cache import disk_full, says_disk_full
from kdelta.errors import KdeltaError
from kdelta.kernel.objects import is_aggregate
from kdelta.kernel.process import run
from kdelta.kernel.workspace import Workspace
from kdelta.progress import Progress

# A step of Kbuild: two blanks, a short word in capitals, what is made.
_STEP = re.compile(r"^  ([A-Z][A-Z0-9_-]*(?: \[[A-Z]\])?) +(\S+)")
_COMPILES = ("CC", "AS")

# In order of what explains most. A linker's complaint has no "error:".
_ERRORS = (
    re.compile(r"(?:^|: )(?:fatal )?error: .*"),
    re.compile(r": undefined reference to .*|: multiple definition of .*"),
    re.compile(r"^ERROR: .*"),
    re.compile(r"^/bin/sh: .*"),
    re.compile(r"\*\*\* .*"),
)

# Header that a build program misses -> Debian package.
_HEADERS = {"gelf.h": "libelf-dev", "libelf.h": "libelf-dev", "openssl/": "libssl-dev"}


@dataclass(frozen=True)
class Compilation:
    """What a make run did.

    Attributes:
        seconds: its wall time.
        steps: lines that Kbuild printed, one per thing it made.
        objects: objects compiled (or taken from ccache).
        first: it was a workspace's first build, everything from nothing.
    """

    seconds: float
    steps: int
    objects: int
    first: bool


def step_of(line: str) -> tuple[str, str] | None:
    """The kind and target of a line that Kbuild prints per step; None for other lines."""
    match = _STEP.match(line)
    return (match[1], match[2]) if match else None


def first_error(output: str) -> str | None:
    """The line of a build's output that says first what is wrong."""
    lines = output.splitlines()
    for pattern in _ERRORS:
        for line in lines:
            if pattern.search(line):
                return line.strip()
    return None


def failure_message(arm: str, output: str, log: str) -> str:
    """The message for a build that failed.

    Args:
        arm: its name.
        output: the whole output.
        log: where that output is kept.
    """
    error = first_error(output) or "make failed without saying why"
    message = f"arm {arm}: the kernel does not compile:\n  {error}\n"
    for header, package in _HEADERS.items():
        if header in error and "No such file" in error:
            message += f"Install it; on Debian: apt-get install {package}\n"
    return message + f"The whole output is in {log}"


def compile_image(
    make: Sequence[str],
    target: str,
    env: Mapping[str, str],
    workspace: Workspace,
    arm: str,
    log: BinaryIO,
    *,
    jobs: int,
    total: int | None,
    first: bool,
) -> Compilation:
    """Build what is booted, in a workspace.

    Args:
        make: the make command with its constant arguments.
        target: what make is asked for.
        env: its environment.
        workspace: locked, patched and configured.
        arm: its name, for progress and messages.
        log: gets the output.
        jobs: how many compilers at a time.
        total: about how many steps a build from nothing takes.
        first: whether this is one.

    Raises:
        KdeltaError: it failed; the message has the first error and the log's path.
    """
    began = time.monotonic()
    steps = objects = 0
    # An interrupted first build goes on: what it finished counts as done.
    done_before = _count_objects(workspace.obj) if first else 0
    with Progress(
        f"building {arm}", total if first else None, about=True, start=done_before
    ) as progress:

        def see(line: str) -> None:
            nonlocal steps, objects
            step = step_of(line)
            if step is None:
                return
            steps += 1
            if step[0] in _COMPILES and step[1].endswith(".o"):
                objects += 1
            progress.advance()

        result = run(
            [*make, f"-j{jobs}", target], env=env, log=log, on_line=see, on_tick=progress.update
        )
    if result.status != 0:
        output = Path(log.name).read_text(errors="replace")
        if says_disk_full(output):
            raise disk_full(workspace.obj, f"building arm {arm}")
        raise KdeltaError(failure_message(arm, output, log.name))
    return Compilation(
        time.monotonic() - began, done_before + steps, objects, first and done_before == 0
    )


def _count_objects(obj: Path) -> int:
    # Not the build's own programs: configuring has made some of those already.
    return sum(not is_aggregate(str(path.relative_to(obj))) for path in obj.rglob("*.o"))
