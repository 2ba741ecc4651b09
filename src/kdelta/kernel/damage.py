# SPDX-License-Identifier: GPL-2.0-only
"""Files that are no patches, or were damaged on their way: what became of them, what helps."""

from __future__ import annotations

import re

_CORRUPT = re.compile(r"(?:corrupt|fragment without header|recount).*?(?:line (\d+))")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"(\xb5/\xfd": "zstd"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# What helps against damage.
AS_SENT = (
    "get it as it was sent: `b4 am`, the raw mail of an archive, or `git format-patch` of the "
    "commit, never copied from a page or out of a mail program's window"
)


def not_a_patch(content: bytes) -> str | None:
    """Why a file cannot hold a patch at all, and what to do; None if it may.

    Args:
        content: its bytes.
    """
    start = content[:512].lstrip()
    for magic, program in _COMPRESSED.items():
        if content.startswith(magic):
            return f"compressed with {program}; unpack it first"
    if not start:
        return "this file is empty; write the patch with `git format-patch`"
    if content.startswith(_UTF16) or b"\0" in content[:4] or content[:400].count(b"\0") > 100:
        return (
            "git am says: Patch format detection failed. This file is text in UTF-16; patches "
            "are bytes of ASCII or UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`"
        )
    if content.startswith(b"\xef\xbb\xbf"):
        return (
            "git am says: Patch format detection failed. This file begins with a byte order mark "
            "(EF BB BF), which an editor put there; remove it with `sed -i '1s/^\\xef\\xbb\\xbf//'`"
        )
    if re.match(rb"<(?:!doctype|html|\?xml)", start, re.IGNORECASE):
        return "this is a web page and no patch; fetch the raw text of the mail or commit"
    return None


def damage(diff: bytes, error: str) -> str:
    """What is wrong with a patch that git cannot even read.

    Args:
        diff: the patch, without the mail around it.
        error: what `git apply` said of it; empty where there is no diff.
    """
    if not diff.strip() or "No valid patches" in error:
        return (
            "no diff in this file (git am says: Patch is empty.); a patch is what "
            "`git format-patch` or `diff -u` writes. Take answers and letters without a diff out; "
            "a cover letter is known by its number ([PATCH 0/3]) or name (0000-...)"
        )
    words = f"git apply says: {error}"
    number = _CORRUPT.search(error)
    lines = diff.split(b"\n")
    if number is None or not number[1] or not 1 <= int(number[1]) <= len(lines):
        return f"{words}. The patch is damaged: {AS_SENT}"
    at = int(number[1])
    line = lines[at - 1]
    shown = line.decode("utf-8", "replace").rstrip("\r")
    if at >= len(lines) - 1:
        return (
            f"{words}. The patch is damaged: it is cut short, a hunk's last lines are missing; "
            f"{AS_SENT}"
        )
    if line[:1] not in (b" ", b"+", b"-", b"@", b"\\", b"d"):
        return (
            f"{words}. The patch is damaged: this line, {shown!r}, is the rest of the one above, "
            f"which a mail program has wrapped; {AS_SENT}"
        )
    return (
        f"{words}. The patch is damaged: at this line, {shown!r}, the hunk has other numbers of "
        "lines than its @@ header says: a long line was wrapped, lines are missing, or it was "
        f"edited by hand; {AS_SENT}"
    )
