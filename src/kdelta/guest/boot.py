# SPDX-License-Identifier: GPL-2.0-only
"""One boot of one arm: prepare the shared folder, launch, ask for cells, bring the records home.

A guest lives beside the others of its block. Exactly one runs at a time, once they are ready;
the others are stopped, and their deadlines with them.
"""

from __future__ import annotations

import contextlib
import json
import math
import py_compile
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kdelta.architecture import Architecture
from kdelta.errors import KdeltaError
from kdelta.guest.control import LineError
from kdelta.guest.disk import make_disk
from kdelta.guest.launch import SHARE_IN_GUEST, Guest, GuestSpec, guest_python
from kdelta.guest.pinning import Pinning
from kdelta.guest.share import INIT, RECORDS, RECORDS_LIMIT, read_file, shared_folder
from kdelta.guest.watch import Watch, changed, passed_gate, read_records

Json = dict[str, Any]

PACKAGE = Path(__file__).resolve().parents[1]

# What runs in the guest; these modules import the standard library and each other.
TIMED_MODULES = (
    "guest/driver.py",
    "guest/conditions.py",
    "guest/counters.py",
    "guest/gate.py",
    "guest/speed.py",
    "guest/stressor.py",
)
GUEST_MODULES = (
    *TIMED_MODULES,
    "__init__.py",
    "guest/__init__.py",
    *sorted(f"probes/{path.name}" for path in (PACKAGE / "probes").glob("*.py")),
)
_START = f"""\
import sys
sys.path.insert(0, "{SHARE_IN_GUEST}")
from pathlib import Path
from kdelta.guest.driver import main
sys.exit(main(Path("{SHARE_IN_GUEST}")))
"""

_KERNEL = "vmlinuz"  # in the shared folder

# A guest switches itself off after its last record; TCG guests take seconds to.
POWER_OFF_S = 60.0

ENDING_S = 2.0
"""So long a guest whose monitor or port is gone may take to end."""


@dataclass(frozen=True)
class BootRequest:
    """What one boot is to do.

    Attributes:
        label: how messages name it, for example "idle, block 3, arm patched".
        arch: of the guest.
        kernel: the arm's image.
        ready: it was built elsewhere: booted where it lies, beside its modules.
        programs: folder of the programs that run in it.
        plan: the driver's plan (see `kdelta.measure.plan`).
        cpu: CPU model as QEMU's -cpu takes it; None: virtme-ng's choice.
        boot_timeout_s: the driver must have written its first record by then, which it does
            before the stressor settles.
        deadline_s: seconds after which the guest is killed, whatever it does; it counts the
            time in which others of its block run.
        pinning: host CPUs for the guest; None leaves it to the host's scheduler.
        boot_parameters: words of the kernel's command line besides ours.
        root: the guest's root file system; None: the host's.
        disk_bytes: size of its scratch disk; 0: it has none.
    """

    label: str
    arch: Architecture
    kernel: Path
    programs: Path
    acceleration: str
    vcpus: int
    memory_mib: int
    plan: Json
    boot_timeout_s: float
    deadline_s: float
    pinning: Pinning | None = None
    cpu: str | None = None
    boot_parameters: tuple[str, ...] = ()
    ready: bool = False
    root: Path | None = None
    disk_bytes: int = 0


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
    """A boot that came to its end.

    Attributes:
        records: all that the driver wrote.
        boot_s: seconds from the launch to the first record.
        pinned: its vCPUs were pinned, where that was asked for.
        changed: how the guest was no longer as it was asked for when all was measured; None:
            it was.
    """

    records: list[Json]
    boot_s: float
    pinned: bool = False
    changed: str | None = None


class LiveBoot:
    """A guest from its launch to its last record; it runs until `close`.

    Attributes:
        ready: it has booted, passed its gate and settled, and waits to be asked for cells.
        boot_s: seconds from the launch to the first record; None before it.
    """

    def __init__(self, request: BootRequest, console: Path) -> None:
        """Launch it.

        Args:
            request: what to do.
            console: receives the guest's console; kept whatever happens.

        Raises:
            KdeltaError: the host cannot run it.
        """
        self._request = request
        self._console = console
        self.ready = False
        with contextlib.ExitStack() as stack:
            share = stack.enter_context(shared_folder())
            _fill_share(share, request)
            self._watch = Watch(request, share, console)
            # Beside the folder that the guest sees, and deleted with it.
            disk = make_disk(share.parent, request.disk_bytes) if request.disk_bytes else None
            spec = GuestSpec(
                arch=request.arch,
                root=request.root,
                kernel=request.kernel if request.ready else share / _KERNEL,
                acceleration=request.acceleration,
                vcpus=request.vcpus,
                memory_mib=request.memory_mib,
                share=share,
                command=(guest_python(request.root), "-I", "-S", f"{SHARE_IN_GUEST}/start.py"),
                pinning=request.pinning,
                cpu=request.cpu,
                kernel_arguments=request.boot_parameters,
                disk=disk,
            )
            self._guest = Guest(spec, console, request.deadline_s)
            self._open = stack.pop_all()
        self._share = share

    def close(self) -> None:
        """End it, whatever it does; what it had measured short of its end is kept."""
        try:
            self._guest.end()
            # Whatever stops us, what was measured is worth keeping to look at.
            if self.records() and not self._over():
                self._keep_partial()
        finally:
            self._open.close()

    @property
    def boot_s(self) -> float | None:
        return self._watch.boot_s

    def records(self) -> list[Json]:
        """What it has written so far."""
        return read_records(self._share / RECORDS)

    def cpu_s(self) -> float:
        """CPU seconds that it has used since its launch."""
        return self._guest.cpu_s()

    def look(self, wait_s: float = 0.0) -> None:
        """See how far it is on its way to be ready.

        Raises:
            BootError, KdeltaError: as `measure` does.
        """
        if self._hears("ready", wait_s):
            self.ready = True

    def measure(self, cell: int, place: Json) -> None:
        """Let it run one cell, while no other guest runs, and write its record.

        Args:
            cell: number of the cell in the plan.
            place: where the record belongs in the block.

        Raises:
            BootError: it died, fell silent or misbehaved.
            KdeltaError: it was not the guest asked for, or the host cannot run it.
        """
        self._say({"cell": cell, "place": place})
        self._watch.restart()
        while not self._hears("done", 0.05):
            pass

    def stop(self) -> None:
        """Stop its CPUs and clocks, so that another guest may have the host.

        Raises:
            BootError: it is gone.
        """
        try:
            self._guest.stop()
        except LineError as error:
            self._fail(error)

    def go_on(self) -> None:
        """Let its CPUs and clocks go on.

        Raises:
            BootError: it is gone.
        """
        try:
            self._guest.go_on()
        except LineError as error:
            self._fail(error)
        self._watch.restart()

    def finish(self) -> BootResult:
        """Let it write its last record and switch off.

        Raises:
            BootError, KdeltaError: as `measure` does.
        """
        self._say({"end": True})
        self._watch.restart()
        size, deadline = 0, math.inf
        # All is said: a guest that hangs at power-off need not be waited for.
        while self._guest.alive and time.monotonic() < deadline:
            if math.isinf(deadline) and not self._watch():
                self._fail()
            if self._watch.size != size:
                size = self._watch.size
                deadline = time.monotonic() + POWER_OFF_S if self._over() else math.inf
            time.sleep(0.05)
        if not self._over():
            self._fail()
        pinned = self._guest.end().pinned
        records = self.records()
        return BootResult(records, self.boot_s or 0.0, pinned, changed(records[-1]))

    def _say(self, message: Json) -> None:
        try:
            self._guest.port.say(message)
        except LineError as error:
            self._fail(error)

    def _hears(self, word: str, wait_s: float) -> bool:
        """Whether the driver said this; anything else that it may say is a failure."""
        if self._watch.boot_s is None:
            self._guest.pin()
        # Asked before the port is read: what it said before it ended is heard.
        alive = self._guest.alive
        try:
            said = self._guest.port.lines(wait_s)
        except LineError as error:
            self._fail(error)
        good = self._watch()
        if said == [word]:
            return True
        if said:
            self._fail(LineError(f"it says {said[0][:80]!r} where it was to say {word!r}"))
        if not alive or not good or (self._guest.port.over and self._watch.boot_s is not None):
            self._fail()
        return False

    def _over(self) -> bool:
        records = self.records()
        return bool(records) and records[-1]["record"] == "end" and passed_gate(records)

    def _keep_partial(self) -> None:
        kept = read_file(self._share / RECORDS, RECORDS_LIMIT) or b""
        self._console.with_suffix(".partial.jsonl").write_bytes(kept)

    def _fail(self, error: LineError | None = None) -> NoReturn:
        """Say what went wrong, once nothing of the guest runs any more."""
        self._watch.look()
        # Where its lines are dead it is about to end by itself, and then its status tells more;
        # killed at its deadline, it loses them before its supervisor has ended.
        dead = error is not None or self._guest.port.over
        deadline = time.monotonic() + (ENDING_S if dead else 0.0)
        while self._guest.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        ended = self._guest.end()
        records = self.records()
        if refusal := self._watch.refusal(records):
            raise KdeltaError(refusal)
        raise BootError(self._watch.what_went_wrong(records, ended, error), records)


def _fill_share(share: Path, request: BootRequest) -> None:
    try:
        if not request.ready:
            shutil.copy(request.kernel, share / _KERNEL)
        for program in (INIT, *request.plan["programs"]):
            shutil.copy(request.programs / program, share)
        (share / "start.py").write_text(_START)
        for module in GUEST_MODULES:
            target = share / "kdelta" / module
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGE / module, target)
            # Compiling takes a second there. Python of another version does it again.
            py_compile.compile(
                str(target),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        (share / "plan.json").write_text(json.dumps(request.plan))
    except OSError as error:
        raise KdeltaError(
            f"{request.label}: cannot prepare the folder shared with the guest, {share}: {error}"
        ) from error
