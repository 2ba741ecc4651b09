# SPDX-License-Identifier: GPL-2.0-only
"""Jobs that a killed run has left in SLURM's queue: none of them may meet a job of the next run.

What was submitted outlives the process that submitted it. A block that such a job is measuring
would be measured again beside it, and its finished files be deleted by a job that is to make them.
So the next run cancels what has not begun, waits for what has, and only then looks what is there:
a finished block counts, whoever waited for it.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from kdelta.errors import KdeltaError

ASK_S = 5.0
"""Seconds between two looks at the queue."""

LATE_S = 60.0
"""Seconds after which a shared file system shows what another node wrote: NFS keeps what it knows
of a folder for that long (acdirmax in nfs(5))."""

# File systems that one machine has to itself: they show everything at once.
_LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
_LOOKS = {
    *("-n", "--dry-run", "--dryrun", "--summary", "-S", "--detailed-summary", "-D", "--report"),
    *("--dag", "--rulegraph", "--filegraph", "--d3dag", "--list-rules", "--list", "-l", "--lint"),
    *("--list-target-rules", "--lt", "--unlock", "--cleanup-metadata", "--cm", "--touch", "-t"),
    *("--conda-create-envs-only", "--containerize", "--archive", "--print-compilation"),
}
# Job, state, node, what for, working folder; the last may hold any character.
_FORMAT = "%i|%T|%N|%k|%Z"
# How Snakemake's executor marks its jobs.
_COMMENTS = ("rule_", "group_")


class Job(NamedTuple):
    """A job of a killed run that is still in the queue."""

    number: str
    state: str
    node: str
    purpose: str

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        return f"{self.number} ({self.purpose}{where})"


def only_looks(argv: Sequence[str]) -> bool:
    """Whether Snakemake was asked to show something or to put its records right, not to run.

    Args:
        argv: its words.
    """
    words = {word.partition("=")[0] for word in argv[1:]}
    return not words.isdisjoint(_LOOKS)


def settle(folder: Path) -> None:
    """Cancel the jobs that a killed run left waiting, and wait for those that run.

    Costs nothing where Snakemake's own records say that nothing is left.

    Args:
        folder: the working directory of the run.

    Raises:
        KdeltaError: the queue cannot be asked.
    """
    if not _unfinished(folder):
        return
    if shutil.which("squeue"):
        _settle_queue(folder.resolve())
    if not _is_local(folder):
        _say(f"waiting {LATE_S:g} s for what other nodes wrote to be seen here")
        time.sleep(LATE_S)


def _settle_queue(folder: Path) -> None:
    told: set[str] = set()
    while jobs := left_jobs(folder):
        if waiting := [job for job in jobs if job.state == "PENDING"]:
            _say(f"cancelling jobs of the killed run that have not begun: {_list(waiting)}")
            _run(["scancel", *(job.number for job in waiting)])
        running = [job for job in jobs if job.state != "PENDING"]
        if new := [job for job in running if job.number not in told]:
            numbers = " ".join(job.number for job in new)
            _say(
                f"waiting for what the killed run left running: {_list(new)}; to end it: "
                f"scancel {numbers}"
            )
            told.update(job.number for job in new)
        time.sleep(ASK_S)


def left_jobs(folder: Path) -> list[Job]:
    """This user's jobs in the queue that a run in this folder submitted.

    Args:
        folder: the run's working directory, absolute and without links.

    Raises:
        KdeltaError: the queue cannot be asked.
    """
    ours = ["squeue", "--noheader", f"--user={getpass.getuser()}", f"--format={_FORMAT}"]
    found = []
    for line in _run(ours).splitlines():
        number, state, node, comment, place = line.split("|", 4)
        if place == str(folder) and comment.startswith(_COMMENTS):
            purpose = comment.partition("_")[2].replace("_wildcards_", " ")
            found.append(Job(number, state, node, purpose))
    return found


def _unfinished(folder: Path) -> bool:
    """Whether Snakemake knows of steps that were submitted to a cluster and have not ended."""
    for path in (folder / ".snakemake" / "incomplete").rglob("*"):
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and json.loads(path.read_text()).get("external_jobid"):
                return True
    return False


def _is_local(folder: Path) -> bool:
    """Whether nobody but this machine writes to the file system."""
    place = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next((path for path in (place, *place.parents) if path in mounts), None)
    return mount is not None and mounts[mount] in _LOCAL


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    # What has ended meanwhile cannot be cancelled, and need not be.
    if done.returncode and argv[0] != "scancel":
        raise KdeltaError(
            f"an earlier run was killed, and what it has left in SLURM's queue cannot be asked "
            f"for: {argv[0]}: {done.stderr.strip()}; see that SLURM answers and start again, or, "
            "if none of its jobs is left, delete .snakemake/incomplete"
        )
    return done.stdout


def _list(jobs: Sequence[Job]) -> str:
    return ", ".join(map(str, jobs))


def _say(line: str) -> None:
    print(f"kdelta: {line}", file=sys.stderr, flush=True)
