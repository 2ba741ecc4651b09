# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: entries keyed by content, made atomically, under locks.

Layout, below `cache_root()`:

    sources/<id>/       an unpacked kernel source (`kernel.source`)
    workspaces/<key>/   the folders that kernels are built in (`kernel.workspace`)
    trees/<id>.git      sources as git trees, to check mailed patches with (`mail.trees`)
    images/<key>/       finished builds (`kernel.build`)
    compiler/           compiler cache (ccache)
    locks/              one lock file per entry that is being made

Everything here can be deleted at any time; it is made again when needed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kdelta.errors import KdeltaError

_TEMPORARY = ".tmp"


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/kdelta`, by default `~/.cache/kdelta`.

    A relative XDG_CACHE_HOME is ignored, as the XDG base directory
    specification asks.
    """
    configured = environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "kdelta"


def make_entry(entry: Path, make: Callable[[Path], None]) -> Path:
    """The folder `entry`, made by `make(temporary folder)` if it is not there.

    It comes into being whole or not at all: it is made beside its place and
    renamed. If another process was faster, that one's entry is kept.
    """
    if entry.is_dir():
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(
        tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=_TEMPORARY, dir=entry.parent)
    )
    temporary.chmod(0o755)  # mkdtemp makes private folders; a cache may be shared
    try:
        make(temporary)
        try:
            temporary.rename(entry)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


def remove_leftovers(entry: Path) -> None:
    """Delete what killed processes left of `entry`. The caller holds its lock."""
    for leftover in entry.parent.glob(f".{entry.name}.*{_TEMPORARY}"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file over `target` so that no reader ever sees a part of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_TEMPORARY, dir=target.parent)
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def file_lock(path: Path, what: str, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock; it ends with the process, however that ends.

    Args:
        path: the lock file; made if needed, and never deleted, since deleting
            a lock file that someone waits for would let two in.
        what: what is locked, for the line that a waiting process prints.
        say: where that one line goes; standard error by default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Close-on-exec keeps a child (make, say) from holding the lock after us.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 4096, 0).decode(errors="replace").strip() or "unknown"
            (say or _say)(f"waiting for {what}, held by {holder}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        since = time.strftime("%H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since} ({what})\n"
        os.ftruncate(handle, 0)
        os.pwrite(handle, holder.encode(), 0)
        yield
    finally:
        os.close(handle)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def require_free(
    folder: Path, needed_bytes: int, purpose: str, variable: str = "XDG_CACHE_HOME"
) -> None:
    """Refuse to begin what cannot be finished.

    Args:
        folder: where it will be written; it need not exist yet.
        needed_bytes: what it takes, roughly.
        purpose: what for, for the message.
        variable: of the environment that moves the folder elsewhere.

    Raises:
        KdeltaError: the file system of `folder` has less free space.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise KdeltaError(
            f"{folder}: not enough free disk space for {purpose}: "
            f"needs about {needed_bytes:,} bytes, {free:,} bytes are free; "
            f"free some, or set {variable} to a folder on a larger disk"
        )


def disk_full(folder: Path, doing: str) -> KdeltaError:
    """The error for a disk that ran full while something was done in `folder`."""
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free now"
    except OSError:
        free = "its free space cannot be read"
    return KdeltaError(
        f"{folder}: no space left on the device while {doing} ({free}); "
        "free some, or set XDG_CACHE_HOME to a folder on a larger disk, and start again: "
        "what was finished is kept"
    )


def says_disk_full(output: str) -> bool:
    """Whether a program's output says that the disk (or the quota) is full."""
    return os.strerror(errno.ENOSPC) in output or os.strerror(errno.EDQUOT) in output


@contextlib.contextmanager
def storage_errors_are_clear(folder: Path, doing: str) -> Iterator[None]:
    """Turn a full, read-only or forbidden file system into one clear `KdeltaError`.

    Args:
        folder: what is mainly written to inside, for the message.
        doing: what is being done, for the message.
    """
    try:
        yield
    except OSError as error:
        path = Path(error.filename) if isinstance(error.filename, str) else folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path.parent if path.parent.is_dir() else folder, doing) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise KdeltaError(
                f"{path}: {error.strerror} while {doing}; make it writable, "
                "or set XDG_CACHE_HOME to a folder that is"
            ) from error
        raise
