# SPDX-License-Identifier: GPL-2.0-only
"""Signals around what has to be undone."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Let signals that would end the process at once raise KeyboardInterrupt instead.

    Those that are handled or ignored already stay so. Does nothing in another thread than the
    main one, which has no say in signals.
    """

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [signum for signum in _ENDING if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in ours:
        signal.signal(signum, interrupt)
    try:
        yield
    finally:
        for signum in ours:
            signal.signal(signum, signal.SIG_DFL)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put off signals that would interrupt; the first of them is raised again at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    # Not a signal mask: a library's thread would take the signal, and Python run its handler.
    old = {
        signum: signal.signal(signum, lambda number, _frame: came.append(number))
        for signum in _ENDING
        if signal.getsignal(signum) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])
