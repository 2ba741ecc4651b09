# SPDX-License-Identifier: GPL-2.0-only
"""The same work on many things by all CPUs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def on_all_cpus(
    work: Callable[[S, T], R], shared: S, items: Sequence[T], *, worth_it: bool
) -> Iterator[R]:
    """`work(shared, item)` of each item, in their order, as it is asked for.

    Args:
        work: called in other processes, which are forked: they have all modules and see what is
            shared without a copy. Items and results are sent, and what it raises is raised here.
        shared: what all of it needs.
        items: one for each call.
        worth_it: whether there is so much to do that other processes are worth starting.
    """
    workers = min(len(os.sched_getaffinity(0)), len(items))
    if workers < 2 or not worth_it:
        yield from (work(shared, item) for item in items)
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(work, shared),
    ) as pool:
        yield from pool.map(_call, items)


_begun: list[Any] = []


def _begin(work: Callable[[S, T], R], shared: S) -> None:
    _begun[:] = [work, shared]


def _call(item: Any) -> Any:
    work, shared = _begun
    return work(shared, item)
