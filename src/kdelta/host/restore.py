# SPDX-License-Identifier: GPL-2.0-only
"""Changing settings of the host so that they are restored whatever happens.

Before anything is changed, what is going to be is written to a journal. A process that
ends in any way but a kill restores everything itself; after a kill (SIGKILL, out of
memory) the next one finds the journal and restores from it.

A value that is neither what was found nor what was set is somebody else's decision,
made meanwhile: it is left alone, and said so.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.host.facts import read_text
from kdelta.host.topology import CPU_FOLDER, parse_cpu_list, parse_cpu_mask

IRQ_FOLDER = "proc/irq"


@dataclass(frozen=True)
class Change:
    """One file below /proc or /sys, its text before, and the text to be written."""

    path: Path
    before: str
    after: str


@dataclass(frozen=True)
class Restored:
    """How restoring went.

    Attributes:
        done: changes that were undone now.
        failed: changes that could not be undone and should be tried again.
        messages: one line for each value that is not what it was before.
    """

    done: int
    failed: tuple[Change, ...]
    messages: tuple[str, ...]


def write_setting(path: Path, text: str) -> None:
    """Write a kernel setting; it never creates a file.

    Raises:
        OSError: the kernel refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode() + b"\n")
    finally:
        os.close(descriptor)


def same_setting(path: Path, one: str, other: str) -> bool:
    """Whether two texts of a setting mean the same; CPUs can be written in several ways."""
    parse = {"smp_affinity_list": parse_cpu_list, "default_smp_affinity": parse_cpu_mask}.get(
        path.name
    )
    if parse is None:
        return one.strip() == other.strip()
    try:
        return parse(one) == parse(other)
    except ValueError:
        return False


def make_change(change: Change) -> None:
    """Make a change and see that the kernel took it.

    Raises:
        OSError: the kernel refuses, or holds another value afterwards.
    """
    write_setting(change.path, change.after)
    found = read_text(change.path) or ""
    if not same_setting(change.path, found, change.after):
        with contextlib.suppress(OSError):
            write_setting(change.path, change.before)
        raise OSError(f"the kernel made {found!r} of {change.after!r}")


def restore(changes: Sequence[Change]) -> Restored:
    """Undo changes, the last one first. What is gone (a device unplugged) needs no restoring."""
    done = 0
    failed: list[Change] = []
    messages: list[str] = []
    for change in reversed(changes):
        now = read_text(change.path)
        if now is None or same_setting(change.path, now, change.before):
            continue
        if not same_setting(change.path, now, change.after):
            messages.append(
                f"{change.path}: left at {now!r}, which somebody else has set meanwhile "
                f"(it was {change.before!r})"
            )
            continue
        try:
            write_setting(change.path, change.before)
            done += 1
        except OSError as error:
            failed.append(change)
            messages.append(
                f"{change.path}: cannot be restored from {now!r} to {change.before!r}: "
                f"{error.strerror or error}"
            )
    return Restored(done, tuple(reversed(failed)), tuple(messages))


def journal_path() -> Path:
    """The journal's file, out of reach of other users, whose writing would become ours.

    Root's is below /run, which a reboot empties as it does the settings. Another user's is
    named after the host, since home folders are shared between hosts.

    Raises:
        OSError: this user has no home folder.
    """
    if os.geteuid() == 0:
        return Path("/run/kdelta/environment.json")
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 (pathlib's raises RuntimeError)
        if not home.is_absolute():
            raise FileNotFoundError("this user has no home folder")
        state = home / ".local/state"
    return state / "kdelta" / f"environment-{platform.node()}.json"


class Journal:
    """What is changed, or about to be, and by which process.

    Args:
        path: its file.
        root: the root of /proc and /sys.
    """

    def __init__(self, path: Path, root: Path = Path("/")) -> None:
        self.path = path
        self._root = root

    def write(self, changes: Sequence[Change]) -> None:
        """Write it whole, or remove it if there is nothing to say.

        Raises:
            OSError: it cannot be written; then nothing may be changed.
        """
        if not changes:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = {
            "schema": 1,
            "boot_id": self._boot_id(),
            "process": os.getpid(),
            "changes": [
                {"path": str(change.path), "before": change.before, "after": change.after}
                for change in changes
            ],
        }
        write_atomically(self.path, (json.dumps(record, indent=1) + "\n").encode())

    def read(self) -> tuple[Change, ...]:
        """The changes of a journal that was left; none without one or since a reboot.

        Raises:
            KdeltaError: it cannot be read, or holds what no kdelta writes.
        """
        text = read_text(self.path)
        if text is None:
            return ()
        try:
            record = json.loads(text)
            changes = tuple(
                Change(Path(entry["path"]), str(entry["before"]), str(entry["after"]))
                for entry in record["changes"]
            )
            stale = record["boot_id"] != self._boot_id()
        except (ValueError, KeyError, TypeError):
            raise self._unusable("it is not a journal of host settings") from None
        for change in changes:
            if not self._is_setting(change.path):
                raise self._unusable(f"{change.path} is no setting that kdelta changes")
        return () if stale else changes

    def replay(self) -> Restored:
        """Restore what a killed process left. The caller holds the host's lock.

        Raises:
            KdeltaError: the journal cannot be used.
        """
        restored = restore(self.read())
        # Not to be able to write it must not keep anyone from measuring: settings that
        # cannot be restored are in the messages.
        with contextlib.suppress(OSError):
            self.write(restored.failed)
        return restored

    def _is_setting(self, path: Path) -> bool:
        folders = (self._root / CPU_FOLDER, self._root / IRQ_FOLDER)
        return ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders)

    def _boot_id(self) -> str:
        return read_text(self._root / "proc/sys/kernel/random/boot_id") or ""

    def _unusable(self, why: str) -> KdeltaError:
        return KdeltaError(
            f"{self.path}: {why}. It should say what a killed run had changed on this host; check "
            "the CPU frequency governor, turbo and interrupt affinities by hand (a reboot resets "
            "them), then delete it"
        )
