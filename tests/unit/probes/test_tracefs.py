# SPDX-License-Identifier: GPL-2.0-only
"""Control of tracefs, on a folder that looks like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_tracefs import ARGV, PAGES, PROFILE, STATS, WAIT, WRITE, Kernel

from kdelta.probes import inside, pipe_allocation, probe, tracefs


def test_a_cell_is_run_with_probes_and_then_with_the_contention_events_alone(
    kernel: Kernel,
) -> None:
    result = inside.measure(PAGES, {}, ARGV, kernel.workload(WRITE, WAIT))
    assert (result["status"], result["error"]) == ("ok", None)
    assert result["allocation"]["writes"] == result["allocation"]["pages_under_lock"] == 1
    assert result["allocation"]["attempts"] == result["contention"]["attempts"] == 1
    assert result["contention"]["wait_ns_total"] == 1000
    assert [clock for clock, _ in kernel.runs] == ["counter", "mono"]
    reclaim = {f"vmscan/{name}" for name in pipe_allocation.RECLAIM_EVENTS}
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
    result = inside.measure(PAGES, {}, ARGV, kernel.workload(no_unlock, no_lock, WRITE, WAIT))
    assert result["status"] == "ok"
    assert result["allocation"]["attempts"] == 3
    assert result["allocation"]["pages_under_lock"] == 1


def test_a_trace_that_stays_implausible_fails_and_says_why(kernel: Kernel) -> None:
    runs = [(WRITE[0], WRITE[-1])] * probe.ATTEMPTS
    result = inside.measure(PAGES, {}, ARGV, kernel.workload(*runs))
    assert (result["status"], result["allocation"], result["contention"]) == ("failed", None, None)
    assert result["error"] == (
        "pipe-allocation: no plausible trace in 5 attempts; of the last: 0 complete writes that "
        "took a mutex, but the workload counted 1, and no event was lost"
    )


def test_probes_that_are_off_and_still_hit_are_set_anew(kernel: Kernel) -> None:
    run = kernel.workload(WRITE, WAIT, WAIT)
    calls = 0

    def run_and_hit(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        nonlocal calls
        calls += 1
        kernel.profile(min(calls, 2), 0)
        return run(argv)

    result = inside.measure(PAGES, {}, ARGV, run_and_hit)
    assert result["status"] == "ok"
    assert result["contention"]["attempts"] == 2


def test_lost_events_are_those_of_full_buffers_and_of_missed_returns(kernel: Kernel) -> None:
    run = kernel.workload(WRITE, WAIT)

    def run_and_lose(argv: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        kernel.stats(40 if not kernel.runs else 0)
        kernel.profile(0, 2)
        return run(argv)

    result = inside.measure(PAGES, {}, ARGV, run_and_lose)
    assert result["allocation"]["lost_events"] == 42
    assert result["contention"]["lost_events"] == 0


def test_a_workload_that_fails_is_not_run_again_and_leaves_tracing_off(kernel: Kernel) -> None:
    run = kernel.workload(())

    def fail(argv: list[str]) -> tuple[None, str]:
        run(argv)
        return None, "pipe_bench: no pipe"

    result = inside.measure(PAGES, {}, ARGV, fail)
    assert result["error"] == "pipe-allocation: the traced workload failed: pipe_bench: no pipe"
    assert kernel.enabled() == set()
    assert (kernel.root / "tracing_on").read_text() == "0"


def test_a_file_that_cannot_be_written_is_named(kernel: Kernel) -> None:
    (kernel.root / "trace_clock").unlink()
    result = inside.measure(PAGES, {}, ARGV, kernel.workload(WRITE, WAIT))
    assert result["error"] == (
        "pipe-allocation: tracefs: writing 'counter' to trace_clock: No such file or directory"
    )


def test_what_a_kernel_lacks_is_the_reason_in_each_record(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel.root / "kprobe_events").unlink()
    for file in (kernel.root / "events/lock/contention_end").iterdir():
        file.unlink()
    (kernel.root / "events/lock/contention_end").rmdir()
    (tmp_path / "kallsyms").write_text("ffffffff81234570 T mutex_lock\n" * 2)
    monkeypatch.setattr(tracefs, "KALLSYMS", tmp_path / "kallsyms")
    refused = inside.prepare([*inside.PROBES])
    assert refused["lock-contention"] == (
        "the kernel cannot be traced: it has no trace event lock/contention_end"
    )
    assert refused["pipe-allocation"].startswith(
        "the kernel cannot be traced: it has no kprobe events (CONFIG_KPROBES and "
        "CONFIG_KPROBE_EVENTS); no trace event lock/contention_end; no a kernel function "
        "anon_pipe_write or pipe_write()"
    )
    result = inside.measure([*inside.PROBES], refused, ARGV, kernel.workload())
    assert (result["status"], result["failed"], kernel.runs) == ("failed", refused, [])


def test_a_kernel_without_tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "TRACEFS", tmp_path / "none")
    why = "the kernel cannot be traced: it has no tracefs (CONFIG_FTRACE and CONFIG_ENABLE_DEFAULT_TRACERS)"  # noqa: E501
    assert inside.prepare([*inside.PROBES]) == dict.fromkeys(inside.PROBES, why)


KALLSYMS = """\
ffffffff81234560 t pipe_write
ffffffff81234570 T alloc_pages_bulk_noprof
ffffffff81234580 d mutex_lock
ffffffff81234590 t anon_pipe_write\t[module]
""".splitlines()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (pipe_allocation.WRITE_SYMBOLS, "pipe_write"),  # the other one is a module's
        (pipe_allocation.BULK_SYMBOLS, "alloc_pages_bulk_noprof"),
        (pipe_allocation.LOCK_SYMBOLS, None),  # data
    ],
)
def test_functions_are_found_by_any_of_their_names(
    names: tuple[str, ...], found: str | None
) -> None:
    assert tracefs.find_symbol(KALLSYMS, names) == found


def test_the_newest_name_of_a_function_comes_first() -> None:
    lines = [*KALLSYMS, "ffffffff81234599 t anon_pipe_write"]
    assert tracefs.find_symbol(lines, pipe_allocation.WRITE_SYMBOLS) == "anon_pipe_write"


@pytest.mark.parametrize(
    ("memory_kib", "cpus", "size"),
    [(1 << 20, 2, 8192), (1 << 20, 16, 4096), (128 << 10, 16, 512), (8 << 10, 64, 64)],
)
def test_trace_buffers_leave_the_guest_its_memory(memory_kib: int, cpus: int, size: int) -> None:
    assert tracefs.buffer_kib(memory_kib, cpus) == size


def test_every_way_to_lose_an_event_counts() -> None:
    assert tracefs.lost_in_buffer(STATS.format(1, 20, 300)) == 321
    assert tracefs.probe_hits(PROFILE.format(5, 3)) == (12, 3)
