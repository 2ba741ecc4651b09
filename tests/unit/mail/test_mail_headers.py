# SPDX-License-Identifier: GPL-2.0-only
"""Headers: any text survives, nothing gets in that was not meant to; git is the judge."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.mail.headers import address, file_name, message_headers, mime_headers, subject_line
from kdelta.mail.identity import git_identity, identity_or_nobody

NASTY = "<script>alert(1)</script> & 100% _x_ =?utf-8?q?no?= µs × “q” Erdős 你好"
DATE = datetime(2026, 5, 15, 11, 2, 3, tzinfo=UTC)


def mailinfo(folder: Path, subject: str) -> tuple[str, str]:
    """Author and subject as `git am` reads them."""
    mail = message_headers(address("Zoë O. Q. Public", "z@example.org"), DATE, subject)
    done = subprocess.run(
        ["git", "mailinfo", str(folder / "msg"), str(folder / "patch")],
        input=f"{mail}\nWhy.\n---\n".encode(),
        capture_output=True,
        check=True,
        cwd=folder,
    )
    fields = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines() if line)
    return fields["Author"], fields["Subject"]


@pytest.mark.parametrize(
    "subject",
    [
        "fs/pipe: plain",
        NASTY,
        "fs/pipe: " + "a rather long subject that has to be folded, " * 4 + "end",
        "fs/pipe: " + "Größe " * 30 + "end",
    ],
)
def test_git_reads_the_subject_that_was_written(tmp_path: Path, subject: str) -> None:
    line = subject_line("PATCH", 2, 3, 12, subject)
    assert all(len(part) <= 78 and part.isascii() for part in line.split("\n"))
    assert mailinfo(tmp_path, line) == ("Zoë O. Q. Public", subject)


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=200))
def test_any_subject_is_one_header(text: str) -> None:
    headers = message_headers("A <a@b>", DATE, subject_line("PATCH", 1, 0, 2, text))
    message = message_from_bytes(f"{headers}\nbody\n".encode(), policy=policy.default)
    assert message.keys() == ["From", "Date", "Subject"]
    assert str(message["Subject"]).split() == ["[PATCH", "0/2]", *text.split()]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\v", "\x85", "\u2028"])
def test_a_line_end_starts_no_new_header(line_end: str) -> None:
    headers = message_headers(
        "A <a@b>", DATE, subject_line("PATCH", 1, 0, 2, f"one{line_end}Bcc: x@example.org")
    )
    message = message_from_bytes(f"{headers}\nbody\n".encode(), policy=policy.default)
    assert message.keys() == ["From", "Date", "Subject"]
    assert message["Subject"] == "[PATCH 0/2] one Bcc: x@example.org"


@pytest.mark.parametrize(
    ("version", "number", "total", "tag"),
    [
        (1, 0, 2, "[PATCH 0/2]"),
        (1, 1, 1, "[PATCH 1/1]"),
        (3, 2, 2, "[PATCH v3 2/2]"),
        (1, 3, 12, "[PATCH 03/12]"),
    ],
)
def test_numbers_as_git_writes_them(version: int, number: int, total: int, tag: str) -> None:
    assert subject_line("PATCH", version, number, total, "x") == f"Subject: {tag} x"


def test_to_and_cc() -> None:
    cc = ["B <b@example.org>", "list@example.org"]
    text = message_headers("A <a@b>", DATE, "Subject: x", ["c@example.org"], cc)
    message = message_from_bytes(f"{text}\n".encode(), policy=policy.default)
    assert [a.addr_spec for a in message["Cc"].addresses] == ["b@example.org", "list@example.org"]
    assert [a.addr_spec for a in message["To"].addresses] == ["c@example.org"]
    assert message["Date"].datetime == DATE


def test_a_body_beyond_ascii_is_declared() -> None:
    assert mime_headers(b"plain") == ""
    assert "charset=UTF-8" in mime_headers("µs".encode())


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("fs/pipe: do this, not that", "0001-fs-pipe-do-this-not-that.patch"),
        ("../../etc/passwd", "0001-etc-passwd.patch"),
        ("你好", "0001-patch.patch"),
        ("x" * 100, f"0001-{'x' * 52}.patch"),
        (NASTY, "0001-script-alert-1-script-100-_x_-utf-8-q-no-s-q-Erd-s.patch"),
    ],
)
def test_file_names(subject: str, name: str) -> None:
    assert file_name("", 1, subject) == name
    assert file_name("v2-", 1, subject) == f"v2-{name}"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only settings of git."""
    file = tmp_path / "gitconfig"
    file.write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return file


def test_the_identity(config: Path, tmp_path: Path) -> None:
    config.write_text('[user]\n\tname = "Zoë  O. Public"\n\temail = z@example.org\n')
    found = git_identity(tmp_path)
    assert str(found) == "Zoë O. Public <z@example.org>"
    assert found.header.isascii()
    assert identity_or_nobody(tmp_path) == str(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'git config --global user.name "Your Name" && git config --global user.email'),
        ("[user]\n\tname = A\n", "user.email not set.*Set it: git config --global user.email"),
        ("[user]\n\temail = a@b\n", "user.name not set.*Set it: git config --global user.name"),
        ("[user]\n\tname = A\n\temail = nowhere\n", "'nowhere', which is no mail address"),
        ("[user]\n\tname = A\n\temail = ü@example.org\n", "no mail address"),
    ],
)
def test_an_identity_that_is_none(config: Path, tmp_path: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(KdeltaError, match=said):
        git_identity(tmp_path)
    assert identity_or_nobody(tmp_path) == ""
