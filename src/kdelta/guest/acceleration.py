# SPDX-License-Identifier: GPL-2.0-only
"""Which acceleration guests run with: KVM where it works, else emulation, with the reason.

That /dev/kvm exists says little: some nested hypervisors offer it, create
virtual CPUs, and still never run a kernel. So the probe boots the kernel that
was built, under a deadline, and asks the guest what executes it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.guest.launch import SHARE_IN_GUEST, GuestSpec, require_tools, run_guest
from kdelta.guest.share import read_file, shared_folder
from kdelta.plain import printable

PROBE_DEADLINE_S = 20.0
_CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource"


@dataclass(frozen=True)
class Acceleration:
    """`kvm` or `tcg`, what the experiment asked for, and why it is this one."""

    mode: str
    requested: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def choose(
    requested: str,
    kernel: Path,
    device: Path = Path("/dev/kvm"),
    deadline_s: float = PROBE_DEADLINE_S,
) -> Acceleration:
    """Decide the acceleration of a run.

    Args:
        requested: `auto`, `kvm` or `tcg`.
        kernel: the bzImage that is going to be measured.
        device: KVM's device node.
        deadline_s: how long a guest under KVM may take to its first command.

    Raises:
        KdeltaError: `kvm` was asked for and does not work here.
    """
    require_tools()
    if requested == "tcg":
        return Acceleration("tcg", requested, "emulation was asked for (guest.acceleration: tcg)")
    refusal = device_refusal(device)
    if refusal is None:
        refusal = boot_refusal(kernel, deadline_s)
    if refusal is None:
        return Acceleration("kvm", requested, "the built kernel boots with KVM on this host")
    if requested == "kvm":
        raise KdeltaError(
            f"guest.acceleration is kvm, but KVM does not work on this host: {refusal}. "
            "Use another host, or set guest.acceleration to auto or tcg "
            "(emulated: not a measurement)"
        )
    return Acceleration("tcg", requested, f"KVM does not work on this host: {refusal}")


def device_refusal(device: Path) -> str | None:
    """Why KVM's device cannot be used at all, or None."""
    if not device.exists():
        return f"{device} does not exist"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission to open {device} (is this user in the group kvm?)"
    return None


def boot_refusal(kernel: Path, deadline_s: float) -> str | None:
    """Why the kernel does not run under KVM, found by booting it, or None if it does."""
    with shared_folder() as share:
        image = Path(shutil.copy(kernel, share / "bzImage"))
        answer = share / "clocksources"
        spec = GuestSpec(
            kernel=image,
            acceleration="kvm",
            vcpus=1,
            memory_mib=512,
            share=share,
            command=f"cat {_CLOCKSOURCES} > {SHARE_IN_GUEST}/clocksources",
        )
        console = share / "console.log"
        ended = run_guest(spec, console, deadline_s)
        if clocks := read_file(answer, 4096):
            # QEMU falls back to emulation by itself when KVM refuses to start.
            return None if b"kvm-clock" in clocks else "QEMU fell back to emulation"
        if ended.timed_out:
            return f"a guest with KVM did not reach its first command within {deadline_s:g} s"
        words = last_line(console.read_text(errors="replace"))
        return f"a guest with KVM ended (status {ended.status}) before its first command" + (
            f", saying {words!r}" if words else ""
        )


def last_line(text: str) -> str:
    """The last line of a console that holds anything, shortened."""
    lines = [words for line in text.splitlines() if (words := printable(line).strip())]
    return lines[-1][-200:] if lines else ""
