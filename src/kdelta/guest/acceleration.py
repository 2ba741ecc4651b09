# SPDX-License-Identifier: GPL-2.0-only
"""Which acceleration guests run with: KVM where it works, else emulation, with the reason.

That /dev/kvm exists says little: some nested hypervisors offer it, create
virtual CPUs, and still never run a kernel. So the probe goes from what is quick
to what is certain: the device; QEMU with KVM and a hundred bytes of kernel
(`src/cpu_check`); and at last a kernel configured for KVM, booted under a
deadline and asked what executes it. That one takes minutes to build, and is
built only if nothing has spoken against KVM by then.
"""

from __future__ import annotations

import inspect
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdelta.architecture import Architecture
from kdelta.cache import cache_root
from kdelta.errors import KdeltaError
from kdelta.guest.gate import whole_text
from kdelta.guest.launch import (
    SHARE_IN_GUEST,
    Guest,
    GuestSpec,
    guest_python,
    launch_path,
    require_tools,
)
from kdelta.guest.share import INIT, read_file, shared_folder
from kdelta.host.facts import node_name
from kdelta.host.lock import host_lock
from kdelta.plain import printable
from kdelta.workload.build import CPU_CHECK, CPU_CHECK_FLAGS, INIT_SOURCE, cached_program

PROBE_DEADLINE_S = 20.0
QEMU_DEADLINE_S = 30.0
_EVIDENCE_LIMIT = 2**20
CPU_CHECK_LIMIT_S = 5
"""CPU seconds, which other programs take none of, for what takes a processor half a second with
QEMU's start and its firmware, and the emulator one."""
_CPU_CHECK_DONE = 33
_PARAVIRTUAL = Path("/sys/module/kvm_pvm")
# What QEMU says itself, and KVM through it: then come assertions, or all the registers.
_TELLING = re.compile(
    r"qemu-system-\S+: (?!warning|terminating on signal)|"
    r"KVM internal error|KVM: entry failed|error: kvm run failed"
)
_REGISTER = re.compile(r"\bMSR (0x[0-9a-fA-F]+)")
_ARCH_CAPABILITIES = "0x10a"


@dataclass(frozen=True)
class Acceleration:
    """`kvm` or `tcg`, what the experiment asked for, and why it is this one.

    Attributes:
        cpu: the guests' CPU model: the experiment's, else for emulation ours; None:
            virtme-ng's choice.
        arch: the guests' architecture.
    """

    mode: str
    requested: str
    reason: str
    cpu: str | None = None
    arch: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)


def choose(
    arch: Architecture,
    requested: str,
    cpu: str | None,
    kernel: Callable[[], Path],
    device: Path = Path("/dev/kvm"),
    deadline_s: float = PROBE_DEADLINE_S,
    paravirtual: Path = _PARAVIRTUAL,
) -> Acceleration:
    """Decide the acceleration of a run. Only a boot waits until it has the host to itself.

    Args:
        arch: of the guests.
        requested: `auto`, `kvm` or `tcg`.
        cpu: CPU model as QEMU's -cpu takes it, or None.
        kernel: makes an image that is configured for KVM; only called if KVM may work.
        device: KVM's device node.
        deadline_s: how long a guest under KVM may take to its first command.
        paravirtual: exists where KVM is not the processor's.

    Raises:
        KdeltaError: `kvm` was asked for and does not work here, or the CPU model is none
            that guests can be emulated with.
    """
    require_tools(arch)
    if requested == "tcg":
        return _emulated(arch, requested, cpu, "emulation was asked for (guest.acceleration: tcg)")
    with host_lock("probing for KVM", exclusive=False):
        refusal = early_refusal(arch, cpu, device, paravirtual)
    if refusal is None and (words := boot_refusal(arch, kernel(), cpu, deadline_s)):
        refusal = words + _of_its_kind(paravirtual)
    if refusal is None:
        reason = f"a kernel built for KVM boots with it on this host{_of_its_kind(paravirtual)}"
        return Acceleration("kvm", requested, reason, cpu, arch.name)
    if requested == "kvm":
        raise KdeltaError(
            f"guest.acceleration is kvm, but KVM does not work on this host: {refusal}. "
            "Use another host, or set guest.acceleration to auto or tcg "
            "(emulated: not a measurement)"
        )
    return _emulated(arch, requested, cpu, f"KVM does not work on this host: {refusal}")


def _emulated(arch: Architecture, requested: str, cpu: str | None, reason: str) -> Acceleration:
    # Ours always works; a model of the user's may need KVM, or not exist.
    if cpu and (refusal := qemu_refusal(arch, "tcg", cpu)):
        raise KdeltaError(
            f"guest.cpu: {cpu!r} cannot be emulated, and guests are to be emulated here, since "
            f"{reason}. Of the CPU model: {refusal}. Take another model "
            f"(`{arch.qemu} -cpu help` lists them), or leave guest.cpu out"
        )
    return Acceleration("tcg", requested, reason, cpu or arch.emulated_cpu, arch.name)


def early_refusal(
    arch: Architecture,
    cpu: str | None,
    device: Path = Path("/dev/kvm"),
    paravirtual: Path = _PARAVIRTUAL,
) -> str | None:
    """Why KVM cannot work here, as far as that can be told without a kernel, or None."""
    if not arch.native:
        return f"it runs guests of the host's own architecture, and these are {arch.title}"
    if refusal := device_refusal(device):
        return refusal
    refusal = qemu_refusal(arch, "kvm", cpu)
    return refusal + _of_its_kind(paravirtual) if refusal else None


def require_here(
    arch: Architecture,
    record: Mapping[str, Any],
    device: Path = Path("/dev/kvm"),
    paravirtual: Path = _PARAVIRTUAL,
) -> None:
    """Check that guests run on this host as on the one that was probed; takes about a second.

    Emulation works everywhere. Kernels are built for what was found there; whether one boots, its
    guests show.

    Args:
        arch: of the guests.
        record: of `kdelta probe`.
        device: KVM's device node.
        paravirtual: exists where KVM is not the processor's.

    Raises:
        KdeltaError: naming this host, and what to do.
    """
    if record["mode"] != "kvm":
        return
    if refusal := early_refusal(arch, record.get("cpu"), device, paravirtual):
        raise KdeltaError(
            f"{node_name() or 'this host'}: guests are to run with KVM, which worked on the host "
            f"that was probed, but not on this one: {refusal}. Measure on hosts of one kind (on a "
            "cluster: name a constraint in the profile, or take this node out), or set "
            "guest.acceleration to tcg for all of them (emulated: not a measurement)"
        )


def _of_its_kind(paravirtual: Path) -> str:
    if not paravirtual.exists():
        return ""
    return (
        " (the KVM of this host is paravirtual, kvm_pvm: it does without the processor's own "
        "virtualisation, and is made for kernels that know it)"
    )


def device_refusal(device: Path) -> str | None:
    """Why KVM's device cannot be used at all, or None."""
    if not device.exists():
        return f"{device} does not exist"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission to open {device} (is this user in the group kvm?)"
    return None


def qemu_refusal(arch: Architecture, accelerator: str, cpu: str | None) -> str | None:
    """Why not even `cpu_check` runs with this accelerator and CPU model, or None if it does.

    QEMU may refuse to make the machine or to set its virtual CPU's registers, and the code may
    run too slowly or not at all. Of an architecture without such code, the machine is all.

    Args:
        arch: of the guests.
        accelerator: `kvm` or `tcg`.
        cpu: CPU model, or None for virtme-ng's.

    Raises:
        KdeltaError: no compiler.
    """
    model = cpu or ("host" if accelerator == "kvm" else arch.emulated_cpu)
    argv = [arch.qemu, "-machine", f"{arch.machine},accel={accelerator}", "-cpu", model]
    argv += ["-m", "128", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    if arch.cpu_check:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "cpu_check.log")
            check = cached_program(CPU_CHECK, log, cache_root(), flags=CPU_CHECK_FLAGS)
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", str(check)]
    else:  # told to quit as soon as it listens, which is when the machine is made
        argv += ["-S", "-qmp", "stdio"]
    limits = (CPU_CHECK_LIMIT_S, CPU_CHECK_LIMIT_S)
    try:
        done = subprocess.run(
            argv,
            input=b'{"execute": "qmp_capabilities"} {"execute": "quit"}\n',
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": launch_path()},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limits),
            timeout=QEMU_DEADLINE_S,
            check=False,
        )
        status, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        # Where KVM gives up at an instruction, QEMU says so and stands still.
        status, said = None, error.stderr or b""
    if status == (_CPU_CHECK_DONE if arch.cpu_check else 0):
        return None
    how = f"QEMU ends (status {status})"
    if status in (None, -signal.SIGKILL):
        how = (
            "a virtual CPU stands still, or is far too slow for a kernel (a loop that takes a "
            f"processor 0.1 s is not done after {CPU_CHECK_LIMIT_S} s),"
        )
    return f"{how} with {model!r} as its CPU{_saying(said.decode(errors='replace'), cpu)}"


def boot_refusal(
    arch: Architecture, kernel: Path, cpu: str | None, deadline_s: float
) -> str | None:
    """Why the kernel does not run under KVM, found by booting it, or None if it does."""
    # Alone on the host: a guest disturbs a measurement, and a build its deadline.
    with host_lock("probing for KVM", exclusive=True), shared_folder() as share:
        init = cached_program(INIT_SOURCE, share.with_name("init.log"), cache_root())
        shutil.copy(init, share / INIT)
        image = Path(shutil.copy(kernel, share / "vmlinuz"))
        evidence = next(one for one in arch.evidence if one.mode == "kvm")
        answer, script = share / "evidence", share / "evidence.py"
        script.write_text(
            telling_script(Path(str(evidence.file)), Path(SHARE_IN_GUEST, answer.name))
        )
        spec = GuestSpec(
            arch=arch,
            kernel=image,
            acceleration="kvm",
            cpu=cpu,
            vcpus=1,
            memory_mib=512,
            share=share,
            command=(guest_python(), "-I", "-S", f"{SHARE_IN_GUEST}/{script.name}"),
        )
        console = share.with_name("console.log")
        ended = Guest(spec, console, deadline_s).wait()
        if found := read_file(answer, _EVIDENCE_LIMIT):
            # QEMU falls back to emulation by itself when KVM refuses to start.
            held = evidence.holds.encode() in found
            return None if held else "QEMU fell back to emulation"
        said = console.read_text(errors="replace")
        if ended.timed_out:
            return f"a guest with KVM did not reach its first command within {deadline_s:g} s"
        return (
            f"a guest with KVM ended (status {ended.status}) before its first command"
            f"{_saying(said, cpu)}"
        )


def telling_script(file: Path, answer: Path) -> str:
    """Python that copies all that a file of the kernel's has to say, as the gate reads it.

    By the standard library alone.

    Args:
        file: of the guest.
        answer: the copy.
    """
    return (
        "import os\nfrom pathlib import Path\n\n"
        f"{inspect.getsource(whole_text)}\n"
        f"Path({str(answer)!r}).write_text(whole_text(Path({str(file)!r})), 'utf-8')\n"
    )


def telling_line(text: str) -> str:
    """The line of a console that says why QEMU ended, shortened; else the last one of all.

    QEMU names what KVM refused (`error: failed to set MSR 0x10a to 0x0`) and then fails an
    assertion, whose line says nothing.
    """
    lines = [words for line in text.splitlines() if (words := printable(line).strip())]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling[:1] or lines[-1:] or [""])[0][-200:]


def _saying(said: str, cpu: str | None) -> str:
    line = telling_line(said)
    if not line:
        return ""
    register = _REGISTER.search(line)
    if not register:
        return f", saying {line!r}"
    example = "qemu64"
    if register[1] == _ARCH_CAPABILITIES:
        example = f"{cpu or 'host'},arch-capabilities=off"
    return (
        f", saying {line!r}: KVM refuses a register of this CPU; a model without it may do, "
        f"guest.cpu: {example} for example"
    )
