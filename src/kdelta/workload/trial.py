# SPDX-License-Identifier: GPL-2.0-only
"""One run of a workload on the host: whether its command works and its output is understood."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.source import SourceTree
from kdelta.workload.build import own_program
from kdelta.workload.declaration import Workload
from kdelta.workload.parameters import Level
from kdelta.workload.readers import ReadError
from kdelta.workload.samples import Values, broken_checks, values_of, without_ratio

SECONDS = 0.2
"""That a workload runs whose length is the protocol's."""
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Trial:
    """What one run gave.

    Attributes:
        argv: what was run.
        values: what the output says.
        elapsed_s: seconds that it took, its start included.
        broken: why such a sample would be set aside, a line each.
    """

    argv: list[str]
    values: Values
    elapsed_s: float
    broken: tuple[str, ...]


def try_on_host(
    workload: Workload,
    folder: Path,
    given: Mapping[str, Level],
    limits: Mapping[str, float],
    cache: Path,
    log: Path,
    tree: SourceTree | None = None,
) -> Trial:
    """Run a workload once, as an ordinary program of the host. Its numbers are no measurement.

    Args:
        workload: what is run.
        folder: of the workload.
        given: parameters of the cell that is tried.
        limits: of its checks, as the experiment sets them.
        cache: the cache's root; a program that is built is kept there.
        log: receives what the compiler says.
        tree: the kernel's source, where the program is of it.

    Raises:
        KdeltaError: it cannot be built or run, fails, or its output is not understood.
    """
    program, _ = own_program(folder.name, workload, folder, log, cache, tree=tree)
    with _disk(workload, given) as disk:
        argv = workload.argv(
            workload.command,
            given,
            program=str(program.absolute()),
            disk=disk,
            seconds=SECONDS,
            timeout=DEADLINE_S,
        )
        begun = time.monotonic()
        done = _run(argv)
        elapsed_s = time.monotonic() - begun
    if done.returncode:
        complaint = " ".join(done.stderr.split())[-300:] or "without a word"
        raise KdeltaError(f"{_words(argv)}: exit status {done.returncode}: {complaint}")
    script = folder / workload.script if workload.script else None
    try:
        values = values_of(workload, done.stdout, given, elapsed_s, script)
    except ReadError as error:
        shown = done.stdout.strip().splitlines()[-3:] or ["(nothing)"]
        raise KdeltaError(
            f"{_words(argv)}: {error}; the output ends with: {' / '.join(shown)[:300]}"
        ) from None
    broken = [f"{one.rule}: {one.detail}" for one in broken_checks(workload, values, given, limits)]
    unrelated = without_ratio(workload, values[workload.primary])
    return Trial(argv, values, elapsed_s, (*unrelated, *broken))


@contextlib.contextmanager
def _disk(workload: Workload, given: Mapping[str, Level]) -> Iterator[str]:
    """What stands for the guest's scratch disk: a file of its own, never a device of the host."""
    if workload.disk is None:
        yield ""
        return
    with tempfile.NamedTemporaryFile(prefix="kdelta-disk-") as file:
        file.truncate(math.ceil(workload.needed_disk(given)))
        yield file.name


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        # A folder that goes afterwards, as a guest's /tmp does.
        with tempfile.TemporaryDirectory() as scratch:
            return subprocess.run(
                argv,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=DEADLINE_S,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
    except subprocess.TimeoutExpired:
        raise KdeltaError(
            f"{_words(argv)}: not done after {DEADLINE_S:.0f} s on this host; give it less to do"
        ) from None
    except OSError as error:
        raise KdeltaError(f"{_words(argv)}: cannot be run: {error.strerror}") from None


def _words(argv: list[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 200 else text[:197] + "..."
