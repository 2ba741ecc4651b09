# SPDX-License-Identifier: GPL-2.0-only
"""Control of the kernel's tracefs, for all probes. Standard library only.

Documentation/trace/{ftrace,events,kprobetrace}.rst of the kernel. What is traced is a run of the
workload, from its start to its end.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from kdelta.probes.trace import Event, Forms, TraceError, first_loss, parse_trace

Json = dict[str, Any]
# Runs the argument vector; returns the workload's JSON or {"output": text} (None: it failed), and
# what went wrong.
RunBench = Callable[[list[str]], tuple[Json | None, str | None]]

TRACEFS = Path("/sys/kernel/tracing")
OPTIMIZATION = Path("/proc/sys/debug/kprobes-optimization")
KALLSYMS = Path("/proc/kallsyms")
GROUP = "kdelta"
"""The events of our own kprobes, as a folder below tracefs' `events`."""

BUFFER_MAX_KIB = 8 * 1024


class Recording(NamedTuple):
    """One traced run, as it stands in the trace buffer.

    Attributes:
        full_cpus: whose buffers have dropped events.
        lost: events that are missing.
        hits: of our kprobes, by whatever task.
        bench: the workload's result.
        elapsed_s: seconds that it ran, start and end included.
    """

    full_cpus: list[int]
    lost: int
    hits: int
    bench: Json
    elapsed_s: float

    def events(self, forms: Forms) -> Iterator[Event]:
        """The events up to the first loss, read as they are asked for: they can be many."""
        until = None
        if self.full_cpus:
            with _open_trace() as lines:
                until = first_loss(parse_trace(lines, forms), self.full_cpus)
        with _open_trace() as lines:
            yield from parse_trace(lines, forms, until)


def find_symbol(kallsyms: Iterable[str], names: tuple[str, ...]) -> str | None:
    """The first of the names that is a function of the kernel, by /proc/kallsyms."""
    found = set()
    for line in kallsyms:
        fields = line.split()
        # A fourth field names a module.
        if len(fields) == 3 and fields[1] in "tT" and fields[2] in names:
            found.add(fields[2])
    return next((name for name in names if name in found), None)


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


def _mount() -> None:
    if not (TRACEFS / "tracing_on").exists() and TRACEFS.exists():
        command = ["mount", "-t", "tracefs", "nodev", str(TRACEFS)]
        subprocess.run(command, check=False, capture_output=True)


def functions(wanted: Sequence[tuple[str, ...]]) -> list[str | None]:
    """What each of these functions is called in this kernel, by any of its names; None: none."""
    lines = KALLSYMS.read_text().splitlines()
    return [find_symbol(lines, names) for names in wanted]


def missing(events: Iterable[str], wanted: Sequence[tuple[str, ...]] = ()) -> list[str]:
    """What this kernel lacks, in words; empty when it has it all.

    Mounts tracefs if nobody has.

    Args:
        events: that have to be there, as folders below `events`.
        wanted: functions at which kprobes are to be set, each by any of its names.
    """
    _mount()
    if not (TRACEFS / "tracing_on").exists():
        return ["tracefs (CONFIG_FTRACE and CONFIG_ENABLE_DEFAULT_TRACERS)"]
    found = []
    if wanted and not (TRACEFS / "kprobe_events").exists():
        found.append("kprobe events (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)")
    found += [f"trace event {e}" for e in events if not (TRACEFS / "events" / e).exists()]
    if not wanted:
        return found
    if not KALLSYMS.exists():
        return [*found, f"{KALLSYMS} (CONFIG_KALLSYMS)"]
    found += [
        f"a kernel function {' or '.join(names)}() in {KALLSYMS}"
        for names, function in zip(wanted, functions(wanted), strict=True)
        if function is None
    ]
    return found


def prepare() -> None:
    """Forget what was traced before, and make room: once per boot.

    Raises:
        TraceError: what cannot be written.
    """
    write("tracing_on", "0")
    for event in ("lock/contention_begin", "lock/contention_end", "kmem/mm_page_alloc"):
        if (TRACEFS / "events" / event).exists():
            write(f"events/{event}/enable", "0")
    if (TRACEFS / "events" / GROUP).exists():
        write(f"events/{GROUP}/enable", "0")
        write("kprobe_events", "")
    # A probe that is to become a jump waits until every task has been seen at a safe point; under
    # memory pressure, with few CPUs, that took a minute each time that probes went on or off.
    if OPTIMIZATION.exists():
        OPTIMIZATION.write_text("0")
    meminfo = Path("/proc/meminfo").read_text().split()
    cpus = len(os.sched_getaffinity(0))
    write("buffer_size_kb", str(buffer_kib(int(meminfo[1]), cpus)))
    # Full is full: what is in it then has no holes. And addresses as they are: hashed ones
    # are all the same for as long as the guest has not gathered randomness.
    write("options/overwrite", "0")
    write("options/hash-ptr", "0")


def set_kprobes_anew() -> None:
    """Set our kprobes and take them away again, if there are any."""
    if (TRACEFS / "events" / GROUP).exists():
        for switch in "10":
            write(f"events/{GROUP}/enable", switch)


def record(
    filters: Mapping[str, str], clock: str, argv: list[str], run_bench: RunBench
) -> Recording:
    """Run the workload while events are traced.

    Args:
        filters: event, as a folder below `events` -> filter; "": all of its events.
        clock: the trace clock.
        argv: the workload's command line.
        run_bench: runs it.

    Raises:
        TraceError: it failed, or what cannot be written.
    """
    write("trace_clock", clock)
    write("trace", "")
    hits, missed = _hits()
    with _enabled(filters):
        begun = time.monotonic()
        bench, error = run_bench(argv)
        elapsed_s = time.monotonic() - begun
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
        elapsed_s=elapsed_s,
    )


def _hits() -> tuple[int, int]:
    profile = TRACEFS / "kprobe_profile"
    return probe_hits(profile.read_text()) if profile.exists() else (0, 0)


def _open_trace() -> TextIO:
    return (TRACEFS / "trace").open(errors="replace")


@contextmanager
def _enabled(filters: Mapping[str, str]) -> Iterator[None]:
    """Trace these events for as long as the body runs."""
    try:
        for event, text in filters.items():
            write(f"events/{event}/filter", text or "0")  # 0: no filter
            write(f"events/{event}/enable", "1")
        write("tracing_on", "1")
        yield
    finally:
        write("tracing_on", "0")
        for event in filters:
            write(f"events/{event}/enable", "0")


@contextmanager
def of_this_process() -> Iterator[None]:
    """Trace this process alone and all that it starts meanwhile, whatever these are called.

    Raises:
        TraceError: what cannot be written.
    """
    try:
        write("options/event-fork", "1")
        write("set_event_pid", str(os.getpid()))
        yield
    finally:
        write("set_event_pid", "")


@contextmanager
def stacks(event: str) -> Iterator[None]:
    """Have the kernel's stack recorded right after each of these events.

    Raises:
        TraceError: the kernel cannot (CONFIG_STACKTRACE).
    """
    trigger = f"events/{event}/trigger"
    write(trigger, "stacktrace")
    try:
        yield
    finally:
        # By name: to open the file anew clears histograms alone, and a second one is refused.
        write(trigger, "!stacktrace")


def write(name: str, text: str, *, append: bool = False) -> None:
    """Write to one of tracefs' files.

    Raises:
        TraceError: it does not take it.
    """
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
