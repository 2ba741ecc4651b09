# SPDX-License-Identifier: GPL-2.0-only
"""Headers of a mail as `git format-patch` writes them: folded, encoded where not ASCII."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr

# A patch that is in no repository has no commit to name; git writes the same for --zero-commit.
MBOX_LINE = f"From {'0' * 40} Mon Sep 17 00:00:00 2001"

_WIDTH = 76
_SLUG_LENGTH = 52  # as git cuts file names


def address(name: str, email: str) -> str:
    """``Name <mail>`` for a header; the name quoted, or encoded (RFC 2047), where it must be."""
    return formataddr((name, email))


def subject_line(prefix: str, version: int, number: int, total: int, subject: str) -> str:
    """The whole ``Subject:`` header.

    Args:
        prefix: words before the version, ``PATCH``.
        version: of the series; 1 is not shown.
        number: of this mail; 0 for the cover letter.
        total: number of patches.
        subject: one line of any text.
    """
    shown = f" v{version}" if version > 1 else ""
    tag = f"[{prefix}{shown} {number:0{len(str(total))}d}/{total}]"
    words = " ".join(subject.split())
    header = Header(tag, "us-ascii", maxlinelen=_WIDTH, header_name="Subject")
    # The tag stays legible in any case, as git writes it: programs look for it.
    header.append(words, "us-ascii" if words.isascii() else "utf-8")
    # Only blanks are places to fold: git joins the lines with a blank again.
    return f"Subject: {header.encode(splitchars=' ')}"


def message_headers(
    sender: str, date: datetime | str, subject: str, to: Sequence[str] = (), cc: Sequence[str] = ()
) -> str:
    """All headers of a mail, the mbox line first, each ended by a newline; no blank line.

    Args:
        sender: value of ``From:``, as `address` gives it.
        date: of the mail, or the value of ``Date:``.
        subject: the whole header, from `subject_line`.
        to: addresses.
        cc: addresses.
    """
    shown = date if isinstance(date, str) else format_datetime(date)
    lines = [MBOX_LINE, f"From: {sender}", f"Date: {shown}", subject]
    for name, addresses in (("To", to), ("Cc", cc)):
        if addresses:
            lines.append(f"{name}: " + ",\n    ".join(addresses))
    return "".join(f"{line}\n" for line in lines)


def mime_headers(body: bytes) -> str:
    """What a body beyond ASCII has to be declared as; empty for plain ASCII."""
    if body.isascii():
        return ""
    return (
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n"
    )


def file_name(prefix: str, number: int, subject: str) -> str:
    """The name of a mail's file: ``v2-0001-fs-pipe-do-this.patch``."""
    slug = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9._]+", "-", subject)).strip("-.")
    return f"{prefix}{number:04d}-{slug[:_SLUG_LENGTH].rstrip('-.') or 'patch'}.patch"
