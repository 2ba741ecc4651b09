# SPDX-License-Identifier: GPL-2.0-only
"""One host, one measurement: a lock that holds whatever is typed on the command line.

Measurements take it exclusively, builds share it. A scheduler's resources can
be overridden; this cannot, and it also holds between two checkouts or users.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.2


def lock_path() -> Path:
    """The lock file, the same for all users of a host."""
    shared = Path("/run/lock")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / "kdelta-host.lock"


@contextlib.contextmanager
def host_lock(purpose: str, *, exclusive: bool, path: Path | None = None) -> Iterator[None]:
    """Hold the host's lock; waits for it, saying once for whom.

    Args:
        purpose: what for, shown to others that wait.
        exclusive: True for a measurement, False for a build.
        path: another lock file, for tests.
    """
    path = path or lock_path()
    with os.fdopen(_open(path), "r+") as lock:
        mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        told = False
        while True:
            try:
                fcntl.flock(lock, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    holder = lock.read().strip() or "another kdelta"
                    print(f"{purpose}: waiting for this host: {holder}", file=sys.stderr)
                    told = True
                time.sleep(POLL_S)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{purpose} (process {os.getpid()})\n")
        lock.flush()
        # Closing the file releases the lock; so does the kernel if we are killed.
        yield


def _open(path: Path) -> int:
    # Without O_CREAT first: in a sticky folder the kernel may refuse to "create"
    # a file that exists and is another user's (fs.protected_regular).
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    # World-writable on purpose: another user's kdelta must be able to lock it.
    old = os.umask(0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    finally:
        os.umask(old)
