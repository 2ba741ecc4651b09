# SPDX-License-Identifier: GPL-2.0-only
"""What the cache keeps, how large it is and for whom, and what goes when it is pruned."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdelta.cache import USED, in_use, last_used_ns, leftovers
from kdelta.plain import one_line

COMPILER = "compiler"
"""The compiler's cache, which ccache prunes."""
LEFTOVER = "leftover"
"""What a killed process had begun to make or to delete."""

# Until a process has put its lock into what it begins to make.
_BEGINNING_NS = 24 * 3600 * 10**9


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: the folder that it lies in, or `COMPILER` or `LEFTOVER`.
        path: its folder.
        what: what it is, for a person; empty where nothing in it tells.
        whose: for whom it was used last, likewise.
        used_ns: when that was, by the clock of its file system.
        size: bytes on the disk that pruning it frees, if what was made of it goes too.
        kept: why it cannot be pruned; empty: it can.
        made_of: the source whose files it shares, by hard links.
    """

    kind: str
    path: Path
    what: str
    whose: str
    used_ns: int
    size: int = 0
    kept: str = ""
    made_of: Path | None = None


def entries(cache: Path) -> list[Entry]:
    """Everything that the cache keeps, what was used last first.

    A source is as young as the youngest build folder that shares its files: without these, its
    going would free nothing. Entries that vanish meanwhile are left out.

    Args:
        cache: the cache folder; it need not exist.
    """
    found: list[Entry] = []
    # Sources before build folders: files that both share count as the source's.
    for kind, describe in _DESCRIBE.items():
        for path in sorted((cache / kind).glob("[!.]*/")):
            found += _looked_at(kind, path, describe(path))
        for path in leftovers(cache / kind):
            found += _looked_at(LEFTOVER, path, f"left by a killed process, of {kind}")
    if (cache / COMPILER).is_dir():
        found += _looked_at(COMPILER, cache / COMPILER, "compiled objects")
    found = _with_sources(found)
    sizes = _sizes([entry.path for entry in found])
    sized = [replace(entry, size=size) for entry, size in zip(found, sizes, strict=True)]
    return sorted(sized, key=lambda entry: entry.used_ns, reverse=True)


def choose(
    kept: Iterable[Entry], *, before_ns: int | None = None, most_bytes: int | None = None
) -> list[Entry]:
    """What goes: leftovers, what is too old, and of the rest what was used least recently.

    Args:
        kept: what there is.
        before_ns: what was last used before goes; None: age does not matter.
        most_bytes: what may be left of all, what cannot be pruned included; None: any amount.

    Returns:
        In the order in which it goes. An entry never goes before those that were made of it.
    """
    kept = list(kept)
    # Of two that were used at once, what was made of the other goes first.
    order = sorted(
        (entry for entry in kept if not entry.kept),
        key=lambda entry: (entry.kind != LEFTOVER, entry.used_ns, entry.made_of is None),
    )
    left = sum(entry.size for entry in kept)
    going = []
    for entry in order:
        too_old = before_ns is not None and entry.used_ns < before_ns
        too_much = most_bytes is not None and left > most_bytes
        if entry.kind == LEFTOVER or too_old or too_much:
            going.append(entry)
            left -= entry.size
    return going


def _looked_at(kind: str, path: Path, what: str) -> list[Entry]:
    """The entry; nothing if it has vanished, or is only just being begun."""
    try:
        used = last_used_ns(path)
    except FileNotFoundError:
        return []
    begun = kind == LEFTOVER and not (path / USED).exists()
    if begun and time.time_ns() - used < _BEGINNING_NS:
        return []
    kept = "in use" if in_use(path) else "by ccache" if kind == COMPILER else ""
    return [Entry(kind, path, one_line(what), _whose(path), used, kept=kept)]


def _whose(entry: Path) -> str:
    try:
        return one_line((entry / USED).read_text(errors="replace"), 200)
    except OSError:
        return ""


def _with_sources(found: Sequence[Entry]) -> list[Entry]:
    """Build folders with the source that they share files with, and its age after theirs."""
    sources = {entry.path: entry for entry in found if entry.kind == "sources"}
    told = []
    for entry in found:
        if entry.kind == "workspaces":
            of = next((path for path in sources if _shares_files(entry.path, path)), None)
            if of is not None:
                source = sources[of]
                sources[of] = replace(
                    source,
                    used_ns=max(source.used_ns, entry.used_ns),
                    kept=source.kept or entry.kept,
                )
                entry = replace(entry, made_of=of, what=f"to build {source.what}")
        told.append(entry)
    return [sources.get(entry.path, entry) for entry in told]


def _shares_files(workspace: Path, source: Path) -> bool:
    # A file that every kernel has, and hardly any patch touches.
    try:
        return (workspace / "src/Kconfig").samefile(source / "tree/Kconfig")
    except OSError:
        return False


def _sizes(paths: Sequence[Path]) -> list[int]:
    """Bytes on the disk of each folder; a file that several of them have is the first one's.

    By du, which takes a second where Python takes a minute: a kernel's source has 90,000 files.
    """
    if not paths:
        return []
    # What vanishes meanwhile is complained of, and is not there any more.
    done = subprocess.run(
        ["du", "--summarize", "--block-size=1", "--null", "--", *paths],
        capture_output=True,
        check=False,
    )
    lines = (line.partition(b"\t") for line in done.stdout.split(b"\0") if line)
    found = {path.decode(errors="surrogateescape"): int(size) for size, _, path in lines}
    return [found.get(str(path), 0) for path in paths]


def _record(file: Path) -> dict[str, Any]:
    """A record as JSON; empty if there is none."""
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _source(record: dict[str, Any]) -> str:
    version = f"Linux {record.get('kernel_version', '?')}"
    if record.get("type") == "git":
        return f"{version} ({record.get('url')} {str(record.get('commit'))[:12]})"
    return f"{version} ({record.get('package')} {record.get('version')})"


def _describe_source(entry: Path) -> str:
    record = _record(entry / "source.json")
    return _source(record) if record else ""


def _describe_tree(entry: Path) -> str:
    of = _describe_source(entry.parents[1] / "sources" / entry.stem)
    return f"git tree of {of}" if of else "git tree of a source that is gone"


def _describe_image(entry: Path) -> str:
    facts = _record(entry / "image.json")
    source = facts.get("source")
    if not isinstance(source, dict):
        return ""
    return f"{_source(source)}, {facts.get('arch', '')}, {facts.get('compiler', '')}"


def _describe_program(entry: Path) -> str:
    return ", ".join(sorted(path.name for path in entry.glob("[!.]*")))


def _describe_root(entry: Path) -> str:
    machines = sorted(path.name for path in entry.glob("usr/lib/*-linux-gnu*"))
    return f"guests' root, {', '.join(machines)}"


_DESCRIBE: dict[str, Callable[[Path], str]] = {
    "sources": _describe_source,
    "workspaces": lambda _: "to build kernels of a source that is gone",
    "trees": _describe_tree,
    "git": lambda _: "commits that were fetched",
    "images": _describe_image,
    "workloads": _describe_program,
    "roots": _describe_root,
    "apt": lambda entry: f"index of packages, {entry.name}",
}
