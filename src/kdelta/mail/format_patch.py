# SPDX-License-Identifier: GPL-2.0-only
"""The mails, written by `git format-patch` from commits that carry the sender's sign-off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import parseaddr
from pathlib import Path

from kdelta import __version__
from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import git, run_git, said
from kdelta.kernel.patches import Commit, PatchFile
from kdelta.kernel.patching import Staged
from kdelta.mail.identity import PLACEHOLDER, Identity
from kdelta.mail.settings import Mail

COVER = "0000-cover-letter.patch"
_SIGN_OFF = "Signed-off-by"


def commits_to_mail(files: Sequence[PatchFile]) -> list[Commit]:
    """The patches of a series.

    Raises:
        KdeltaError: one of them has no subject, so that it can be no mail.
    """
    for file in files:
        for commit in file.commits:
            if commit.mail is None or commit.subject == file.path.name:
                raise KdeltaError(
                    f"{file.path}: no Subject: and From: line, so that this patch cannot be "
                    "mailed; write it with `git format-patch`, which takes subject and message "
                    "from a commit"
                )
    return [commit for file in files for commit in file.commits]


def sign_commits(
    staged: Staged, commits: Sequence[Commit], sender: Identity, date: datetime
) -> str:
    """Make the staged commits anew as the sender mails them.

    The placeholder author becomes the sender; everyone else stays the author of a patch, with
    its date. The sender's sign-off comes last in each message.

    Args:
        staged: the patches, applied.
        commits: the same, as they were read.
        sender: who mails them.
        date: of the first mail; patches without a date of their own get a second more each, so
            that mail readers keep them in order.

    Returns:
        The last commit, in the staged repository.
    """
    parent = staged.base
    for number, (commit, made) in enumerate(zip(commits, staged.commits, strict=True), start=1):
        form = "%T%n%an%n%ae%n%ad%n%B"
        shown = git(["log", "-1", "--date=raw", f"--format={form}", made], staged.repository)
        tree, name, email, written, message = shown.split(b"\n", 4)
        author = Identity(name.decode("utf-8", "replace"), email.decode("utf-8", "replace"))
        when = written.decode()
        if author == PLACEHOLDER or not commit.date:
            when = _raw(date + timedelta(seconds=number))
        if author == PLACEHOLDER:
            author = sender
        arguments = ["commit-tree", tree.decode(), "-p", parent, "-F", "-"]
        who = _identity("AUTHOR", author, when) | _identity("COMMITTER", sender, _raw(date))
        signed = sign_off(message.strip(b"\n"), sender, staged.repository)
        parent = git(arguments, staged.repository, who, signed).decode().strip()
    return parent


def sign_off(message: bytes, sender: Identity, folder: Path) -> bytes:
    """A commit message with the sender's sign-off in it, once.

    A sign-off of the placeholder author becomes the sender's; others stay.

    Args:
        message: subject and body.
        sender: whose sign-off it is.
        folder: to run git in.

    Raises:
        KdeltaError: git is not installed or does not take the message.
    """
    placeholder = f"{_SIGN_OFF}: {PLACEHOLDER}".encode()
    lines = [line for line in message.split(b"\n") if line != placeholder]
    # git knows what a block of trailers is, and what is only a paragraph that looks like one.
    arguments = [
        *("interpret-trailers", "--no-divider", "--if-exists", "addIfDifferent"),
        *("--where", "end", "--trailer", f"{_SIGN_OFF}: {sender}"),
    ]
    done = run_git(arguments, folder, stdin=b"\n".join(lines).rstrip(b"\n") + b"\n")
    if done.returncode != 0:
        subject = message.split(b"\n", 1)[0].decode("utf-8", "replace")
        raise KdeltaError(f"{subject}: git cannot add a sign-off to the message: {said(done)}")
    return done.stdout


def shortlog(repository: Path, base: str, tip: str) -> str:
    """Subjects by author, as git lists them under a cover letter."""
    return _text(["shortlog", "-w72,2,4", f"{base}..{tip}"], repository).rstrip("\n") + "\n"


def diffstat(repository: Path, base: str, tip: str) -> str:
    """Of the whole series, with created and deleted files, as under a cover letter."""
    return _text(["diff", "--stat=72", "--summary", "-M", base, tip], repository).rstrip("\n")


def write_mails(
    staged: Staged,
    tip: str,
    folder: Path,
    mail: Mail,
    sender: Identity,
    date: datetime,
    title: str,
    body: str,
) -> None:
    """Write a series as `git format-patch --cover-letter` does, with a letter of our own.

    Args:
        staged: holds the base of the series.
        tip: its last commit, from `sign_commits`.
        folder: gets the mails.
        mail: prefix, version, addresses.
        sender: who mails it.
        date: of the cover letter.
        title: its subject.
        body: its body.
    """
    repository = staged.repository
    # As a commit without changes before all others, the letter is numbered, formatted and
    # encoded as they are: git writes the headers of its own cover letters unencoded.
    who = _identity("AUTHOR", sender, _raw(date)) | _identity("COMMITTER", sender, _raw(date))
    tree = f"{staged.base}^{{tree}}"
    letter = f"{' '.join(title.split())}\n\n{body}".encode()
    top = git(["commit-tree", tree, "-p", staged.base, "-F", "-"], repository, who, letter)
    first, *_ = git(["rev-list", "--reverse", f"{staged.base}..{tip}"], repository).split()
    git(["replace", "--graft", first.decode(), top.decode().strip()], repository)
    options = [
        *("--quiet", "--numbered", "--start-number=0", "--always", "--zero-commit"),
        *(f"--from={sender}", f"--subject-prefix={mail.prefix}"),
        *(f"--signature=kdelta {__version__}", f"--output-directory={folder.resolve()}"),
        *(f"--to={_encoded(address, repository)}" for address in mail.to),
        *(f"--cc={_encoded(address, repository)}" for address in mail.cc),
        *([f"--reroll-count={mail.version}"] if mail.version > 1 else []),
    ]
    settings = ["-c", "core.abbrev=12", "-c", "format.encodeEmailHeaders=true"]
    git([*settings, "format-patch", *options, f"{staged.base}..{tip}"], repository, who)
    (cover,) = folder.glob(f"{mail.file_prefix}0000-*.patch")
    # git cuts blanks off the lines of a message, and with them the mark of a signature.
    headers = cover.read_bytes().split(b"\n\n", 1)[0]
    cover.unlink()
    (folder / f"{mail.file_prefix}{COVER}").write_bytes(headers + b"\n\n" + body.encode())


def _encoded(address: str, repository: Path) -> str:
    """An address as git writes it into ``From:``: encoded where its name is not ASCII."""
    if address.isascii():
        return address
    who = Identity(*parseaddr(address))
    arguments = ["commit-tree", "HEAD^{tree}", "-m", "address"]
    made = git(arguments, repository, _identity("AUTHOR", who, "@0 +0000")).decode().strip()
    settings = ["-c", "format.encodeEmailHeaders=true"]
    shown = _text([*settings, "log", "-1", "--format=email", made], repository)
    header = shown.partition("\nFrom: ")[2].partition("\nDate: ")[0]
    # Folded as git folds it.
    return header.strip()


def _identity(role: str, who: Identity, when: str) -> dict[str, str]:
    return {
        f"GIT_{role}_NAME": who.name,
        f"GIT_{role}_EMAIL": who.email,
        f"GIT_{role}_DATE": when,
    }


def _raw(date: datetime) -> str:
    return f"{int(date.timestamp())} {date:%z}"


def _text(arguments: Sequence[str], repository: Path) -> str:
    return git(arguments, repository).decode("utf-8", "replace")
