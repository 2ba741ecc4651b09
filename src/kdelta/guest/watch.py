# SPDX-License-Identifier: GPL-2.0-only
"""Whether a guest does what it should; where it did not, what went wrong, in words."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdelta.cache import cache_root
from kdelta.guest.acceleration import telling_line
from kdelta.guest.control import LineError
from kdelta.guest.launch import GuestExit
from kdelta.guest.share import (
    ERROR,
    ERROR_LIMIT,
    RECORDS,
    RECORDS_LIMIT,
    file_size,
    misuse,
    read_file,
    used_bytes,
)
from kdelta.plain import one_line, printable

if TYPE_CHECKING:
    from kdelta.guest.boot import BootRequest

Json = dict[str, Any]

CONSOLE_LIMIT = 64 * 2**20
"""Bytes of console that a guest may write."""

# How often the folder that a guest writes to is looked through, while it is measured.
_LOOK_S = 1.0

# How failures of the gate begin that measuring again cannot mend: the image is wrong.
_OF_THE_KERNEL = ("kernel_release", "config_sha256", "build_id", "/proc/version")


def read_records(path: Path) -> list[Json]:
    """The complete records of a file; a last line cut short by a crash is left out."""
    text = (read_file(path, RECORDS_LIMIT) or b"").decode("utf-8", "replace")
    records = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("record"), str):
            break
        records.append(record)
    return records


def console_verdict(console: str) -> str | None:
    """The line of a console that says why the guest died, if one does."""
    for sign in ("Kernel panic", "Out of memory", "BUG:", "Oops", "not syncing", "No init found"):
        for line in console.splitlines():
            if sign in line:
                return printable(line).strip()
    return None


def passed_gate(records: list[Json]) -> bool:
    """Whether its first record says that it is the guest asked for."""
    gate = records[0].get("gate")
    return isinstance(gate, dict) and bool(gate.get("ok"))


def changed(end: Json) -> str | None:
    """What the driver found changed after the sweep."""
    return None if end.get("ok") else one_line(str(end.get("error") or "no reason was recorded"))


class Watch:
    """Follows a guest's records; gives up one that never begins, falls silent or misbehaves.

    Attributes:
        size: bytes of records.
        boot_s: seconds to the first record; None before it.
        never_began: that took too long.
        fell_silent: no record came for too long, while it ran.
        misuse: what the guest did that it may not; None: nothing.
    """

    def __init__(self, request: BootRequest, share: Path, console: Path) -> None:
        self._request = request
        self._share = share
        self._console = console
        self._begun = self._looked = self._last = time.monotonic()
        self._before = used_bytes(share)
        self.size = 0
        self.boot_s: float | None = None
        self.never_began = False
        self.fell_silent = False
        self.misuse: str | None = None

    def restart(self) -> None:
        """Count from now: it was stopped, or it was asked for something."""
        self._last = time.monotonic()

    def __call__(self) -> bool:
        """Whether there is no reason to give the guest up."""
        now = time.monotonic()
        size = file_size(self._share / RECORDS)
        if size != self.size:
            self.size = size
            self._last = now
            if self.boot_s is None:
                self.boot_s = now - self._begun
        if now - self._looked > _LOOK_S:
            self._looked = now
            self.look()
        self.never_began = self.boot_s is None and now - self._begun > self._request.boot_timeout_s
        # Waiting for the whole block's deadline would cost every cell's own one.
        silent_s = now - self._last
        self.fell_silent = self.boot_s is not None and silent_s > self._request.plan["silence_s"]
        return not (self.never_began or self.fell_silent or self.misuse)

    def look(self) -> None:
        """See whether the guest keeps to what it may write."""
        self.misuse = self.misuse or misuse(self._share, self._before)
        if not self.misuse and file_size(self._console) > CONSOLE_LIMIT:
            self.misuse = f"it wrote more than {CONSOLE_LIMIT // 2**20} MiB to its console"

    def refusal(self, records: list[Json]) -> str | None:
        """Why this guest says nothing about its kernel: it is not the one asked for."""
        if not records or records[0]["record"] != "boot" or passed_gate(records):
            return None
        request = self._request
        gate = records[0].get("gate")
        found = gate.get("failures") if isinstance(gate, dict) else None
        failures = [one_line(str(failure)) for failure in found] if isinstance(found, list) else []
        why = f"this guest is not the one asked for: {'; '.join(failures)}"
        if any(failure.startswith(_OF_THE_KERNEL) for failure in failures):
            why += (
                f". {request.kernel} was changed while it was measured; run again"
                if request.ready
                else f". {request.kernel} is not the kernel that image.json beside it tells of; "
                f"delete {request.kernel.parent} and the cache, {cache_root()}, and run again"
            )
        return f"{request.label}: {why}. Console: {self._console}"

    def what_went_wrong(
        self, records: list[Json], ended: GuestExit, error: LineError | None
    ) -> str:
        """Why a guest came up short that nothing runs of any more.

        Args:
            records: all that it wrote.
            ended: how it ended.
            error: of the line to it, if it was given up for that.
        """
        request, console = self._request, self._console
        text = console.read_text(errors="replace") if console.is_file() else ""
        verdict = console_verdict(text)
        said = f" The console says: {verdict!r}." if verdict else ""
        log = f" Console: {console}"
        self.look()
        if self.misuse:
            return f"{request.label}: the guest was ended: {self.misuse}.{said}{log}"
        words = read_file(self._share / ERROR, ERROR_LIMIT)
        if words is not None:
            told = one_line(words.decode("utf-8", "replace"))
            return f"{request.label}: the driver failed in the guest: {told}.{said}{log}"
        if not records:
            how = (
                f"no sign of life within {request.boot_timeout_s:g} s (guest.boot_timeout_s)"
                if self.never_began or ended.timed_out
                else f"it ended (status {ended.status}) before its first command"
            )
            last = telling_line(text) or "(the console is empty)"
            ends = f" The console ends with: {last!r}."
            return f"{request.label}: the guest did not boot: {how}.{said or ends}{log}"
        samples = sum(record["record"] in ("sample", "mechanism") for record in records)
        how = "was killed at its deadline" if ended.timed_out else "ended"
        if self.fell_silent:
            how = f"was given up, silent for {round(request.plan['silence_s'], 1):g} s,"
        elif error is not None and ended.status is None and not ended.timed_out:
            how = f"was given up ({error})"
        when = f"after {samples} of {request.plan['slices']} slices"
        if request.plan["stressor"] and records[-1]["record"] == "boot":
            when = "while its stressor was to settle, before the first cell"
        return f"{request.label}: the guest {how} {when}.{said}{log}"
