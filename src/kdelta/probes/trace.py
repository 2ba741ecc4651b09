# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's trace as events: pure functions of its text. Standard library only.

The text is that of tracefs' `trace` file (Documentation/trace/ftrace.rst of the kernel). Every
line must be understood: a line that is not raises `TraceError`. What events mean is their probe's
business, which says in which form their text is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

Forms = Mapping[str, re.Pattern[str]]
"""Event -> what is read of its text, as the groups of an expression that must be found there."""

STACK = "<stack trace>"
"""Name of the event that a stack trace is; its details are the functions, innermost first."""

# "pipe_bench-213   [001] d..2.   8812: lock_taken: (pipe_write+0x5c/0x6b0 <- mutex_lock)"
_LINE = re.compile(
    r"^\s*(?:.+)-(\d+)\s+\[(\d+)\]\s+(\S{5})\s+(\d+)(?:\.(\d{6}))?: "
    r"(?:(\w+): ?(.*)|(<stack trace>))$"
)
# " => pipe_write"; also " => pipe_write+0x5c/0x6b0", " => 0xffffffff81234560" or
# " => [FTRACE TRAMPOLINE]"
_FRAME = re.compile(r"^\s*=> (\S+)")


class TraceError(Exception):
    """There is no trace, or one that cannot be read."""


class ImplausibleTraceError(TraceError):
    """A trace that can be read, and that cannot be the whole truth."""


class Event(NamedTuple):
    """One line of the trace, or one stack trace.

    Attributes:
        pid: thread that was running.
        cpu: where.
        context: what it was in: "h" or "H" a hardware, "s" a software interrupt.
        stamp: by the trace clock: nanoseconds (a multiple of 1000), or a plain count.
        name: of the event.
        details: what its form reads of its text.
    """

    pid: int
    cpu: int
    context: str
    stamp: int
    name: str
    details: tuple[str, ...]

    @property
    def interrupt(self) -> bool:
        """Whether it happened in an interrupt, so not by the thread's own doing."""
        return self.context in "hHs"


def parse_line(line: str, forms: Forms) -> Event:
    """One line of the trace file that is neither empty nor a comment, nor within a stack trace.

    Raises:
        TraceError: it is not an event of these forms.
    """
    match = _LINE.match(line)
    if match is None:
        raise TraceError(f"not a line of an event: {line.strip()!r}")
    pid, cpu, context, whole, micro, name, text, stack = match.groups()
    details: tuple[str, ...] = ()
    if not stack:
        form = forms.get(name)
        found = form.search(text) if form else None
        if found is None:
            raise TraceError(
                f"not an event that was asked for, or not in its form: {line.strip()!r}"
            )
        details = found.groups()
    stamp = int(whole) if micro is None else (int(whole) * 1_000_000 + int(micro)) * 1000
    return Event(int(pid), int(cpu), context[2], stamp, name or STACK, details)


def parse_trace(lines: Iterable[str], forms: Forms, until: int | None = None) -> Iterator[Event]:
    """The events of the trace file, in its order: by time, those of one thread as they happened.

    Args:
        lines: of the trace file.
        forms: of the events that were asked for.
        until: stamp after which events are left out (see `first_loss`).

    Raises:
        TraceError: after the last line: how many were not understood, and the first of them.
    """
    unread: list[TraceError] = []
    stack: Event | None = None  # whose functions follow line by line
    for line in lines:
        # Comments; "CPU:1 [LOST 5 EVENTS]" is one too: per_cpu/*/stats says how many were lost.
        if not line.strip() or line.startswith(("#", "CPU:")):
            continue
        if stack is not None:
            if frame := _FRAME.match(line):
                stack = stack._replace(details=(*stack.details, frame[1]))
                continue
            if until is None or stack.stamp <= until:
                yield stack
            stack = None
        try:
            event = parse_line(line, forms)
        except TraceError as error:
            unread.append(error)
            continue
        if event.name == STACK:
            stack = event
        elif until is None or event.stamp <= until:
            yield event
    if stack is not None and (until is None or stack.stamp <= until):
        yield stack
    if unread:
        raise TraceError(f"{len(unread)} lines of the trace were not understood; {unread[0]}")


def first_loss(events: Iterable[Event], full_cpus: Collection[int]) -> int:
    """The stamp of the last event before the first loss.

    A full buffer drops what comes later, while those of other CPUs go on: from there on the
    trace has holes.

    Args:
        events: all of them.
        full_cpus: whose buffers have dropped events; at least one.
    """
    last = dict.fromkeys(full_cpus, -1)
    for event in events:
        if event.cpu in last:
            last[event.cpu] = max(last[event.cpu], event.stamp)
    return min(last.values())
