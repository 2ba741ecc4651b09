# SPDX-License-Identifier: GPL-2.0-only
"""A patch as it is mailed: the sender's, with sign-off and number; the diff untouched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from datetime import datetime

from kdelta.errors import KdeltaError
from kdelta.kernel.process import clean_environment
from kdelta.mail.headers import message_headers, mime_headers, subject_line
from kdelta.mail.identity import PLACEHOLDER, Identity
from kdelta.mail.patch_mail import PatchMail
from kdelta.mail.settings import Mail

_SIGN_OFF = "Signed-off-by"


def author_of(patch: PatchMail, sender: Identity) -> Identity:
    """Who a patch is by once it is mailed: its author, or the sender where it names nobody."""
    if patch.author is None or patch.author == PLACEHOLDER:
        return sender
    return patch.author


def sign_off(subject: str, message: bytes, sender: Identity) -> bytes:
    """A commit message with the sender's sign-off in it, once.

    A sign-off of the placeholder author becomes the sender's; others stay.

    Args:
        subject: of the commit.
        message: what stands below it.
        sender: whose sign-off it is.

    Raises:
        KdeltaError: git is not installed or does not take the message.
    """
    message = message.replace(f"{_SIGN_OFF}: {PLACEHOLDER}\n".encode(), b"")
    message = message.removesuffix(f"{_SIGN_OFF}: {PLACEHOLDER}".encode()).rstrip(b"\n")
    first = subject.encode() + b"\n\n"
    # git knows what a block of trailers is, and what is only a paragraph that looks like one.
    done = subprocess.run(
        [
            *("git", "interpret-trailers", "--no-divider", "--if-exists", "addIfDifferent"),
            *("--where", "end", "--trailer", f"{_SIGN_OFF}: {sender}"),
        ],
        input=first + message + b"\n",
        env=clean_environment({"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}),
        cwd="/",  # no repository, whose settings could count
        capture_output=True,
        check=False,
    )
    if done.returncode != 0 or not done.stdout.startswith(first):
        said = done.stderr.decode("utf-8", "replace").strip()
        raise KdeltaError(f"{subject}: git cannot add a sign-off to the message: {said}")
    return done.stdout[len(first) :].strip(b"\n")


def render_patch(
    patch: PatchMail, sender: Identity, mail: Mail, number: int, total: int, date: datetime
) -> bytes:
    """The mail of one patch.

    Args:
        patch: the patch.
        sender: who mails it, and who it is by if it names no author.
        mail: prefix, version, addresses.
        number: of the patch in the series, from 1.
        total: number of patches.
        date: for a patch without an author of its own; others keep theirs.
    """
    author = author_of(patch, sender)
    own = patch.author is None or patch.author == PLACEHOLDER or patch.date is None
    body = b""
    if author != sender:
        body += f"From: {author}\n\n".encode()
    body += sign_off(patch.subject, patch.message, sender) + b"\n" + _separated(patch.rest)
    headers = message_headers(
        sender.header,
        date if own else str(patch.date),
        subject_line(mail.prefix, mail.version, number, total, patch.subject),
        mail.to,
        mail.cc,
    )
    return (headers + mime_headers(body) + "\n").encode() + body


def _separated(rest: bytes) -> bytes:
    """The part below the message, with the ``---`` that ends a message for git."""
    divided = rest.startswith(b"---") and rest.split(b"\n", 1)[0].strip() == b"---"
    return rest if divided else b"---\n\n" + rest


def shortlog(patches: Sequence[PatchMail], sender: Identity) -> str:
    """Subjects by author, authors by name, as `git shortlog` lists them under a cover letter."""
    by_author: dict[str, list[str]] = {}
    for patch in patches:
        by_author.setdefault(author_of(patch, sender).name, []).append(patch.subject)
    return "\n".join(
        "\n".join([f"{name} ({len(subjects)}):", *(f"  {subject}" for subject in subjects), ""])
        for name, subjects in sorted(by_author.items())
    )
