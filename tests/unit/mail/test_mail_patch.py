# SPDX-License-Identifier: GPL-2.0-only
"""A patch as it is mailed: whose it is, who signs it off, and that its diff stays as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.mail.identity import PLACEHOLDER, Identity
from kdelta.mail.patch_mail import PatchMail, read_patch_mail
from kdelta.mail.rewrite import render_patch, shortlog, sign_off
from kdelta.mail.settings import Mail

ME = Identity("Zoë Sender", "zoe@example.org")
MINE = f"Signed-off-by: {ME}".encode()
MAIL = Mail(variant="patched", prose="-", version=2)
DATE = datetime(2026, 5, 15, 11, 2, 3, tzinfo=UTC)
DIFF = b"""---
 a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/a.c b/a.c
--- a/a.c
+++ b/a.c
@@ -1 +1 @@
-int a;\r
+int \xe4; /* latin-1 */\r
--\x20
2.39.5
"""


def write(folder: Path, head: str, body: str, diff: bytes = DIFF) -> Path:
    path = folder / "0001-x.patch"
    path.write_bytes(f"{head}\n\n{body}".encode() + diff)
    return path


def rendered(patch: PatchMail) -> bytes:
    return render_patch(patch, ME, MAIL, 1, 2, DATE)


def head_of(mail: bytes) -> dict[str, str]:
    lines = mail.split(b"\n\n", 1)[0].decode().replace("\n ", " ").split("\n")[1:]
    return dict(line.split(": ", 1) for line in lines)


def message_of(mail: bytes) -> bytes:
    return mail.split(b"\n\n", 1)[1].split(b"\n---\n", 1)[0]


def test_our_own_patches_become_the_senders(tmp_path: Path) -> None:
    head = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {PLACEHOLDER}\n"
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH 1/2] fs/pipe: [RFC] do\n this"
    )
    path = write(tmp_path, head, f"Why.\n\nSigned-off-by: {PLACEHOLDER}\n")
    mail = rendered(read_patch_mail(path))
    assert mail.endswith(DIFF)
    assert b"kdelta" not in mail
    head = head_of(mail)
    assert head["Subject"] == "[PATCH v2 1/2] fs/pipe: [RFC] do this"
    assert head["Date"] == "Fri, 15 May 2026 11:02:03 +0000"
    assert message_of(mail) == b"Why.\n\n" + MINE


def test_another_authors_patch_stays_theirs(tmp_path: Path) -> None:
    head = "From: Ada Author <ada@example.org>\nDate: Tue, 2 Jan 2024 03:04:05 +0100\nSubject: x"
    sob = "Signed-off-by: Ada Author <ada@example.org>"
    mail = rendered(read_patch_mail(write(tmp_path, head, f"Why.\n\n{sob}\n")))
    assert head_of(mail)["From"].endswith("<zoe@example.org>")
    assert head_of(mail)["Date"] == "Tue, 2 Jan 2024 03:04:05 +0100"
    assert message_of(mail) == (
        f"From: Ada Author <ada@example.org>\n\nWhy.\n\n{sob}\n".encode() + MINE
    )


def test_an_author_in_the_body_is_the_author(tmp_path: Path) -> None:
    head = "From: Mel Maintainer <mel@example.org>\nSubject: x"
    body = "From: Ada Author <ada@example.org>\n\nWhy.\n"
    patch = read_patch_mail(write(tmp_path, head, body))
    assert patch.author == Identity("Ada Author", "ada@example.org")
    assert rendered(patch).count(b"From: Ada Author") == 1


def test_a_patch_that_names_nobody_is_the_senders(tmp_path: Path) -> None:
    mail = rendered(read_patch_mail(write(tmp_path, "Subject: [PATCH] x", "Why.\n")))
    assert message_of(mail) == b"Why.\n\n" + MINE


def test_a_message_of_nothing_but_the_subject(tmp_path: Path) -> None:
    assert message_of(rendered(read_patch_mail(write(tmp_path, "Subject: x", "")))) == MINE


def test_a_plain_diff_gets_the_line_that_ends_a_message(tmp_path: Path) -> None:
    diff = b"--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-a\n+b\n"
    mail = rendered(read_patch_mail(write(tmp_path, "Subject: x", "Why.\n", diff)))
    assert mail.endswith(MINE + b"\n---\n\n" + diff)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", MINE),
        (b"Why.", b"Why.\n\n" + MINE),
        (b"Why.\n\n" + MINE, b"Why.\n\n" + MINE),
        (b"Why.\n\nFixes: 1\n" + MINE + b"\nLink: x", b"Why.\n\nFixes: 1\n" + MINE + b"\nLink: x"),
        (b'Why.\n\nFixes: 12 ("x")', b'Why.\n\nFixes: 12 ("x")\n' + MINE),
        # A sign-off in prose is none.
        (MINE + b"\nwas missing.\n\nSo what.", MINE + b"\nwas missing.\n\nSo what.\n\n" + MINE),
        (b"A.\n\n---x\n\nB.", b"A.\n\n---x\n\nB.\n\n" + MINE),
    ],
)
def test_the_sign_off_is_there_once(before: bytes, after: bytes) -> None:
    assert sign_off("fs/pipe: x", before, ME) == after


@given(st.lists(st.sampled_from([b"Why.", b"Signed-off-by: A <a@b>", b"", MINE, b"# c", b"x: y"])))
def test_signing_off_twice_is_signing_off_once(lines: list[bytes]) -> None:
    once = sign_off("x", b"\n".join(lines).strip(b"\n"), ME)
    assert MINE in once
    assert sign_off("x", once, ME) == once


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"diff --git a/a b/a\n", "no Subject: line"),
        (b"From: A <a@b>\n\nWhy.\n" + DIFF, "no Subject: line.*git format-patch"),
        (b"Subject: x\n\nWhy.\n", "no diff in this file"),
        (b"Subject: x\nContent-Transfer-Encoding: base64\n\nV2h5\n" + DIFF, r"encoded \(base64\)"),
    ],
)
def test_what_cannot_be_mailed(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.patch"
    path.write_bytes(content)
    with pytest.raises(KdeltaError, match=said) as error:
        read_patch_mail(path)
    assert str(path) in str(error.value)


def test_the_shortlog_goes_by_author() -> None:
    def patch(author: Identity | None, subject: str) -> PatchMail:
        return PatchMail(Path(), author, None, subject, b"", b"")

    ada = Identity("Ada", "ada@example.org")
    text = shortlog([patch(None, "one"), patch(ada, "two"), patch(PLACEHOLDER, "three")], ME)
    assert text == "Ada (1):\n  two\n\nZoë Sender (2):\n  one\n  three\n"
