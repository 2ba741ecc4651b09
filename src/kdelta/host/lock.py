# SPDX-License-Identifier: GPL-2.0-only
"""One host, one measurement: a lock that holds whatever is typed on the command line.

Measurements take it exclusively, whatever else keeps CPUs busy shares it. A scheduler's resources
can be overridden; this cannot, and it also holds between two checkouts or users.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.plain import one_line

POLL_S = 0.2
SAID_AGAIN_S = 30.0
"""So long at least somebody who waits says nothing more, though the host's holder changes."""
NAME = "kdelta-host.lock"

# The file holds one line of this length: written over at once, it is never half there.
_LINE_BYTES = 256
_OURS = re.compile(rb"[^\n]* \(process \d+\) *\n")
# Locks that this process holds: a verb that holds it may call one that takes it.
_held: dict[Path, bool] = {}


def lock_path(folders: tuple[Path, ...] = (Path("/run/lock"), Path("/tmp"))) -> Path:
    """The lock file, the same for all users of a host.

    The first folder that everybody may write to, whoever asks: where root alone may write to
    /run/lock, root takes the other one too.

    Raises:
        KdeltaError: there is no such folder.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            mode = folder.stat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IWOTH:
                return folder / NAME
    raise KdeltaError(
        f"no place for the host's lock: none of {', '.join(map(str, folders))} is a folder that "
        "all users may write to; make one so (chmod 1777)"
    )


@contextlib.contextmanager
def host_lock(purpose: str, *, exclusive: bool, path: Path | None = None) -> Iterator[None]:
    """Hold the host's lock; waits for it, saying for whom.

    A measurement that waits lets no later one before it: it holds a second lock, the queue's,
    which everybody passes through.

    Args:
        purpose: what for, shown to others that wait.
        exclusive: True for a measurement, False for a build.
        path: another lock file, for tests.

    Raises:
        KdeltaError: the lock's file cannot be used.
    """
    path = path or lock_path()
    if path in _held:
        if exclusive and not _held[path]:
            raise RuntimeError("the host's lock is held shared and wanted exclusively")
        yield
        return
    purpose = one_line(purpose)
    told: list[str] = []
    with contextlib.ExitStack() as stack:
        # Closing a file releases its lock; so does the kernel if we are killed.
        with contextlib.ExitStack() as queue:
            _take(path.with_suffix(".queue"), True, purpose, queue, told)
            _take(path, exclusive, purpose, stack, told)
        _held[path] = exclusive
        try:
            yield
        finally:
            del _held[path]


def _take(
    path: Path, exclusive: bool, purpose: str, stack: contextlib.ExitStack, told: list[str]
) -> None:
    """Lock a file until the stack is left, and leave word in it what for."""
    while True:
        lock = _open(path)
        stack.callback(os.close, lock)
        _wait(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, purpose, told)
        # Somebody may have deleted it meanwhile (a cleaner of /tmp): others lock a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.lstat(path)):
                break
    end = f" (process {os.getpid()})".encode()
    words = purpose.encode()[: _LINE_BYTES - 1 - len(end)]
    os.pwrite(lock, (words + end).ljust(_LINE_BYTES - 1) + b"\n", 0)
    os.ftruncate(lock, _LINE_BYTES)


def _wait(lock: int, mode: int, purpose: str, told: list[str]) -> None:
    said_at = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told or time.monotonic() - said_at > SAID_AGAIN_S:
                said_at = time.monotonic()
                holder = _holder(lock)
                if holder not in told[-1:]:
                    still = " still" if told else ""
                    told.append(holder)
                    words = f"{purpose}:{still} waiting for this host: {holder}"
                    print(words, file=sys.stderr, flush=True)
            time.sleep(POLL_S)


def _holder(lock: int) -> str:
    """Who holds a lock, in words: the last that came, unless the kernel knows that it has left.

    Source: proc_locks(5). What it does not list (processes of another namespace, some file
    systems) is no evidence.
    """
    line = one_line(os.pread(lock, _LINE_BYTES, 0).decode("utf-8", "replace"))
    found = os.fstat(lock)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    held = re.compile(rf" FLOCK +ADVISORY +\w+ +([1-9]\d*) {device}:{found.st_ino} ")
    with contextlib.suppress(OSError):
        holders = held.findall(Path("/proc/locks").read_text())
        if holders and not line.endswith(tuple(f"(process {holder})" for holder in holders)):
            return f"another kdelta (process {holders[0]})"
    return line or "another kdelta"


def _open(path: Path) -> int:
    """The lock's file, made if there is none. Nothing but a file of ours is ever written to."""
    while True:
        # Without O_CREAT first: in a sticky folder the kernel may refuse to "create"
        # a file that exists and is another user's (fs.protected_regular).
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            lock = os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process was quicker
                os.close(_create(path))
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _not_ours(path, "a link") from None
            raise KdeltaError(
                f"{path}: the host's lock cannot be opened: {error.strerror}; have it deleted by "
                "its owner or by root"
            ) from None
        found = os.fstat(lock)
        why = None
        if not stat.S_ISREG(found.st_mode):
            why = "no regular file"
        elif found.st_nlink > 1:
            why = "another file's second name"
        elif found.st_size and not _OURS.fullmatch(os.pread(lock, 4 * _LINE_BYTES, 0)):
            why = "not written by kdelta"
        if why is None:
            return lock
        os.close(lock)
        raise _not_ours(path, why)


def _create(path: Path) -> int:
    # World-writable on purpose: another user's kdelta must be able to lock it.
    old = os.umask(0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise
    except OSError as error:
        raise KdeltaError(
            f"{path}: the host's lock cannot be made: {error.strerror}; mend the folder's rights"
        ) from None
    finally:
        os.umask(old)


def _not_ours(path: Path, why: str) -> KdeltaError:
    return KdeltaError(
        f"{path}: the host's lock is {why}; see what put it there and delete it: without the lock "
        "nothing is measured"
    )
