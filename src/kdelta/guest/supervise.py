# SPDX-License-Identifier: GPL-2.0-only
"""Run a command in its own session and kill all of it when its time is up.

Usage: ``supervise.py DEADLINE_S COMMAND...`` with stdin a pipe from the parent.

Its time is up when the deadline passes, when the parent closes the pipe (which
the kernel does for a parent that is killed), or on SIGTERM/SIGINT. An orphaned
QEMU would go on using the CPUs that the next measurement is taken on.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

TIMED_OUT = 124
PARENT_GONE = 125
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(pid: int, proc: Path = Path("/proc")) -> set[int]:
    """All processes below `pid`, whatever group or session they are in."""
    children: dict[int, list[int]] = {}
    # Listed, not globbed: that asks for each file too, and fails where its process has ended.
    for process in (folder for folder in proc.iterdir() if folder.name.isdigit()):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(process.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def kill_descendants() -> None:
    """Kill everything below this process and reap it; repeats until nothing is left."""
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def supervise(deadline_s: float, command: list[str]) -> int:
    """Run `command`; its exit status, `TIMED_OUT` or `PARENT_GONE`."""
    # Orphans of the command become our children, so that none can get away.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Signals are noted, never raised: an exception may come at any moment, also while
    # another one is dealt with, and then not all would be killed.
    told_to_end: list[int] = []
    for signum in _SIGNALS:
        signal.signal(signum, lambda received, _frame: told_to_end.append(received))
    deadline = time.monotonic() + deadline_s
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        while process.poll() is None:
            left = deadline - time.monotonic()
            if told_to_end:
                return PARENT_GONE
            if left <= 0:
                return TIMED_OUT
            readable, _, _ = select.select([0], [], [], min(left, 0.1))
            if readable and not os.read(0, 1):
                return PARENT_GONE
        return process.returncode if process.returncode >= 0 else 128 - process.returncode
    finally:
        # Python takes its own handlers away at its end; what is ignored stays so.
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        kill_descendants()


if __name__ == "__main__":
    # Ctrl-C reaches the whole foreground group; only the parent decides.
    os.setpgid(0, 0)
    sys.exit(supervise(float(sys.argv[1]), sys.argv[2:]))
