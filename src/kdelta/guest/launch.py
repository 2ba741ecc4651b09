# SPDX-License-Identifier: GPL-2.0-only
"""Launching one guest with virtme-ng, and making sure that it ends.

`vng` starts a shell, which starts virtme-run, which becomes QEMU. They run in a
session of their own below a supervisor (`supervise.py`) that kills all of them
when the deadline passes or when kdelta is gone, however it went.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kdelta.errors import KdeltaError
from kdelta.guest import supervise
from kdelta.guest.pinning import DEBUG_THREADS, Pinning, pin_vcpus
from kdelta.guest.share import harmless
from kdelta.kernel.process import clean_environment

# Where the shared folder appears in the guest: /run is a tmpfs there, so that
# the mount point exists whatever the host's root looks like.
SHARE_IN_GUEST = "/run/kdelta"


@dataclass(frozen=True)
class GuestSpec:
    """One guest to boot.

    Attributes:
        kernel: bzImage.
        acceleration: `kvm` or `tcg`.
        cpu: CPU model as QEMU's -cpu takes it; None: virtme-ng's choice.
        vcpus: number of virtual CPUs.
        memory_mib: guest memory in MiB.
        share: folder shared with the guest, read-write, at `SHARE_IN_GUEST`. Its path and the
            kernel's may hold no character that a shell minds.
        command: what the guest runs, as root; it powers off afterwards.
        pinning: host CPUs for the guest; None: wherever the host's scheduler puts it.
    """

    kernel: Path
    acceleration: str
    vcpus: int
    memory_mib: int
    share: Path
    command: str
    kernel_arguments: tuple[str, ...] = field(default=())
    pinning: Pinning | None = None
    cpu: str | None = None


@dataclass(frozen=True)
class GuestExit:
    """How a guest ended: the launcher's exit status (None: killed) and wall time in seconds.

    Attributes:
        pinned: every vCPU was pinned, where that was asked for.
    """

    status: int | None
    timed_out: bool
    wall_s: float
    pinned: bool = False


def vng_argv(spec: GuestSpec) -> list[str]:
    """The virtme-ng command line of a guest.

    Raises:
        KdeltaError: a path holds characters that vng's shell would take for its own.
    """
    for path in (spec.kernel, spec.share):
        if not harmless(str(path)):
            raise KdeltaError(
                f"{path}: a guest cannot be started with this path, since vng puts it into a "
                "shell line as it is; use one of letters, digits and ._/+@-"
            )
    argv = [
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
        "--exec",
        spec.command,
    ]
    if spec.pinning:
        argv.append(DEBUG_THREADS)
    if spec.cpu:
        # QEMU takes the last of several, and virtme-ng puts these behind its own.
        argv.append(f"--qemu-opts=-cpu {spec.cpu}")
    if spec.acceleration == "tcg":
        argv.append("--disable-kvm")
    for argument in spec.kernel_arguments:
        argv += ["--append", argument]
    return argv


def guest_python() -> str:
    """The interpreter that runs the driver: the real binary behind any virtual environment."""
    return str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}").resolve())


def require_tools() -> None:
    """Check that what a launch needs is installed.

    Raises:
        KdeltaError: naming the missing program and its package.
    """
    for program, package in (("vng", "virtme-ng"), ("qemu-system-x86_64", "qemu-system-x86")):
        if shutil.which(program, path=launch_path()) is None:
            raise KdeltaError(
                f"{program} is not installed; install {package} (`make setup` does) and try again"
            )
    # Without udev the guest has no /dev/virtio-ports and its output is lost.
    if not any(Path(p).exists() for p in ("/usr/lib/systemd/systemd-udevd", "/sbin/udevd")):
        raise KdeltaError("udev is not installed; guests need it: apt-get install udev")


def run_guest(
    spec: GuestSpec,
    console: Path,
    deadline_s: float,
    watch: Callable[[], bool] = lambda: True,
    booting: Callable[[], bool] = lambda: True,
) -> GuestExit:
    """Boot a guest and wait for its end.

    Args:
        spec: the guest.
        console: file that receives the guest's console, from its first byte.
        deadline_s: seconds after which everything is killed.
        watch: called ten times a second; False gives the guest up at once.
        booting: whether nothing is measured yet. Only as long are vCPU threads looked for,
            since that reads all of /proc.

    Returns:
        How it ended. Nothing of it runs any more.

    Raises:
        KdeltaError: the console's file cannot be written (a full disk, say).
    """
    begun = time.monotonic()
    gave_up = False
    # Unbuffered: what the guest said last matters most when we are killed too.
    with console.open("wb", buffering=0) as log:
        process = subprocess.Popen(
            [sys.executable, "-I", supervise.__file__, str(deadline_s), *vng_argv(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=spec.share,
            env=_environment(spec.share),
        )
        # QEMU opens its stdout several times over; into a file the pieces
        # would overwrite each other, into a pipe they follow each other.
        assert process.stdout is not None
        unwritten: list[OSError] = []
        pump = threading.Thread(target=_pump, args=(process.stdout, log, unwritten), daemon=True)
        pump.start()
        pinned = False
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if spec.pinning and not pinned and booting():
                    pinned = pin_vcpus(process.pid, spec.pinning.cpus, spec.pinning.rest)
                if not watch():
                    gave_up = True
                    break
        finally:
            _end(process)
            pump.join(timeout=10)
    if unwritten:
        raise KdeltaError(f"{console}: the guest's console cannot be written: {unwritten[0]}")
    status = None if gave_up else process.returncode
    timed_out = status == supervise.TIMED_OUT
    wall_s = time.monotonic() - begun
    return GuestExit(None if timed_out else status, timed_out, wall_s, pinned)


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
