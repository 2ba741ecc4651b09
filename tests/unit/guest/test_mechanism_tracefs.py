# SPDX-License-Identifier: GPL-2.0-only
"""Control of tracefs, on a folder that looks like one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest import mechanism
from kdelta.guest.trace_parse import TraceError

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
BENCH = {"writes": 1, "elapsed_s": 0.25}
ARGV = ["/run/pipe_bench", "--duration", "0.3"]


class Kernel:
    """A folder with tracefs' files, and a workload that fills its trace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("trace", "trace_clock", "tracing_on", "buffer_size_kb", "kprobe_events"):
            (root / name).write_text("")
        events = [*mechanism.REQUIRED_EVENTS, "kdelta"]
        for event in (*events, *(f"vmscan/{name}" for name in mechanism.RECLAIM_EVENTS)):
            (root / "events" / event).mkdir(parents=True, exist_ok=True)
            for name in ("enable", "filter"):
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


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(mechanism, "TRACEFS", tmp_path)
    return Kernel(tmp_path)


def test_a_cell_is_run_with_probes_and_then_with_the_contention_events_alone(
    kernel: Kernel,
) -> None:
    result = mechanism.measure_mechanism(ARGV, kernel.workload(WRITE, WAIT))
    assert (result["status"], result["error"]) == ("ok", None)
    assert result["allocation"]["writes"] == result["allocation"]["pages_under_lock"] == 1
    assert result["allocation"]["attempts"] == result["contention"]["attempts"] == 1
    assert result["contention"]["wait_ns_total"] == 1000
    assert [clock for clock, _ in kernel.runs] == ["counter", "mono"]
    reclaim = {f"vmscan/{name}" for name in mechanism.RECLAIM_EVENTS}
    assert kernel.runs[0][1] == {"kdelta", "kmem/mm_page_alloc", *reclaim}
    assert kernel.runs[1][1] == {"lock/contention_begin", "lock/contention_end"}
    assert kernel.enabled() == set()
    assert (kernel.root / "tracing_on").read_text() == "0"
    filters = {
        name: (kernel.root / "events" / name / "filter").read_text()
        for name in ("kdelta", "lock/contention_begin")
    }
    assert filters == {
        "kdelta": 'comm == "pipe_bench"',
        "lock/contention_begin": 'comm == "pipe_bench" && flags & 32',
    }


def test_an_implausible_trace_is_taken_again_and_the_number_of_attempts_told(
    kernel: Kernel,
) -> None:
    no_unlock = WRITE[:4] + WRITE[5:]
    no_lock = (WRITE[0], WRITE[-1])
    result = mechanism.measure_mechanism(ARGV, kernel.workload(no_unlock, no_lock, WRITE, WAIT))
    assert result["status"] == "ok"
    assert result["allocation"]["attempts"] == 3
    assert result["allocation"]["pages_under_lock"] == 1


def test_a_trace_that_stays_implausible_fails_and_says_why(kernel: Kernel) -> None:
    runs = [(WRITE[0], WRITE[-1])] * mechanism.ATTEMPTS
    result = mechanism.measure_mechanism(ARGV, kernel.workload(*runs))
    assert (result["status"], result["allocation"], result["contention"]) == ("failed", None, None)
    assert result["error"] == (
        "no plausible trace in 5 attempts; of the last: 0 complete writes that took a mutex, but "
        "the workload counted 1, and no event was lost"
    )


def test_probes_that_are_off_and_still_hit_are_set_anew(kernel: Kernel) -> None:
    run = kernel.workload(WRITE, WAIT, WAIT)
    calls = 0

    def run_and_hit(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        nonlocal calls
        calls += 1
        kernel.profile(min(calls, 2), 0)
        return run(argv)

    result = mechanism.measure_mechanism(ARGV, run_and_hit)
    assert result["status"] == "ok"
    assert result["contention"]["attempts"] == 2


def test_lost_events_are_those_of_full_buffers_and_of_missed_returns(kernel: Kernel) -> None:
    run = kernel.workload(WRITE, WAIT)

    def run_and_lose(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        kernel.stats(40 if not kernel.runs else 0)
        kernel.profile(0, 2)
        return run(argv)

    result = mechanism.measure_mechanism(ARGV, run_and_lose)
    assert result["allocation"]["lost_events"] == 42
    assert result["contention"]["lost_events"] == 0


def test_a_workload_that_fails_is_not_run_again_and_leaves_tracing_off(kernel: Kernel) -> None:
    run = kernel.workload(())

    def fail(argv: list[str]) -> tuple[None, str]:
        run(argv)
        return None, "pipe_bench: no pipe"

    result = mechanism.measure_mechanism(ARGV, fail)
    assert result["error"] == "the traced workload failed: pipe_bench: no pipe"
    assert kernel.enabled() == set()
    assert (kernel.root / "tracing_on").read_text() == "0"


def test_a_file_that_cannot_be_written_is_named(kernel: Kernel) -> None:
    (kernel.root / "trace_clock").unlink()
    result = mechanism.measure_mechanism(ARGV, kernel.workload(WRITE, WAIT))
    assert result["error"] == (
        "tracefs: writing 'counter' to trace_clock: No such file or directory"
    )


def test_what_a_kernel_lacks_is_listed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel.root / "kprobe_events").unlink()
    for name in ("enable", "filter"):
        (kernel.root / "events/lock/contention_end" / name).unlink()
    (kernel.root / "events/lock/contention_end").rmdir()
    monkeypatch.setattr(
        mechanism, "_functions", lambda: {mechanism.WRITE_SYMBOLS: None, ("mutex_lock",): "x"}
    )
    missing = [
        "kprobe events (CONFIG_KPROBES and CONFIG_KPROBE_EVENTS)",
        "trace event lock/contention_end",
        "a kernel function anon_pipe_write or pipe_write() in /proc/kallsyms",
    ]
    assert mechanism.available() == missing
    with pytest.raises(TraceError, match=r"cannot be traced: it has no kprobe events .*; no trace"):
        mechanism.prepare()


def test_a_kernel_without_tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanism, "TRACEFS", tmp_path / "none")
    assert mechanism.available() == ["tracefs (CONFIG_FTRACE and CONFIG_ENABLE_DEFAULT_TRACERS)"]


KALLSYMS = """\
ffffffff81234560 t pipe_write
ffffffff81234570 T alloc_pages_bulk_noprof
ffffffff81234580 d mutex_lock
ffffffff81234590 t anon_pipe_write\t[module]
""".splitlines()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (mechanism.WRITE_SYMBOLS, "pipe_write"),  # the other one is a module's
        (mechanism.BULK_SYMBOLS, "alloc_pages_bulk_noprof"),
        (mechanism.LOCK_SYMBOLS, None),  # data
    ],
)
def test_functions_are_found_by_any_of_their_names(
    names: tuple[str, ...], found: str | None
) -> None:
    assert mechanism.find_symbol(KALLSYMS, names) == found


def test_the_newest_name_of_a_function_comes_first() -> None:
    lines = [*KALLSYMS, "ffffffff81234599 t anon_pipe_write"]
    assert mechanism.find_symbol(lines, mechanism.WRITE_SYMBOLS) == "anon_pipe_write"


@pytest.mark.parametrize(
    ("memory_kib", "cpus", "size"),
    [(1 << 20, 2, 8192), (1 << 20, 16, 4096), (128 << 10, 16, 512), (8 << 10, 64, 64)],
)
def test_trace_buffers_leave_the_guest_its_memory(memory_kib: int, cpus: int, size: int) -> None:
    assert mechanism.buffer_kib(memory_kib, cpus) == size


def test_every_way_to_lose_an_event_counts() -> None:
    assert mechanism.lost_in_buffer(STATS.format(1, 20, 300)) == 321
    assert mechanism.probe_hits(PROFILE.format(5, 3)) == (12, 3)
