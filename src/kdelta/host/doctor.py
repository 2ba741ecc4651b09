# SPDX-License-Identifier: GPL-2.0-only
"""What a host is fit for: its facts, its state now, and what would spoil a run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdelta.architecture import Architecture
from kdelta.errors import KdeltaError
from kdelta.experiment import Environment, Validity
from kdelta.guest.acceleration import choose, device_refusal, early_refusal
from kdelta.guest.launch import require_tools
from kdelta.host.cpu_time import HostCpu
from kdelta.host.environment import plan_environment, planned_record
from kdelta.host.facts import host_facts, load_average, meminfo_mib, read_text
from kdelta.host.restore import Journal, journal_path
from kdelta.kernel.toolchain import compiler_for, read_toolchain

Json = dict[str, Any]

FATAL, DOUBT = "fatal", "doubt"
LEAST_MEMORY_MIB = 3584  # a 4 GiB machine, less what its firmware and kernel keep


@dataclass(frozen=True)
class Problem:
    """Something in the way of a run.

    Attributes:
        severity: `fatal`: a run would fail; `doubt`: its numbers would be doubtful.
        what: what is wrong.
        todo: what to do about it.
    """

    severity: str
    what: str
    todo: str


def diagnose(
    arch: Architecture,
    vcpus: int,
    kernel: Path | None = None,
    compiler: str = "gcc",
    root: Path = Path("/"),
    sample_s: float = 1.0,
    journal: Path | None = None,
) -> Json:
    """Everything `kdelta doctor` says of this host.

    Args:
        arch: of the guests.
        vcpus: CPUs of the guest to be run.
        kernel: a kernel's image to boot with KVM, or None to look at the device only.
        compiler: the C compiler's command.
        root: the root of /dev, /proc and /sys.
        sample_s: seconds over which the host's load is measured.
        journal: another restore journal than this user's.

    Returns:
        `host` (facts), `now`, `kvm`, `settings` (as in host.json, were a block begun now) and
        `problems`.
    """
    now = state_now(root, sample_s)
    facts = host_facts(root, compiler_for(compiler, arch), arch.qemu)
    tools = tool_problems(facts, compiler, arch)
    kvm = kvm_state(arch, kernel, root / "dev/kvm", [p for p in tools if p.severity == FATAL])
    settings = planned_record(plan_environment(Environment(), vcpus, root))
    problems = [
        *tools,
        *kvm_problems(kvm),
        *host_problems(facts, vcpus),
        *state_problems(now),
        *setting_problems(facts, settings, daemons(root)),
        *journal_problems(root, journal),
    ]
    return {
        "schema": 1,
        "host": facts,
        "now": now,
        "kvm": kvm,
        "vcpus": vcpus,
        "settings": settings,
        "problems": [asdict(problem) for problem in problems],
    }


def state_now(root: Path, sample_s: float) -> Json:
    """Load average, and shares of the CPU time that others used and that was stolen."""
    watch = HostCpu(root=root)
    time.sleep(sample_s)
    used = watch.used()
    total = used["elapsed_s"] * used["cpus"]
    meminfo = read_text(root / "proc/meminfo") or ""
    return {
        "load": round(load_average(), 2),
        "cpus": used["cpus"],
        "other_cpu_share": round(min(1.0, max(0.0, used["busy_s"] - used["own_s"]) / total), 4),
        "steal_share": round(used["steal_s"] / total, 4),
        "sampled_s": used["elapsed_s"],
        "memory_available_mib": meminfo_mib(meminfo, "MemAvailable"),
        "swap_free_mib": meminfo_mib(meminfo, "SwapFree"),
    }


def kvm_state(
    arch: Architecture, kernel: Path | None, device: Path, missing: Iterable[Problem]
) -> Json:
    """Whether guests run with KVM: `usable` is None where only a boot could tell."""
    refusal = device_refusal(device)
    if refusal:
        return {"usable": False, "booted": False, "reason": refusal}
    if list(missing):
        return {"usable": None, "booted": False, "reason": "cannot be tried without the tools"}
    if refusal := early_refusal(arch, None, device):
        return {"usable": False, "booted": False, "reason": refusal}
    if kernel is None:
        reason = f"QEMU starts with {device}; whether it runs a kernel a boot tells: --kernel"
        return {"usable": None, "booted": False, "reason": reason}
    found = choose(arch, "auto", None, lambda: kernel)
    reason = found.reason.removeprefix("KVM does not work on this host: ")
    return {"usable": found.mode == "kvm", "booted": True, "reason": reason}


def tool_problems(facts: Json, compiler: str, arch: Architecture) -> list[Problem]:
    """Programs and headers that are missing."""
    problems = []
    for name, program, package in (
        ("qemu", f"QEMU ({arch.qemu})", f"apt-get install {arch.qemu_package}"),
        ("virtme_ng", "virtme-ng", "make setup"),
        ("stress_ng", "stress-ng, which memory-pressure regimes run,", "apt-get install stress-ng"),
    ):
        if facts[name] is None:
            problems.append(Problem(FATAL, f"{program} is not installed", todo=package))
    problems += _complaint(lambda: require_tools(arch), seen=problems)
    problems += _complaint(lambda: read_toolchain(compiler, arch), seen=[])
    if facts["compiler"] and not _compiles("#include <libelf.h>", compiler):
        what = "libelf's header is missing, without which kernel builds fail"
        problems.append(Problem(FATAL, what, "apt-get install libelf-dev"))
    if facts["compiler"] and not _compiles(
        "int main(void) { return 0; }", compiler_for(compiler, arch), "-static"
    ):
        what = "a static program cannot be linked, as the benchmark is"
        problems.append(
            Problem(
                FATAL, what, arch.packages_text() if arch.cross else "apt-get install libc6-dev"
            )
        )
    return problems


def kvm_problems(kvm: Json) -> list[Problem]:
    """Emulation."""
    if kvm["usable"] is not False:
        return []
    what = f"guests will be emulated, and emulated numbers are no measurements: {kvm['reason']}"
    return [Problem(DOUBT, what, "a host with KVM: bare metal, or nested virtualisation enabled")]


def host_problems(facts: Json, vcpus: int) -> list[Problem]:
    """What the machine is."""
    problems = []
    if facts["hypervisor"]:
        what = f"this host is a virtual machine itself ({facts['hypervisor']})"
        problems.append(Problem(DOUBT, what, "bare metal; neighbours cannot be seen from in here"))
    if vcpus > facts["cpus"]:
        what = f"{vcpus} vCPUs on {facts['cpus']} CPUs: lock holders will lose their CPU"
        problems.append(Problem(DOUBT, what, f"guest.vcpus: {facts['cpus']} or fewer"))
    if (facts["memory_mib"] or LEAST_MEMORY_MIB) < LEAST_MEMORY_MIB:
        what = f"{facts['memory_mib']} MiB of memory"
        problems.append(Problem(DOUBT, what, "4 GiB or more, or a smaller guest.memory"))
    return problems


def state_problems(now: Json, limits: Validity | None = None) -> list[Problem]:
    """What others are doing on the machine, against the limits of the validity rules."""
    limits = limits or Validity()
    problems = []
    if now["other_cpu_share"] > limits.host_other_cpu:
        what = f"other programs use {now['other_cpu_share']:.0%} of this host's CPU time"
        problems.append(
            Problem(
                DOUBT,
                what,
                f"end them: slices beside more than {limits.host_other_cpu:.0%} are disturbed",
            )
        )
    elif now["load"] > limits.host_load * now["cpus"]:
        what = f"the load average is {now['load']:g} on {now['cpus']} CPUs"
        problems.append(Problem(DOUBT, what, "wait until it has come down"))
    if now["steal_share"] > limits.steal:
        what = f"a hypervisor takes away {now['steal_share']:.0%} of the CPU time"
        problems.append(Problem(DOUBT, what, "another host; see `validity.steal`"))
    return problems


def setting_problems(facts: Json, settings: Json, running: Iterable[str]) -> list[Problem]:
    """Settings that matter and cannot be set."""
    problems = []
    refused = {entry["what"]: entry["why"] for entry in settings["not_set"]}
    if facts["governor"] and "CPU frequency governor" in refused:
        what = f"the CPU frequency governor is {facts['governor']}: clocks follow the load"
        problems.append(Problem(DOUBT, what, "cpupower frequency-set -g performance, as root"))
    if facts["turbo"] and "turbo" in refused:
        what = "turbo is on: clocks follow the temperature"
        problems.append(Problem(DOUBT, what, "run as root, or switch it off in the firmware"))
    hybrid = facts["fast_cores"] != facts["cores"]
    if (facts["smt"] or hybrid) and "vCPU pinning" in refused:
        what = (
            "cores are of several speeds and vCPUs cannot be pinned: they will change speed"
            if hybrid
            else "SMT is on and vCPUs cannot be pinned: two of them may share a core"
        )
        todo = f"guest.vcpus: {facts['fast_cores']} or fewer (pinning: {refused['vCPU pinning']})"
        problems.append(Problem(DOUBT, what, todo))
    moves = any(entry["what"] == "device interrupts" for entry in settings["set"])
    if moves and "irqbalance" in running:
        what = "irqbalance is running and moves interrupts back"
        problems.append(Problem(DOUBT, what, "systemctl stop irqbalance while measuring"))
    return problems


def journal_problems(root: Path = Path("/"), journal: Path | None = None) -> list[Problem]:
    """Settings that a run has changed and not restored (yet)."""
    try:
        changes = Journal(journal or journal_path(), root).read()
    except KdeltaError as error:
        return [Problem(FATAL, str(error), "")]
    except OSError:  # this user can have no journal, and so has left nothing
        return []
    if not changes:
        return []
    what = f"{len(changes)} settings are as a run has set them that goes on or was killed"
    return [
        Problem(DOUBT, what, "if none goes on: kdelta doctor --restore (a new run does it too)")
    ]


def daemons(root: Path = Path("/")) -> set[str]:
    """Names of all running programs."""
    return {name for file in root.glob("proc/[0-9]*/comm") if (name := read_text(file))}


def _complaint(check: Callable[[], object], seen: list[Problem]) -> list[Problem]:
    try:
        check()
    except KdeltaError as error:
        # What has been named already needs no second naming.
        return [] if seen else [Problem(FATAL, str(error), "")]
    return []


def _compiles(program: str, compiler: str, *options: str) -> bool:
    argv = [compiler, *options, "-x", "c", "-", "-o", "/dev/null"]
    if not options:
        argv.insert(1, "-fsyntax-only")
    done = subprocess.run(argv, input=program, capture_output=True, text=True, check=False)
    return done.returncode == 0
