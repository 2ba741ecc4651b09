# SPDX-License-Identifier: GPL-2.0-only
"""The mails of a series: whose they are, who signs them off, and that any text survives."""

from __future__ import annotations

import email
import email.policy
import subprocess
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.kernel.patches import read_patches
from kdelta.kernel.patching import stage
from kdelta.mail.format_patch import (
    commits_to_mail,
    diffstat,
    shortlog,
    sign_commits,
    sign_off,
    write_mails,
)
from kdelta.mail.identity import PLACEHOLDER, Identity
from kdelta.mail.settings import Mail

ME = Identity("Zoë Sender", "zoe@example.org")
MINE = f"Signed-off-by: {ME}".encode()
DATE = datetime(2026, 5, 15, 11, 2, 3, tzinfo=UTC)
NASTY = "<script>alert(1)</script> & 100% _x_ =?utf-8?q?no?= µs × “q” Erdős 你好"
DIFF = b"---\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-a\n+b\n--\x20\n2.39\n"


class Series:
    """One patch to `a.c`, mailed."""

    def __init__(self, folder: Path, content: bytes, mail: Mail, title: str, body: str) -> None:
        tree = folder / "tree"
        tree.mkdir(parents=True)
        (tree / "a.c").write_text("a\n")
        file = folder / "0001-x.patch"
        file.write_bytes(content)
        files = read_patches([file])
        staged = stage(tree, folder / "staging", files, "patched", "Linux")
        tip = sign_commits(staged, commits_to_mail(files), ME, DATE)
        self.shortlog = shortlog(staged.repository, staged.base, tip)
        self.diffstat = diffstat(staged.repository, staged.base, tip)
        out = folder / "mails"
        out.mkdir()
        write_mails(staged, tip, out, mail, ME, DATE, title, body)
        self.files = sorted(out.iterdir())

    @property
    def mails(self) -> list[EmailMessage]:
        """The cover letter and the patch, as a mail program reads them."""
        parsed = [
            email.message_from_bytes(p.read_bytes().split(b"\n", 1)[1], policy=email.policy.default)
            for p in self.files
        ]
        return [mail for mail in parsed if isinstance(mail, EmailMessage)]

    @property
    def message(self) -> bytes:
        """The commit message in the patch's mail."""
        return self.files[1].read_bytes().split(b"\n\n", 1)[1].split(b"\n---\n", 1)[0]


def series(folder: Path, head: str, body: str, title: str = "t", text: str = "Hi.\n") -> Series:
    mail = Mail(arm="patched", prose="-", version=2, to=("l@example.org",))
    return Series(folder, f"{head}\n\n{body}".encode() + DIFF, mail, title, text)


def test_our_own_patches_become_the_senders(tmp_path: Path) -> None:
    head = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {PLACEHOLDER}\n"
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH 1/2] fs/pipe: [RFC] do\n this"
    )
    made = series(tmp_path, head, f"Why.\n\nSigned-off-by: {PLACEHOLDER}\n")
    assert [file.name for file in made.files] == [
        "v2-0000-cover-letter.patch",
        "v2-0001-fs-pipe-RFC-do-this.patch",
    ]
    _, mail = made.mails
    assert mail["Subject"] == "[PATCH v2 1/1] fs/pipe: [RFC] do this"
    assert mail["Date"] == "Fri, 15 May 2026 11:02:04 +0000"
    assert made.message == b"Why.\n\n" + MINE
    assert b"kdelta@" not in made.files[1].read_bytes()
    assert made.shortlog == "Zoë Sender (1):\n  fs/pipe: [RFC] do this\n"
    assert made.diffstat.startswith(" a.c | 2 +-\n")


def test_another_authors_patch_stays_theirs(tmp_path: Path) -> None:
    head = "From: Ada Author <ada@example.org>\nDate: Tue, 2 Jan 2024 03:04:05 +0100\nSubject: x"
    sob = "Signed-off-by: Ada Author <ada@example.org>"
    made = series(tmp_path, head, f"Why.\n\n{sob}\n")
    _, mail = made.mails
    assert mail["From"].addresses[0].addr_spec == "zoe@example.org"
    assert mail["Date"] == "Tue, 02 Jan 2024 03:04:05 +0100"
    expected = f"From: Ada Author <ada@example.org>\n\nWhy.\n\n{sob}\n".encode() + MINE
    assert made.message == expected


def test_a_patch_that_names_nobody_is_the_senders(tmp_path: Path) -> None:
    made = series(tmp_path, "Subject: [PATCH] x", "Why.\n")
    assert made.message == b"Why.\n\n" + MINE


def test_a_message_of_nothing_but_the_subject(tmp_path: Path) -> None:
    assert series(tmp_path, "Subject: x", "").message == MINE


@pytest.mark.parametrize("content", [b"", b"From: A <a@b>\n\nWhy.\n---\n"])
def test_what_cannot_be_mailed(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.patch"
    file.write_bytes(content + DIFF.removeprefix(b"---\n\n"))
    with pytest.raises(KdeltaError, match=r"bad\.patch: no Subject: .*git format-patch"):
        commits_to_mail(read_patches([file]))


@pytest.mark.parametrize(
    "title",
    [
        "fs/pipe: plain",
        NASTY,
        "fs/pipe: " + "a rather long subject that has to be folded, " * 4 + "end",
        "fs/pipe: " + "Größe " * 30 + "end",
    ],
)
def test_any_title_is_one_header(tmp_path: Path, title: str) -> None:
    text = "Hi.\n\n-- \nnot cut  \n"
    made = series(tmp_path, "From: A <a@b>\nSubject: x", "Why.\n", title, text)
    cover, _ = made.mails
    assert cover["Subject"] == f"[PATCH v2 0/1] {title}"
    assert cover["From"].addresses[0].display_name == "Zoë Sender"
    assert not cover.defects
    assert made.files[0].read_bytes().endswith(b"\n\n" + text.encode())
    headers = made.files[0].read_bytes().split(b"\n\n", 1)[0]
    assert headers.isascii()
    assert all(len(line) <= 78 for line in headers.split(b"\n"))


def test_a_body_beyond_ascii_is_declared(tmp_path: Path) -> None:
    made = series(tmp_path, "From: A <a@b>\nSubject: x", "Why.\n", "plain", "µs\n")
    assert made.mails[0].get_content() == "µs\n"


@pytest.mark.parametrize(
    "address",
    [
        "list@example.org",
        "Ada Author <ada@example.org>",
        '"Author, Ada" <ada@example.org>',
        "Jörg Beispiel <joerg@example.org>",
        '"Beispiel, Jörg" <joerg@example.org>',
        f"{'Größe ' * 12}<long@example.org>",
    ],
)
def test_names_in_addresses_are_encoded_as_git_does(tmp_path: Path, address: str) -> None:
    mail = Mail(arm="patched", prose="-", cc=(address, "other@example.org"))
    made = Series(tmp_path, b"From: A <a@b>\nSubject: x\n\nWhy.\n" + DIFF, mail, "t", "Hi.\n")
    name, mailbox = parseaddr(address)
    for file in made.files:
        raw = email.message_from_bytes(file.read_bytes().split(b"\n", 1)[1])["Cc"]
        # Not by email.policy.default, which keeps the blanks between encoded words.
        first, second = (str(make_header(decode_header(one))) for one in raw.split(",\n"))
        assert first.replace('"', "").strip() == (f"{name} <{mailbox}>" if name else mailbox)
        assert second.strip() == "other@example.org"
    for file in made.files:
        assert file.read_bytes().split(b"\n\n", 1)[0].isascii()
    # git itself writes this name so.
    if address.startswith("Jörg"):
        assert b"Cc: =?UTF-8?q?J=C3=B6rg=20Beispiel?= <joerg@" in made.files[1].read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Why.", b"Why.\n\n" + MINE),
        (b"Why.\n\n" + MINE, b"Why.\n\n" + MINE),
        (b"Why.\n\nFixes: 1\n" + MINE + b"\nLink: x", b"Why.\n\nFixes: 1\n" + MINE + b"\nLink: x"),
        (b'Why.\n\nFixes: 12 ("x")', b'Why.\n\nFixes: 12 ("x")\n' + MINE),
        # A sign-off in prose is none.
        (MINE + b"\nwas missing.\n\nSo what.", MINE + b"\nwas missing.\n\nSo what.\n\n" + MINE),
        (b"A.\n\n---x\n\nB.", b"A.\n\n---x\n\nB.\n\n" + MINE),
    ],
)
def test_the_sign_off_is_there_once(tmp_path: Path, before: bytes, after: bytes) -> None:
    assert sign_off(b"x\n\n" + before, ME, tmp_path) == b"x\n\n" + after + b"\n"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([b"Why.", b"Signed-off-by: A <a@b>", b"", MINE, b"# c", b"x: y"])))
def test_signing_off_twice_is_signing_off_once(tmp_path: Path, lines: list[bytes]) -> None:
    once = sign_off(b"\n".join([b"x", b"", *lines]).strip(b"\n"), ME, tmp_path)
    assert MINE in once
    assert sign_off(once, ME, tmp_path) == once


def test_git_reads_what_was_written(tmp_path: Path) -> None:
    made = series(tmp_path, "From: A <a@b>\nSubject: x", "Why.\n", NASTY)
    done = subprocess.run(
        ["git", "mailinfo", str(tmp_path / "msg"), str(tmp_path / "patch")],
        input=made.files[0].read_bytes(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    assert f"Subject: {NASTY}\n" in done.stdout.decode()
