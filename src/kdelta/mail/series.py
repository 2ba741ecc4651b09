# SPDX-License-Identifier: GPL-2.0-only
"""The mailable series: made by git from what a run measured, and checked against it."""

from __future__ import annotations

import email
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.header import Header
from email.utils import formataddr, parseaddr
from pathlib import Path

from kdelta import __version__
from kdelta.cache import storage_errors_are_clear, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import git, run_git, said
from kdelta.kernel.patches import NOBODY, Author, PatchFile, read_content
from kdelta.kernel.patching import stage
from kdelta.mail.checkpatch import Checkpatch, run_checkpatch
from kdelta.mail.settings import Mail
from kdelta.mail.trees import BASE, TreeStore, word

CHECK_FILE = "series-check.txt"
CHECKPATCH_FILE = "checkpatch.txt"
COVER = "0000-cover-letter.patch"
_MEASURED = "refs/heads/measured"
# As git begins every mail that it writes; quoted where a mail program kept it.
_MAIL_IN_BODY = re.compile(rb"^>?From [0-9a-f]{40} Mon Sep 17 00:00:00 2001$", re.MULTILINE)
# What git leaves for the author to fill in.
_SUBJECT, _BLURB = "*** SUBJECT HERE ***", "*** BLURB HERE ***"


@dataclass(frozen=True)
class Series:
    """The mails that are in a folder, checked.

    Attributes:
        folder: holds them.
        mails: their paths, the cover letter first.
        tree: hash of the tree that was measured, and that `git am` of the mails gives.
        checkpatch: what the kernel's checkpatch says of the patches.
    """

    folder: Path
    mails: tuple[Path, ...]
    tree: str
    checkpatch: Checkpatch


@dataclass(frozen=True)
class SeriesMaker:
    """All that a series is made from.

    Attributes:
        title: subject of the cover letter.
        body: what it says before git's list of patches and files.
        mail: arm, prefix, version, addresses.
        sender: who mails it: author of what `NOBODY` wrote, and signs off every patch.
        date: of the cover letter; patches without a date of their own have a second more each,
            so that mail readers keep them in order.
        patches: the measured patches, in order.
        store: the kernel source as a git tree.
    """

    title: str
    body: str
    mail: Mail
    sender: Author
    date: datetime
    patches: Sequence[PatchFile]
    store: TreeStore

    def write(self, folder: Path) -> Series:
        """Write the mails to a folder, and what was checked beside it.

        The folder is replaced only once its successor has been found to give the measured tree.

        Raises:
            KdeltaError: a patch cannot be mailed, `git am` does not take it or gives another
                tree than the one measured, or the folder holds something else.
        """
        _refuse_foreign(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            storage_errors_are_clear(folder.parent, "writing the mails"),
            tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name,
            self._measured() as repository,
        ):
            fresh = Path(name) / folder.name
            self._format(repository, fresh)
            self._check(repository, fresh, folder)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
            return self._checked(repository, folder)

    def check(self, folder: Path) -> Series:
        """Check the mails in a folder, as they are now.

        Raises:
            KdeltaError: there are none, `git am` does not take them, or they give another tree
                than the one measured.
        """
        with self._measured() as repository:
            self._check(repository, folder, folder)
            return self._checked(repository, folder)

    @contextmanager
    def _measured(self) -> Iterator[Path]:
        """A repository with the measured patches as commits on the source, ready to be mailed.

        They are applied as for the build; `NOBODY` becomes the sender, everyone else stays the
        author of a patch, with its date.
        """
        for file in self.patches:
            for patch in file.commits:
                if patch.mail is None or patch.subject == file.path.name:
                    raise KdeltaError(
                        f"{file.path}: no Subject: and From: line, so that this patch cannot be "
                        "mailed; write it with `git format-patch`, which takes subject and "
                        "message from a commit"
                    )
        patches = [patch for file in self.patches for patch in file.commits]
        source, sender = self.store.source, str(self.sender)
        with (
            tempfile.TemporaryDirectory(prefix="kdelta-series-") as name,
            self.store.repository() as repository,
        ):
            staged = stage(source.path, Path(name), self.patches, self.mail.arm, source.title)
            git(["read-tree", BASE], repository)
            parent = word(["rev-parse", BASE], repository)
            for number, (patch, commit) in enumerate(
                zip(patches, staged.commits, strict=True), start=1
            ):
                between = ["diff", "--binary", "--full-index", f"{commit}^", commit]
                diff = git(between, staged.repository)
                git(["apply", "--cached", "--allow-empty", "-"], repository, stdin=diff)
                content = git(["cat-file", "commit", commit], staged.repository)
                # Names in trailers become the sender's, too.
                text = content.decode(errors="surrogateescape").replace(str(NOBODY), sender)
                head, message = text.split("\n\n", 1)
                author, date = head.partition("\nauthor ")[2].split("\n", 1)[0].split("> ")
                if patch.author in (None, NOBODY) or not patch.date:
                    date = _raw(self.date + timedelta(seconds=number))
                made = (
                    f"tree {word(['write-tree'], repository)}\nparent {parent}\n"
                    f"author {author}> {date}\ncommitter {sender} {_raw(self.date)}\n\n{message}"
                ).encode(errors="surrogateescape")
                arguments = ["hash-object", "-t", "commit", "-w", "--stdin"]
                parent = git(arguments, repository, stdin=made).decode().strip()
            git(["update-ref", _MEASURED, parent], repository)
            yield repository

    def _format(self, repository: Path, folder: Path) -> None:
        """Have git write the mails, and fill in the cover letter."""
        mail = self.mail
        who = {
            "GIT_COMMITTER_NAME": self.sender.name,
            "GIT_COMMITTER_EMAIL": self.sender.email,
            "GIT_COMMITTER_DATE": _raw(self.date),
        }
        options = [
            *("--quiet", "--numbered", "--zero-commit", "--signoff", f"--from={self.sender}"),
            *("--cover-letter", "--cover-from-description=none"),
            *(f"--subject-prefix={mail.prefix}", f"--signature=kdelta {__version__}"),
            *(f"--to={formataddr(parseaddr(address))}" for address in mail.to),
            *(f"--cc={formataddr(parseaddr(address))}" for address in mail.cc),
            *([f"--reroll-count={mail.version}"] if mail.version > 1 else []),
            f"--output-directory={folder.resolve()}",
        ]
        settings = ["-c", "core.abbrev=12", "-c", "format.encodeEmailHeaders=true"]
        git([*settings, "format-patch", *options, f"{BASE}..{_MEASURED}"], repository, who)
        self._fill(folder / f"{mail.file_prefix}{COVER}")

    def _fill(self, cover: Path) -> None:
        """Put subject and body into a cover letter of git's.

        Some versions of git (2.39 is one) leave its headers unencoded, and do not declare what is
        beyond ASCII in them.
        """
        letter = email.message_from_string(cover.read_text("utf-8", "replace"))
        subject = Header(letter["Subject"].removesuffix(f" {_SUBJECT}"), header_name="Subject")
        title = " ".join(self.title.split())
        subject.append(title, "us-ascii" if title.isascii() and "=?" not in title else "utf-8")
        letter.replace_header("Subject", subject.encode(maxlinelen=78))
        letter.replace_header("From", formataddr(self.sender))
        for name, value in (
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ):
            del letter[name]
            letter[name] = value
        letter.set_payload(str(letter.get_payload()).replace(_BLURB, self.body, 1))
        cover.write_text(letter.as_string(unixfrom=True), encoding="utf-8")

    def _check(self, repository: Path, mails: Path, folder: Path) -> None:
        """Compare mails with what was measured, and keep the result beside `folder`.

        Trees are compared, the number of mails, and their subjects and authors.
        """
        covers, patches = _mails_in(mails)
        for mail in (*covers, *patches):
            if _MAIL_IN_BODY.search(read_content(mail), 1):
                raise KdeltaError(
                    f"{mail}: there is another mail in this mail's body; make the mails anew with "
                    "`kdelta series`, or take it out"
                )
        _am(repository, patches, self.store.source.title)
        measured, ours = _result(repository, _MEASURED)
        mailed, theirs = _result(repository, "HEAD")
        differences = _differences(ours, theirs)
        equal = measured == mailed and not differences
        rows = [
            ("source", self.store.source.title),
            ("source tree", self.store.base_tree),
            (
                "measured tree",
                f"{measured}  patches of {self.mail.arm}, applied as for its build",
            ),
            ("mailed tree", f"{mailed}  git am of {folder.name}/"),
            ("patches", f"{len(ours)} measured, {len(theirs)} mailed"),
            ("messages", "; ".join(differences) or "subjects and authors as measured"),
            ("result", "equal" if equal else "DIFFERENT"),
        ]
        if tree := self.store.commits_tree():
            same = "equal to" if tree == self.store.base_tree else "NOT"
            told = f"{self.store.commit}, tree {tree}: {same} the source tree"
            rows.insert(2, ("base-commit", told))
        text = "".join(f"{label:<14} {text}\n" for label, text in rows)
        write_atomically(folder.parent / CHECK_FILE, text.encode())
        if measured != mailed:
            raise KdeltaError(
                f"{folder}: git am of these mails gives tree {mailed}, but {measured} was "
                f"measured (arm {self.mail.arm}); do not mail them. Make them anew with "
                "`kdelta series`, or measure what they say"
            )
        if differences:
            raise KdeltaError(
                f"{folder}: the mails are not the patches that were measured: "
                f"{'; '.join(differences)}. Make them anew with `kdelta series`; a subject is "
                "changed in the patch, not in the mail"
            )

    def _checked(self, repository: Path, folder: Path) -> Series:
        """Run checkpatch, and keep what it says beside the folder."""
        covers, patches = _mails_in(folder)
        checkpatch = run_checkpatch(self.store.source.path, patches)
        write_atomically(folder.parent / CHECKPATCH_FILE, checkpatch.text.encode())
        tree, _ = _result(repository, _MEASURED)
        return Series(folder, (*covers, *patches), tree, checkpatch)


def _am(repository: Path, mails: Sequence[Path], source: str) -> None:
    """Apply mails to the source with `git am`, as whoever receives them does; HEAD is the result.

    Raises:
        KdeltaError: it does not take one of them.
    """
    failures = []
    # The second is what a maintainer does for files whose lines end in CR LF.
    for keep in ("--no-keep-cr", "--keep-cr"):
        git(["read-tree", BASE], repository)
        git(["update-ref", "HEAD", BASE], repository)
        shutil.rmtree(repository / ".git" / "rebase-apply", ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="kdelta-am-") as tree:
            arguments = [f"--work-tree={tree}", "am", "--quiet", "--no-gpg-sign", keep]
            done = run_git([*arguments, *(str(mail.resolve()) for mail in mails)], repository)
        if done.returncode == 0:
            return
        failures.append(said(done))
    raise KdeltaError(
        f"git am does not apply the mails in {mails[0].parent} to {source}: {failures[0]}"
    )


def _mails_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Cover letters and patches, each in order."""
    found = sorted(folder.glob("*.patch"))
    covers = [path for path in found if path.name.endswith(COVER)]
    patches = [path for path in found if path not in covers]
    if not patches:
        raise KdeltaError(f"{folder}: no mails here; `kdelta series` writes them")
    return covers, patches


def _result(repository: Path, tip: str) -> tuple[str, list[list[str]]]:
    """The tree of a series, and author and subject of each of its commits."""
    arguments = ["log", "--reverse", "-z", "--format=%an <%ae>%n%s", f"{BASE}..{tip}"]
    listed = git(arguments, repository).decode("utf-8", "replace").split("\0")
    commits = [entry.rstrip("\n").split("\n") for entry in listed if entry]
    return word(["rev-parse", f"{tip}^{{tree}}"], repository), commits


def _differences(meant: Sequence[Sequence[str]], mailed: Sequence[Sequence[str]]) -> list[str]:
    """What differs between the commits that are meant and those that the mails make."""
    if len(meant) != len(mailed):
        return [f"{len(meant)} patches were measured, and {len(mailed)} are mailed"]
    return [
        f"patch {number}: its {what} is {wanted!r}, in the mail {got!r}"
        for number, commits in enumerate(zip(meant, mailed, strict=True), start=1)
        for what, wanted, got in zip(("author", "subject"), *commits, strict=True)
        if wanted != got
    ]


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    others = [p for p in folder.iterdir() if p.suffix != ".patch"] if folder.is_dir() else [folder]
    if others:
        raise KdeltaError(
            f"{folder}: it holds {others[0].name}, which is no mail, and is not deleted for the "
            "series; name a new folder"
        )


def _raw(date: datetime) -> str:
    """A date as git keeps it in a commit."""
    return f"{int(date.timestamp())} {date:%z}"
