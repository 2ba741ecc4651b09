# SPDX-License-Identifier: GPL-2.0-only
"""The folder that a guest shares with its host.

The guest is root in it, and the kernel under test may be broken or worse: whatever lies there
afterwards is taken for what a stranger wrote. Links are not followed, sizes are limited.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from kdelta.errors import KdeltaError

RECORDS = "records.jsonl"
ERROR = "driver-error.txt"
SHARE = "share"
INIT = "guest_init"
"""The guest's first process, in the shared folder, where the host's root is the guest's."""

RECORDS_LIMIT = 64 * 2**20
"""Bytes of records: a sample takes about 20 KiB."""

ERROR_LIMIT = 64 * 2**10
"""Bytes of the driver's last words."""

SHARE_LIMIT = 96 * 2**20
"""Bytes that a guest may add to its folder, records included."""

FILES_LIMIT = 1000
"""Files and folders that may lie there."""

PREFIX = "kdelta-guest-"
# Its owner has locked a folder by then.
_SETTLED_S = 60.0

# vng makes a shell line of some arguments without quoting them, QEMU splits options at commas
# and vng a mount at its equals sign.
_HARMLESS = re.compile(r"[A-Za-z0-9_./+@-]+")


def harmless(text: str) -> bool:
    """Whether neither a shell nor vng nor QEMU minds any of the characters."""
    return _HARMLESS.fullmatch(text) is not None


def scratch_base() -> Path:
    """The folder for temporary files, if guests can be started with its path; else a fixed one.

    Raises:
        KdeltaError: there is none that can be written to.
    """
    tried = list(dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]))
    for folder in map(Path, tried):
        if harmless(str(folder)) and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise KdeltaError(
        f"no folder for temporary files that guests can share (tried {', '.join(tried)}); set "
        "TMPDIR to one that can be written to and whose path has only letters, digits and ._/+@-"
    )


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """An empty folder to share with a guest, deleted at the end.

    It is alone in a folder of its own, which the guest does not see: there is room for its
    sockets. Folders of processes that were killed are deleted first.
    """
    base = scratch_base()
    _remove_leftovers(base)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=base, ignore_cleanup_errors=True) as name:
        lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            share = Path(name, SHARE)
            share.mkdir()
            yield share
        finally:
            os.close(lock)


def kill_users(share: Path) -> None:
    """Kill what runs a guest with this shared folder: vng, virtme-run, QEMU all name it.

    For guests whose supervisor was killed: nothing else ends one whose CPUs are stopped.

    Args:
        share: the shared folder.
    """
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if any(str(share) in word for word in process.info["cmdline"] or ()):
                process.kill()


def _remove_leftovers(base: Path) -> None:
    """Delete this user's folders in which no living process holds the lock; end their guests."""
    for folder in base.glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            found = os.fstat(lock)
            if found.st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kill_users(folder / SHARE)  # their owner has the lock as long as it lives
                if time.time() - found.st_mtime > _SETTLED_S:
                    shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def read_file(path: Path, limit: int) -> bytes | None:
    """What a guest wrote to a file, up to `limit` bytes; None if there is no regular file."""
    try:
        # Without waiting: a named pipe would keep us for ever.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        return stream.read(limit)


def file_size(path: Path) -> int:
    """Bytes of a regular file; 0 if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def used_bytes(share: Path) -> int:
    """Bytes on disk of all that lies in the folder; -1: more than `FILES_LIMIT` files."""
    total = count = 0
    # By file descriptors: a guest may put a link in a folder's place at any time.
    for _, folders, files, descriptor in os.fwalk(share, follow_symlinks=False):
        for name in (*folders, *files):
            count += 1
            if count > FILES_LIMIT:
                return -1
            with contextlib.suppress(OSError):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                total += found.st_blocks * 512
    return total


def misuse(share: Path, before: int) -> str | None:
    """What a guest has done with its folder that it may not; None: nothing.

    Args:
        share: the folder.
        before: `used_bytes` before the guest was started.
    """
    for name in (RECORDS, ERROR):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG((share / name).lstat().st_mode):
                return f"it made {name} something else than a file"
    if file_size(share / RECORDS) > RECORDS_LIMIT:
        return f"it wrote more than {RECORDS_LIMIT // 2**20} MiB of records"
    used = used_bytes(share)
    if used < 0:
        return f"it made more than {FILES_LIMIT} files in the folder shared with the host"
    if used - before > SHARE_LIMIT:
        return f"it wrote more than {SHARE_LIMIT // 2**20} MiB into the folder shared with the host"
    return None
