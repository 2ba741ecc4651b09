# SPDX-License-Identifier: GPL-2.0-only
"""A folder that looks like tracefs, and a workload that fills its trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdelta.probes import pipe_allocation

STATS = "entries: 5\noverrun: {}\ncommit overrun: {}\nbytes: 9\nnow ts: 7\ndropped events: {}\n"
PROFILE = "  write_begin     {}     0\n  lock_taken     7     {}\n"
LINE = "      pipe_bench-7      [000] .....     {}: {}\n"
WRITE = (
    "write_begin: (pipe_write+0x0/0x780)",
    "lock_wanted: (mutex_lock+0x0/0x30) lock=0xff",
    "lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)",
    "mm_page_alloc: page=ff pfn=0x1 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER",
    "lock_dropped: (mutex_unlock+0x0/0x20) lock=0xff",
    "write_end: (vfs_write+0x40d/0x470 <- pipe_write)",
)
WAIT = ("contention_begin: ff (flags=SPIN|MUTEX)", "contention_end: ff (ret=0)")
STACK = (
    "<stack trace>\n => __traceiter_contention_begin\n => mutex_lock\n => pipe_write\n => vfs_write"
)
LOCKS = (WAIT[0], STACK, WAIT[1])
BENCH = {
    "writes": 1,
    "elapsed_s": 0.25,
    "throughput_mib_s": 0.25,
    "write_latency_ns": {"mean": 9, "p50": 9, "p99": 9},
}
PAGES = ("pipe-allocation",)
ARGV = ["/run/pipe_bench", "--duration", "0.3"]


class Kernel:
    """A folder with tracefs' files, and a workload that fills its trace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "options").mkdir()
        files = ("trace", "trace_clock", "tracing_on", "buffer_size_kb", "kprobe_events")
        options = ("options/overwrite", "options/hash-ptr", "options/event-fork")
        for name in (*files, *options, "set_event_pid"):
            (root / name).write_text("")
        events = [*pipe_allocation.PROBE.needs.events, "kdelta"]
        for event in (*events, *(f"vmscan/{name}" for name in pipe_allocation.RECLAIM_EVENTS)):
            (root / "events" / event).mkdir(parents=True, exist_ok=True)
            for name in ("enable", "filter", "trigger"):
                (root / "events" / event / name).write_text("0")
        self.stats(0)
        (root / "per_cpu/cpu1").mkdir()
        (root / "per_cpu/cpu1/stats").write_text(STATS.format(0, 0, 0))
        self.profile(0, 0)
        self.runs: list[tuple[str, set[str]]] = []

    def stats(self, dropped: int) -> None:
        (self.root / "per_cpu/cpu0").mkdir(parents=True, exist_ok=True)
        (self.root / "per_cpu/cpu0/stats").write_text(STATS.format(0, 0, dropped))

    def profile(self, hits: int, missed: int) -> None:
        (self.root / "kprobe_profile").write_text(PROFILE.format(hits, missed))

    def enabled(self) -> set[str]:
        events = self.root / "events"
        return {
            str(path.parent.relative_to(events))
            for path in events.rglob("enable")
            if path.read_text() == "1"
        }

    def workload(
        self, *traces: tuple[str, ...]
    ) -> Callable[[list[str]], tuple[dict[str, Any] | None, str | None]]:
        left = list(traces)

        def run(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
            assert argv == ARGV
            assert (self.root / "tracing_on").read_text() == "1"
            clock = (self.root / "trace_clock").read_text()
            self.runs.append((clock, self.enabled()))
            stamp = "{}" if clock == "counter" else "1.00000{}"
            lines = [LINE.format(stamp.format(n), text) for n, text in enumerate(left.pop(0))]
            (self.root / "trace").write_text("".join(lines))
            return BENCH, None

        return run
