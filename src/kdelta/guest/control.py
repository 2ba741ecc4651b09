# SPDX-License-Identifier: GPL-2.0-only
"""The two lines to a running guest: QEMU's monitor, and the driver's virtio port.

Both are Unix sockets in a folder that only this user may enter. kdelta listens, and QEMU connects
when it starts, so that nothing said early is lost and nobody waits for a socket to appear.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdelta.errors import KdeltaError
from kdelta.guest.driver import PORT

Json = dict[str, Any]

LINE_LIMIT = 64 * 1024
"""Bytes of one line; who sends more, without an end of the line, is given up."""

MONITOR_S = 10.0
"""QEMU answers its monitor in milliseconds; on a host that is short of everything it may not."""


class LineError(KdeltaError):
    """The other end is gone, or does not speak as it should."""


class _Line:
    """A socket that one peer connects to, and what it has said so far, by lines.

    Attributes:
        address: where the peer finds it, as long as this process lives.
        over: the peer is gone.
    """

    def __init__(self, path: Path) -> None:
        # A socket's path may have 107 bytes, and folders for temporary files have longer ones.
        self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.address = f"/proc/{os.getpid()}/fd/{self._folder}/{path.name}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.address)
        except OSError as error:
            self._listener.close()
            os.close(self._folder)
            raise KdeltaError(f"{path}: cannot make a socket for a guest: {error}") from error
        self._listener.listen(1)
        self._peer: socket.socket | None = None
        self._heard = b""
        self.over = False

    def close(self) -> None:
        """Give up the socket."""
        self._listener.close()
        os.close(self._folder)
        if self._peer is not None:
            self._peer.close()

    def lines(self, wait_s: float = 0.0) -> list[str]:
        """Whole lines that have come since the last call.

        Args:
            wait_s: how long to wait for anything at all.

        Raises:
            LineError: a line that never ends.
        """
        heard = self._receive(wait_s)
        if not heard:
            return []
        *whole, self._heard = (self._heard + heard).split(b"\n")
        if len(self._heard) > LINE_LIMIT:
            raise LineError(f"more than {LINE_LIMIT // 1024} KiB without an end of the line")
        return [line.decode("utf-8", "replace").strip() for line in whole]

    def say(self, message: Json) -> None:
        """Send one line of JSON.

        Raises:
            LineError: nobody is there to hear it.
        """
        if self._peer is None:
            raise LineError("it never connected")
        try:
            self._peer.settimeout(MONITOR_S)
            self._peer.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LineError(f"it cannot be spoken to: {error}") from error

    def _receive(self, wait_s: float) -> bytes:
        try:
            if self._peer is None:
                self._listener.settimeout(wait_s)
                self._peer, _ = self._listener.accept()
            self._peer.settimeout(wait_s)
            heard = self._peer.recv(LINE_LIMIT)
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError:  # reset: its process was killed
            heard = b""
        if not heard:
            self.over = True
            if wait_s:
                time.sleep(min(wait_s, 0.05))  # it would be "readable" for ever
        return heard


class Port(_Line):
    """The driver's port: orders in, words out."""

    def options(self) -> list[str]:
        """QEMU's options for it."""
        return [
            "-device",
            "virtio-serial-pci",
            "-chardev",
            f"socket,id={PORT},path={self.address}",
            "-device",
            f"virtserialport,chardev={PORT},name={PORT}",
        ]


class Monitor(_Line):
    """QEMU's monitor (QMP): stops a guest's CPUs and clocks, and lets them go on."""

    def options(self) -> list[str]:
        """QEMU's options for it."""
        return ["-qmp", f"unix:{self.address}"]

    def execute(self, command: str, alive: Callable[[], bool] = lambda: True) -> Any:
        """Run a command that takes no arguments.

        Args:
            command: its name, such as `stop`.
            alive: whether the guest's processes run; once they do not, nobody will answer.

        Returns:
            What it returned.

        Raises:
            LineError: it was refused, or not answered.
        """
        self._negotiate(alive)
        return self._run(command, alive)

    def _negotiate(self, alive: Callable[[], bool]) -> None:
        if self._peer is not None:
            return
        self._await("QMP", alive)  # the greeting
        self._run("qmp_capabilities", alive)

    def _run(self, command: str, alive: Callable[[], bool]) -> Any:
        self.say({"execute": command})
        answer = self._await("return", alive)
        return answer["return"]

    def _await(self, key: str, alive: Callable[[], bool]) -> Json:
        """The next message with this key; events come in between."""
        deadline = time.monotonic() + MONITOR_S
        while time.monotonic() < deadline and not self.over:
            for line in self.lines(wait_s=0.1):
                message: Any = None
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                if not isinstance(message, dict):
                    raise LineError(f"QEMU's monitor says {line[:200]!r}")
                if "error" in message:
                    raise LineError(f"QEMU refuses: {message['error']}")
                if key in message:
                    return message
            if not alive():
                break
        raise LineError("QEMU's monitor does not answer")
