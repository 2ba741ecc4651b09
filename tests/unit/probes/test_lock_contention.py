# SPDX-License-Identifier: GPL-2.0-only
"""Waits for locks, on traces with a known truth."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.probes.lock_contention import FORMS, UNKNOWN, caller, kind, summary
from kdelta.probes.trace import ImplausibleTraceError, TraceError, parse_trace

# What the kernel writes: the functions of the event and of the lock, then who wanted it.
LOCKING = {
    "SPIN|MUTEX": ("__mutex_lock.constprop.0", "mutex_lock"),
    "SPIN": ("native_queued_spin_lock_slowpath", "_raw_spin_lock_irqsave"),
    "WRITE": ("rwsem_down_write_slowpath", "down_write_killable"),
    "READ": ("rwsem_down_read_slowpath", "down_read"),
    "": ("___down_common", "__down_interruptible", "down_interruptible"),
    "PERCPU|READ": ("__percpu_down_read",),
    "RT": ("__rt_mutex_slowlock_locked.constprop.0", "rt_mutex_slowlock", "rt_spin_lock"),
    "SPIN|WRITE": ("queued_write_lock_slowpath", "_raw_write_lock_irq"),
}
EVENT = (
    "event_triggers_post_call",
    "trace_event_raw_event_contention_begin",
    "__traceiter_contention_begin",
)
CALLERS = ("pipe_write", "unix_stream_sendmsg", "do_user_addr_fault", "__lruvec_add", "downgrade")


def line(us: int, text: str, *, pid: int = 7, cpu: int = 0, context: str = "...1.") -> str:
    stamp = f"{us // 10**6}.{us % 10**6:06}"
    return f"   my [0] x-{pid}      [{cpu:03}] {context}  {stamp}: {text}"


def begin(us: int, lock: str, flags: str = "SPIN|MUTEX", **where: int | str) -> str:
    return line(us, f"contention_begin: {lock} (flags={flags})", **where)  # type: ignore[arg-type]


def end(us: int, lock: str, **where: int | str) -> str:
    return line(us, f"contention_end: {lock} (ret=0)", **where)  # type: ignore[arg-type]


def stack(us: int, *functions: str, **where: int | str) -> list[str]:
    return [line(us, "<stack trace>", **where), *(f" => {name}" for name in functions)]  # type: ignore[arg-type]


def found(
    lines: list[str], elapsed_s: float = 1.0, lost: int = 0, until: int | None = None
) -> dict[str, Any]:
    return summary(parse_trace(lines, FORMS, until), elapsed_s, lost)


def waits(lines: list[str]) -> list[tuple[str, str, int, int]]:
    return [(w["lock"], w["caller"], w["waits"], w["wait_ns"]) for w in found(lines)["waits"]]


@pytest.mark.parametrize("flags", LOCKING)
@pytest.mark.parametrize("wanted", CALLERS)
def test_who_wanted_a_lock_is_the_first_that_is_no_locking_code(flags: str, wanted: str) -> None:
    for added in ("", ".isra.0", "+0x5c/0x6b0", ".constprop.0.cold+0x1/0x2"):
        frames = ("[FTRACE", *EVENT, *LOCKING[flags], wanted + added, "mutex_lock", "vfs_write")
        assert caller(frames) == wanted


@pytest.mark.parametrize(
    "frames", [(), ("mutex_lock",), EVENT, ("[FTRACE", "(MODULE", ".L1", "___")]
)
def test_a_stack_that_does_not_leave_the_lock_tells_nobody(frames: tuple[str, ...]) -> None:
    assert caller(frames) == UNKNOWN


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("SPIN|MUTEX", "mutex"),
        ("MUTEX", "mutex"),
        ("SPIN", "spinlock"),
        ("SPIN|READ", "rwlock (read)"),
        ("WRITE", "rwsem (write)"),
        ("READ|PERCPU", "percpu-rwsem (read)"),
        ("RT", "rtmutex"),
        ("RT|WRITE", "rtmutex (write)"),
        ("", "semaphore"),
        ("0x400", "semaphore"),
    ],
)
def test_flags_are_kinds_of_locks(flags: str, words: str) -> None:
    assert kind(flags) == words


def test_a_wait_lasts_from_its_first_begin_to_its_end() -> None:
    lines = [
        *(begin(10, "a"), *stack(11, *EVENT, "mutex_lock", "pipe_write")),
        *(begin(20, "a", "MUTEX"), *stack(21, "__mutex_lock", "mutex_lock", "pipe_write")),
        end(35, "a"),
    ]
    assert waits(lines) == [("mutex", "pipe_write", 1, 25_000)]


def test_an_interrupt_between_a_begin_and_its_stack_has_its_own() -> None:
    irq = {"context": "d.h2."}
    lines = [
        begin(10, "a"),
        begin(11, "b", "SPIN", **irq),
        *stack(12, "_raw_spin_lock", "try_to_wake_up", **irq),
        end(14, "b", **irq),
        *stack(15, "mutex_lock", "pipe_read"),
        end(30, "a"),
    ]
    assert waits(lines) == [
        ("mutex", "pipe_read", 1, 20_000),
        ("spinlock", "try_to_wake_up", 1, 3_000),
    ]


def test_nested_waits_of_one_task_are_two() -> None:
    # A sleeping lock whose own spin lock is contended.
    lines = [
        *(begin(0, "a", "WRITE"), *stack(0, "down_write", "do_mmap")),
        *(begin(5, "b", "SPIN"), *stack(5, "_raw_spin_lock_irq", "rwsem_mark_wake")),
        end(9, "b"),
        end(20, "a"),
    ]
    assert waits(lines)[0] == ("rwsem (write)", "do_mmap", 1, 20_000)
    assert waits(lines)[1][2:] == (1, 4_000)


def test_an_end_without_a_begin_and_a_begin_without_an_end_are_no_waits() -> None:
    lines = [end(1, "a"), begin(2, "b"), end(3, "b", pid=8), end(3, "c")]
    assert found(lines) == {
        "elapsed_s": 1.0,
        "waits": [],
        "unfinished": 1,
        "lost_events": 0,
    }


def test_a_wait_without_a_stack_has_an_unknown_caller() -> None:
    lines = [begin(2, "b"), *stack(2, "mutex_lock", "f", pid=8), end(3, "b")]
    assert waits(lines) == [("mutex", UNKNOWN, 1, 1_000)]


def test_what_was_seen_before_a_loss_counts_over_that_time() -> None:
    lines = [
        begin(100, "a"),
        end(150, "a"),
        begin(200, "a"),
        *stack(300, "mutex_lock", "f"),
        end(400, "a"),
    ]
    seen = found(lines, elapsed_s=9.0, lost=3, until=200_000)
    assert (seen["elapsed_s"], seen["unfinished"], seen["lost_events"]) == (1e-4, 1, 3)
    assert [w["wait_ns"] for w in seen["waits"]] == [50_000]
    assert found([], elapsed_s=9.0, lost=3)["elapsed_s"] == 0


def test_a_wait_cannot_end_before_it_begins() -> None:
    with pytest.raises(ImplausibleTraceError, match="thread 7 ends 1000 ns before it begins"):
        found([begin(2, "a"), end(1, "a")])


def test_a_function_outside_of_a_stack_is_not_understood() -> None:
    with pytest.raises(TraceError, match=r"1 lines of the trace were not understood; .*=> mutex"):
        found([begin(1, "a"), " => mutex_lock"])


one = st.tuples(
    st.sampled_from(sorted(LOCKING)),
    st.sampled_from(CALLERS),
    st.integers(0, 500),
    st.booleans(),
)


@given(st.lists(st.lists(one, max_size=5), min_size=1, max_size=4), st.randoms())
def test_every_wait_of_every_interleaved_task_counts_once(
    tasks: list[list[tuple[str, str, int, bool]]], chance: random.Random
) -> None:
    """Tasks wait on CPUs of their own and move between waits; some waits never come to an end."""
    truth: dict[tuple[str, str], tuple[int, int]] = {}
    unfinished = 0
    # (time, tie-breaker, lines): what the kernel does, sorted by time.
    happens: list[tuple[int, int, list[str]]] = []
    for pid, todo in enumerate(tasks, start=100):
        now = chance.randrange(100)
        for number, (flags, wanted, us, ends) in enumerate(todo):
            address, where = f"{pid}{number}", {"pid": pid, "cpu": pid}
            frames = (*EVENT, *LOCKING[flags], wanted, "entry_SYSCALL_64_after_hwframe")
            happens.append((now, len(happens), [begin(now, address, flags, **where)]))
            happens.append((now, len(happens), stack(now, *frames, **where)))
            now += us
            if ends:
                happens.append((now, len(happens), [end(now, address, pid=pid, cpu=pid + 1)]))
                n, ns = truth.get((kind(flags), wanted), (0, 0))
                truth[kind(flags), wanted] = (n + 1, ns + 1000 * us)
            else:
                unfinished += 1
    lines = [text for _, _, texts in sorted(happens) for text in texts]
    seen = found(lines)
    assert {(w["lock"], w["caller"]): (w["waits"], w["wait_ns"]) for w in seen["waits"]} == truth
    assert seen["unfinished"] == unfinished
    heaviest = [w["wait_ns"] for w in seen["waits"]]
    assert heaviest == sorted(heaviest, reverse=True)
