# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's trace says about pipe writes: pure functions of its text.

Standard library only: it runs inside the guest beside `mechanism.py`. The text is
that of tracefs' `trace` file (Documentation/trace/ftrace.rst of the kernel), with the
probes of `mechanism.py`. Every line must be understood: a line that is not raises
`TraceError`; an order of events that the kernel cannot produce `ImplausibleTraceError`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]

WRITE_BEGIN, WRITE_END = "write_begin", "write_end"
LOCK_WANTED, LOCK_TAKEN, LOCK_DROPPED = "lock_wanted", "lock_taken", "lock_dropped"
BULK_BEGIN, BULK_END = "bulk_begin", "bulk_end"
PAGE_ALLOC = "mm_page_alloc"
# Reclaim of the whole machine and of a memory cgroup at its limit: /proc/vmstat counts both as
# direct reclaim when a task does it that wanted memory.
RECLAIM_BEGIN = frozenset({"mm_vmscan_direct_reclaim_begin", "mm_vmscan_memcg_reclaim_begin"})
RECLAIM_END = frozenset({"mm_vmscan_direct_reclaim_end", "mm_vmscan_memcg_reclaim_end"})
CONTENTION_BEGIN, CONTENTION_END = "contention_begin", "contention_end"

ALLOCATION_COUNTS = (
    "writes",
    "pages_before_lock",
    "pages_under_lock",
    "bulk_calls",
    "bulk_pages_requested",
    "bulk_pages",
    "reclaims_before_lock",
    "reclaims_under_lock",
)

# What is read of each event's text, as the groups of an expression that must match.
_DETAILS = {
    WRITE_BEGIN: re.compile(r"\("),
    WRITE_END: re.compile(r"\("),
    LOCK_WANTED: re.compile(r"lock=(0x[0-9a-f]+)$"),
    LOCK_TAKEN: re.compile(r"\("),
    LOCK_DROPPED: re.compile(r"lock=(0x[0-9a-f]+)$"),
    BULK_BEGIN: re.compile(r"nr=(-?\d+)$"),
    BULK_END: re.compile(r"pages=(\d+)$"),
    PAGE_ALLOC: re.compile(r"pfn=0x([0-9a-f]+) order=(\d+) .*gfp_flags=(\S+)$"),
    **dict.fromkeys(RECLAIM_BEGIN | RECLAIM_END, re.compile(r"")),
    CONTENTION_BEGIN: re.compile(r"^(\S+) \(flags=(\S+)\)$"),
    CONTENTION_END: re.compile(r"^(\S+) \(ret=-?\d+\)$"),
}

# "pipe_bench-213   [001] d..2.   8812: lock_taken: (pipe_write+0x5c/0x6b0 <- mutex_lock)"
_LINE = re.compile(r"^\s*(?:.+)-(\d+)\s+\[(\d+)\]\s+(\S{5})\s+(\d+)(?:\.(\d{6}))?: (\w+): ?(.*)$")


class TraceError(Exception):
    """There is no trace, or one that cannot be read."""


class ImplausibleTraceError(TraceError):
    """A trace that can be read, and that cannot be the whole truth."""


class Event(NamedTuple):
    """One line of the trace.

    Attributes:
        pid: thread that was running.
        cpu: where.
        interrupt: true in a hardware or software interrupt, so not the thread's own doing.
        stamp: by the trace clock: nanoseconds (a multiple of 1000), or a plain count.
        name: of the event.
        details: what `_DETAILS` reads of its text.
    """

    pid: int
    cpu: int
    interrupt: bool
    stamp: int
    name: str
    details: tuple[str, ...]


def parse_line(line: str) -> Event:
    """One line of the trace file that is neither empty nor a comment.

    Raises:
        TraceError: it is not an event of ours.
    """
    match = _LINE.match(line)
    if match is None:
        raise TraceError(f"not a line of an event: {line.strip()!r}")
    pid, cpu, context, whole, micro, name, text = match.groups()
    expression = _DETAILS.get(name)
    details = expression.search(text) if expression else None
    if details is None:
        raise TraceError(f"not an event that was asked for, or not in its form: {line.strip()!r}")
    stamp = int(whole) if micro is None else (int(whole) * 1_000_000 + int(micro)) * 1000
    return Event(int(pid), int(cpu), context[2] in "hHs", stamp, name, details.groups())


def parse_trace(lines: Iterable[str], until: int | None = None) -> Iterator[Event]:
    """The events of the trace file, in its order: by time, those of one thread as they happened.

    Args:
        lines: of the trace file.
        until: stamp after which events are left out (see `first_loss`).

    Raises:
        TraceError: after the last line: how many were not understood, and the first of them.
    """
    unread: list[TraceError] = []
    for line in lines:
        # Comments; "CPU:1 [LOST 5 EVENTS]" is one too: per_cpu/*/stats says how many were lost.
        if not line.strip() or line.startswith(("#", "CPU:")):
            continue
        try:
            event = parse_line(line)
        except TraceError as error:
            unread.append(error)
            continue
        if until is None or event.stamp <= until:
            yield event
    if unread:
        raise TraceError(f"{len(unread)} lines of the trace were not understood; {unread[0]}")


def first_loss(events: Iterable[Event], full_cpus: Collection[int]) -> int:
    """The stamp of the last event before the first loss.

    A full buffer drops what comes later, while those of other CPUs go on: from there on the
    trace has holes.

    Args:
        events: all of them.
        full_cpus: whose buffers have dropped events; at least one.
    """
    last = dict.fromkeys(full_cpus, -1)
    for event in events:
        if event.cpu in last:
            last[event.cpu] = max(last[event.cpu], event.stamp)
    return min(last.values())


@dataclass
class _Write:
    """What one call of pipe_write() has done so far."""

    mutex: str | None = None  # the first that it takes
    held: bool = False
    lock_wanted: str | None = None
    bulk_asked: int | None = None
    reclaim_depth: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, number: int = 1) -> None:
        self.counts[f"{what}_{'under' if self.held else 'before'}_lock"] += number


class _Account:
    """Follows every thread from event to event and sums up its writes, by their mutex."""

    def __init__(self) -> None:
        self._writes: dict[int, _Write] = {}
        self.totals: dict[str, Counter[str]] = {}

    def follow(self, event: Event) -> None:
        """Take in the next event.

        Raises:
            ImplausibleTraceError: it cannot follow on what its thread has done before.
        """
        if event.interrupt:
            return
        write = self._writes.get(event.pid)
        if event.name == WRITE_BEGIN:
            self._must(write is None, event, "in a write")
            self._writes[event.pid] = _Write()
        elif event.name == WRITE_END:
            self._end(event, write)
        elif write is not None:
            self._inside(event, write)

    def follow_again(self, event: Event) -> None:
        """Forget what the thread has done before, since the trace has a hole there."""
        self._writes.pop(event.pid, None)
        if event.name == WRITE_BEGIN:
            self.follow(event)

    def _end(self, event: Event, write: _Write | None) -> None:
        if write is None:
            raise self._impossible(event, "not in a write")
        self._must(not write.held, event, "holding the lock")
        self._must(write.bulk_asked is None, event, "in a bulk allocation")
        self._must(write.reclaim_depth == 0, event, "in reclaim")
        del self._writes[event.pid]
        if write.mutex is not None:
            total = self.totals.setdefault(write.mutex, Counter())
            total["writes"] += 1
            total.update(write.counts)

    def _inside(self, event: Event, write: _Write) -> None:
        name, details = event.name, event.details
        if name in RECLAIM_BEGIN:
            if write.reclaim_depth == 0:
                write.add("reclaims")
            write.reclaim_depth += 1
        elif name in RECLAIM_END:
            self._must(write.reclaim_depth > 0, event, "not in reclaim")
            write.reclaim_depth -= 1
        elif write.reclaim_depth:
            # Pages that reclaim takes, to compress others into, are not the pipe's, and no more
            # are its locks.
            return
        elif name in (LOCK_WANTED, LOCK_TAKEN, LOCK_DROPPED):
            self._lock(event, write)
        elif name == BULK_BEGIN:
            self._must(write.bulk_asked is None, event, "in a bulk allocation")
            write.bulk_asked = int(details[0])
        elif name == BULK_END:
            if write.bulk_asked is None:
                raise self._impossible(event, "not in a bulk allocation")
            pages = int(details[0])
            write.counts.update(
                bulk_calls=1, bulk_pages_requested=write.bulk_asked, bulk_pages=pages
            )
            write.add("pages", pages)
            write.bulk_asked = None
        elif name == PAGE_ALLOC and write.bulk_asked is None:
            pfn, order, flags = details
            # Frame 0 stands for "none was found". Movable pages are those of page faults on
            # the writer's own memory; a page in a pipe cannot be moved.
            if int(pfn, 16) != 0 and "MOVABLE" not in flags:
                write.add("pages", 1 << int(order))

    def _lock(self, event: Event, write: _Write) -> None:
        if event.name == LOCK_WANTED:
            self._must(write.lock_wanted is None, event, "already waiting for a lock")
            write.lock_wanted = event.details[0]
        elif event.name == LOCK_TAKEN:
            self._must(write.lock_wanted is not None, event, "not waiting for a lock")
            write.mutex = write.mutex or write.lock_wanted
            if write.lock_wanted == write.mutex:
                self._must(not write.held, event, "already holding the lock")
                write.held = True
            write.lock_wanted = None
        elif event.details[0] == write.mutex:
            self._must(write.held, event, "not holding the lock")
            write.held = False

    def _must(self, holds: bool, event: Event, state: str) -> None:
        if not holds:
            raise self._impossible(event, state)

    @staticmethod
    def _impossible(event: Event, state: str) -> ImplausibleTraceError:
        return ImplausibleTraceError(
            f"{event.name} of thread {event.pid} at {event.stamp} while {state}"
        )


def allocation(events: Iterable[Event], lost_events: int) -> Json:
    """The `allocation` object of docs/contracts.md, "Mechanism boots".

    pipe->mutex is the first mutex that a write takes. Counts are those of complete writes to
    the pipe that most writes go to: the program's output may be a pipe as well.

    Raises:
        ImplausibleTraceError: an order of events that is impossible, although none was lost.
    """
    account = _Account()
    for event in events:
        try:
            account.follow(event)
        except ImplausibleTraceError:
            if not lost_events:
                raise
            account.follow_again(event)
    total = max(account.totals.values(), key=lambda total: total["writes"], default=Counter())
    return {**{name: total[name] for name in ALLOCATION_COUNTS}, "lost_events": lost_events}


def mutex_waits(events: Iterable[Event]) -> list[int]:
    """Nanoseconds of every wait for the mutex that is waited for most often.

    A wait begins with the first contention_begin: a waiter that spins first and sleeps
    later says so with a second one. contention_end does not tell what kind of lock it is
    of; those without a mutex's begin are of other kinds.

    Raises:
        ImplausibleTraceError: a wait that ends before it begins.
    """
    begun: dict[tuple[int, str], int] = {}
    waits: dict[str, list[int]] = {}
    for event in events:
        key = (event.pid, event.details[0])
        if event.name == CONTENTION_BEGIN and "MUTEX" in event.details[1].split("|"):
            begun.setdefault(key, event.stamp)
        elif event.name == CONTENTION_END and key in begun:
            wait = event.stamp - begun.pop(key)
            if wait < 0:
                raise ImplausibleTraceError(
                    f"a wait of thread {event.pid} ends {-wait} ns before it begins"
                )
            waits.setdefault(event.details[0], []).append(wait)
    # Every wait for a pipe's mutex is of one pipe; of two equal numbers the earlier lock's.
    return max(waits.values(), key=len, default=[])


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The smallest of the sorted values that `percent` per cent of them do not exceed."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def contention(events: Iterable[Event], bench: Json, lost_events: int) -> Json:
    """The `contention` object of docs/contracts.md, "Mechanism boots".

    Mean, percentiles and maximum are None if nobody waited.

    Args:
        events: of a run with the two contention events alone, stamped in nanoseconds.
        bench: what pipe_bench printed about that run.
        lost_events: how many events the trace has not.
    """
    waits = sorted(mutex_waits(events))
    return {
        "writes": bench["writes"],
        "waits": len(waits),
        "wait_ns_total": sum(waits),
        "wait_ns_mean": sum(waits) / len(waits) if waits else None,
        "wait_ns_p50": percentile(waits, 50) if waits else None,
        "wait_ns_p99": percentile(waits, 99) if waits else None,
        "wait_ns_max": waits[-1] if waits else None,
        "elapsed_s": bench["elapsed_s"],
        "lost_events": lost_events,
    }
