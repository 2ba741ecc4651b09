# SPDX-License-Identifier: GPL-2.0-only
"""The selftest patch of the pipe-prealloc series, made from ``src/pipe_bench/``.

The benchmark's sources live in one place, ``src/pipe_bench/``, where the pipeline builds them.
The mailable series carries the same bytes as a patch that adds ``tools/testing/selftests/pipe/``
to a kernel tree. This module writes that patch in the form of ``git format-patch``, without git:
equal sources give equal bytes on every machine.

    python -m kdelta.kernel.series --bench-dir src/pipe_bench --output patches/.../0002-....patch
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdelta.errors import KdeltaError

SELFTESTS = "tools/testing/selftests"
TARGET = "pipe"
PATCH_NAME = "0002-selftests-pipe-add-pipe_bench-microbenchmark.patch"

# A placeholder: what is mailed for real carries the identity of whoever mails it.
AUTHOR = "kdelta authors <kdelta@example.org>"
# Fixed, so that the patch changes only when what it adds does.
DATE = "Mon, 1 Jan 2024 00:00:00 +0000"
SUBJECT = "[PATCH 2/2] selftests/pipe: add pipe_bench microbenchmark"

MESSAGE = """\
Add a microbenchmark for the write and read paths of a pipe. It runs a
number of writers and readers, threads or processes, on one pipe and
reports throughput and the latency of the writes, from a histogram with a
relative error of at most one percent, for every combination of writers
and readers asked for. By default it sweeps {1, 2, 5} writers and
{1, 5, 10} readers with 64 KiB writes on a 1 MiB pipe.

Rates divide by the time that was measured, not by the one asked for. A
run fails when the pipe did not get the size asked for, when a worker
died, when nothing was written, or when the bytes read are not as many as
the bytes written. Output is a table, JSON lines or, under the selftests'
runner, KTAP with one test for every pair of writers and readers.

It needs only libc and pthreads, so that it can also be linked statically
and taken into a guest that has no libraries.
"""

_ABBREV = 12
_NO_BLOB = "0" * _ABBREV
_CONTEXT = 3
_STAT_WIDTH = 72  # columns of git's diffstat in a mail
_TARGET_LINE = re.compile(r"^TARGETS \+= (\S+)$")
# What git takes for the heading of a hunk where it knows no better: a line that begins a word.
_HEADING_LINE = re.compile(r"^[A-Za-z_$]")
_HEADING_BYTES = 80
_VFS_ENTRY = "FILESYSTEMS (VFS and infrastructure)"


@dataclass(frozen=True)
class SelftestSources:
    """What goes into ``tools/testing/selftests/pipe/``, as text.

    Attributes:
        bench: ``pipe_bench.c``.
        makefile: ``Makefile``.
        gitignore: ``.gitignore``.
    """

    bench: str
    makefile: str
    gitignore: str


@dataclass(frozen=True)
class LineEdit:
    """Where and how a file of the kernel gets one new line.

    Attributes:
        path: the file, relative to the kernel tree.
        old_blob: abbreviated git object id of the file before.
        new_blob: the same, after.
        first_line: number of the first line of ``before``, counted from 1.
        heading: text git prints after the hunk's line numbers; may be empty.
        before: context lines above the new one, without line ends.
        added: the new line.
        after: context lines below it; fewer than three only at the end of the file.
    """

    path: str
    old_blob: str
    new_blob: str
    first_line: int
    heading: str
    before: tuple[str, ...]
    added: str
    after: tuple[str, ...]


# The files of Linux 6.12, so that the patch can be made without a kernel tree; `makefile_edit()`
# and `maintainers_edit()` give the same values from the files themselves.
MAKEFILE_6_12 = LineEdit(
    path=f"{SELFTESTS}/Makefile",
    old_blob="a9e363b7f489",
    new_blob="11ad158d9bb0",
    first_line=75,
    heading="TARGETS += nsfs",
    before=("TARGETS += perf_events", "TARGETS += pidfd", "TARGETS += pid_namespace"),
    added="TARGETS += pipe",
    after=("TARGETS += power_supply", "TARGETS += powerpc", "TARGETS += prctl"),
)


MAINTAINERS_6_12 = LineEdit(
    path="MAINTAINERS",
    old_blob="1cf22c9536b1",
    new_blob="0509491aee06",
    first_line=8724,
    heading="F:\tinclude/linux/fs.h",
    before=(
        "F:\tinclude/linux/fs_types.h",
        "F:\tinclude/uapi/linux/fs.h",
        "F:\tinclude/uapi/linux/openat2.h",
    ),
    added="F:\ttools/testing/selftests/pipe/",
    after=("", "FILESYSTEMS [EXPORTFS]", "M:\tChuck Lever <chuck.lever@oracle.com>"),
)
LINUX_6_12 = (MAINTAINERS_6_12, MAKEFILE_6_12)


def blob_id(text: str) -> str:
    """The object id git gives a file of this content, as 40 hexadecimal digits (SHA-1)."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def makefile_edit(text: str) -> LineEdit:
    """Place ``TARGETS += pipe`` in the text of the kernel's selftests Makefile.

    Args:
        text: the whole of ``tools/testing/selftests/Makefile``, unpatched.

    Returns:
        The edit, with three lines of context on each side.

    Raises:
        KdeltaError: the file has the target already, or no list of targets to put it in.
    """
    path = f"{SELFTESTS}/Makefile"
    _check_text(path, text)
    lines = text.splitlines()
    added = f"TARGETS += {TARGET}"
    if added in lines:
        raise KdeltaError(f"{path} already has the line {added!r}: give the unpatched Makefile")
    # The list is sorted only roughly, so look for the first pair of neighbours that the new
    # target fits between rather than for the first name that is larger.
    names = [match.group(1) if (match := _TARGET_LINE.match(line)) else "" for line in lines]
    for at in range(1, len(names)):
        if names[at - 1] and names[at - 1] < TARGET < names[at]:
            return _insertion(path, text, at, added)
    raise KdeltaError(
        f"{path}: no place for {added!r} between two alphabetical 'TARGETS +=' lines; "
        "give the Makefile of a kernel tree"
    )


def maintainers_edit(text: str) -> LineEdit:
    """Give the new folder to the maintainers of ``fs/``, who would be asked about it anyway.

    Args:
        text: the whole of ``MAINTAINERS``, unpatched.

    Raises:
        KdeltaError: the file names the folder already, or lacks the entry of the VFS.
    """
    path = "MAINTAINERS"
    _check_text(path, text)
    lines = text.splitlines()
    added = f"F:\t{SELFTESTS}/{TARGET}/"
    if added in lines:
        raise KdeltaError(f"{path} already has the line {added!r}: give the unpatched file")
    if _VFS_ENTRY not in lines:
        raise KdeltaError(f"{path}: no entry {_VFS_ENTRY!r}; give the file of a kernel tree")
    at = lines.index(_VFS_ENTRY)
    # Files are listed in alphabetical order; the entry ends with a blank line.
    while at < len(lines) and lines[at] and not (lines[at].startswith("F:") and lines[at] > added):
        at += 1
    return _insertion(path, text, at, added)


def _insertion(path: str, text: str, at: int, added: str) -> LineEdit:
    lines = text.splitlines()
    top = max(0, at - _CONTEXT)
    headings = [line for line in lines[:top] if _HEADING_LINE.match(line)]
    patched = "".join(f"{line}\n" for line in (*lines[:at], added, *lines[at:]))
    return LineEdit(
        path=path,
        old_blob=blob_id(text)[:_ABBREV],
        new_blob=blob_id(patched)[:_ABBREV],
        first_line=top + 1,
        heading=headings[-1][:_HEADING_BYTES].rstrip() if headings else "",
        before=tuple(lines[top:at]),
        added=added,
        after=tuple(lines[at : at + _CONTEXT]),
    )


def selftest_patch(sources: SelftestSources, edits: Sequence[LineEdit] = LINUX_6_12) -> str:
    """The patch that adds the benchmark to a kernel tree as a selftest.

    Args:
        sources: the files to add.
        edits: the lines added to files that the tree has, in the order of their paths; by
            default those for Linux 6.12.

    Returns:
        One mail as ``git format-patch`` writes it, for ``git am``, ``git apply`` or ``patch -p1``.

    Raises:
        KdeltaError: a source is empty, lacks its last newline or has carriage returns.
    """
    # In git's order, which is that of the paths' bytes.
    added = {
        f"{SELFTESTS}/{TARGET}/.gitignore": sources.gitignore,
        f"{SELFTESTS}/{TARGET}/Makefile": sources.makefile,
        f"{SELFTESTS}/{TARGET}/pipe_bench.c": sources.bench,
    }
    for path, text in added.items():
        _check_text(path, text)
    counts = {edit.path: 1 for edit in edits} | {p: t.count("\n") for p, t in added.items()}
    return "".join(
        [
            f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n",
            f"From: {AUTHOR}\nDate: {DATE}\nSubject: {SUBJECT}\n\n",
            f"{MESSAGE}\nSigned-off-by: {AUTHOR}\n---\n",
            _diffstat(counts),
            *(f" create mode 100644 {path}\n" for path in added),
            "\n",
            *map(_line_diff, edits),
            *(_new_file_diff(path, text) for path, text in added.items()),
        ]
    )


def write_selftest_patch(bench_dir: Path, tree: Path | None, out: Path) -> None:
    """Write the selftest patch made from a folder of sources.

    Args:
        bench_dir: folder with ``pipe_bench.c``, ``Makefile.kselftest``, ``gitignore.kselftest``.
        tree: the kernel tree to patch, unpatched; None for Linux 6.12.
        out: the patch file; its folder is made if need be.

    Raises:
        KdeltaError: a file cannot be read or written, or `selftest_patch` refuses it.
    """
    sources = read_sources(bench_dir)
    edits: Sequence[LineEdit] = LINUX_6_12
    if tree is not None:
        edits = (
            maintainers_edit(_read(tree / "MAINTAINERS")),
            makefile_edit(_read(tree / SELFTESTS / "Makefile")),
        )
    patch = selftest_patch(sources, edits)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(patch.encode())
    except OSError as error:
        raise KdeltaError(f"{out}: cannot write the patch: {error.strerror}") from error


def read_sources(bench_dir: Path) -> SelftestSources:
    """Read the three files of the selftest from ``bench_dir``.

    Raises:
        KdeltaError: one of them is missing or is not UTF-8 text.
    """
    return SelftestSources(
        bench=_read(bench_dir / "pipe_bench.c"),
        makefile=_read(bench_dir / "Makefile.kselftest"),
        gitignore=_read(bench_dir / "gitignore.kselftest"),
    )


def _read(path: Path) -> str:
    try:
        # Bytes, because text mode would turn a carriage return into a newline unseen.
        return path.read_bytes().decode()
    except OSError as error:
        raise KdeltaError(f"{path}: cannot read a source of the patch: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KdeltaError(f"{path}: not UTF-8 text (byte {error.start}): convert it") from error


def _check_text(name: str, text: str) -> None:
    """Refuse what a mailed patch cannot carry unharmed."""
    if not text.endswith("\n"):
        raise KdeltaError(f"{name}: empty or without a newline at its end: add one")
    if "\r" in text or "\0" in text:
        raise KdeltaError(f"{name}: has a carriage return or a NUL byte: remove it")


def _line_diff(edit: LineEdit) -> str:
    context = len(edit.before) + len(edit.after)
    numbers = f"-{edit.first_line},{context} +{edit.first_line},{context + 1}"
    heading = f" {edit.heading}" if edit.heading else ""
    return "".join(
        [
            f"diff --git a/{edit.path} b/{edit.path}\n",
            f"index {edit.old_blob}..{edit.new_blob} 100644\n",
            f"--- a/{edit.path}\n+++ b/{edit.path}\n@@ {numbers} @@{heading}\n",
            *(f" {line}\n" for line in edit.before),
            f"+{edit.added}\n",
            *(f" {line}\n" for line in edit.after),
        ]
    )


def _new_file_diff(path: str, text: str) -> str:
    # Not splitlines(): it also breaks at form feeds and the like, which git does not.
    lines = text.split("\n")[:-1]
    numbers = "+1" if len(lines) == 1 else f"+1,{len(lines)}"
    return "".join(
        [
            f"diff --git a/{path} b/{path}\nnew file mode 100644\n",
            f"index {_NO_BLOB}..{blob_id(text)[:_ABBREV]}\n",
            f"--- /dev/null\n+++ b/{path}\n@@ -0,0 {numbers} @@\n",
            *(f"+{line}\n" for line in lines),
        ]
    )


def _diffstat(counts: dict[str, int]) -> str:
    """Git's diffstat for files with only added lines: path -> number of lines."""
    name_width = max(map(len, counts))
    most = max(counts.values())
    number_width = len(str(most))
    graph_width = _STAT_WIDTH - 6 - number_width - name_width

    def bar(count: int) -> int:
        # Git's scaling: at least one mark for any change.
        return count if most < graph_width else 1 + count * (graph_width - 1) // most

    rows = (
        f" {path:<{name_width}} | {count:>{number_width}} {'+' * bar(count)}\n"
        for path, count in counts.items()
    )
    return "".join(rows) + f" {len(counts)} files changed, {sum(counts.values())} insertions(+)\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Regenerate the selftest patch; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kdelta.kernel.series", description="Write the selftest patch of pipe_bench."
    )
    parser.add_argument("--bench-dir", type=Path, required=True, help="folder of pipe_bench.c")
    parser.add_argument("--output", type=Path, required=True, help=f"the patch, {PATCH_NAME}")
    parser.add_argument(
        "--tree", type=Path, help="the kernel tree to patch, unpatched (default: Linux 6.12)"
    )
    args = parser.parse_args(argv)
    try:
        write_selftest_patch(args.bench_dir, args.tree, args.output)
    except KdeltaError as error:
        print(f"kdelta: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
