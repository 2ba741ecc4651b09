# SPDX-License-Identifier: GPL-2.0-only
"""The cache: whole entries or none, locks, full disks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdelta.cache import (
    cache_root,
    copy_atomically,
    file_lock,
    make_entry,
    remove_leftovers,
    require_free,
    says_disk_full,
    storage_errors_are_clear,
    write_atomically,
)
from kdelta.errors import KdeltaError


def test_root_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/kdelta")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root({}) == tmp_path / ".cache/kdelta"
    assert cache_root({"XDG_CACHE_HOME": "relative"}) == tmp_path / ".cache/kdelta"


def test_entry_is_made_once(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("content")

    entry = tmp_path / "a" / "key"
    for _ in range(2):
        assert (make_entry(entry, make) / "file").read_text() == "content"
    assert len(calls) == 1
    assert calls[0].parent == entry.parent


def test_failed_entry_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("...")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_entry(tmp_path / "key", make)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_wins(tmp_path: Path) -> None:
    entry = tmp_path / "key"

    def make(folder: Path) -> None:
        (folder / "file").write_text("ours")
        entry.mkdir()
        (entry / "file").write_text("theirs")

    make_entry(entry, make)
    assert (entry / "file").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [entry]


def test_leftovers_of_this_entry_only(tmp_path: Path) -> None:
    for name in (".key.abc.tmp", ".other.abc.tmp", "key"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path / "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abc.tmp", "key"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_pieces_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, (bytes([number]) * 3 for number in range(65, 68)))
    assert file.read_bytes() == b"AAABBBCCC"

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise KdeltaError("the other half cannot be made")

    with pytest.raises(KdeltaError):
        write_atomically(file, broken())
    assert file.read_bytes() == b"AAABBBCCC"
    assert list(tmp_path.iterdir()) == [file]


def test_copy_replaces(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    copy_atomically(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"1"


def test_lock_waits_and_says_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "x"
    said: list[str] = []
    waiting, order = threading.Event(), []

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with file_lock(lock, "the build folder", say):
            order.append("second")

    with file_lock(lock, "the build folder"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert len(said) == 1
    assert f"waiting for the build folder, held by process {os.getpid()} on " in said[0]


def test_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from kdelta.cache import file_lock\n"
        "with file_lock(Path(sys.argv[1]), 'x'): print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with file_lock(tmp_path / "lock", "x", lambda line: pytest.fail(line)):
        pass


def test_free_space(tmp_path: Path) -> None:
    require_free(tmp_path / "not" / "there", 1, "something")
    with pytest.raises(KdeltaError) as caught:
        require_free(tmp_path / "not" / "there", 2**60, "a kernel's source")
    message = str(caught.value)
    assert str(tmp_path / "not" / "there") in message
    assert "a kernel's source: needs about 1,152,921,504,606,846,976 bytes" in message
    assert "bytes are free" in message


def test_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    expected = f"{tmp_path}: no space left on the device while saving"
    with pytest.raises(KdeltaError, match=expected), storage_errors_are_clear(tmp_path, "saving"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "file"))


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    expected = f"{tmp_path}/file: Read-only file system while saving; make it writable"
    with pytest.raises(KdeltaError, match=expected), storage_errors_are_clear(tmp_path, "saving"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "file"))


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors_are_clear(tmp_path, "saving"):
        (tmp_path / "none").read_bytes()


def test_full_disk_in_a_programs_output() -> None:
    assert says_disk_full("as: fs/pipe.o: No space left on device")
    assert not says_disk_full("error: no space between words")
