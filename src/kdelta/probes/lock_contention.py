# SPDX-License-Identifier: GPL-2.0-only
"""Probe `lock-contention`: which locks of the kernel a workload waits for, and for how long.

Standard library only: it runs inside the guest. Each cell is run once, with the events
lock:contention_begin and lock:contention_end (Linux 5.19) of the workload's tasks, and the stack at
each begin. The kernel does not say which lock it is; it is told by its kind, which the event's
flags say, and by the function that wanted it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdelta.probes import tracefs
from kdelta.probes.probe import Needs, Probe, plausible
from kdelta.probes.trace import STACK, Event, ImplausibleTraceError
from kdelta.probes.tracefs import RunBench

Json = dict[str, Any]

BEGIN, END = "contention_begin", "contention_end"
EVENTS = (f"lock/{BEGIN}", f"lock/{END}")
FORMS = {
    # A lock of no kind that the kernel has a flag for, such as a semaphore, has none.
    BEGIN: re.compile(r"^(\S+) \(flags=(\S*)\)$"),
    END: re.compile(r"^(\S+) \(ret=-?\d+\)$"),
}

UNKNOWN = "unknown"
"""The caller of a wait without a stack, or with none that leaves the locking code."""

# Without what the compiler appends (".isra.0") and the offset ("+0x5c/0x6b0").
_FUNCTION = re.compile(r"[A-Za-z0-9_$]+")

# How the functions begin that take a lock, leading underscores aside: not who wanted it.
_LOCKING = (
    *("mutex_lock", "ww_mutex_lock", "rt_mutex_", "rtlock_", "rwbase_", "rt_spin_", "rt_read_"),
    *("rt_write_", "rwsem_", "down_", "percpu_down_", "percpu_rwsem_", "raw_spin_", "raw_read_"),
    *("raw_write_", "do_raw_", "queued_", "native_queued_", "pv_queued_", "osq_lock", "mcs_spin_"),
    # The event itself.
    *("traceiter_", "trace_", "event_trigger", "ftrace_", "bpf_trace_", "stacktrace_trigger"),
)


class Wait(NamedTuple):
    """One wait that came to its end.

    Attributes:
        address: of the lock.
        lock: its kind, in words.
        caller: the function that wanted it.
        ns: how long.
    """

    address: str
    lock: str
    caller: str
    ns: int


@dataclass
class _Begun:
    stamp: int
    lock: str
    caller: str | None = None


def kind(flags: str) -> str:
    """What kind of lock the flags of contention_begin tell of (include/trace/events/lock.h)."""
    words = set(flags.split("|"))
    side = " (read)" if "READ" in words else " (write)" if "WRITE" in words else ""
    if "MUTEX" in words:
        return "mutex"
    if "PERCPU" in words:
        return f"percpu-rwsem{side}"
    if "RT" in words:
        return f"rtmutex{side}"
    if "SPIN" in words:
        return f"rwlock{side}" if side else "spinlock"
    return f"rwsem{side}" if side else "semaphore"


def caller(stack: Iterable[str]) -> str:
    """The innermost function of a stack that is no locking code; what the compiler added is cut."""
    for frame in stack:
        named = _FUNCTION.match(frame)
        bare = named[0].lstrip("_") if named else ""
        if named and bare and bare != "down" and not bare.startswith(_LOCKING):
            return named[0]
    return UNKNOWN


class Waits:
    """The waits in a trace: each from its task's first begin for a lock to its end for it.

    A waiter that spins first and sleeps later says so with a second begin. An end does not tell
    what kind of lock it is of; one whose begin was not traced is left out.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = events
        self._begun: dict[tuple[int, str], _Begun] = {}

    @property
    def unfinished(self) -> int:
        """Waits that have begun and not ended; of the whole trace once all waits were asked for."""
        return len(self._begun)

    def __iter__(self) -> Iterator[Wait]:
        """Every wait, in the order in which they end.

        Raises:
            ImplausibleTraceError: one that ends before it begins.
        """
        # The begin that a stack will be of. An interrupt may have both between a task's two.
        bare: dict[tuple[int, int, bool], _Begun] = {}
        for event in self._events:
            where = (event.pid, event.cpu, event.interrupt)
            if event.name == STACK:
                begun = bare.pop(where, None)
                if begun is not None and begun.caller is None:
                    begun.caller = caller(event.details)
            elif event.name == BEGIN:
                address, flags = event.details
                begun = self._begun.setdefault(
                    (event.pid, address), _Begun(event.stamp, kind(flags))
                )
                bare[where] = begun
            elif event.name == END and (event.pid, event.details[0]) in self._begun:
                begun = self._begun.pop((event.pid, event.details[0]))
                ns = event.stamp - begun.stamp
                if ns < 0:
                    raise ImplausibleTraceError(
                        f"a wait of thread {event.pid} ends {-ns} ns before it begins"
                    )
                yield Wait(event.details[0], begun.lock, begun.caller or UNKNOWN, ns)


def summary(events: Iterable[Event], elapsed_s: float, lost_events: int) -> Json:
    """What was waited for, heaviest first; see `locks` of docs/contracts.md, "Mechanism boots".

    Args:
        events: stamped in nanoseconds.
        elapsed_s: seconds of the whole run. Where events were lost, it is the time from the
            first event to the last before the loss that counts.
        lost_events: how many events the trace has not.
    """
    stamps: list[int] = []

    def seen() -> Iterator[Event]:
        for event in events:
            stamps[1:] = [event.stamp]
            yield event

    waits = Waits(seen())
    counts: dict[tuple[str, str], list[int]] = {}
    for wait in waits:
        total = counts.setdefault((wait.lock, wait.caller), [0, 0, 0])
        total[0] += 1
        total[1] += wait.ns
        total[2] = max(total[2], wait.ns)
    if lost_events:
        elapsed_s = (stamps[-1] - stamps[0]) / 1e9 if stamps else 0.0
    heaviest = sorted(counts.items(), key=lambda item: (-item[1][1], item[0]))
    return {
        "elapsed_s": elapsed_s,
        "waits": [
            {"lock": lock, "caller": who, "waits": n, "wait_ns": ns, "wait_ns_max": longest}
            for (lock, who), (n, ns, longest) in heaviest
        ],
        "unfinished": waits.unfinished,
        "lost_events": lost_events,
    }


def measure(argv: list[str], run_bench: RunBench) -> Json:
    """`locks` of docs/contracts.md, "Mechanism boots".

    Raises:
        TraceError: there is no plausible trace.
    """

    def attempt() -> Json:
        with tracefs.of_this_process(), tracefs.stacks(EVENTS[0]):
            run = tracefs.record(dict.fromkeys(EVENTS, ""), "mono", argv, run_bench)
        if run.hits:
            raise ImplausibleTraceError(f"{run.hits} hits of probes that are off")
        found = summary(run.events(FORMS), run.elapsed_s, run.lost)
        return {**found, "bench": run.bench}

    return {"locks": plausible(attempt)}


PROBE = Probe(
    name="lock-contention",
    about="A run of each cell told which locks of the kernel the workload's tasks waited for: by "
    "the kind of lock, and by the function that wanted it. The stack that is recorded at the "
    "start of each wait makes it a little longer.",
    needs=Needs(events=EVENTS),
    needs_value="",
    runs=1,
    records=("locks",),
    table="tables/locks.csv",
    prepare=lambda: None,
    measure=measure,
)
