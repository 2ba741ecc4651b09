# SPDX-License-Identifier: GPL-2.0-only
"""Traced runs of the workload inside the guest: what happens in a pipe write.

Standard library only: it runs inside the guest, imported by `driver.py`. It drives the
kernel's tracefs (Documentation/trace/{ftrace,events,kprobetrace}.rst); `trace_parse.py`
says what the trace means. Each cell is run twice: with probes on the write path, then
with nothing but the two lock contention events, since probes would lengthen the waits.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from kdelta.guest import trace_parse
from kdelta.guest.trace_parse import ImplausibleTraceError, TraceError

Json = dict[str, Any]
# Runs the argument vector; returns the workload's JSON (None: none), and what went wrong.
RunBench = Callable[[list[str]], tuple[Json | None, str | None]]

TRACEFS = Path("/sys/kernel/tracing")
OPTIMIZATION = Path("/proc/sys/debug/kprobes-optimization")
GROUP = "kdelta"

# The kernel's names for one thing, newest first; with lock debugging mutex_lock() is a macro.
WRITE_SYMBOLS = ("anon_pipe_write", "pipe_write")
LOCK_SYMBOLS = ("mutex_lock", "mutex_lock_nested")
UNLOCK_SYMBOLS = ("mutex_unlock",)
BULK_SYMBOLS = ("alloc_pages_bulk_noprof", "__alloc_pages_bulk")

# LCB_F_MUTEX of include/trace/events/lock.h: the contended lock is a mutex.
LCB_F_MUTEX = 32

RECLAIM_EVENTS = tuple(sorted(trace_parse.RECLAIM_BEGIN | trace_parse.RECLAIM_END))
REQUIRED_EVENTS = (
    "kmem/mm_page_alloc",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
    "lock/contention_begin",
    "lock/contention_end",
)

# Return probes of functions that sleep need one instance per thread inside: as many as 5x10
# cells have, many times over. Hits beyond are counted as missed.
RETURN_INSTANCES = 256
BUFFER_MAX_KIB = 8 * 1024
ATTEMPTS = 5


class Recording(NamedTuple):
    """One traced run, as it stands in the trace buffer.

    Attributes:
        full_cpus: whose buffers have dropped events.
        lost: events that are missing.
        hits: of our probes, by whatever task.
        bench: the workload's result.
    """

    full_cpus: list[int]
    lost: int
    hits: int
    bench: Json

    def events(self) -> Iterator[trace_parse.Event]:
        """The events up to the first loss, read as they are asked for: they can be many."""
        until = None
        if self.full_cpus:
            with _open_trace() as lines:
                until = trace_parse.first_loss(trace_parse.parse_trace(lines), self.full_cpus)
        with _open_trace() as lines:
            yield from trace_parse.parse_trace(lines, until)


def find_symbol(kallsyms: Iterable[str], names: tuple[str, ...]) -> str | None:
    """The first of the names that is a function of the kernel, by /proc/kallsyms."""
    found = set()
    for line in kallsyms:
        fields = line.split()
        # A fourth field names a module.
        if len(fields) == 3 and fields[1] in "tT" and fields[2] in names:
            found.add(fields[2])
    return next((name for name in names if name in found), None)


def probe_definitions(write: str, lock: str, unlock: str, bulk: str) -> list[str]:
    """Lines for kprobe_events: the events that `trace_parse` understands.

    nr_pages is the fourth argument of the bulk allocator in every kernel from 5.13 on.
    """
    returns = f"r{RETURN_INSTANCES}:{GROUP}"
    return [
        f"p:{GROUP}/{trace_parse.WRITE_BEGIN} {write}",
        f"{returns}/{trace_parse.WRITE_END} {write}",
        f"p:{GROUP}/{trace_parse.LOCK_WANTED} {lock} lock=$arg1:x64",
        f"{returns}/{trace_parse.LOCK_TAKEN} {lock}",
        f"p:{GROUP}/{trace_parse.LOCK_DROPPED} {unlock} lock=$arg1:x64",
        f"p:{GROUP}/{trace_parse.BULK_BEGIN} {bulk} nr=$arg4:s32",
        f"{returns}/{trace_parse.BULK_END} {bulk} pages=$retval:u64",
    ]


def buffer_kib(memory_kib: int, cpus: int) -> int:
    """Size of each CPU's trace buffer: all of them take at most 1/16 of the memory."""
    return max(64, min(BUFFER_MAX_KIB, memory_kib // 16 // cpus))


def lost_in_buffer(stats: str) -> int:
    """Events that one CPU's buffer has lost, from its per_cpu/cpuN/stats."""
    wanted = ("overrun", "commit overrun", "dropped events")
    pairs = (line.partition(":") for line in stats.splitlines())
    return sum(int(value) for name, _, value in pairs if name in wanted)


def probe_hits(profile: str) -> tuple[int, int]:
    """Sums over all probes, from kprobe_profile: hits, and hits that left no event."""
    rows = [line.split() for line in profile.splitlines() if line.strip()]
    return sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows)


def _functions() -> dict[tuple[str, ...], str | None]:
    kinds = (WRITE_SYMBOLS, LOCK_SYMBOLS, UNLOCK_SYMBOLS, BULK_SYMBOLS)
    lines = Path("/proc/kallsyms").read_text().splitlines()
    return {names: find_symbol(lines, names) for names in kinds}


def _mount() -> None:
    if not (TRACEFS / "tracing_on").exists() and TRACEFS.exists():
        command = ["mount", "-t", "tracefs", "nodev", str(TRACEFS)]
        subprocess.run(command, check=False, capture_output=True)


def available() -> list[str]:
    """What this kernel lacks for mechanism boots, in words; empty when it has it all.

    Mounts tracefs if nobody has.
    """
    _mount()
    if not (TRACEFS / "tracing_on").exists():
        return ["tracefs (CONFIG_FTRACE and CONFIG_ENABLE_DEFAULT_TRACERS)"]
    missing = []
    if not (TRACEFS / "kprobe_events").exists():
        missing.append("kprobe events (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)")
    missing += [
        f"trace event {event}"
        for event in REQUIRED_EVENTS
        if not (TRACEFS / "events" / event).exists()
    ]
    if not Path("/proc/kallsyms").exists():
        return [*missing, "/proc/kallsyms (CONFIG_KALLSYMS)"]
    for names, found in _functions().items():
        if found is None:
            missing.append(f"a kernel function {' or '.join(names)}() in /proc/kallsyms")
    return missing


def prepare() -> None:
    """Set up tracefs for `measure_mechanism`: once per boot, before any memory pressure.

    Raises:
        TraceError: what the kernel lacks, or which probe it refused.
    """
    missing = available()
    if missing:
        raise TraceError(f"the kernel cannot be traced: it has no {'; no '.join(missing)}")
    _write("tracing_on", "0")
    for event in ("lock/contention_begin", "lock/contention_end", "kmem/mm_page_alloc"):
        _write(f"events/{event}/enable", "0")
    if (TRACEFS / "events" / GROUP).exists():
        _write(f"events/{GROUP}/enable", "0")
        _write("kprobe_events", "")
    # A probe that is to become a jump waits until every task has been seen at a safe point; under
    # memory pressure, with few CPUs, that took a minute each time that probes went on or off.
    if OPTIMIZATION.exists():
        OPTIMIZATION.write_text("0")
    functions = [str(name) for name in _functions().values()]
    for line in probe_definitions(*functions):
        _write("kprobe_events", line, append=True)
    meminfo = Path("/proc/meminfo").read_text().split()
    cpus = len(os.sched_getaffinity(0))
    _write("buffer_size_kb", str(buffer_kib(int(meminfo[1]), cpus)))
    # Full is full: what is in it then has no holes. And addresses as they are: hashed ones
    # are all the same for as long as the guest has not gathered randomness.
    _write("options/overwrite", "0")
    _write("options/hash-ptr", "0")


def measure_mechanism(argv: list[str], run_bench: RunBench) -> Json:
    """Run one cell twice under tracing, or more often if a trace is implausible.

    Args:
        argv: the workload's command line; short (0.3 s) and without warm-up.
        run_bench: runs it to its end.

    Returns:
        `status`, `error`, `allocation`, `contention` of docs/contracts.md, "Mechanism
        boots"; the two objects are None where `status` is "failed".
    """
    comm = Path(argv[0]).name[:15]
    try:
        result = {
            "allocation": _plausible(lambda: _allocation(argv, comm, run_bench)),
            "contention": _plausible(lambda: _contention(argv, comm, run_bench)),
        }
    except (TraceError, OSError) as error:
        return {"status": "failed", "error": str(error), "allocation": None, "contention": None}
    return {"status": "ok", "error": None, **result}


def _plausible(attempt: Callable[[], Json]) -> Json:
    """The first plausible result, and which `attempts` it took.

    An emulated CPU may go on running a busy function's old code when a probe is set there or
    taken away (seen with QEMU 7.2 in three of twenty cells, beside a program that does nothing
    but take pipes' mutexes). The trace then lacks all events of one kind; setting the
    probe again mends it.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return {**attempt(), "attempts": number}
        except ImplausibleTraceError as error:
            why = str(error)
            for switch in "10":
                _write(f"events/{GROUP}/enable", switch)
    raise TraceError(f"no plausible trace in {ATTEMPTS} attempts; of the last: {why}")


def _allocation(argv: list[str], comm: str, run_bench: RunBench) -> Json:
    ours = f'comm == "{comm}"'
    filters = {GROUP: ours, "kmem/mm_page_alloc": ours}
    for event in RECLAIM_EVENTS:
        # Without memory cgroups there is no event of their reclaim.
        if (TRACEFS / "events/vmscan" / event).exists():
            filters[f"vmscan/{event}"] = ours
    # A counter that all CPUs share: the order of events is exact, and time is of no interest.
    run = _record(filters, "counter", argv, run_bench)
    found = trace_parse.allocation(run.events(), run.lost)
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
    run = _record(filters, "mono", argv, run_bench)
    if run.hits:
        raise ImplausibleTraceError(f"{run.hits} hits of probes that are off")
    return trace_parse.contention(run.events(), run.bench, run.lost)


def _record(filters: dict[str, str], clock: str, argv: list[str], run_bench: RunBench) -> Recording:
    _write("trace_clock", clock)
    _write("trace", "")
    hits, missed = _hits()
    with _enabled(filters):
        bench, error = run_bench(argv)
    if bench is None:
        raise TraceError(f"the traced workload failed: {error}")
    lost = {
        int(folder.name.removeprefix("cpu")): lost_in_buffer((folder / "stats").read_text())
        for folder in (TRACEFS / "per_cpu").iterdir()
    }
    hits_after, missed_after = _hits()
    return Recording(
        full_cpus=[cpu for cpu in lost if lost[cpu]],
        lost=sum(lost.values()) + missed_after - missed,
        hits=hits_after - hits,
        bench=bench,
    )


def _hits() -> tuple[int, int]:
    return probe_hits((TRACEFS / "kprobe_profile").read_text())


def _open_trace() -> TextIO:
    return (TRACEFS / "trace").open(errors="replace")


@contextmanager
def _enabled(filters: dict[str, str]) -> Iterator[None]:
    """Trace these events (folder below events/ -> filter) for as long as the body runs."""
    try:
        for event, text in filters.items():
            _write(f"events/{event}/filter", text)
            _write(f"events/{event}/enable", "1")
        _write("tracing_on", "1")
        yield
    finally:
        _write("tracing_on", "0")
        for event in filters:
            _write(f"events/{event}/enable", "0")


def _write(name: str, text: str, *, append: bool = False) -> None:
    # Not open(): its "a" seeks to the end, which these files refuse; its "w" is a command to
    # kprobe_events and trace: to forget what is there.
    flags = os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC)
    try:
        file = os.open(TRACEFS / name, flags)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
    except OSError as error:
        raise TraceError(f"tracefs: writing {text!r} to {name}: {error.strerror}") from error
