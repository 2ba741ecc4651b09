# SPDX-License-Identifier: GPL-2.0-only
"""The pressure program: started once per boot, settled before the sweep, watched until its end.

Runs in the guest: standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from kdelta.guest.conditions import as_ordinary_process
from kdelta.guest.counters import parse_vmstat

Json = dict[str, Any]

SETTLE_POLL_S = 0.5
SETTLE_STABLE_POLLS = 3
SETTLE_RECLAIM_POLLS = 4
# Of its memory, over all of these polls: one that fills memory on a busy emulated CPU grows by a
# few per cent in a poll.
SETTLE_TOLERANCE = 0.005
# Its start-up alone is a few MiB; nothing has been pressed yet.
SETTLE_LEAST_KIB = 16 * 1024


class Group(NamedTuple):
    """A process group at one moment.

    Attributes:
        resident_kib: its memory; shared pages count once per process.
        runnable: of its processes that run or wait for a CPU, how long each has run so far
            (nanoseconds, as text), where the kernel tells that.
    """

    resident_kib: int
    runnable: dict[str, str]

    def starved_since(self, earlier: Group) -> bool:
        """Whether one of its processes has waited for a CPU all the time since then."""
        return bool(self.runnable.items() & earlier.runnable.items())


def observe_group(pgid: int, proc: Path = Path("/proc")) -> Group:
    """What a process group is now."""
    total, runnable = 0, {}
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    # Listed, not globbed, as in supervise.py.
    for process in (folder for folder in proc.iterdir() if folder.name.isdigit()):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) != pgid:
                continue
            ran = process / "schedstat"
            if fields[0] == "R" and ran.exists():
                runnable[process.name] = ran.read_text().split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between listing and reading
        total += int(fields[21]) * page_kib
    return Group(total, runnable)


def program_version(program: str) -> str:
    """What a program prints for --version; empty if it hangs or prints nothing."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def allocation_stalls(proc: Path = Path("/proc")) -> int:
    """How often an allocation had to go into direct reclaim since boot, over all zones."""
    vmstat = parse_vmstat((proc / "vmstat").read_text())
    return sum(value for name, value in vmstat.items() if name.startswith("allocstall_"))


class Stressor:
    """The pressure program: started once per boot, settled, proven alive at the end."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        settled_by: str = "memory",
        settle_s: float | None = None,
    ) -> None:
        """Prepare one.

        Args:
            command: argument vector.
            log: receives its output.
            settled_by: `memory`, `reclaim` or `time`; the first is of the `stressor` in
                config/README.md.
            settle_s: with `time`, the seconds that it runs before it has settled.
        """
        self.command = command
        self._settled_by = settled_by
        self._settle_s = settle_s or 0.0
        import shutil  # takes its time, and most boots have no stressor

        self.program = shutil.which(command[0])
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._settled_kib = 0

    def start(self, settle_timeout_s: float) -> Json:
        """Start it and wait until it has settled, as it is told to judge that."""
        record: Json = {"name": self.command[0], "command": self.command, "settled": False}
        if self.program is None:
            return record | {"error": f"{self.command[0]} is not in the guest's PATH"}
        record["version"] = program_version(self.program)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.program, *self.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=as_ordinary_process,
            )
        begun = time.monotonic()
        record["settled"] = self._wait_settled(begun + settle_timeout_s)
        record["settle_s"] = round(time.monotonic() - begun, 3)
        record["resident_kib"] = self._settled_kib or observe_group(self._process.pid).resident_kib
        if not record["settled"]:
            record["error"] = "; ".join(self._log.read_text().strip().splitlines()[-3:])
            if not record["error"] and self._process.poll() is None:
                record["error"] = self._why_unsettled()
        return record

    def _why_unsettled(self) -> str:
        assert self._process is not None
        if self._settled_by == "reclaim":
            return "it did not make the kernel reclaim again and again (settled_by: reclaim)"
        kib = observe_group(self._process.pid).resident_kib
        if kib <= SETTLE_LEAST_KIB:
            return (
                f"it has {kib} KiB of memory, and settled_by: memory waits for more than "
                f"{SETTLE_LEAST_KIB}; a stressor of something else is settled_by: time"
            )
        return f"its memory, {kib} KiB by now, did not stop growing (settled_by: memory)"

    def _wait_settled(self, deadline: float) -> bool:
        assert self._process is not None
        if self._settled_by == "time":
            return self._wait_for_time()
        by_memory = self._settled_by == "memory"
        polls = SETTLE_STABLE_POLLS if by_memory else SETTLE_RECLAIM_POLLS
        calm, settled_kib = 0, 0
        last, last_stalls = observe_group(self._process.pid), allocation_stalls()
        while time.monotonic() < deadline:
            time.sleep(SETTLE_POLL_S)
            if self._process.poll() is not None:
                return False
            group, stalls = observe_group(self._process.pid), allocation_stalls()
            if by_memory:
                kib = group.resident_kib
                # Also one that does not grow since it waits for a CPU has not settled.
                good = (
                    kib > SETTLE_LEAST_KIB
                    and abs(kib - settled_kib) <= SETTLE_TOLERANCE * kib
                    and not group.starved_since(last)
                )
                if not good:
                    settled_kib = kib
            else:
                good = stalls > last_stalls
            calm = calm + 1 if good else 0
            last, last_stalls = group, stalls
            if calm >= polls:
                self._settled_kib = group.resident_kib
                return True
        return False

    def _wait_for_time(self) -> bool:
        """Whether it is still there after its time; its memory is none of its purpose."""
        assert self._process is not None
        try:
            self._process.wait(self._settle_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def alive(self) -> bool:
        """True while it runs and, unless settled by time, holds half of what it settled at."""
        if self._process is None or self._process.poll() is not None:
            return False
        return observe_group(self._process.pid).resident_kib >= self._settled_kib // 2

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
