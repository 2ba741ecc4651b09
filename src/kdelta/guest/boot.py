# SPDX-License-Identifier: GPL-2.0-only
"""One boot of one arm: prepare the shared folder, launch, and bring the records home."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.cache import cache_root
from kdelta.errors import KdeltaError
from kdelta.guest.acceleration import telling_line
from kdelta.guest.launch import SHARE_IN_GUEST, GuestExit, GuestSpec, guest_python, run_guest
from kdelta.guest.pinning import Pinning
from kdelta.guest.share import (
    ERROR,
    ERROR_LIMIT,
    RECORDS,
    RECORDS_LIMIT,
    file_size,
    misuse,
    read_file,
    shared_folder,
    used_bytes,
)
from kdelta.guest.speed import PROGRAM as SPEED_CHECK
from kdelta.plain import one_line, printable

Json = dict[str, Any]

PACKAGE = Path(__file__).resolve().parents[1]

# What runs in the guest; these modules import the standard library and each other.
TIMED_MODULES = (
    "guest/driver.py",
    "guest/conditions.py",
    "guest/counters.py",
    "guest/speed.py",
    "guest/cpuid.py",
    "guest/stressor.py",
)
GUEST_MODULES = (
    *TIMED_MODULES,
    "__init__.py",
    "guest/__init__.py",
    "guest/mechanism.py",
    "guest/trace_parse.py",
)
_START = f"""\
import sys
sys.path.insert(0, "{SHARE_IN_GUEST}")
from pathlib import Path
from kdelta.guest.driver import main
sys.exit(main(Path("{SHARE_IN_GUEST}")))
"""

# A guest switches itself off after its last record; TCG guests take seconds to.
POWER_OFF_S = 60.0

CONSOLE_LIMIT = 64 * 2**20
"""Bytes of console that a guest may write."""

# How often the folder that a guest writes to is looked through, while it is measured.
_LOOK_S = 1.0


@dataclass(frozen=True)
class BootRequest:
    """What one boot is to do.

    Attributes:
        label: how messages name it, for example "idle, block 3, arm patched".
        kernel: the arm's bzImage.
        workload: the static benchmark binary; for a boot that is timed, the speed check's
            lies beside it.
        plan: the driver's plan (see `kdelta.measure.plan`).
        cpu: CPU model as QEMU's -cpu takes it; None: virtme-ng's choice.
        boot_timeout_s: the driver must have written its first record by then, which it does
            before the stressor settles.
        sweep_timeout_s: seconds that settling and the whole sweep may take after that.
        pinning: host CPUs for the guest; None leaves it to the host's scheduler.
    """

    label: str
    kernel: Path
    workload: Path
    acceleration: str
    vcpus: int
    memory_mib: int
    plan: Json
    boot_timeout_s: float
    sweep_timeout_s: float
    pinning: Pinning | None = None
    cpu: str | None = None


class BootError(KdeltaError):
    """The guest came up short: it did not boot, died or never finished. A finding, not a mistake.

    Attributes:
        records: what it had written by then.
    """

    def __init__(self, message: str, records: list[Json]) -> None:
        super().__init__(message)
        self.records = records


@dataclass(frozen=True)
class BootResult:
    """A boot that ran its whole sweep.

    Attributes:
        records: all that the driver wrote.
        boot_s: seconds from the launch to the first record.
        wall_s: seconds from the launch to the guest's end.
        pinned: its vCPUs were pinned, where that was asked for.
        changed: how the guest was no longer as it was asked for when the sweep was over; None:
            it was.
    """

    records: list[Json]
    boot_s: float
    wall_s: float
    pinned: bool = False
    changed: str | None = None


def boot_arm(
    request: BootRequest,
    console: Path,
    on_progress: Callable[[int], None] = lambda samples: None,
) -> BootResult:
    """Boot one arm and run its sweep.

    Args:
        request: what to do.
        console: receives the guest's console; kept whatever happens.
        on_progress: called with the number of samples so far when it changes.

    Raises:
        BootError: the guest did not boot, or ended before the end of its sweep. Records
            that it had written are kept beside the console (`*.partial.jsonl`).
        KdeltaError: it was not the guest asked for, or the host cannot run it.
    """
    with shared_folder() as share:
        _fill_share(share, request)
        records_path = share / RECORDS
        watch = _Watch(request, share, console, on_progress)
        spec = GuestSpec(
            kernel=share / "bzImage",
            acceleration=request.acceleration,
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            share=share,
            command=f"{shlex.quote(guest_python())} -I -S {SHARE_IN_GUEST}/start.py",
            pinning=request.pinning,
            cpu=request.cpu,
        )
        deadline = request.boot_timeout_s + request.sweep_timeout_s + POWER_OFF_S
        try:
            ended = run_guest(spec, console, deadline, watch, lambda: watch.boot_s is None)
        finally:
            # Whatever stops us, what was measured is worth keeping to look at.
            records = read_records(records_path)
            swept = bool(records) and records[-1]["record"] == "end" and _passed_gate(records)
            if records and not swept:
                partial = console.with_suffix(".partial.jsonl")
                partial.write_bytes(read_file(records_path, RECORDS_LIMIT) or b"")
        if not swept:
            refusal = _refusal(request, records, console)
            if refusal:
                raise KdeltaError(refusal)
            raise BootError(
                _what_went_wrong(request, records, ended, watch, share, console), records
            )
        boot_s = watch.boot_s or ended.wall_s
        return BootResult(records, boot_s, ended.wall_s, ended.pinned, _changed(records[-1]))


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


class _Watch:
    """Follows the records; gives up a guest that never begins, misbehaves or does not switch off.

    Attributes:
        boot_s: seconds to the first record; None before it.
        never_began: that took too long.
        misuse: what the guest did that it may not; None: nothing.
    """

    def __init__(
        self, request: BootRequest, share: Path, console: Path, on_progress: Callable[[int], None]
    ) -> None:
        self._request = request
        self._share = share
        self._records = share / RECORDS
        self._console = console
        self._on_progress = on_progress
        self._begun = self._looked = time.monotonic()
        self._before = used_bytes(share)
        self._size = 0
        self._last = self._begun
        self._over: float | None = None
        self.boot_s: float | None = None
        self.never_began = False
        self.fell_silent = False
        self.misuse: str | None = None

    def __call__(self) -> bool:
        now = time.monotonic()
        size = file_size(self._records)
        if size != self._size:
            self._size = size
            self._last = now
            if self.boot_s is None:
                self.boot_s = now - self._begun
            content = read_file(self._records, RECORDS_LIMIT) or b""
            done = content.count(b'\n{"record":"sample"') + content.count(b'\n{"record":"mech')
            self._on_progress(done)
            if b'\n{"record":"end"' in content:
                self._over = now
        if now - self._looked > _LOOK_S:
            self._looked = now
            self.look()
        self.never_began = self.boot_s is None and now - self._begun > self._request.boot_timeout_s
        # Waiting for the whole sweep's deadline would cost every cell's own one.
        silent_s = now - self._last
        self.fell_silent = self.boot_s is not None and silent_s > self._request.plan["silence_s"]
        # All is said: a guest that hangs at power-off need not be waited for.
        hangs = self._over is not None and now - self._over > POWER_OFF_S
        return not (self.never_began or self.fell_silent or hangs or self.misuse)

    def look(self) -> None:
        """See whether the guest keeps to what it may write."""
        self.misuse = self.misuse or misuse(self._share, self._before)
        if not self.misuse and file_size(self._console) > CONSOLE_LIMIT:
            self.misuse = f"it wrote more than {CONSOLE_LIMIT // 2**20} MiB to its console"


def _fill_share(share: Path, request: BootRequest) -> None:
    try:
        shutil.copy(request.kernel, share / "bzImage")
        shutil.copy(request.workload, share / "pipe_bench")
        if not request.plan["mechanism"]:
            shutil.copy(request.workload.with_name(SPEED_CHECK), share)
        (share / "start.py").write_text(_START)
        for module in GUEST_MODULES:
            target = share / "kdelta" / module
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGE / module, target)
        (share / "plan.json").write_text(json.dumps(request.plan))
    except OSError as error:
        raise KdeltaError(
            f"{request.label}: cannot prepare the folder shared with the guest, {share}: {error}"
        ) from error


# How failures of the gate begin that measuring again cannot mend: the image is wrong.
_OF_THE_KERNEL = ("kernel_release", "config_sha256", "/proc/version")


def _passed_gate(records: list[Json]) -> bool:
    gate = records[0].get("gate")
    return isinstance(gate, dict) and bool(gate.get("ok"))


def _changed(end: Json) -> str | None:
    """What the driver found changed after the sweep."""
    return None if end.get("ok") else one_line(str(end.get("error") or "no reason was recorded"))


def _refusal(request: BootRequest, records: list[Json], console: Path) -> str | None:
    """Why this guest says nothing about its kernel: it is not the one asked for."""
    if not records or records[0]["record"] != "boot" or _passed_gate(records):
        return None
    gate = records[0].get("gate")
    found = gate.get("failures") if isinstance(gate, dict) else None
    failures = [one_line(str(failure)) for failure in found] if isinstance(found, list) else []
    why = f"this guest is not the one asked for: {'; '.join(failures)}"
    if any(failure.startswith(_OF_THE_KERNEL) for failure in failures):
        why += (
            f". {request.kernel} is not the kernel that image.json beside it tells of; "
            f"delete {request.kernel.parent} and the cache, {cache_root()}, and run again"
        )
    return f"{request.label}: {why}. Console: {console}"


def _what_went_wrong(
    request: BootRequest,
    records: list[Json],
    ended: GuestExit,
    watch: _Watch,
    share: Path,
    console: Path,
) -> str:
    text = console.read_text(errors="replace") if console.is_file() else ""
    verdict = console_verdict(text)
    said = f" The console says: {verdict!r}." if verdict else ""
    log = f" Console: {console}"
    watch.look()
    if watch.misuse:
        return f"{request.label}: the guest was ended: {watch.misuse}.{said}{log}"
    words = read_file(share / ERROR, ERROR_LIMIT)
    if words is not None:
        told = one_line(words.decode("utf-8", "replace"))
        return f"{request.label}: the driver failed in the guest: {told}.{said}{log}"
    if not records:
        how = (
            f"no sign of life within {request.boot_timeout_s:g} s (guest.boot_timeout_s)"
            if watch.never_began or ended.timed_out
            else f"it ended (status {ended.status}) before its first command"
        )
        last = telling_line(text) or "(the console is empty)"
        ends = f" The console ends with: {last!r}."
        return f"{request.label}: the guest did not boot: {how}.{said or ends}{log}"
    samples = sum(record["record"] in ("sample", "mechanism") for record in records)
    how = "was killed at its deadline" if ended.timed_out else "ended"
    if watch.fell_silent:
        how = f"was given up, silent for {request.plan['silence_s']:g} s,"
    when = f"after {samples} of {len(request.plan['cells'])} cells"
    if request.plan["stressor"] and records[-1]["record"] == "boot":
        when = "while its stressor was to settle, before the first cell"
    return (
        f"{request.label}: the guest {how} {when}."
        f"{said} What it had measured: {console.with_suffix('.partial.jsonl')}.{log}"
    )
