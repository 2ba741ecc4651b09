# SPDX-License-Identifier: GPL-2.0-only
"""Patch files read once, by git: what is built, reported and mailed comes from here.

A file is a mail or several (mbox), as `git am` takes them, or a plain diff, as `git apply`
takes it. `git am` finds the format and splits (`git mailsplit`), `git mailinfo` decodes,
`git apply --numstat` says which paths a diff names.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from kdelta.errors import KdeltaError
from kdelta.kernel.damage import damage, not_a_patch
from kdelta.kernel.isolated_git import git, run_git, said, scratch_repository
from kdelta.patch_files import COVER_TAG

_TAGS = re.compile(r"^(?:\s*(?:\[[^\]]*\]|[Rr][Ee]:))+\s*")
_VERSION = re.compile(r"\bv(\d+)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\b(\d+)/(\d+)\s*\]")
_COVER_NAME = re.compile(r"(?:v\d+-)?0000-.*|.*\.cover")
_VERSION_NAME = re.compile(r"v(\d+)[-_]")
# A mail whose first line is no header: saved with something before it.
_HEADERS = (re.compile(rb"^From: ", re.MULTILINE), re.compile(rb"^Subject: ", re.MULTILINE))
_DIFF = re.compile(rb"^(?:diff -|--- \S|Index: )", re.MULTILINE)


class Author(NamedTuple):
    """Who wrote a patch, as git knows a person."""

    name: str
    email: str

    def __str__(self) -> str:
        """As in a trailer of a commit: ``Name <mail>``, whatever the name is."""
        return f"{self.name} <{self.email}>"


# Author of this project's own patches, which stands for whoever mails them.
NOBODY = Author("kdelta authors", "kdelta@example.org")


@dataclass(frozen=True)
class Tag:
    """What a subject has in brackets: ``[PATCH v2 3/7]`` is version 2, number 3 of 7."""

    text: str
    version: int
    number: int | None
    total: int | None

    @classmethod
    def of(cls, subject: str, file: str = "") -> Tag:
        """The tag before a subject; of version 1 and without a number if nothing tells them.

        A version may stand in the file's name instead, as in ``v2-0001-x.patch``.
        """
        found = _TAGS.match(subject)
        text = " ".join(found[0].split()) if found else ""
        version = _VERSION.search(text) or _VERSION_NAME.match(file)
        number = _NUMBER.search(text)
        return cls(
            text,
            int(version[1]) if version else 1,
            int(number[1]) if number else None,
            int(number[2]) if number else None,
        )


@dataclass(frozen=True)
class Commit:
    """One patch: what becomes one commit.

    Attributes:
        subject: one line, without ``[PATCH 1/2]``; of a plain diff, the file's name.
        author: None of a plain diff, which has none.
        date: as its mail has it; empty without one.
        tag: what stood before the subject.
        diff: the patch proper, decoded, as git applies it.
        mail: the whole mail for `git am`; None of a plain diff, which is for `git apply`.
        paths: every path it reads or writes, relative to the kernel tree.
    """

    subject: str
    author: Author | None
    date: str
    tag: Tag
    diff: bytes
    mail: bytes | None
    paths: frozenset[str]


@dataclass(frozen=True)
class PatchFile:
    """A patch file.

    Attributes:
        path: the file.
        content: its bytes.
        commits: its patches in order; none in a cover letter.
        with_cr: the same, with the carriage returns at the ends of lines kept; None where there
            are none. `git am` drops them, and needs `--keep-cr` for files that have them.
        covers: subjects of the cover letters in it.
    """

    path: Path
    content: bytes
    commits: tuple[Commit, ...]
    with_cr: tuple[Commit, ...] | None = None
    covers: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the file, as `sha256sum` prints it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def forms(self) -> tuple[tuple[Commit, ...], ...]:
        """The ways to take it, in the order in which they are tried."""
        return (self.commits,) if self.with_cr is None else (self.commits, self.with_cr)

    @property
    def paths(self) -> frozenset[str]:
        """Every path that it may read or write."""
        return frozenset(path for form in self.forms for c in form for path in c.paths)


def read_content(path: Path) -> bytes:
    """The bytes of a patch file.

    Raises:
        KdeltaError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise KdeltaError(f"{path}: the patch cannot be read: {error.strerror}") from None


def read_patches(paths: Iterable[Path]) -> list[PatchFile]:
    """Read patch files, in the order in which they apply.

    Args:
        paths: from `patch_files`; cover letters among them are recognised.

    Raises:
        KdeltaError: a file cannot be read, is no patch or is damaged, or two versions of one
            series are among them; the message says which and what to do.
    """
    paths = list(paths)
    with scratch_repository() as repository:
        # Anything in the index that is not committed makes `git am` stop before it applies.
        git(["update-index", "--add", "--cacheinfo", f"100644,{_empty(repository)},x"], repository)
        files = [_read(path, read_content(path), repository) for path in paths]
    _refuse_mixed_versions(files)
    return files


def records(files: Sequence[PatchFile], names: Sequence[str]) -> list[dict[str, str]]:
    """What is recorded of patches: a dictionary for each commit, in order.

    Args:
        files: the patch files.
        names: what each is called there.
    """
    return [
        {
            "file": name,
            "sha256": file.sha256,
            "subject": commit.subject,
            "author": str(commit.author or ""),
        }
        for file, name in zip(files, names, strict=True)
        for commit in file.commits
    ]


def cover_letters(files: Sequence[PatchFile], names: Sequence[str]) -> list[dict[str, str]]:
    """What is recorded of cover letters: a dictionary each; arguments as for `records`."""
    return [
        {"file": name, "sha256": file.sha256, "subject": subject}
        for file, name in zip(files, names, strict=True)
        for subject in file.covers
    ]


def order_warning(files: Sequence[PatchFile]) -> str | None:
    """A sentence where numbers in subjects contradict the order that files have; else None."""
    last: tuple[int, Path] | None = None
    series: tuple[int, int | None] | None = None
    for file in files:
        for commit in file.commits:
            tag = commit.tag
            if tag.number is None:
                continue
            if last and series == (tag.version, tag.total) and tag.number < last[0]:
                return (
                    f"{last[1].name} comes before {file.path.name}, as their names have it, but "
                    f"their subjects number them {last[0]} and {tag.number}"
                )
            last, series = (tag.number, file.path), (tag.version, tag.total)
    return None


def mixed_versions(files: Sequence[PatchFile]) -> str | None:
    """The versions of a series that patches are of, with a file each, if there are several."""
    first: dict[int, str] = {}
    for file in files:
        for commit in file.commits:
            if commit.tag.number is not None or commit.tag.version > 1:
                first.setdefault(commit.tag.version, file.path.name)
    if len(first) < 2:
        return None
    return " and ".join(f"v{version} ({name} ...)" for version, name in sorted(first.items()))


def _refuse_mixed_versions(files: Sequence[PatchFile]) -> None:
    """Two patches of one subject and different versions are never meant to go together."""
    seen: dict[str, tuple[int, Path]] = {}
    for file in files:
        for commit in file.commits:
            version = commit.tag.version
            known = seen.setdefault(commit.subject, (version, file.path))
            if commit.mail is not None and known[0] != version:
                raise KdeltaError(
                    f"{known[1]} and {file.path}: versions v{known[0]} and v{version} of one "
                    f"series ({commit.subject!r} is in both); keep one version: move the other's "
                    "files away, or list the wanted files one by one"
                )


def _read(path: Path, content: bytes, repository: Path) -> PatchFile:
    refusal = not_a_patch(content)
    if refusal:
        raise KdeltaError(f"{path}: {refusal}")
    mails, why = _split(content, repository, keep_cr=False)
    parsed = [(mail, _info(mail, path.name, repository)) for mail in mails]
    nameless = len(parsed) == 1 and bool(parsed[0][1].subject) and not parsed[0][1].author
    if nameless:
        # A subject and nobody's name: whoever mails it is its author, as with our own patches.
        mail = _with_author(mails[0])
        parsed = [(mail, _info(mail, path.name, repository))]
    if parsed and (len(parsed) > 1 or parsed[0][1].author or parsed[0][1].error):
        commits, covers, problem = _commits(path, parsed, repository)
        with_cr = None
        if b"\r\n" in content:
            kept, _ = _split(content, repository, keep_cr=True)
            kept = [_with_author(mail) for mail in kept] if nameless else kept
            again = [(mail, _info(mail, path.name, repository)) for mail in kept]
            with_cr, _, _ = _commits(path, again, repository)
        if commits is None:
            commits = with_cr
        if commits is None:
            raise KdeltaError(f"{path}: {problem}")
        if nameless:
            commits = tuple(replace(commit, author=None) for commit in commits)
        return PatchFile(path, content, commits, with_cr, covers)
    head = content[: found.start()] if (found := _DIFF.search(content)) else content
    if not mails and all(header.search(head) for header in _HEADERS):
        raise KdeltaError(
            f"{path}: git am says: {why}. This is a mail that something stands before, so that "
            "its first line is no header; save the mail as it was sent (raw), or delete what "
            "comes before its headers"
        )
    return PatchFile(path, content, (_plain(path, content, mails, repository),))


@dataclass(frozen=True)
class _Info:
    subject: str
    author: Author | None
    date: str
    tag: Tag
    diff: bytes
    error: str = ""


def _split(content: bytes, repository: Path, *, keep_cr: bool) -> tuple[list[bytes], str]:
    """The mails in a file, as `git am` finds them, and why it finds none."""
    state = repository / ".git" / "rebase-apply"
    shutil.rmtree(state, ignore_errors=True)
    incoming = repository / ".git" / "kdelta-incoming"
    incoming.write_bytes(content)
    done = run_git(
        ["am", "--quiet", "--keep-cr" if keep_cr else "--no-keep-cr", str(incoming)], repository
    )
    if not (state / "last").is_file():
        return [], said(done)
    last = int((state / "last").read_text())
    return [(state / f"{number:04d}").read_bytes() for number in range(1, last + 1)], ""


def _with_author(mail: bytes) -> bytes:
    first, newline, rest = mail.partition(b"\n")
    head, tail = (first + newline, rest) if first.startswith(b"From ") else (b"", mail)
    return head + f"From: {NOBODY}\n".encode() + tail


def _info(mail: bytes, file: str, repository: Path) -> _Info:
    """What `git mailinfo` makes of a mail; the file's name may tell its version."""
    message, patch = repository / ".git" / "message", repository / ".git" / "patch"
    subjects = []
    # -k keeps the subject's tag; what is left without it is told by git as well.
    for keep in (["-k"], []):
        done = run_git(["mailinfo", *keep, str(message), str(patch)], repository, stdin=mail)
        if done.returncode != 0:
            return _Info("", None, "", Tag.of(""), b"", said(done) or "the mail cannot be parsed")
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        subjects.append(" ".join(fields.get("Subject", "").split()))
    tagged, subject = subjects
    # As git takes whoever has an address only.
    name, address = fields.get("Author", ""), fields.get("Email", "")
    author = Author(name or address, address) if address else None
    diff = patch.read_bytes() if patch.is_file() else b""
    return _Info(subject, author, fields.get("Date", ""), Tag.of(tagged, file), diff)


def _is_cover(info: _Info, path: Path, repository: Path) -> bool:
    numbered = COVER_TAG.match(info.tag.text) or _COVER_NAME.fullmatch(path.name)
    return bool(numbered) and not _paths(info.diff, repository)[0]


def _commits(
    path: Path, mails: Sequence[tuple[bytes, _Info]], repository: Path
) -> tuple[tuple[Commit, ...] | None, tuple[str, ...], str]:
    """The patches in mails, the subjects of the cover letters among them, and no problem.

    Without patches (None), the problem is why one of the mails is none.
    """
    commits, covers = [], []
    for number, (mail, info) in enumerate(mails, start=1):
        if _is_cover(info, path, repository):
            covers.append(info.subject)
            continue
        paths, error = _paths(info.diff, repository)
        if not paths:
            where = f"mail {number} of {len(mails)} ({info.subject!r}): " if len(mails) > 1 else ""
            problem = f"git am says: {info.error}" if info.error else damage(info.diff, error)
            return None, (), where + problem
        subject = info.subject or path.name
        commits.append(Commit(subject, info.author, info.date, info.tag, info.diff, mail, paths))
    return tuple(commits), tuple(covers), ""


def _plain(path: Path, content: bytes, mails: Sequence[bytes], repository: Path) -> Commit:
    """A diff that is no mail, or a mail that names no author: for `git apply`."""
    paths, error = _paths(content, repository)
    if not paths:
        raise KdeltaError(f"{path}: {damage(content, error)}")
    told = _info(mails[0], path.name, repository).subject if mails else ""
    return Commit(told or path.name, None, "", Tag.of(""), content, None, paths)


def _paths(diff: bytes, repository: Path) -> tuple[frozenset[str], str]:
    """The paths that a diff names, and what git says where it names none or is damaged."""
    if not diff.strip():
        return frozenset(), ""
    found: set[str] = set()
    # Forwards git tells the new name of a file, backwards the old one.
    for direction in ((), ("-R",)):
        done = run_git(["apply", *direction, "--numstat", "-z", "-"], repository, stdin=diff)
        if done.returncode != 0:
            return frozenset(), said(done)
        for record in done.stdout.split(b"\0"):
            if record:
                found.add(os.fsdecode(record.split(b"\t", 2)[2]))
    return frozenset(found), ""


def _empty(repository: Path) -> str:
    return git(["hash-object", "-w", "--stdin"], repository).decode().strip()
