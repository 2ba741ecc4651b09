# SPDX-License-Identifier: GPL-2.0-only
"""The host as it should be for the time of a block: set with the rights at hand, then restored."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdelta.experiment import Environment
from kdelta.host.restore import (
    IRQ_FOLDER,
    Change,
    Journal,
    Restored,
    journal_path,
    make_change,
    restore,
)
from kdelta.host.settings import (
    Wish,
    cpus_text,
    governor_wish,
    interrupt_wishes,
    reason,
    remaining_cpus,
    turbo_wish,
)
from kdelta.host.signals import ending_signals_raise, undisturbed
from kdelta.host.topology import Choice, Core, choose_cpus, read_cores

_PINNING = "vCPU pinning"


@dataclass(frozen=True)
class EnvironmentPlan:
    """What could be set on this host, found without changing anything.

    Attributes:
        wishes: settings of the host that are wanted.
        pinning: CPUs for the vCPUs, or why there are none; None if not wanted.
        cpus_for_rest: CPUs for everything else of the guest; all allowed ones if none are left.
        allowed: CPUs that this process may use.
    """

    wishes: tuple[Wish, ...]
    pinning: Choice | None
    cpus_for_rest: tuple[int, ...]
    allowed: tuple[int, ...]


@dataclass
class HostEnvironment:
    """The host's settings that are in force now.

    Attributes:
        cpus_for_vcpus: host CPUs to pin the vCPUs to, in vCPU order; None: do not pin.
        cpus_for_rest: host CPUs for the guest's other threads.
    """

    cpus_for_vcpus: tuple[int, ...] | None
    cpus_for_rest: tuple[int, ...]
    _set: list[dict[str, str]] = field(default_factory=list)
    _not_set: list[dict[str, str]] = field(default_factory=list)

    def record(self) -> dict[str, list[dict[str, str]]]:
        """The entry `environment` of host.json."""
        return {"set": list(self._set), "not_set": list(self._not_set)}

    def pinning_failed(self, why: str) -> None:
        """Have it recorded that a guest's vCPUs could not be pinned after all."""
        self._set = [entry for entry in self._set if entry["what"] != _PINNING]
        entry = {"what": _PINNING, "why": why}
        if entry not in self._not_set:
            self._not_set.append(entry)

    def _note(self, wish: Wish, done: int, refused: list[str]) -> None:
        if wish.why_not:
            self._not_set.append({"what": wish.what, "why": wish.why_not})
            return
        total = done + len(refused)
        if done or not refused:
            part = f" ({done} of {total})" if refused else ""
            self._set.append({"what": wish.what + part, "from": wish.before, "to": wish.after})
        for why, count in Counter(refused).items():
            part = f" ({count} of {total})" if done or count < total else ""
            self._not_set.append({"what": wish.what + part, "why": why})


def plan_environment(settings: Environment, vcpus: int, root: Path = Path("/")) -> EnvironmentPlan:
    """What would be set for a block. Changes nothing.

    Args:
        settings: what the experiment wants.
        vcpus: CPUs of the guest.
        root: the root of /proc and /sys.
    """
    cores = read_cores(root)
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    pinning = choose_cpus(cores, allowed, vcpus) if settings.pin_vcpus else None
    pinned = pinning.cpus if pinning else None
    wishes = []
    if settings.governor == "performance":
        wishes.append(governor_wish(root))
    if settings.turbo == "off":
        wishes.append(turbo_wish(root))
    if settings.move_irqs:
        wishes += interrupt_wishes(pinned, cores, root)
    return EnvironmentPlan(tuple(wishes), pinning, _rest(pinned, cores, allowed), allowed)


def planned_record(plan: EnvironmentPlan) -> dict[str, list[dict[str, str]]]:
    """A plan as `HostEnvironment.record` gives it, if the kernel then takes every value."""
    environment = _begin(plan)
    for wish in plan.wishes:
        environment._note(wish, len(wish.changes), list(wish.refused))
    return environment.record()


@contextlib.contextmanager
def host_environment(
    settings: Environment,
    vcpus: int,
    root: Path = Path("/"),
    journal: Path | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    before: Callable[[], object] = lambda: None,
) -> Iterator[HostEnvironment]:
    """Set what an experiment wants of the host, and restore it at the end, whatever happens.

    What a killed process left set is restored first. The caller holds the host's lock. While
    it lasts, SIGTERM and SIGHUP raise KeyboardInterrupt unless they are handled or ignored.

    Args:
        settings: what the experiment wants.
        vcpus: CPUs of the guest.
        root: the root of /proc and /sys.
        journal: another restore journal than this user's.
        say: gets a line whenever something was restored late, or could not be.
        before: called when the host is as it is by itself: old settings restored, none changed.

    Raises:
        KdeltaError: a journal was left behind and cannot be used.
    """
    record, no_journal = _open_journal(journal, root)
    left: tuple[Change, ...] = ()
    if record:
        replayed = record.replay()
        left = replayed.failed
        for line in replay_messages(replayed):
            say(line)
    before()
    plan = plan_environment(settings, vcpus, root)
    wanted = tuple(change for wish in plan.wishes for change in wish.changes)
    environment = _begin(plan)
    with ending_signals_raise():
        try:
            if record and wanted:
                try:
                    record.write(left + wanted)
                except OSError as error:
                    no_journal = f"{record.path}: {error.strerror or error}"
            for wish in plan.wishes:
                _grant(environment, wish, no_journal)
            yield environment
        finally:
            if record and wanted and not no_journal:
                with undisturbed():
                    restored = restore(left + wanted)
                    with contextlib.suppress(OSError):
                        record.write(restored.failed)
                    for line in restored.messages:
                        say(line)


def restore_left_behind(
    root: Path = Path("/"), journal: Path | None = None
) -> tuple[Path, Restored]:
    """Restore what a killed process left set on this host. The caller holds the host's lock.

    Returns:
        The journal's path, and how it went.

    Raises:
        KdeltaError: the journal cannot be used.
        OSError: this user can have no journal.
    """
    record = Journal(journal or journal_path(), root)
    return record.path, record.replay()


def replay_messages(restored: Restored) -> list[str]:
    """What to tell a person after a journal was replayed; nothing if there was none."""
    lines = list(restored.messages)
    if restored.done:
        lines.insert(
            0,
            f"{restored.done} settings of this host restored, which a run had changed before it "
            "was killed",
        )
    return lines


def _begin(plan: EnvironmentPlan) -> HostEnvironment:
    pinned = plan.pinning.cpus if plan.pinning else None
    environment = HostEnvironment(pinned, plan.cpus_for_rest)
    remark = f" ({plan.pinning.remark})" if plan.pinning and plan.pinning.remark else ""
    if plan.pinning and pinned is None:
        environment.pinning_failed(plan.pinning.why_not)
    elif pinned is not None:
        environment._set.append(
            {
                "what": _PINNING,
                "from": f"anywhere on {cpus_text(plan.allowed)}",
                # In vCPU order, which a range would hide.
                "to": f"CPU{'s' if len(pinned) > 1 else ''} "
                + ", ".join(map(str, pinned))
                + remark,
            }
        )
    return environment


def _open_journal(path: Path | None, root: Path) -> tuple[Journal | None, str]:
    try:
        return Journal(path or journal_path(), root), ""
    except OSError as error:
        return None, error.strerror or str(error)


def _grant(environment: HostEnvironment, wish: Wish, no_journal: str) -> None:
    if wish.changes and no_journal:
        why = f"no place to note down what has to be restored ({no_journal})"
        environment._note(wish, 0, [why])
        return
    done = 0
    refused = list(wish.refused)
    for change in wish.changes:
        try:
            make_change(change)
            done += 1
        except OSError as error:
            refused.append(_why_refused(change, error))
    environment._note(wish, done, refused)


def _why_refused(change: Change, error: OSError) -> str:
    # Writing was permitted when it was tried, so this is about the interrupt itself.
    if IRQ_FOLDER in str(change.path) and error.errno in (errno.EIO, errno.EPERM):
        return "the kernel does not let them be moved"
    return reason(error)


def _rest(
    pinned: tuple[int, ...] | None, cores: tuple[Core, ...], allowed: tuple[int, ...]
) -> tuple[int, ...]:
    return remaining_cpus(pinned or (), cores, allowed) or allowed
