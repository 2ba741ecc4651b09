# SPDX-License-Identifier: GPL-2.0-only
"""A patch file taken apart: author, date, subject, message, and the diff, which stays as it is."""

from __future__ import annotations

import email.header
import email.parser
import email.policy
import re
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.patching import Patch
from kdelta.mail.identity import Identity

# Where `git am` takes the message to end and the patch to begin.
_END_OF_MESSAGE = re.compile(rb"^(?:---[ \t]*$|--- \S|diff -|Index: )", re.MULTILINE)
_HEADER = re.compile(rb"^[A-Za-z][A-Za-z0-9-]*:")
_BODY_FROM = re.compile(rb"^From:[ \t]*(?P<who>[^\n]+)\n(?:Date:[^\n]*\n)?\n*")
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")


@dataclass(frozen=True)
class PatchMail:
    """A patch file as a mail.

    Attributes:
        path: the file.
        author: who wrote the patch; None if the file does not say.
        date: value of its ``Date:``; None without one.
        subject: one line, without ``[PATCH 1/2]``.
        message: the commit message below the subject, trailers included, without blank lines
            around it. Bytes, since a commit message may be in any encoding.
        rest: from ``---`` on to the end: diffstat and diff, byte for byte.
    """

    path: Path
    author: Identity | None
    date: str | None
    subject: str
    message: bytes
    rest: bytes


def read_patch_mail(path: Path) -> PatchMail:
    """Take a patch file apart.

    Raises:
        KdeltaError: it cannot be read, has no subject or no diff, or its body is encoded.
    """
    content = Patch.read(path).content
    head, body = _split_headers(content)
    headers = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head)
    subject = _one_line(headers.get("Subject"))
    # As git does, only the tags in front: a subject may hold brackets of its own.
    subject = re.sub(r"^(?:\s*(?:\[[^]]*\]|[Rr][Ee]:))+\s*", "", subject)
    if not subject:
        raise KdeltaError(
            f"{path}: no Subject: line, so that this patch cannot be mailed; write it with "
            "`git format-patch`, which takes subject and message from a commit"
        )
    encoding = _one_line(headers.get("Content-Transfer-Encoding")).lower()
    if encoding not in _PLAIN_ENCODINGS:
        raise KdeltaError(
            f"{path}: its body is encoded ({encoding}); give the patch as `git format-patch` "
            "writes it, in plain text"
        )
    end = _END_OF_MESSAGE.search(body)
    if end is None:
        raise KdeltaError(f"{path}: no diff in this file; write it with `git format-patch`")
    message, rest = body[: end.start()], body[end.start() :]
    author = _identity(_one_line(headers.get("From")))
    message = message.lstrip(b"\n")
    inside = _BODY_FROM.match(message)
    # Sent on by somebody else: the author stands in the body then, and `git am` takes that one.
    if inside is not None and (found := _identity(inside["who"].decode("utf-8", "replace"))):
        author, message = found, message[inside.end() :]
    date = _one_line(headers.get("Date")) or None
    return PatchMail(path, author, date, subject, message.strip(b"\n"), rest)


def _split_headers(content: bytes) -> tuple[bytes, bytes]:
    lines = content.split(b"\n")
    # The mbox line and blank lines may stand before the headers.
    start = 0
    while start < len(lines) and (not lines[start].strip() or lines[start].startswith(b"From ")):
        start += 1
    end = start
    while end < len(lines) and (
        _HEADER.match(lines[end]) or (end > start and lines[end][:1] in (b" ", b"\t"))
    ):
        end += 1
    return b"\n".join(lines[start:end]) + b"\n\n", b"\n".join(lines[end:])


def _one_line(value: object) -> str:
    """A header's value: decoded, unfolded; bytes that are in no known encoding are replaced."""
    if value is None:
        return ""
    parts = []
    for text, charset in email.header.decode_header(value):  # type: ignore[arg-type]
        if isinstance(text, str):
            parts.append(text)
        else:
            known = charset if charset not in (None, "unknown-8bit") else "utf-8"
            parts.append(text.decode(known or "utf-8", "replace"))
    return " ".join("".join(parts).split())


def _identity(text: str) -> Identity | None:
    name, address = parseaddr(text)
    return Identity(name or address, address) if "@" in address else None
