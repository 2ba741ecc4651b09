# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel weighs: sizes, symbols, stack use; and in what two kernels differ.

Stack use comes from the compiler (`-fstack-usage`): what it reserves in a function, pushed
registers and spills included, which a look for `sub $n,%rsp` in the disassembly misses.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kdelta.kernel.process import output

SYMBOLS = "symbols.tsv.gz"
"""The file of a kernel's symbol sizes and stack use, beside its image."""

STACK_FLAG = "-fstack-usage"
"""Has gcc, and clang from 13 on, write `x.su` beside `x.o`; the code stays the same."""

LARGEST = 100
"""How many differences of a kind image.json keeps: other compilers give tens of thousands."""

SIZES = ("text", "data", "bss")
STACK = "stack"
# By the letter that nm prints. Constants are data: a linked kernel's may be writable at boot,
# and are not told from it. Of a weak object the section is not told.
_KINDS = {
    **dict.fromkeys("TtWwi", "text"),
    **dict.fromkeys("DdGgRrVv", "data"),
    **dict.fromkeys("BbSs", "bss"),
}
# What a compiler adds to the name of a function that it split or copied, or of a static
# variable: the numbers change with whatever else is in the file.
_PARTS = re.compile(r"(?:\.(?:\d+|cold|constprop|isra|part|llvm|lto_priv|localalias))+$")
_COUNTED = re.compile(r"(__UNIQUE_ID_.*?)\d+$")
# Padding before a function, which belongs to no source line.
_PADDING = "__pfx_"
_BUILD_ID = re.compile(r"Build ID: ([0-9a-f]+)")


class Entry(NamedTuple):
    """What has a size: `kind` is text, data (constants included), bss or stack.

    The name of a stack entry is `fs/pipe.o:pipe_write`: static functions of many files have
    one name. Of a symbol that stands several times in a kernel, the entry is the sum.
    """

    kind: str
    name: str


class Change(NamedTuple):
    """An entry whose size differs between two kernels, in bytes; None where it is not there."""

    kind: str
    name: str
    baseline: int | None
    arm: int | None


def parse_sizes(text: str) -> dict[str, int]:
    """Bytes of text (constants included), data and bss, as `size` prints them for one file."""
    head, values = (line.split() for line in text.splitlines()[:2])
    return {name: int(value) for name, value in zip(head, values, strict=True) if name in SIZES}


def parse_build_id(text: str) -> str | None:
    """The build id in the output of `readelf -n`; None if the file has none."""
    match = _BUILD_ID.search(text)
    return match[1] if match else None


def parse_symbols(text: str) -> dict[Entry, int]:
    """Sizes of a kernel's symbols in bytes, from `nm -S`.

    A function counts with the parts that the compiler split off. Of several names of one place
    the first in the alphabet counts.
    """
    found: dict[tuple[str, int, int], str] = {}
    for line in text.splitlines():
        fields = line.split()
        # Others have no size: labels of assembly and of the linker.
        if len(fields) != 4 or fields[2] not in _KINDS or fields[3].startswith(_PADDING):
            continue
        place = (_KINDS[fields[2]], int(fields[0], 16), int(fields[1], 16))
        found[place] = min(found.get(place, fields[3]), fields[3])
    sizes: dict[Entry, int] = {}
    for (kind, _, size), name in found.items():
        entry = Entry(kind, source_name(name))
        sizes[entry] = sizes.get(entry, 0) + size
    return sizes


def source_name(symbol: str) -> str:
    """What the source calls a symbol: `pipe_write` for `pipe_write.constprop.0.cold`."""
    name = _PARTS.sub("", symbol)
    counted = _COUNTED.fullmatch(name)
    return counted[1] if counted else name


def parse_stack(text: str) -> dict[str, int]:
    """Bytes of stack by function, from a file that the compiler wrote (`x.su`).

    Of parts of a function the largest counts. A function that allocates on its stack at run
    time counts with what is reserved in any case.
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        place, size, _ = line.split("\t")
        # gcc has file:line:column:function, clang file:line:function
        function = source_name(place.rpartition(":")[2])
        found[function] = max(found.get(function, 0), int(size))
    return found


def table(sizes: Mapping[Entry, int]) -> bytes:
    """The content of `SYMBOLS`: the same sizes always give the same bytes."""
    lines = (f"{entry.kind}\t{entry.name}\t{size}\n" for entry, size in sorted(sizes.items()))
    return gzip.compress("".join(lines).encode(), mtime=0)


def parse_table(data: bytes) -> dict[Entry, int]:
    """The inverse of `table`."""
    fields = (line.split("\t") for line in gzip.decompress(data).decode().splitlines())
    return {Entry(kind, name): int(size) for kind, name, size in fields}


def differing(baseline: Mapping[Entry, int], arm: Mapping[Entry, int]) -> list[Change]:
    """The entries whose sizes differ, the largest difference first, then by name."""
    changes = [
        Change(*entry, baseline.get(entry), arm.get(entry))
        for entry in baseline.keys() | arm.keys()
        if baseline.get(entry) != arm.get(entry)
    ]
    return sorted(changes, key=lambda c: (-abs((c.arm or 0) - (c.baseline or 0)), c.name, c.kind))


def record(baseline: Mapping[Entry, int], arm: Mapping[Entry, int]) -> dict[str, object]:
    """For image.json: in what two kernels differ.

    Returns:
        For `symbols` and `stack`: `count` of those that differ, and the `LARGEST` of them; for
        symbols also `bytes`, the sum of all, which unlike a section's size has no padding in it.
    """
    every = differing(baseline, arm)
    stack = [change for change in every if change.kind == STACK]
    symbols = [change for change in every if change.kind != STACK]
    kept: dict[str, dict[str, object]] = {
        name: {"count": len(some), "largest": [change._asdict() for change in some[:LARGEST]]}
        for name, some in (("symbols", symbols), (STACK, stack))
    }
    kept["symbols"]["bytes"] = {
        name: sum(size for entry, size in sizes.items() if entry.kind != STACK)
        for name, sizes in (("baseline", baseline), ("arm", arm))
    }
    return dict(kept)


def weigh(
    obj: Path, objects: Iterable[str], cross: str = ""
) -> tuple[dict[str, object], dict[Entry, int]]:
    """What a finished build weighs.

    Args:
        obj: make's output folder, with `vmlinux`.
        objects: those of the kernel, relative to it; what an earlier arm left there is none.
        cross: prefix of the tools that read its files.

    Returns:
        `sizes` and `build_id` for image.json; bytes by symbol, and of stack by function.
    """

    def told(tool: str, *options: str) -> str:
        return output([f"{cross}{tool}", *options, "vmlinux"], obj).decode(errors="replace")

    facts: dict[str, object] = {
        "sizes": parse_sizes(told("size")),
        "build_id": parse_build_id(told("readelf", "-n")),
    }
    entries = parse_symbols(told("nm", "-S"))
    for name in objects:
        usage = (obj / name).with_suffix(".su")
        if usage.is_file():  # assembly has none
            stack = parse_stack(usage.read_text(errors="replace"))
            entries |= {Entry(STACK, f"{name}:{call}"): size for call, size in stack.items()}
    return facts, entries
