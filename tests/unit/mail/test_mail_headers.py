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

from kdelta.errors import KdeltaError
from kdelta.kernel.patches import NOBODY, Author, read_patches
from kdelta.kernel.source import SourceTree
from kdelta.mail.series import SeriesMaker
from kdelta.mail.settings import Mail
from kdelta.mail.trees import TreeStore

ME = Author("Zoë Sender", "zoe@example.org")
MINE = f"Signed-off-by: {ME}".encode()
DATE = datetime(2026, 5, 15, 11, 2, 3, tzinfo=UTC)
NASTY = "<script>alert(1)</script> & 100% _x_ =?utf-8?q?no?= µs × “q” Erdős 你好"
DIFF = b"---\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-a\n+b\n--\x20\n2.39\n"
DESCRIBE = {"type": "git", "url": "u", "kernel_version": "6.12.1", "commit": None}


class Series:
    """One patch to `a.c`, mailed."""

    def __init__(self, folder: Path, content: bytes, mail: Mail, title: str, body: str) -> None:
        tree = folder / "tree"
        tree.mkdir(parents=True, exist_ok=True)
        (tree / "a.c").write_bytes(b"a\r\n" if b"\r\n" in content else b"a\n")
        file = folder / "0001-x.patch"
        file.write_bytes(content)
        store = TreeStore(SourceTree("5eed", tree, DESCRIBE), folder / "cache")
        maker = SeriesMaker(title, body, mail, ME, DATE, read_patches([file]), store)
        self.files = maker.write(folder / "mails").mails

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


def series(folder: Path, head: str, body: str, title: str = "t", text: str = "Hi.") -> Series:
    mail = Mail(arm="patched", prose="-", version=2, to=("l@example.org",))
    return Series(folder, f"{head}\n\n{body}".encode() + DIFF, mail, title, text)


def test_our_own_patches_become_the_senders(tmp_path: Path) -> None:
    head = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {NOBODY}\n"
        "Date: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH 1/2] fs/pipe: [RFC] do\n this"
    )
    made = series(tmp_path, head, f"Why.\n\nSigned-off-by: {NOBODY}\n")
    assert [file.name for file in made.files] == [
        "v2-0000-cover-letter.patch",
        "v2-0001-fs-pipe-RFC-do-this.patch",
    ]
    _, mail = made.mails
    assert mail["Subject"] == "[PATCH v2 1/1] fs/pipe: [RFC] do this"
    assert mail["Date"] == "Fri, 15 May 2026 11:02:04 +0000"
    assert made.message == b"Why.\n\n" + MINE
    assert b"kdelta@" not in made.files[1].read_bytes()
    cover = made.files[0].read_text()
    assert "\n\nHi.\n\nZoë Sender (1):\n  fs/pipe: [RFC] do this\n\n a.c | 2 +-\n" in cover


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
    bad = content + DIFF.removeprefix(b"---\n\n")
    with pytest.raises(KdeltaError, match=r"0001-x\.patch: no Subject: .*git format-patch"):
        Series(tmp_path, bad, Mail(arm="patched", prose="-"), "t", "Hi.")
    assert not (tmp_path / "mails").exists()


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
    text = "Hi.\n\n-- \nFrom me: not cut\n-- \n*** BLURB HERE ***"
    made = series(tmp_path, "From: A <a@b>\nSubject: x", "Why.\n", title, text)
    cover, _ = made.mails
    assert cover["Subject"] == f"[PATCH v2 0/1] {title}"
    assert cover["From"].addresses[0].display_name == "Zoë Sender"
    assert not cover.defects
    assert f"\n\n{text}\n\nA (1):\n" in made.files[0].read_text()
    headers = made.files[0].read_bytes().split(b"\n\n", 1)[0]
    assert headers.isascii()
    assert all(len(line) <= 78 for line in headers.split(b"\n"))


def test_a_body_beyond_ascii_is_declared(tmp_path: Path) -> None:
    made = series(tmp_path, "From: A <a@b>\nSubject: x", "Why.\n", "plain", "µs")
    assert made.mails[0].get_content().startswith("µs\n\nA (1):\n")


@pytest.mark.parametrize("head", [b"From: A <a@b>\nSubject: x", b"Subject: [PATCH] x"])
def test_lines_that_end_as_windows_has_them(tmp_path: Path, head: bytes) -> None:
    content = head + b"\n\nWhy.\n" + DIFF.replace(b"a\n+b\n", b"a\r\n+b\r\n")
    made = Series(tmp_path, content, Mail(arm="patched", prose="-"), "t", "Hi.")
    assert b"\n-a\r\n+b\r\n" in made.files[1].read_bytes()


def test_letters_of_another_encoding(tmp_path: Path) -> None:
    """Latin-1 is told from UTF-8 by a mail's own headers, or goes through as it is."""
    declared = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=ISO-8859-1\n"
    for number, more in enumerate((declared, b"")):
        content = b"From: A <a@b>\nSubject: x\n" + more + b"\nGr\xf6\xdfe.\n" + DIFF
        mail = Mail(arm="patched", prose="-")
        made = Series(tmp_path / str(number), content, mail, "t", "Hi.")
        assert "Größe." in made.message.decode()


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
def test_names_in_addresses_are_encoded(tmp_path: Path, address: str) -> None:
    mail = Mail(arm="patched", prose="-", cc=(address, "other@example.org"))
    made = Series(tmp_path, b"From: A <a@b>\nSubject: x\n\nWhy.\n" + DIFF, mail, "t", "Hi.")
    name, mailbox = parseaddr(address)
    for file in made.files:
        raw = email.message_from_bytes(file.read_bytes().split(b"\n", 1)[1])["Cc"]
        # Not by email.policy.default, which keeps the blanks between encoded words.
        first, second = (str(make_header(decode_header(one))) for one in raw.split(",\n"))
        assert first.replace('"', "").strip() == (f"{name} <{mailbox}>" if name else mailbox)
        assert second.strip() == "other@example.org"
    for file in made.files:
        assert file.read_bytes().split(b"\n\n", 1)[0].isascii()


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
    content = b"From: A <a@b>\nSubject: x\n\n" + before + b"\n" + DIFF
    mail = Mail(arm="patched", prose="-")
    made = Series(tmp_path, content, mail, "t", "Hi.")
    assert made.message.removeprefix(b"From: A <a@b>\n\n") == after
    # Of a series that is mailed again, too.
    again = Series(tmp_path / "again", made.files[1].read_bytes(), mail, "t", "Hi.")
    assert again.message == made.message


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
