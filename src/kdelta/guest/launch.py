# SPDX-License-Identifier: GPL-2.0-only
"""Launching guests with virtme-ng, and making sure that they end.

`vng` starts a shell, which starts virtme-run, which becomes QEMU. They run in a
session of their own below a supervisor (`supervise.py`) that kills all of them
when the deadline passes or when kdelta is gone, however it went.

virtme-ng makes the machine: its devices, the host's root as the guest's, the shared folder. What
it would run there is replaced: the kernel's command line is ours, and so is the first process
(`src/guest_init`), which is done in milliseconds where udev and systemd-tmpfiles take seconds.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kdelta.architecture import Architecture
from kdelta.errors import KdeltaError
from kdelta.guest import supervise
from kdelta.guest.control import Monitor, Port
from kdelta.guest.disk import disk_options
from kdelta.guest.pinning import DEBUG_THREADS, Pinning, pin_vcpus
from kdelta.guest.share import INIT, harmless, kill_users
from kdelta.kernel.process import clean_environment
from kdelta.workload.guest_root import INIT_IN_ROOT, PYTHON

# Where the shared folder appears in the guest: /run is a tmpfs there, so that
# the mount point exists whatever the host's root looks like.
SHARE_IN_GUEST = "/run/kdelta"

# A panic ends the guest at once; whatever the kernel prints goes to the console. The root changes
# under no guest: caching it makes programs start three times as fast.
KERNEL_ARGUMENTS = (
    "loglevel=7",
    "panic=-1",
    "rootfstype=9p",
    "rootflags=version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose",
    "ro",
)


@dataclass(frozen=True)
class GuestSpec:
    """One guest to boot.

    Attributes:
        arch: its architecture.
        kernel: what is booted.
        acceleration: `kvm` or `tcg`.
        cpu: CPU model as QEMU's -cpu takes it; None: virtme-ng's choice.
        vcpus: number of virtual CPUs.
        memory_mib: guest memory in MiB.
        share: folder shared with the guest, read-write, at `SHARE_IN_GUEST`, with `INIT` in it.
            Its path and the kernel's may hold no character that a shell minds. The guest's two
            sockets lie beside it, in a folder that only this user may enter.
        command: program and arguments that the guest runs, as root; it powers off afterwards.
        pinning: host CPUs for the guest; None: wherever the host's scheduler puts it.
        root: the guest's root file system, made by `workload.guest_root`; None: the host's.
        disk: file of its scratch disk; None: it has none.
    """

    arch: Architecture
    kernel: Path
    acceleration: str
    vcpus: int
    memory_mib: int
    share: Path
    command: tuple[str, ...]
    kernel_arguments: tuple[str, ...] = field(default=())
    pinning: Pinning | None = None
    cpu: str | None = None
    root: Path | None = None
    disk: Path | None = None


@dataclass(frozen=True)
class GuestExit:
    """How a guest ended.

    Attributes:
        status: the launcher's exit status; None: it was killed.
        timed_out: at its deadline.
        pinned: every vCPU was pinned, where that was asked for.
    """

    status: int | None
    timed_out: bool
    pinned: bool


def kernel_command_line(spec: GuestSpec) -> str:
    """What the kernel is told: its console, its root, and what to run."""
    return " ".join(
        [
            *spec.arch.console,
            *KERNEL_ARGUMENTS,
            *(spec.arch.kvm_arguments if spec.acceleration == "kvm" else ()),
            *spec.kernel_arguments,
            f"init=/{INIT_IN_ROOT}" if spec.root else f"init={spec.share / INIT}",
            "--",
            SHARE_IN_GUEST,
            *spec.command,
        ]
    )


def vng_argv(spec: GuestSpec, qemu_options: list[str] | None = None) -> list[str]:
    """The virtme-ng command line of a guest.

    Args:
        spec: the guest.
        qemu_options: further options of QEMU's.

    Raises:
        KdeltaError: a path holds characters that vng's shell would take for its own.
    """
    paths = (spec.kernel, spec.share, *filter(None, [spec.root]), *map(Path, spec.command))
    for path in paths:
        if not harmless(str(path)):
            raise KdeltaError(
                f"{path}: a guest cannot be started with this path, since vng puts it into a "
                "shell line as it is; use one of letters, digits and ._/+@-"
            )
    # Of its options QEMU takes the last, and virtme-ng puts these behind its own.
    qemu = ["-append", kernel_command_line(spec), *(qemu_options or [])]
    if spec.pinning:
        qemu += DEBUG_THREADS
    if spec.cpu:
        qemu += ["-cpu", spec.cpu]
    if spec.disk:
        qemu += disk_options(spec.disk)
    return [
        "vng",
        "--run",
        str(spec.kernel),
        "--user",
        "root",
        "--cpus",
        str(spec.vcpus),
        "--memory",
        f"{spec.memory_mib}M",
        # Debian 12's virtiofsd does not understand virtme-ng, which waits ten
        # seconds for it before it falls back to 9p: choose 9p at once, everywhere.
        "--force-9p",
        f"--rwdir={SHARE_IN_GUEST}={spec.share}",
        # Without it the console, and with it a panic, is thrown away.
        "--verbose",
        # Not run: it keeps vng from asking for a terminal.
        "--exec",
        "true",
        f"--qemu-opts={shlex.join(qemu)}",
        *(["--disable-kvm"] if spec.acceleration == "tcg" else []),
        *(["--arch", spec.arch.name] if not spec.arch.native else []),
        *(["--root", str(spec.root)] if spec.root else []),
    ]


def guest_python(root: Path | None = None) -> str:
    """The interpreter that runs the driver, as guests have it.

    Args:
        root: of the guests; None: the host's, and then it is the real binary behind any virtual
            environment.
    """
    if root is not None:
        return f"/{PYTHON}"
    return str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}").resolve())


def require_tools(arch: Architecture) -> None:
    """Check that what a launch needs is installed.

    Args:
        arch: of the guests.

    Raises:
        KdeltaError: naming the missing program and its package.
    """
    if not arch.native and shutil.which(arch.qemu, path=launch_path()) is None:
        raise KdeltaError(
            f"guests of {arch.title} need {arch.qemu}, which this host does not have; "
            f"on Debian: {arch.packages_text()}"
        )
    for program, package in (("vng", "virtme-ng"), (arch.qemu, arch.qemu_package)):
        if shutil.which(program, path=launch_path()) is None:
            raise KdeltaError(
                f"{program} is not installed; install {package} (`make setup` does) and try again"
            )


class Guest:
    """A guest below a supervisor of its own, which runs until `end`.

    Attributes:
        port: the driver's port.
        pinned: every vCPU was pinned, where that was asked for.
    """

    def __init__(self, spec: GuestSpec, console: Path, deadline_s: float) -> None:
        """Launch it.

        Args:
            spec: the guest.
            console: file that receives the guest's console, from its first byte.
            deadline_s: seconds after which everything is killed.

        Raises:
            KdeltaError: it cannot be launched from this path, or the console's file not be made.
        """
        self._spec = spec
        self._console = console
        self._unwritten: list[OSError] = []
        self._processes: set[int] = set()
        self._exit: GuestExit | None = None
        self.pinned = False
        with contextlib.ExitStack() as stack:
            self.port = stack.enter_context(
                contextlib.closing(Port(spec.share.with_name("port.sock")))
            )
            self._monitor = stack.enter_context(
                contextlib.closing(Monitor(spec.share.with_name("qmp.sock")))
            )
            argv = vng_argv(spec, [*self.port.options(), *self._monitor.options()])
            # Unbuffered: what the guest said last matters most when we are killed too.
            log = stack.enter_context(console.open("wb", buffering=0))
            self._process = subprocess.Popen(
                [sys.executable, "-I", supervise.__file__, str(deadline_s), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=spec.share,
                env=_environment(spec.share),
            )
            # QEMU opens its stdout several times over; into a file the pieces
            # would overwrite each other, into a pipe they follow each other.
            assert self._process.stdout is not None
            self._pump = threading.Thread(
                target=_pump, args=(self._process.stdout, log, self._unwritten), daemon=True
            )
            self._pump.start()
            self._open = stack.pop_all()

    def wait(self) -> GuestExit:
        """Wait until it has ended by itself or at its deadline, and end it if that is interrupted.

        Raises:
            KdeltaError: as `end` does.
        """
        try:
            while self.alive:
                time.sleep(0.1)
        finally:
            ended = self.end()
        return ended

    def end(self) -> GuestExit:
        """End it, if it has not ended by itself: nothing of it runs any more.

        Raises:
            KdeltaError: the console's file could not be written (a full disk, say).
        """
        if self._exit is None:
            gave_up = self.alive
            _end(self._process)
            if self._process.returncode < 0:  # it was killed, and could not end the guest
                kill_users(self._spec.share)
            self._pump.join(timeout=10)
            self._open.close()
            status = None if gave_up else self._process.returncode
            timed_out = status == supervise.TIMED_OUT
            self._exit = GuestExit(None if timed_out else status, timed_out, self.pinned)
        if self._unwritten:
            raise KdeltaError(
                f"{self._console}: the guest's console cannot be written: {self._unwritten[0]}"
            )
        return self._exit

    @property
    def alive(self) -> bool:
        """Whether its supervisor runs, and with it whatever is left of the guest."""
        return self._process.poll() is None

    def pin(self) -> None:
        """Pin its vCPUs, once they are there: call it again and again while it boots."""
        pinning = self._spec.pinning
        if pinning and not self.pinned:
            self.pinned = pin_vcpus(self._process.pid, pinning.cpus, pinning.rest)

    def stop(self) -> None:
        """Stop its CPUs, and with them its clocks.

        Raises:
            LineError: it is gone, or QEMU does not answer.
        """
        self._monitor.execute("stop", lambda: self.alive)

    def go_on(self) -> None:
        """Let its CPUs and clocks go on.

        Raises:
            LineError: it is gone, or QEMU does not answer.
        """
        self._monitor.execute("cont", lambda: self.alive)

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used since they were started."""
        # Looked for once: that reads all of /proc, and QEMU starts no others.
        self._processes = self._processes or supervise.descendants(self._process.pid)
        ticks = 0
        for pid in self._processes:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _pump(source: IO[bytes], log: IO[bytes], unwritten: list[OSError]) -> None:
    # Reads on when the disk is full: a guest whose console nobody reads hangs.
    while piece := os.read(source.fileno(), 65536):
        try:
            if not unwritten:
                log.write(piece)
        except OSError as error:
            unwritten.append(error)


def _end(process: subprocess.Popen[bytes]) -> None:
    # The supervisor takes the end of its stdin as the end of kdelta.
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def launch_path() -> str:
    """PATH of what is launched: the scripts of this environment first, activated or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _environment(share: Path) -> dict[str, str]:
    # As little as a build sees: vng puts TERM on the kernel's command line, QEMU and Python
    # have variables of their own. A user's ~/.config/virtme-ng would silently change the
    # guest: hide it. vng's own temporary files are named on a shell line too.
    home = str(share)
    return clean_environment(
        {"PATH": launch_path(), "HOME": home, "XDG_CONFIG_HOME": home, "TMPDIR": str(share.parent)}
    )
