# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: E501 - the kernel's lines are as long as they are
"""The trace's meaning, on what a 6.12 kernel with the bulk series wrote (2 emulated CPUs)."""

from __future__ import annotations

import pytest

from kdelta.probes import lock_contention, pipe_allocation
from kdelta.probes.trace import parse_trace

WRITE = """\
      pipe_bench-62      [001] .....          182: write_begin: (pipe_write+0x0/0x780)
      pipe_bench-62      [001] .....          183: bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=8
      pipe_bench-62      [001] .....          184: bulk_end: (alloc_pages_bulk_array_mempolicy_noprof+0xc3/0x690 <- alloc_pages_bulk_noprof) pages=8
      pipe_bench-62      [001] ..Zff          185: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880033460c0
      pipe_bench-63      [000] .....          186: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880033460c0
      pipe_bench-62      [001] .....          187: lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)
      pipe_bench-63      [000] ..Zff          188: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880033460c0
      pipe_bench-62      [001] .....          189: mm_page_alloc: page=ffffea00000d9ac0 pfn=0x366b order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          190: mm_page_alloc: page=ffffea00000d79c0 pfn=0x35e7 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          191: mm_page_alloc: page=ffffea00000d8900 pfn=0x3624 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          192: mm_page_alloc: page=ffffea00000d8c40 pfn=0x3631 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          193: mm_page_alloc: page=ffffea00000d8c80 pfn=0x3632 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          194: mm_page_alloc: page=ffffea00000d8940 pfn=0x3625 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          195: mm_page_alloc: page=ffffea00000d8bc0 pfn=0x362f order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-62      [001] .....          196: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880033460c0
      pipe_bench-63      [000] .....          197: lock_taken: (pipe_read+0x4b/0x460 <- mutex_lock)
      pipe_bench-62      [001] .....          198: write_end: (vfs_write+0x40d/0x470 <- pipe_write)
"""

# In a memory cgroup the bulk allocator falls back to one page, by way of the ordinary one.
WRITE_IN_CGROUP = """\
      pipe_bench-64      [000] ..Zff          185: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880024ea540
      pipe_bench-63      [001] ..Zff          186: write_begin: (pipe_write+0x0/0x780)
      pipe_bench-64      [000] .....          187: lock_taken: (pipe_read+0x276/0x460 <- mutex_lock)
      pipe_bench-63      [001] ..Zff          188: bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=8
      pipe_bench-63      [001] .....          189: mm_page_alloc: page=ffffea00000d9480 pfn=0x3652 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          190: bulk_end: (alloc_pages_bulk_array_mempolicy_noprof+0xc3/0x690 <- alloc_pages_bulk_noprof) pages=1
      pipe_bench-63      [001] ..Zff          191: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880024ea540
      pipe_bench-64      [000] ..Zff          192: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880024ea540
      pipe_bench-63      [001] .....          193: lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)
      pipe_bench-63      [001] .....          194: mm_page_alloc: page=ffffea00000d9440 pfn=0x3651 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          195: mm_page_alloc: page=ffffea00000d9400 pfn=0x3650 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          196: mm_page_alloc: page=ffffea00000b1580 pfn=0x2c56 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          197: mm_page_alloc: page=ffffea00000d2c00 pfn=0x34b0 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          198: mm_page_alloc: page=ffffea00000d3800 pfn=0x34e0 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          199: mm_page_alloc: page=ffffea00000d3e80 pfn=0x34fa order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          200: mm_page_alloc: page=ffffea00000d37c0 pfn=0x34df order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-64      [000] ..Zff          201: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880024ea540
      pipe_bench-63      [001] .....          202: mm_page_alloc: page=ffffea00000d3b00 pfn=0x34ec order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          203: mm_page_alloc: page=ffffea00000d3840 pfn=0x34e1 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          204: mm_page_alloc: page=ffffea00000d9780 pfn=0x365e order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          205: mm_page_alloc: page=ffffea00000d8680 pfn=0x361a order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          206: mm_page_alloc: page=ffffea00000d3f40 pfn=0x34fd order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          207: mm_page_alloc: page=ffffea00000d3f80 pfn=0x34fe order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] .....          208: mm_page_alloc: page=ffffea00000d3fc0 pfn=0x34ff order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-63      [001] ..Zff          209: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880024ea540
      pipe_bench-64      [000] .....          210: lock_taken: (pipe_read+0x4b/0x460 <- mutex_lock)
      pipe_bench-63      [001] .....          211: write_end: (vfs_write+0x40d/0x470 <- pipe_write)
"""

# The pipe was full: the writer let go of the mutex, slept and took it again.
WRITE_THAT_SLEPT = """\
      pipe_bench-71      [001] .....        14897: write_begin: (pipe_write+0x0/0x780)
      pipe_bench-71      [001] .....        14898: bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=8
      pipe_bench-71      [001] .....        14899: bulk_end: (alloc_pages_bulk_array_mempolicy_noprof+0xc3/0x690 <- alloc_pages_bulk_noprof) pages=8
      pipe_bench-71      [001] ..Zff        14901: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff888003346b40
      pipe_bench-71      [001] .....        14910: lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)
      pipe_bench-71      [001] .....        14912: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff888003346b40
      pipe_bench-71      [001] ..Zff        14962: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff888003346b40
      pipe_bench-71      [001] .....        14964: lock_taken: (pipe_write+0x2b3/0x780 <- mutex_lock)
      pipe_bench-71      [001] .....        14966: mm_page_alloc: page=ffffea000021cec0 pfn=0x873b order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14967: mm_page_alloc: page=ffffea000021ce80 pfn=0x873a order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14968: mm_page_alloc: page=ffffea000021ce40 pfn=0x8739 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14969: mm_page_alloc: page=ffffea000021ce00 pfn=0x8738 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14970: mm_page_alloc: page=ffffea000021cdc0 pfn=0x8737 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14971: mm_page_alloc: page=ffffea000021cd80 pfn=0x8736 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14972: mm_page_alloc: page=ffffea000021cd40 pfn=0x8735 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-71      [001] .....        14973: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff888003346b40
      pipe_bench-71      [001] .....        14975: write_end: (vfs_write+0x40d/0x470 <- pipe_write)
"""

# Of the 40 times that reclaim took a mutex of the swap code, the first two.
WRITE_WITH_RECLAIM = """\
      pipe_bench-160     [001] ..Zff       128729: write_begin: (pipe_write+0x0/0x780)
      pipe_bench-160     [001] ..Zff       128730: bulk_begin: (alloc_pages_bulk_noprof+0x0/0x6d0) nr=8
      pipe_bench-160     [001] .....       128731: mm_vmscan_direct_reclaim_begin: order=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] ..Zff       128732: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff88803ed289a8
      pipe_bench-160     [001] .....       128733: lock_taken: (folio_alloc_swap+0xdb/0x1e0 <- mutex_lock)
      pipe_bench-160     [001] ..Zff       128734: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff88803ed289a8
      pipe_bench-160     [001] ..Zff       128735: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff88803ed289a8
      pipe_bench-160     [001] .....       128736: lock_taken: (folio_alloc_swap+0xdb/0x1e0 <- mutex_lock)
      pipe_bench-160     [001] ..Zff       128737: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff88803ed289a8
      pipe_bench-160     [001] .....       129240: mm_vmscan_direct_reclaim_end: nr_reclaimed=35
      pipe_bench-160     [001] .....       129241: mm_page_alloc: page=ffffea0000894840 pfn=0x22521 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       129242: bulk_end: (alloc_pages_bulk_array_mempolicy_noprof+0xc3/0x690 <- alloc_pages_bulk_noprof) pages=1
      pipe_bench-160     [001] ..Zff       129243: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880026e0480
      pipe_bench-160     [001] .....       130274: lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)
      pipe_bench-160     [001] .....       130275: mm_page_alloc: page=ffffea000033b3c0 pfn=0xcecf order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130276: mm_page_alloc: page=ffffea000033b380 pfn=0xcece order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130277: mm_page_alloc: page=ffffea000033b340 pfn=0xcecd order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130278: mm_page_alloc: page=ffffea000033b300 pfn=0xcecc order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130279: mm_page_alloc: page=ffffea000033b100 pfn=0xcec4 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130280: mm_page_alloc: page=ffffea000033b140 pfn=0xcec5 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130281: mm_page_alloc: page=ffffea000033b180 pfn=0xcec6 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130282: mm_page_alloc: page=ffffea000033b1c0 pfn=0xcec7 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130283: mm_page_alloc: page=ffffea000033b200 pfn=0xcec8 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130284: mm_page_alloc: page=ffffea000033b240 pfn=0xcec9 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130285: mm_page_alloc: page=ffffea000033b280 pfn=0xceca order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130286: mm_page_alloc: page=ffffea000033b2c0 pfn=0xcecb order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130287: mm_page_alloc: page=ffffea000033b0c0 pfn=0xcec3 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] .....       130288: mm_page_alloc: page=ffffea000033b080 pfn=0xcec2 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-160     [001] ..Zff       130289: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880026e0480
      pipe_bench-160     [001] .....       130290: write_end: (vfs_write+0x40d/0x470 <- pipe_write)
"""

# The program prints its result, into another pipe.
WRITE_OF_OUTPUT = """\
      pipe_bench-61      [001] .....         6705: write_begin: (pipe_write+0x0/0x780)
      pipe_bench-61      [001] ..Zff         6706: lock_wanted: (mutex_lock+0x0/0x30) lock=0xffff8880033466c0
      pipe_bench-61      [001] .....         6707: lock_taken: (pipe_write+0xe8/0x780 <- mutex_lock)
      pipe_bench-61      [001] .....         6708: mm_page_alloc: page=ffffea000023aa40 pfn=0x8ea9 order=0 migratetype=0 gfp_flags=GFP_HIGHUSER|__GFP_ACCOUNT
      pipe_bench-61      [001] .....         6709: lock_dropped: (mutex_unlock+0x0/0x20) lock=0xffff8880033466c0
      pipe_bench-61      [001] .....         6710: write_end: (vfs_write+0x40d/0x470 <- pipe_write)
"""

CONTENTION = """\
# tracer: nop
#
      pipe_bench-85      [000] ...1.    38.912431: contention_begin: ffff888002654c00 (flags=SPIN|MUTEX)
      pipe_bench-86      [001] ...1.    38.916217: contention_begin: ffff888002654c00 (flags=SPIN|MUTEX)
      pipe_bench-86      [001] ...2.    38.916277: contention_begin: ffff888002654c00 (flags=MUTEX)
      pipe_bench-83      [001] ...1.    38.916314: contention_begin: ffff888002654c00 (flags=SPIN|MUTEX)
      pipe_bench-83      [001] ...2.    38.916316: contention_begin: ffff888002654c00 (flags=MUTEX)
      pipe_bench-86      [001] ...2.    38.916550: contention_end: ffff888002654c00 (ret=0)
      pipe_bench-86      [001] ...1.    38.916766: contention_begin: ffff888002654c00 (flags=SPIN|MUTEX)
      pipe_bench-86      [001] ...1.    38.916773: contention_end: ffff888002654c00 (ret=0)
"""


def allocation(text: str) -> dict[str, int]:
    return pipe_allocation.allocation(parse_trace(text.splitlines(), pipe_allocation.FORMS), 0)


def expected(**counts: int) -> dict[str, int]:
    return dict.fromkeys((*pipe_allocation.ALLOCATION_COUNTS, "lost_events"), 0) | counts


def test_a_write_with_pages_from_the_bulk_allocator_and_under_the_lock() -> None:
    assert allocation(WRITE) == expected(
        writes=1,
        pages_before_lock=8,
        pages_under_lock=7,
        bulk_calls=1,
        bulk_pages_requested=8,
        bulk_pages=8,
    )


def test_a_page_that_the_bulk_allocator_gets_from_the_ordinary_one_counts_once() -> None:
    assert allocation(WRITE_IN_CGROUP) == expected(
        writes=1,
        pages_before_lock=1,
        pages_under_lock=14,
        bulk_calls=1,
        bulk_pages_requested=8,
        bulk_pages=1,
    )


def test_pages_after_the_lock_was_taken_again_are_under_the_lock() -> None:
    assert allocation(WRITE_THAT_SLEPT) == expected(
        writes=1,
        pages_before_lock=8,
        pages_under_lock=7,
        bulk_calls=1,
        bulk_pages_requested=8,
        bulk_pages=8,
    )


def test_mutexes_that_reclaim_takes_are_not_taken_for_the_pipes() -> None:
    assert allocation(WRITE_WITH_RECLAIM) == expected(
        writes=1,
        pages_before_lock=1,
        pages_under_lock=14,
        bulk_calls=1,
        bulk_pages_requested=8,
        bulk_pages=1,
        reclaims_before_lock=1,
    )


def test_writes_to_another_pipe_are_left_out() -> None:
    assert allocation(
        WRITE
        + WRITE_THAT_SLEPT.replace("0xffff888003346b40", "0xffff8880033460c0")
        + WRITE_OF_OUTPUT
    ) == expected(
        writes=2,
        pages_before_lock=16,
        pages_under_lock=14,
        bulk_calls=2,
        bulk_pages_requested=16,
        bulk_pages=16,
    )


def test_a_wait_lasts_from_its_first_begin_to_its_end() -> None:
    # Thread 86 spins, then sleeps; that of 85 and of 83 does not end here.
    events = list(parse_trace(CONTENTION.splitlines(), lock_contention.FORMS))
    assert sorted(pipe_allocation.mutex_waits(events)) == [7_000, 333_000]
    assert pipe_allocation.contention(events, {"writes": 3, "elapsed_s": 0.3}, 0) == {
        "writes": 3,
        "waits": 2,
        "wait_ns_total": 340_000,
        "wait_ns_mean": pytest.approx(170_000),
        "wait_ns_p50": 7_000,
        "wait_ns_p99": 333_000,
        "wait_ns_max": 333_000,
        "elapsed_s": 0.3,
        "lost_events": 0,
    }
