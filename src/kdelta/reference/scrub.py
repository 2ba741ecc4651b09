# SPDX-License-Identifier: GPL-2.0-only
"""Removes from a run's texts what is private to the machine that it ran on.

That is: paths outside of the folders that every Linux system has, the command that the guest
was started with (it holds such paths, encoded), and the machine's and the user's names. Each
gives way to a fixed tag, so that the same text always gives the same text. Nothing else changes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# The same on every machine, and so nobody's secret.
_PUBLIC = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")
_PRIVATE_RUN = ("/run/user/", "/run/media/")
_NAME = r"[\w.+@~,-]+"
# Not the middle of a relative path, an address or a fraction.
_PATH = re.compile(rf"(?<![\w.~+/-])/(?:{_NAME}/)+(?:{_NAME})?")
# The command is in base64, the folder without its first slash; a long line may be cut anywhere.
_GUEST_COMMAND = re.compile(r"(virtme\.exec=)`[^`\s]*`?")
_GUEST_FOLDER = re.compile(r"(virtme_chdir=)[^\s\"]+")
_GUEST_USER = re.compile(r"(virtme_user=)[^\s\"]+")
# Words that are in every log: as names of a machine or a user they say nothing about it.
_COMMON = frozenset({"root", "user", "debian", "localhost", "linux", "kdelta", "virtme-ng"})
_SHORTEST_WORD = 3


class Scrubber:
    """Replaces what is private, and counts what it replaced by kind.

    Attributes:
        counts: kind -> replacements so far.
    """

    def __init__(self, words: Iterable[str] = (), nodes: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            words: names to remove wherever they stand as a word of their own; those that are
                shorter than three letters or common in any log are left alone.
            nodes: names of the run's nodes, likewise; their tags have numbers, so that what was
                measured on different nodes stays apart.
        """
        tags = dict.fromkeys(words, "<name>")
        for number, node in enumerate(nodes, start=1):
            tags |= dict.fromkeys((node.partition(".")[0], node), f"<node {number}>")
        self._tags = {
            word: tag
            for word, tag in tags.items()
            if len(word) >= _SHORTEST_WORD and word not in _COMMON
        }
        # A name with its domain before the name alone, which would leave the domain.
        longest = sorted(self._tags, key=len, reverse=True)
        joined = "|".join(map(re.escape, longest))
        self._words = re.compile(rf"(?<![\w-])(?:{joined})(?![\w-])") if joined else None
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """A text without what is private."""
        text = self._sub(_GUEST_COMMAND, r"\1<command>", text, "command")
        text = self._sub(_GUEST_FOLDER, r"\1<path>", text, "path")
        text = self._sub(_GUEST_USER, r"\1<name>", text, "name")
        text = _PATH.sub(self._path, text)
        return self._sub(self._words, self._tag, text, "name") if self._words else text

    def value(self, value: Any) -> Any:
        """A value of JSON with all its strings scrubbed; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def json_file(self, data: bytes, indent: int | None = 1) -> bytes:
        """A JSON document; the same bytes if there is nothing private in it."""
        found = json.loads(data)
        clean = self.value(found)
        if clean == found:
            return data
        separators = (",", ":") if indent is None else None
        return json.dumps(clean, indent=indent, separators=separators).encode()

    def json_lines(self, data: bytes) -> bytes:
        """A file of one JSON document per line, each as in `json_file`."""
        lines = data.split(b"\n")
        return b"\n".join(self.json_file(x, indent=None) if x.strip() else x for x in lines)

    def log_file(self, data: bytes) -> bytes:
        """A log; bytes that are no UTF-8 stay as they are."""
        return self.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def _path(self, match: re.Match[str]) -> str:
        path = match[0]
        if path.split("/")[1] in _PUBLIC and not path.startswith(_PRIVATE_RUN):
            return path
        self.counts["path"] += 1
        return "<path>"

    def _tag(self, match: re.Match[str]) -> str:
        return self._tags[match[0]]

    def _sub(
        self,
        pattern: re.Pattern[str],
        tag: str | Callable[[re.Match[str]], str],
        text: str,
        kind: str,
    ) -> str:
        text, count = pattern.subn(tag, text)
        if count:
            self.counts[kind] += count
        return text
