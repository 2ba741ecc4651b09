# SPDX-License-Identifier: GPL-2.0-only
"""Probe `pipe-allocation`: where a pipe write gets its pages, and who waits for the pipe's mutex.

Standard library only: it runs inside the guest. Each cell is run twice: with kprobes on the write
path, then with nothing but the two lock contention events, since kprobes would lengthen the
waits. An order of events that the kernel cannot produce raises `ImplausibleTraceError`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdelta.probes import lock_contention, tracefs
from kdelta.probes.probe import Needs, Probe, plausible
from kdelta.probes.trace import Event, ImplausibleTraceError
from kdelta.probes.tracefs import GROUP, RunBench

Json = dict[str, Any]

# The kernel's names for one thing, newest first; with lock debugging mutex_lock() is a macro.
WRITE_SYMBOLS = ("anon_pipe_write", "pipe_write")
LOCK_SYMBOLS = ("mutex_lock", "mutex_lock_nested")
UNLOCK_SYMBOLS = ("mutex_unlock",)
BULK_SYMBOLS = ("alloc_pages_bulk_noprof", "__alloc_pages_bulk")

# LCB_F_MUTEX of include/trace/events/lock.h: the contended lock is a mutex.
LCB_F_MUTEX = 32

# Return probes of functions that sleep need one instance per thread inside: as many as 5x10
# cells have, many times over. Hits beyond are counted as missed.
RETURN_INSTANCES = 256

WRITE_BEGIN, WRITE_END = "write_begin", "write_end"
LOCK_WANTED, LOCK_TAKEN, LOCK_DROPPED = "lock_wanted", "lock_taken", "lock_dropped"
BULK_BEGIN, BULK_END = "bulk_begin", "bulk_end"
PAGE_ALLOC = "mm_page_alloc"
# Reclaim of the whole machine and of a memory cgroup at its limit: /proc/vmstat counts both as
# direct reclaim when a task does it that wanted memory.
RECLAIM_BEGIN = frozenset({"mm_vmscan_direct_reclaim_begin", "mm_vmscan_memcg_reclaim_begin"})
RECLAIM_END = frozenset({"mm_vmscan_direct_reclaim_end", "mm_vmscan_memcg_reclaim_end"})
RECLAIM_EVENTS = tuple(sorted(RECLAIM_BEGIN | RECLAIM_END))

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

FORMS = {
    WRITE_BEGIN: re.compile(r"\("),
    WRITE_END: re.compile(r"\("),
    LOCK_WANTED: re.compile(r"lock=(0x[0-9a-f]+)$"),
    LOCK_TAKEN: re.compile(r"\("),
    LOCK_DROPPED: re.compile(r"lock=(0x[0-9a-f]+)$"),
    BULK_BEGIN: re.compile(r"nr=(-?\d+)$"),
    BULK_END: re.compile(r"pages=(\d+)$"),
    PAGE_ALLOC: re.compile(r"pfn=0x([0-9a-f]+) order=(\d+) .*gfp_flags=(\S+)$"),
    **dict.fromkeys(RECLAIM_EVENTS, re.compile(r"")),
}


def probe_definitions(write: str, lock: str, unlock: str, bulk: str) -> list[str]:
    """Lines for kprobe_events: the events of `FORMS`.

    nr_pages is the fourth argument of the bulk allocator in every kernel from 5.13 on.
    """
    returns = f"r{RETURN_INSTANCES}:{GROUP}"
    return [
        f"p:{GROUP}/{WRITE_BEGIN} {write}",
        f"{returns}/{WRITE_END} {write}",
        f"p:{GROUP}/{LOCK_WANTED} {lock} lock=$arg1:x64",
        f"{returns}/{LOCK_TAKEN} {lock}",
        f"p:{GROUP}/{LOCK_DROPPED} {unlock} lock=$arg1:x64",
        f"p:{GROUP}/{BULK_BEGIN} {bulk} nr=$arg4:s32",
        f"{returns}/{BULK_END} {bulk} pages=$retval:u64",
    ]


def prepare() -> None:
    """Define the kprobes; they are off until a cell is run.

    Raises:
        TraceError: which one the kernel refused.
    """
    names = [str(name) for name in tracefs.functions(PROBE.needs.functions)]
    for line in probe_definitions(*names):
        tracefs.write("kprobe_events", line, append=True)


def measure(argv: list[str], run_bench: RunBench) -> Json:
    """`allocation` and `contention` of docs/contracts.md, "Mechanism boots".

    Raises:
        TraceError: there is no plausible trace.
    """
    comm = Path(argv[0]).name[:15]
    return {
        "allocation": plausible(lambda: _allocation(argv, comm, run_bench)),
        "contention": plausible(lambda: _contention(argv, comm, run_bench)),
    }


def _allocation(argv: list[str], comm: str, run_bench: RunBench) -> Json:
    ours = f'comm == "{comm}"'
    filters = {GROUP: ours, "kmem/mm_page_alloc": ours}
    for event in RECLAIM_EVENTS:
        # Without memory cgroups there is no event of their reclaim.
        if (tracefs.TRACEFS / "events/vmscan" / event).exists():
            filters[f"vmscan/{event}"] = ours
    # A counter that all CPUs share: the order of events is exact, and time is of no interest.
    run = tracefs.record(filters, "counter", argv, run_bench)
    found = allocation(run.events(FORMS), run.lost)
    if not run.lost and found["writes"] < run.bench["writes"]:
        raise ImplausibleTraceError(
            f"{found['writes']} complete writes that took a mutex, but the workload counted "
            f"{run.bench['writes']}, and no event was lost"
        )
    return found


def _contention(argv: list[str], comm: str, run_bench: RunBench) -> Json:
    filters = {
        "lock/contention_begin": f'comm == "{comm}" && flags & {LCB_F_MUTEX}',
        "lock/contention_end": f'comm == "{comm}"',
    }
    run = tracefs.record(filters, "mono", argv, run_bench)
    if run.hits:
        raise ImplausibleTraceError(f"{run.hits} hits of probes that are off")
    return contention(run.events(lock_contention.FORMS), run.bench, run.lost)


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

    Raises:
        ImplausibleTraceError: a wait that ends before it begins.
    """
    by_mutex: dict[str, list[int]] = {}
    for wait in lock_contention.Waits(events):
        if wait.lock == "mutex":
            by_mutex.setdefault(wait.address, []).append(wait.ns)
    # Every wait for a pipe's mutex is of one pipe; of two equal numbers the earlier lock's.
    return max(by_mutex.values(), key=len, default=[])


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


PROBE = Probe(
    name="pipe-allocation",
    about="In a first run of each cell the page allocations and direct reclaims of its writers "
    "were counted apart by whether the writer held pipe->mutex; in a second run the waits for "
    "that mutex alone.",
    needs=Needs(
        events=(
            "kmem/mm_page_alloc",
            "vmscan/mm_vmscan_direct_reclaim_begin",
            "vmscan/mm_vmscan_direct_reclaim_end",
            *lock_contention.EVENTS,
        ),
        functions=(WRITE_SYMBOLS, LOCK_SYMBOLS, UNLOCK_SYMBOLS, BULK_SYMBOLS),
    ),
    needs_value="writes",
    runs=2,
    records=("allocation", "contention"),
    table="tables/mechanism.csv",
    prepare=prepare,
    measure=measure,
)
