# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: entries keyed by content, made atomically, in use or free to be pruned.

Layout, below `cache_root()`; a folder in one of these is an entry:

    apt/<suite>/        what apt knows of a suite that the host does not follow (`kernel.debian`)
    git/kernels.git/    commits that were fetched (`kernel.git`)
    sources/<id>/       an unpacked kernel source (`kernel.source`)
    workspaces/<key>/   the folders that kernels are built in (`kernel.workspace`)
    trees/<id>.git/     sources as git trees, to check mailed patches with (`mail.trees`)
    images/<key>/       finished builds (`kernel.build`)
    workloads/<key>/    programs that guests run (`workload.build`)
    roots/<key>/        root file systems of guests (`workload.guest_root`)
    compiler/           compiler cache: ccache's own
    locks/              one lock file per entry that is being made

Everything here can be deleted at any time that nobody uses it; it is made again when needed.
Several checkouts, users and nodes of a cluster may share it while one of them prunes
(`kdelta cache`): a process that was handed an entry holds a lock in it until it ends (`use`), and
an entry that is pruned vanishes as a whole (`discard`).
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kdelta.errors import KdeltaError

_TEMPORARY = ".tmp"

USED = ".used"
"""A file in each entry. Its time stamp is the entry's last use, its text says for whom that was,
and a lock on it that a living process uses the entry."""

# Entry -> the open file that this process holds it by.
_held: dict[Path, int] = {}
_user = ""


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/kdelta`, by default `~/.cache/kdelta`.

    A relative XDG_CACHE_HOME is ignored, as the XDG base directory
    specification asks.
    """
    configured = environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "kdelta"


def say_who_uses(text: str) -> None:
    """What entries that this process uses from now on are used for, for a person to read."""
    global _user
    _user = text


def use(entry: Path) -> bool:
    """Keep an entry from being pruned as long as this process lives, and note that it is used.

    Whoever hands out what an entry holds asks here first. An entry that is not there, or is just
    being taken away, has to be made anew.

    Returns:
        Whether it is there.
    """
    while (opened := _open_mark(entry)) is not None:
        path, handle = opened
        # Of who prunes it one has to wait for a moment only: an entry is renamed, then deleted.
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not _is_still(handle, path):
            os.close(handle)
            continue
        # Another user's cannot be written to, nor can a file system that is only to be read.
        with contextlib.suppress(OSError):
            os.utime(handle)
            if _user:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{_user}\n".encode(), 0)
        _let_go(entry)
        _held[entry] = handle
        return True
    return False


def _open_mark(entry: Path) -> tuple[Path, int] | None:
    """The file that an entry is held by, open; None: there is no such entry."""
    mark = entry / USED
    # Locks of a cluster's file systems want a file that may be written to. The folder itself is
    # what is left where an earlier version made the entry, and it is another user's.
    for path, flags in (
        (mark, os.O_RDWR | os.O_CREAT),
        (mark, os.O_RDONLY),
        (entry, os.O_RDONLY | os.O_DIRECTORY),
    ):
        with contextlib.suppress(OSError):
            return path, os.open(path, flags | os.O_CLOEXEC, 0o666)
    return None


def _is_still(handle: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _let_go(entry: Path) -> None:
    if (handle := _held.pop(entry, None)) is not None:
        os.close(handle)


def make_entry(entry: Path, make: Callable[[Path], None]) -> Path:
    """The folder `entry`, in use, made by `make(temporary folder)` if it is not there.

    It comes into being whole or not at all: it is made beside its place and
    renamed. If another process was faster, that one's entry is kept.
    """
    while not use(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(entry)
        try:
            # mkdtemp makes private folders; a cache may be shared
            temporary.chmod(0o755)
            (temporary / USED).touch()
            (temporary / USED).chmod(0o666)
            use(temporary)
            make(temporary)
            try:
                temporary.rename(entry)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
        finally:
            _let_go(temporary)  # first: NFS keeps a file that is open, and with it the folder
            shutil.rmtree(temporary, ignore_errors=True)
    return entry


def _beside(entry: Path) -> Path:
    """An empty folder of its own, to make an entry in or to move one to before it is deleted."""
    return Path(tempfile.mkdtemp(prefix=f".{entry.name}.", suffix=_TEMPORARY, dir=entry.parent))


def take_away(entry: Path) -> None:
    """Delete an entry that is there and not whole, if there is one, so that it can be made anew.

    The caller holds the entry's lock.
    """
    with contextlib.suppress(FileNotFoundError):
        _delete(entry)


def _delete(entry: Path) -> bool:
    """Delete an entry under another name; whether all of it is gone.

    Raises:
        PermissionError: it is another user's.
        FileNotFoundError: it is not there.
    """
    if os.geteuid() not in (0, entry.stat().st_uid):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(entry))
    away = _beside(entry)
    try:
        entry.rename(away)
    except OSError:
        away.rmdir()
        raise
    _let_go(entry)
    shutil.rmtree(away, ignore_errors=True)
    return not away.exists()


def last_used_ns(entry: Path) -> int:
    """When an entry was used last, by the clock of its file system in ns.

    Of one that an earlier version made and nobody has used since: when it was changed last.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    try:
        return (entry / USED).stat().st_mtime_ns
    except FileNotFoundError:
        return entry.stat().st_mtime_ns


def in_use(entry: Path) -> bool:
    """Whether a living process, perhaps of another host, uses an entry."""
    try:
        try:
            handle = os.open(entry / USED, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Of an earlier version: who may not write to it holds the folder.
            handle = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def leftovers(folder: Path) -> list[Path]:
    """What killed processes, or living ones, have begun to make or to delete in a folder."""
    return sorted(folder.glob(f".*{_TEMPORARY}"))


def discard(entry: Path, last_used: int) -> bool:
    """Delete an entry unless a process uses it, or has used it since it was looked at.

    It vanishes as a whole, and is deleted under another name: who wants it meanwhile makes it
    anew.

    Args:
        entry: its folder.
        last_used: what `last_used_ns` said when it was chosen.

    Returns:
        Whether it was taken away.

    Raises:
        PermissionError: it is another user's.
    """
    mark, fresh = entry / USED, False
    try:
        if not mark.exists() and in_use(entry):
            return False
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            handle, fresh = os.open(mark, flags, 0o666), True
        except FileExistsError:
            handle = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        used_since = not fresh and os.fstat(handle).st_mtime_ns > last_used
        if used_since or not _is_still(handle, mark):
            return False
        return _delete(entry)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)


def remove_leftovers(entry: Path) -> None:
    """Delete what killed processes left of `entry`. The caller holds its lock."""
    for leftover in entry.parent.glob(f".{entry.name}.*{_TEMPORARY}"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that a reader sees the old or the new content, nothing between.

    Args:
        path: the file; its folder is made if need be.
        data: the content, or pieces of it in their order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
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
