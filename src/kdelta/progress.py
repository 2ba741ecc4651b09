# SPDX-License-Identifier: GPL-2.0-only
"""Calm progress on standard error: what is done, of about how much, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

_LINE_EVERY_S = 15.0
_REDRAW_EVERY_S = 0.5
_ERASE_LINE = "\r\x1b[K"


def duration_text(seconds: float) -> str:
    """A duration as people say it: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def status_text(
    stage: str,
    done: int,
    total: int | None,
    unit: str,
    elapsed_s: float,
    *,
    about: bool,
    start: int,
) -> str:
    """One line of progress.

    Args:
        stage: what is being done.
        done: units finished, those of earlier starts (`start`) included.
        total: units in all; None if unknown.
        unit: what is counted, in the plural.
        elapsed_s: seconds since this start.
        about: the total is an estimate.
        start: units that were finished before this start; they say nothing of its speed.
    """
    if total is None or done > total:
        counted = f"{done:,} {unit}, " if done else ""
        return f"{stage}: {counted}{duration_text(elapsed_s)} so far"
    text = f"{stage}: {done:,} of {'about ' if about else ''}{total:,} {unit}"
    made = done - start
    # A rate taken from the first few units is noise; say nothing rather than something wrong.
    if elapsed_s >= 5 and made >= max(1, (total - start) // 50):
        text += f", about {duration_text(elapsed_s / made * (total - done))} left"
    return text


class Progress:
    """Progress of one stage; use it as a context manager.

    On a terminal one line is rewritten; elsewhere a plain line appears at
    most every 15 s, and none at all for what takes less.
    """

    def __init__(
        self,
        stage: str,
        total: int | None = None,
        *,
        unit: str = "steps",
        about: bool = False,
        start: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin a stage; arguments as for `status_text`.

        Args:
            stage: what is being done.
            total: units in all, None if unknown.
            unit: what is counted, in the plural.
            about: the total is an estimate.
            start: units already finished by an earlier start.
            stream: where to; standard error by default.
            clock: seconds, monotonic (tests put their own).
        """
        self._stage, self._total, self._unit = stage, total, unit
        self._about, self._start, self._done = about, start, start
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._began = clock()
        self._shown = self._began
        self._terminal = self._stream.isatty()

    def update(self, done: int | None = None) -> None:
        """Tell how much is done now, or, without it, that time has passed."""
        if done is not None:
            self._done = done
        now = self._clock()
        if now - self._shown < (_REDRAW_EVERY_S if self._terminal else _LINE_EVERY_S):
            return
        self._shown = now
        self._write(self._text(now))

    def advance(self, count: int = 1) -> None:
        """Tell that `count` more units are done."""
        self.update(self._done + count)

    def _text(self, now: float) -> str:
        return status_text(
            self._stage,
            self._done,
            self._total,
            self._unit,
            now - self._began,
            about=self._about,
            start=self._start,
        )

    def _write(self, text: str) -> None:
        if self._terminal:
            self._stream.write(f"{_ERASE_LINE}{text}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        if self._terminal:
            self._write(f"{self._stage} ...")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._terminal:  # what follows must not land behind a half-erased line
            self._stream.write(_ERASE_LINE)
        took = self._clock() - self._began
        if kind is None and (self._terminal or took >= _LINE_EVERY_S):
            self._stream.write(f"{self._stage}: done in {duration_text(took)}\n")
        self._stream.flush()
