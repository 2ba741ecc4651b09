# SPDX-License-Identifier: GPL-2.0-only
"""What is wanted of the host while it measures: which files would have to hold what.

Looks and plans; changes nothing.

Sources: Documentation/admin-guide/pm/cpufreq.rst, .../pm/intel_pstate.rst and
Documentation/core-api/irq/irq-affinity.rst in the kernel.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kdelta.host.facts import policy_folders, read_text
from kdelta.host.restore import IRQ_FOLDER, Change
from kdelta.host.topology import (
    CPU_FOLDER,
    Core,
    format_cpu_list,
    format_cpu_mask,
    online_cpus,
    parse_cpu_list,
    parse_cpu_mask,
)

GOVERNOR = "performance"


@dataclass(frozen=True)
class Wish:
    """A setting of the host that is wanted for a block.

    Attributes:
        what: its name, for people.
        changes: files to change for it; none if everything is as wanted.
        before: how it is now, in words.
        after: how it is wanted, in words.
        refused: why files that would have to be changed cannot be, one reason each.
        why_not: why it cannot be set at all; empty if it can.
    """

    what: str
    changes: tuple[Change, ...] = ()
    before: str = ""
    after: str = ""
    refused: tuple[str, ...] = ()
    why_not: str = ""


def governor_wish(root: Path = Path("/")) -> Wish:
    """Every CPU's frequency governor at `performance`."""
    what = "CPU frequency governor"
    policies = policy_folders(root)
    if not policies:
        return Wish(what, why_not="not visible here (no CPU frequency driver)")
    changes = []
    refused = []
    now = []
    for folder in policies:
        before = read_text(folder / "scaling_governor") or "unknown"
        now.append(before)
        offered = read_text(folder / "scaling_available_governors")
        if before == GOVERNOR:
            continue
        if offered is not None and GOVERNOR not in offered.split():
            refused.append(f"the driver offers only {', '.join(offered.split()) or 'nothing'}")
        else:
            changes.append(Change(folder / "scaling_governor", before, GOVERNOR))
    words = ", ".join(dict.fromkeys(now))
    return _permitted(Wish(what, tuple(changes), words, GOVERNOR, tuple(refused)))


def turbo_wish(root: Path = Path("/")) -> Wish:
    """No clock rates above the nominal one."""
    what = "turbo"
    for file, off in (("intel_pstate/no_turbo", "1"), ("cpufreq/boost", "0")):
        path = root / CPU_FOLDER / file
        now = read_text(path)
        if now is not None:
            changes = () if now == off else (Change(path, now, off),)
            return _permitted(Wish(what, changes, "off" if now == off else "on", "off"))
    return Wish(what, why_not="not visible here (neither intel_pstate/no_turbo nor cpufreq/boost)")


def interrupt_wishes(
    pinned: Iterable[int] | None, cores: Sequence[Core], root: Path = Path("/")
) -> list[Wish]:
    """Device interrupts served by other CPUs than those that vCPUs are pinned to.

    Args:
        pinned: CPUs that vCPUs are pinned to, or None.
        cores: the host's cores.
        root: the root of /proc and /sys.

    Returns:
        One wish for the interrupts there are, one for those that are set up later; or one with
        the reason why there is nothing to do.
    """
    what = "device interrupts"
    if pinned is None:
        why = "no vCPU is pinned, so there is no CPU to move them away from"
        return [Wish(what, why_not=why)]
    busy = set(pinned)
    rest = remaining_cpus(busy, cores, online_cpus(root))
    if not rest:
        return [Wish(what, why_not="there is no CPU left for them: a vCPU is pinned to each")]
    files = list((root / IRQ_FOLDER).glob("[0-9]*/smp_affinity_list"))
    files.sort(key=lambda path: int(path.parent.name))
    changes: list[Change] = []
    for path in files:
        before = read_text(path) or ""
        served_by = _cpus(before, parse_cpu_list)
        if served_by & busy:
            # Where they may be served already is where their device's memory is near.
            changes.append(Change(path, before, format_cpu_list(served_by - busy or rest)))
    if not files:
        return [Wish(what, why_not="not visible here (/proc/irq shows none)")]
    away = f"not on {cpus_text(busy)}"
    now = f"on {cpus_text(busy)} too" if changes else away
    wishes = [_permitted(Wish(what, tuple(changes), now, away))]
    default = root / IRQ_FOLDER / "default_smp_affinity"
    mask = read_text(default) or ""
    served_by = _cpus(mask, parse_cpu_mask)
    if served_by & busy:
        later = served_by - busy or set(rest)
        change = Change(default, mask, format_cpu_mask(later))
        wish = Wish("interrupts of new devices", (change,), cpus_text(served_by), cpus_text(later))
        wishes.append(_permitted(wish))
    return wishes


def remaining_cpus(
    pinned: Iterable[int], cores: Sequence[Core], candidates: Iterable[int]
) -> tuple[int, ...]:
    """Candidates for everything that is not a vCPU; SMT siblings of vCPUs only if need be."""
    busy = set(pinned)
    siblings = {cpu for core in cores if busy & set(core.cpus) for cpu in core.cpus}
    others = set(candidates) - busy
    return tuple(sorted(others - siblings or others))


def reason(error: OSError) -> str:
    """Why the kernel refused to change a setting, in words."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission" + ("" if os.geteuid() == 0 else " (only root may)")
    if error.errno == errno.EROFS:
        return "read-only here, as in a container"
    return error.strerror or str(error)


def cpus_text(cpus: Iterable[int]) -> str:
    """CPUs in words."""
    numbers = set(cpus)
    return f"CPU{'s' if len(numbers) != 1 else ''} {format_cpu_list(numbers)}"


def _cpus(text: str, parse: Callable[[str], tuple[int, ...]]) -> set[int]:
    try:
        return set(parse(text))
    except ValueError:
        return set()


def _permitted(wish: Wish) -> Wish:
    """The wish without what may not be written; opening a setting changes nothing."""
    allowed = []
    refused = list(wish.refused)
    for change in wish.changes:
        try:
            os.close(os.open(change.path, os.O_WRONLY | os.O_CLOEXEC))
            allowed.append(change)
        except OSError as error:
            refused.append(reason(error))
    why_not = "; ".join(dict.fromkeys(refused)) if refused and not allowed else ""
    return replace(wish, changes=tuple(allowed), refused=tuple(refused), why_not=why_not)
