# SPDX-License-Identifier: GPL-2.0-only
"""Taking away the lock that a killed Snakemake left behind.

Snakemake locks a working directory by files that say neither who made them nor when: after a power
cut or a `kill -9` they stay, and it asks for `--unlock`. Here the process that runs the workflow
holds a lock of the kernel's as long as it lives, on a file in which it says that it does. Whoever
finds the words and gets the lock knows that their author is gone, and that Snakemake's locks were
his.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from pathlib import Path

_RUNNING = b"running\n"


def hold(folder: Path) -> bool | None:
    """Hold the workflow's lock until this process ends, and remove stale locks of Snakemake's.

    Where another process holds it nothing is done: Snakemake's own lock tells its user.

    Args:
        folder: `.snakemake` of the working directory.

    Returns:
        Whether stale locks were removed; None: it is not held, since another process holds it or
        the folder takes no files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "kdelta.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None  # a file system that takes no files: Snakemake says so itself
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    stale = os.read(lock, len(_RUNNING)) == _RUNNING
    removed = False
    for file in (folder / "locks").glob("*.lock") if stale else ():
        file.unlink(missing_ok=True)
        removed = True
    os.pwrite(lock, _RUNNING, 0)
    process = os.getpid()

    def leave() -> None:
        if os.getpid() == process:  # and not in a child that was forked meanwhile
            os.ftruncate(lock, 0)

    atexit.register(leave)
    return removed
