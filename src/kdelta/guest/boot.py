# SPDX-License-Identifier: GPL-2.0-only
"""One boot of one arm: prepare the shared folder, launch, and bring the records home."""

from __future__ import annotations

import json
import shutil
import tempfile
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

Json = dict[str, Any]

PACKAGE = Path(__file__).resolve().parents[1]

# What runs in the guest; these modules import the standard library and each other.
TIMED_MODULES = (
    "guest/driver.py",
    "guest/conditions.py",
    "guest/counters.py",
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


@dataclass(frozen=True)
class BootRequest:
    """What one boot is to do.

    Attributes:
        label: how messages name it, for example "idle, block 3, arm patched".
        kernel: the arm's bzImage.
        workload: the static benchmark binary.
        plan: the driver's plan (see `kdelta.measure.plan`).
        cpu: CPU model as QEMU's -cpu takes it; None: virtme-ng's choice.
        boot_timeout_s: the driver must have written its first record by then.
        sweep_timeout_s: seconds the whole sweep may take after that.
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
    """Records of a completed boot, its times in seconds, and whether its vCPUs were pinned."""

    records: list[Json]
    boot_s: float
    wall_s: float
    pinned: bool = False


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
    with tempfile.TemporaryDirectory(prefix="kdelta-boot-") as folder:
        share = Path(folder)
        _fill_share(share, request)
        records_path = share / "records.jsonl"
        watch = _Watch(request, records_path, on_progress)
        spec = GuestSpec(
            kernel=share / "bzImage",
            acceleration=request.acceleration,
            vcpus=request.vcpus,
            memory_mib=request.memory_mib,
            share=share,
            command=f"{guest_python()} -I -S {SHARE_IN_GUEST}/start.py",
            pinning=request.pinning,
            cpu=request.cpu,
        )
        deadline = request.boot_timeout_s + request.sweep_timeout_s + POWER_OFF_S
        try:
            ended = run_guest(spec, console, deadline, watch)
        finally:
            # Whatever stops us, what was measured is worth keeping to look at.
            records = read_records(records_path)
            complete = bool(records) and records[-1]["record"] == "end" and records[-1]["ok"]
            if records and not complete:
                shutil.copy(records_path, console.with_suffix(".partial.jsonl"))
        if not complete:
            refusal = _refusal(request, records, console)
            if refusal:
                raise KdeltaError(refusal)
            raise BootError(
                _what_went_wrong(request, records, ended, watch, share, console), records
            )
        return BootResult(records, watch.boot_s or ended.wall_s, ended.wall_s, ended.pinned)


def read_records(path: Path) -> list[Json]:
    """The complete records of a file; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def console_verdict(console: str) -> str | None:
    """The line of a console that says why the guest died, if one does."""
    for sign in ("Kernel panic", "Out of memory", "BUG:", "Oops", "not syncing", "No init found"):
        for line in console.splitlines():
            if sign in line:
                return line.strip()
    return None


class _Watch:
    """Follows the records; gives up a guest that never begins, or that does not switch off."""

    def __init__(
        self, request: BootRequest, records: Path, on_progress: Callable[[int], None]
    ) -> None:
        self._request = request
        self._records = records
        self._on_progress = on_progress
        self._begun = time.monotonic()
        self._size = 0
        self._over: float | None = None
        self.boot_s: float | None = None
        self.never_began = False

    def __call__(self) -> bool:
        size = self._records.stat().st_size if self._records.exists() else 0
        if size != self._size:
            self._size = size
            if self.boot_s is None:
                self.boot_s = time.monotonic() - self._begun
            content = self._records.read_bytes()
            done = content.count(b'\n{"record":"sample"') + content.count(b'\n{"record":"mech')
            self._on_progress(done)
            if b'\n{"record":"end"' in content:
                self._over = time.monotonic()
        settle_s = (self._request.plan["stressor"] or {}).get("settle_timeout_s", 0)
        limit = self._request.boot_timeout_s + settle_s
        self.never_began = self.boot_s is None and time.monotonic() - self._begun > limit
        # All is said: a guest that hangs at power-off need not be waited for.
        hangs = self._over is not None and time.monotonic() - self._over > POWER_OFF_S
        return not (self.never_began or hangs)


def _fill_share(share: Path, request: BootRequest) -> None:
    try:
        shutil.copy(request.kernel, share / "bzImage")
        shutil.copy(request.workload, share / "pipe_bench")
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


def _refusal(request: BootRequest, records: list[Json], console: Path) -> str | None:
    """Why this guest says nothing about its kernel: it is not the one asked for."""
    if records and not records[0]["gate"]["ok"]:
        failures = records[0]["gate"]["failures"]
        why = f"this guest is not the one asked for: {'; '.join(failures)}"
        if any(failure.startswith(_OF_THE_KERNEL) for failure in failures):
            why += (
                f". {request.kernel} is not the kernel that image.json beside it tells of; "
                f"delete {request.kernel.parent} and the cache, {cache_root()}, and run again"
            )
    elif records and records[-1]["record"] == "end":
        why = f"the guest did not stay as it was asked for: {records[-1].get('error')}"
    else:
        return None
    return f"{request.label}: {why}. Console: {console}"


def _what_went_wrong(
    request: BootRequest,
    records: list[Json],
    ended: GuestExit,
    watch: _Watch,
    share: Path,
    console: Path,
) -> str:
    text = console.read_text(errors="replace") if console.exists() else ""
    verdict = console_verdict(text)
    said = f" The console says: {verdict!r}." if verdict else ""
    log = f" Console: {console}"
    words = share / "driver-error.txt"
    if words.exists():
        return (
            f"{request.label}: the driver failed in the guest: {words.read_text().strip()}."
            f"{said}{log}"
        )
    if not records:
        how = (
            f"no sign of life within {request.boot_timeout_s:g} s (guest.boot_timeout_s)"
            if watch.never_began or ended.timed_out
            else f"it ended (status {ended.status}) before its first command"
        )
        last = telling_line(text) or "(the console is empty)"
        return (
            f"{request.label}: the guest did not boot: {how}."
            f"{said or f' The console ends with: {last!r}.'}{log}"
        )
    samples = sum(record["record"] in ("sample", "mechanism") for record in records)
    how = "was killed at its deadline" if ended.timed_out else "ended"
    return (
        f"{request.label}: the guest {how} after {samples} of {len(request.plan['cells'])} cells."
        f"{said} What it had measured: {console.with_suffix('.partial.jsonl')}.{log}"
    )
