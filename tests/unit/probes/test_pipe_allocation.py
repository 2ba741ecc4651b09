# SPDX-License-Identifier: GPL-2.0-only
"""The account of pages and waits, on sequences with a known truth."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.probes import lock_contention
from kdelta.probes import pipe_allocation as tp
from kdelta.probes import trace as tr

PIPE, OTHER = "0xffff888000000001", "0xffff888000000002"
ALLOC = "mm_page_alloc: page=ffffea0000000040 pfn=0x1 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER"

TEXTS = {
    "begin": "write_begin: (pipe_write+0x0/0x780)",
    "end": "write_end: (vfs_write+0x40d/0x470 <- pipe_write)",
    "want": f"lock_wanted: (mutex_lock+0x0/0x30) lock={PIPE}",
    "take": "lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)",
    "drop": f"lock_dropped: (mutex_unlock+0x0/0x20) lock={PIPE}",
    "want-other": f"lock_wanted: (mutex_lock+0x0/0x30) lock={OTHER}",
    "drop-other": f"lock_dropped: (mutex_unlock+0x0/0x20) lock={OTHER}",
    "page": ALLOC,
    "four pages": ALLOC.replace("order=0", "order=2"),
    "no page": ALLOC.replace("pfn=0x1", "pfn=0x0").replace("ffffea0000000040", "0000000000000000"),
    "fault": ALLOC.replace("GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE|__GFP_COMP"),
    "bulk": "bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=8",
    "bulk-end": "bulk_end: (pipe_write+0xc3/0x690 <- alloc_pages_bulk_noprof) pages=8",
    "reclaim": "mm_vmscan_direct_reclaim_begin: order=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT",
    "reclaim-end": "mm_vmscan_direct_reclaim_end: nr_reclaimed=35",
    "memcg-reclaim": "mm_vmscan_memcg_reclaim_begin: order=0 gfp_flags=GFP_HIGHUSER",
    "memcg-reclaim-end": "mm_vmscan_memcg_reclaim_end: nr_reclaimed=35",
}


def line(stamp: object, what: str, *, pid: int = 7, cpu: int = 0, context: str = ".....") -> str:
    return f"      pipe_bench-{pid}     [{cpu:03}] {context}  {stamp}: {TEXTS.get(what, what)}"


def trace(*steps: str, pid: int = 7) -> list[str]:
    return [line(stamp, step, pid=pid) for stamp, step in enumerate(steps)]


def account(lines: list[str], lost: int = 0) -> dict[str, int]:
    return tp.allocation(tr.parse_trace(lines, tp.FORMS), lost)


LOCKED = ("want", "take", "drop")


@pytest.mark.parametrize(
    ("steps", "before", "under"),
    [
        (("begin", "page", "page", *LOCKED, "end"), 2, 0),
        (("begin", "want", "page", "take", "page", "drop", "page", "end"), 2, 1),
        (("begin", "want", "take", "four pages", "drop", "end"), 0, 4),
        (("begin", "no page", "fault", "want", "take", "no page", "fault", "drop", "end"), 0, 0),
        (("page", "begin", *LOCKED, "end", "page"), 0, 0),
        # While another mutex is held too, and after it was given back.
        (("begin", "want", "take", "want-other", "take", "page", "drop-other", "page", "drop", "end"), 0, 2),  # noqa: E501
        # Pages that reclaim itself takes are not the writer's.
        (("begin", "reclaim", "page", "reclaim-end", "page", *LOCKED, "end"), 1, 0),
    ],
)  # fmt: skip
def test_where_pages_count(steps: tuple[str, ...], before: int, under: int) -> None:
    found = account(trace(*steps))
    assert found["writes"] == 1
    assert (found["pages_before_lock"], found["pages_under_lock"]) == (before, under)


def test_allocations_inside_a_bulk_call_are_those_it_returns() -> None:
    found = account(trace("begin", "want", "take", "bulk", "page", "bulk-end", "drop", "end"))
    assert found["pages_under_lock"] == found["bulk_pages"] == found["bulk_pages_requested"] == 8
    assert found["bulk_calls"] == 1


def test_bulk_calls_outside_of_writes_are_those_for_the_threads_stacks() -> None:
    found = account(trace("bulk", "bulk-end", "begin", *LOCKED, "end"))
    assert found["bulk_calls"] == found["bulk_pages"] == 0


def test_both_kinds_of_reclaim_count_once_when_one_is_inside_the_other() -> None:
    found = account(
        trace(
            *("begin", "memcg-reclaim", "memcg-reclaim-end", "want", "take", "reclaim"),
            *("memcg-reclaim", "memcg-reclaim-end", "reclaim-end", "drop", "end"),
        )
    )
    assert (found["reclaims_before_lock"], found["reclaims_under_lock"]) == (1, 1)


@pytest.mark.parametrize(
    ("context", "pages"), [("..h1.", 0), ("..s..", 0), ("..H1.", 0), ("..Zff", 1)]
)
def test_an_interrupt_allocates_on_nobodys_behalf(context: str, pages: int) -> None:
    # The breakpoint of a probe counts as a non-maskable interrupt (Z), and is the thread's own.
    lines = trace("begin", "page", *LOCKED, "end")
    lines[1] = line(1, "page", context=context)
    assert account(lines)["pages_before_lock"] == pages


def test_nothing_traced_is_nothing_counted() -> None:
    assert set(account([]).values()) == {0}


IMPOSSIBLE = (
    ("end",),
    ("begin", "begin"),
    ("begin", "want", "want"),
    ("begin", "take"),
    ("begin", "want", "take", "end"),
    ("begin", "want", "take", "want", "take"),
    ("begin", *LOCKED, "drop"),
    ("begin", "bulk", "bulk"),
    ("begin", "bulk-end"),
    ("begin", "bulk", "want", "take", "drop", "end"),
    ("begin", "reclaim-end"),
    ("begin", *LOCKED, "reclaim", "end"),
)


@pytest.mark.parametrize("steps", IMPOSSIBLE)
def test_an_impossible_order_is_an_error_unless_events_were_lost(steps: tuple[str, ...]) -> None:
    with pytest.raises(tr.ImplausibleTraceError, match="thread 7"):
        account(trace(*steps))
    # With a hole, the thread is followed again from its next write on.
    whole = ("begin", "page", *LOCKED, "end")
    found = account(trace(*steps, "end", *whole, *whole), lost=3)
    assert found["lost_events"] == 3
    assert found["writes"] >= 2
    assert found["pages_before_lock"] == 2


def test_a_write_that_begins_anew_after_a_hole_is_followed() -> None:
    found = account(trace("begin", "page", "begin", "page", "page", *LOCKED, "end"), lost=1)
    assert (found["writes"], found["pages_before_lock"]) == (1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        line(3, "sched_switch: prev_comm=a"),
        line(3, "bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=(fault)"),
        line(3, "lock_wanted: (mutex_lock+0x0/0x30)"),
        line(3, "contention_begin: ffff8880024ea3c0"),
        line("3.5", "page"),
    ],
)
def test_lines_that_are_not_understood_are_counted_and_shown(text: str) -> None:
    lines = [*trace("begin", *LOCKED, "end"), text, text]
    with pytest.raises(
        tr.TraceError, match=r"^2 lines of the trace were not understood; "
    ) as error:
        account(lines)
    assert text.strip() in str(error.value)


def test_comments_and_marks_of_loss_are_no_events() -> None:
    assert list(tr.parse_trace(["# tracer: nop", "", "CPU:1 [LOST 43 EVENTS]"], {})) == []


def test_names_of_threads_may_hold_anything() -> None:
    event = tr.parse_line(
        "  my -1 [0] x-345   [011] d..2.   5.000007: contention_end: ff (ret=0)",
        lock_contention.FORMS,
    )
    assert (event.pid, event.cpu, event.stamp) == (345, 11, 5_000_007_000)


def test_events_after_the_first_full_buffer_are_left_out() -> None:
    lines = [line(n, "page", cpu=n % 2) for n in range(6)] + [line(n, "page") for n in (6, 7)]
    assert tr.first_loss(tr.parse_trace(lines, tp.FORMS), [1]) == 5
    assert tr.first_loss(tr.parse_trace(lines, tp.FORMS), [0, 1]) == 5
    assert tr.first_loss(tr.parse_trace(lines, tp.FORMS), [0]) == 7
    # A buffer that lost everything leaves nothing to trust.
    assert tr.first_loss(tr.parse_trace(lines, tp.FORMS), [0, 9]) == -1
    assert [event.stamp for event in tr.parse_trace(lines, tp.FORMS, until=5)] == [0, 1, 2, 3, 4, 5]


phase = st.lists(st.sampled_from(["page", "four pages", "no page", "bulk"]), max_size=4)
write = st.tuples(phase, st.lists(st.tuples(phase, phase), min_size=1, max_size=3))
WORTH = {"page": 1, "four pages": 4, "no page": 0, "bulk": 8}


def steps_of(kinds: list[str]) -> list[str]:
    return [step for kind in kinds for step in (["bulk", "page", "bulk-end"] if kind == "bulk" else [kind])]  # noqa: E501 # fmt: skip


@given(st.lists(st.lists(write, max_size=4), min_size=1, max_size=4), st.randoms())
def test_every_page_of_every_interleaved_thread_counts_once(
    threads: list[list[tuple[list[str], list[tuple[list[str], list[str]]]]]], chance: random.Random
) -> None:
    truth: Counter[str] = Counter()
    queues = {}
    for pid, writes in enumerate(threads, start=100):
        steps: list[str] = []
        for before, rounds in writes:
            truth["writes"] += 1
            truth["before"] += sum(WORTH[kind] for kind in before)
            steps += ["begin", *steps_of(before)]
            for under, after in rounds:
                truth["under"] += sum(WORTH[kind] for kind in under)
                truth["before"] += sum(WORTH[kind] for kind in after)
                truth["bulk"] += (under + after).count("bulk")
                steps += ["want", "take", *steps_of(under), "drop", *steps_of(after)]
            truth["bulk"] += before.count("bulk")
            steps.append("end")
        queues[pid] = steps
    lines = []
    while any(queues.values()):
        pid = chance.choice([pid for pid, steps in queues.items() if steps])
        lines.append(line(len(lines), queues[pid].pop(0), pid=pid, cpu=chance.randrange(2)))
    found = account(lines)
    assert found["writes"] == truth["writes"]
    assert found["pages_before_lock"] == truth["before"]
    assert found["pages_under_lock"] == truth["under"]
    assert found["bulk_calls"] == truth["bulk"]
    assert found["bulk_pages"] == found["bulk_pages_requested"] == 8 * truth["bulk"]


def waits(*steps: tuple[int, float, str]) -> list[int]:
    lines = [line(f"{stamp:.6f}", text, pid=pid) for pid, stamp, text in steps]
    return tp.mutex_waits(tr.parse_trace(lines, lock_contention.FORMS))


BEGIN, END = "contention_begin: a (flags=SPIN|MUTEX)", "contention_end: a (ret=0)"


def test_waits_are_of_one_thread_and_one_lock() -> None:
    found = waits(
        (1, 1.0, BEGIN),
        (2, 1.1, BEGIN),
        (1, 1.2, "contention_begin: b (flags=SPIN)"),
        (1, 1.3, "contention_end: b (ret=0)"),
        (2, 1.4, END),
        (2, 1.5, END),
        (1, 1.6, BEGIN),
        (1, 1.7, END),
        (1, 1.8, "contention_begin: c (flags=MUTEX)"),
        (1, 1.9, "contention_end: c (ret=-4)"),
    )
    assert found == [300_000_000, 700_000_000]


def test_a_wait_cannot_end_before_it_begins() -> None:
    with pytest.raises(tr.ImplausibleTraceError, match="thread 1 ends 100000000 ns before"):
        waits((1, 1.1, BEGIN), (1, 1.0, END))


def test_nobody_waited() -> None:
    found = tp.contention([], {"writes": 5, "elapsed_s": 0.3}, 2)
    assert found == {
        "writes": 5,
        "waits": 0,
        "wait_ns_total": 0,
        "wait_ns_mean": None,
        "wait_ns_p50": None,
        "wait_ns_p99": None,
        "wait_ns_max": None,
        "elapsed_s": 0.3,
        "lost_events": 2,
    }


@given(st.lists(st.integers(0, 99), min_size=1), st.sampled_from([1, 50, 99, 100]))
def test_percentiles_are_values_that_enough_of_them_do_not_exceed(
    values: list[int], percent: int
) -> None:
    found = tp.percentile(sorted(values), percent)
    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)
