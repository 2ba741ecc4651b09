# SPDX-License-Identifier: GPL-2.0-only
"""The same work on many things by all CPUs."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from kdelta.errors import KdeltaError
from kdelta.parent import signalled_with

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def on_all_cpus(
    work: Callable[[S, T], R], shared: S, items: Sequence[T], *, worth_it: bool
) -> Iterator[R]:
    """`work(shared, item)` of each item, in their order, as it is asked for.

    Arguments and errors: as for `begun`.
    """
    with begun(work, shared, items, worth_it=worth_it) as results:
        yield from results


@contextlib.contextmanager
def begun(
    work: Callable[[S, T], R], shared: S, items: Sequence[T], *, worth_it: bool
) -> Iterator[Iterator[R]]:
    """The same, begun at once: other work can be done before the results are asked for.

    Args:
        work: called in other processes, which are forked: they have all modules and see what is
            shared without a copy. Items and results are sent, and what it raises is raised here.
        shared: what all of it needs.
        items: one for each call.
        worth_it: whether there is so much to do that other processes are worth starting.

    Raises:
        KdeltaError: one of the processes was killed.
    """
    by_itself = (work(shared, item) for item in items)
    workers = min(len(os.sched_getaffinity(0)), len(items))
    if workers < 2 or not worth_it:
        yield by_itself
        return
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(work, shared, os.getpid()),
    ) as pool:
        try:
            results: Iterator[R] = pool.map(_call, items)
        except OSError:  # no more processes, or no memory for them
            results = by_itself
        try:
            yield _told(results)
        finally:
            pool.shutdown(cancel_futures=True)


def _told(results: Iterator[R]) -> Iterator[R]:
    try:
        yield from results
    except BrokenProcessPool:
        raise KdeltaError(
            "a process of the analysis was killed, for want of memory most likely; run again "
            "with more memory, or on one CPU (taskset -c 0)"
        ) from None


_given: list[Any] = []


def _begin(work: Callable[[S, T], R], shared: S, parent: int) -> None:
    # The command's handlers are the command's: a worker ends when it is told to, and with it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not signalled_with(parent, signal.SIGKILL):
        os._exit(1)
    # Next to nothing that a worker makes is in a cycle: it goes with the next item. Looking for
    # cycles among its records takes a sixth of its time, and writes to pages that are shared.
    gc.disable()
    _given[:] = [work, shared]


def _call(item: Any) -> Any:
    work, shared = _given
    return work(shared, item)
