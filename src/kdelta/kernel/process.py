# SPDX-License-Identifier: GPL-2.0-only
"""Long-running child programs that can neither outlive nor outrun us."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from kdelta.parent import signalled_with

_TICK_S = 1.0
_GRACE_S = 10.0
_KEPT_LINES = 200

# What a build may see of the user's environment. Anything else (KCFLAGS, ARCH,
# MAKEFLAGS, LANG ...) could change the result without changing its key.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")


@dataclass(frozen=True)
class Finished:
    """How a program ended: its exit status and the last lines it printed."""

    status: int
    tail: str


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment, the same everywhere, in the C locale and UTC."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**environment, "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


def output(command: Sequence[str | Path], cwd: Path) -> bytes:
    """What a short program prints, in that folder and a clean environment; it has to succeed."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: BinaryIO | None = None,
    on_line: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Finished:
    """Run a program to its end, with its output line by line.

    It gets a process group of its own. Whatever takes us out of here (Ctrl-C,
    an error) ends that group first; and if we are killed outright, the kernel
    ends the program (`kdelta.parent`).

    Args:
        arguments: the argument vector.
        cwd: working folder.
        env: the whole environment; ours by default.
        log: gets every byte of standard output and error.
        on_line: called for every line of them.
        on_tick: called about once a second.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if not signalled_with(parent, signal.SIGTERM):
            os._exit(1)

    with ending_on_sigterm():
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            tail = _follow(process, log, on_line, on_tick)
            return Finished(process.wait(), tail)
        finally:
            if process.poll() is None:
                _end_group(process)


def _follow(
    process: subprocess.Popen[bytes],
    log: BinaryIO | None,
    on_line: Callable[[str], None] | None,
    on_tick: Callable[[], None] | None,
) -> str:
    assert process.stdout is not None
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    partial = b""
    with selectors.DefaultSelector() as selector, process.stdout as stream:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if selector.select(_TICK_S):
                data = os.read(stream.fileno(), 65536)
                if not data:
                    break
                if log is not None:
                    log.write(data)
                    log.flush()
                *lines, partial = (partial + data).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    kept.append(text)
                    if on_line is not None:
                        on_line(text)
            if on_tick is not None:
                on_tick()
    if partial:
        text = partial.decode(errors="replace")
        kept.append(text)
        if on_line is not None:
            on_line(text)
    return "\n".join(kept)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a whole process group: politely, so that make deletes half-written targets."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that `finally` runs.

    Nothing changes where the program has a handler of its own, or outside the
    main thread (Python allows handlers only there).
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
