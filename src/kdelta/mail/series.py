# SPDX-License-Identifier: GPL-2.0-only
"""The mailable series: made from a run, and checked against what the run measured."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kdelta.cache import storage_errors_are_clear, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import git, scratch_repository
from kdelta.kernel.patches import PatchFile, read_content
from kdelta.kernel.patching import Staged, stage
from kdelta.kernel.source import SourceTree
from kdelta.mail.checkpatch import Checkpatch, run_checkpatch
from kdelta.mail.cover import Letter, base_lines, render_cover
from kdelta.mail.format_patch import (
    COVER,
    commits_to_mail,
    diffstat,
    shortlog,
    sign_commits,
    write_mails,
)
from kdelta.mail.identity import Identity
from kdelta.mail.settings import Mail
from kdelta.mail.trees import AppliedSeries, TreeStore, commit_tree_of, commits_of
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames

CHECK_FILE = "series-check.txt"
CHECKPATCH_FILE = "checkpatch.txt"
# As git begins every mail that it writes; quoted where a mail program kept it.
_MAIL_IN_BODY = re.compile(rb"^>?From [0-9a-f]{40} Mon Sep 17 00:00:00 2001$", re.MULTILINE)


@dataclass(frozen=True)
class Series:
    """The mails that are in a folder, checked.

    Attributes:
        folder: holds them.
        mails: their paths, the cover letter first.
        tree: hash of the tree that was measured, and that `git am` of the mails gives.
        base_tree: hash of the unpatched source.
        checkpatch: what the kernel's checkpatch says of the patches.
    """

    folder: Path
    mails: tuple[Path, ...]
    tree: str
    base_tree: str
    checkpatch: Checkpatch


@dataclass(frozen=True)
class SeriesMaker:
    """All that a series is made from.

    Attributes:
        title: of the series: subject of the cover letter.
        prose: of its author.
        mail: arm, prefix, version, addresses.
        sender: who mails it.
        date: of the mails.
        patches: the measured patches, in order.
        store: git trees of the kernel source.
        source: the kernel source.
        cache: the cache folder.
        frames: the analysed tables.
        context: the facts of the run.
        templates: folder of the cover letter's template.
    """

    title: str
    prose: str
    mail: Mail
    sender: Identity
    date: datetime
    patches: Sequence[PatchFile]
    store: TreeStore
    source: SourceTree
    cache: Path
    frames: ReportFrames
    context: ReportContext
    templates: Path

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
            self._signed() as (staged, tip),
        ):
            fresh = Path(name) / folder.name
            fresh.mkdir()
            body = self._cover(staged, tip)
            write_mails(staged, tip, fresh, self.mail, self.sender, self.date, self.title, body)
            self._check(fresh, folder, staged, tip)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        return self.check(folder)

    def check(self, folder: Path) -> Series:
        """Check the mails in a folder, as they are now.

        Raises:
            KdeltaError: there are none, `git am` does not take them, or they give another tree
                than the one measured.
        """
        with self._signed() as (staged, tip):
            tree = self._check(folder, folder, staged, tip).tree
        covers, patches = _mails_in(folder)
        checked = run_checkpatch(self.source.path, patches)
        write_atomically(folder.parent / CHECKPATCH_FILE, checked.text.encode())
        return Series(folder, (*covers, *patches), tree, self.store.base_tree, checked)

    @contextmanager
    def _signed(self) -> Iterator[tuple[Staged, str]]:
        """The measured patches as commits with the sender's sign-off, and the last of these."""
        with tempfile.TemporaryDirectory(prefix="kdelta-series-") as name:
            pristine, title = self.source.path, self.source.title
            staged = stage(pristine, Path(name), self.patches, self.mail.arm, title)
            commits = commits_to_mail(self.patches)
            yield staged, sign_commits(staged, commits, self.sender, self.date)

    def _check(self, mails: Path, folder: Path, staged: Staged, tip: str) -> AppliedSeries:
        """Compare the mails with what was measured, and keep the result beside `folder`.

        Trees are compared, the number of mails, and their subjects and authors.
        """
        covers, patches = _mails_in(mails)
        for mail in (*covers, *patches):
            _refuse_mail_in_mail(mail)
        measured = self.store.measured_tree(staged)
        # Of the last so many: before them may stand the cover letter.
        meant = commits_of(staged.repository, staged.base, tip)[-len(staged.commits) :]
        applied = self.store.apply_mails(patches)
        differences = _differences(meant, applied.commits)
        text = self._check_text(folder, measured, applied, len(meant), differences)
        write_atomically(folder.parent / CHECK_FILE, text.encode())
        if applied.tree != measured:
            raise KdeltaError(
                f"{folder}: git am of these mails gives tree {applied.tree}, but {measured} was "
                f"measured (arm {self.mail.arm}); do not mail them. Make them anew with "
                "`kdelta series`, or measure what they say"
            )
        if differences:
            raise KdeltaError(
                f"{folder}: the mails are not the patches that were measured: "
                f"{'; '.join(differences)}. Make them anew with `kdelta series`; a subject is "
                "changed in the patch, not in the mail"
            )
        return applied

    def _check_text(
        self,
        folder: Path,
        measured: str,
        applied: AppliedSeries,
        patches: int,
        differences: Sequence[str],
    ) -> str:
        rows = [
            ("source", self.source.title),
            ("source tree", self.store.base_tree),
            (
                "measured tree",
                f"{measured}  patches of {self.mail.arm}, applied as for its build",
            ),
            ("mailed tree", f"{applied.tree}  git am of {folder.name}/"),
            ("patches", f"{patches} measured, {len(applied.commits)} mailed"),
            ("messages", "; ".join(differences) or "subjects and authors as measured"),
            ("result", "equal" if measured == applied.tree and not differences else "DIFFERENT"),
        ]
        commit = self.source.describe.get("commit")
        if commit and (tree := commit_tree_of(self.cache, commit)):
            same = "equal to" if tree == self.store.base_tree else "NOT"
            rows.insert(2, ("base-commit", f"{commit}, tree {tree}: {same} the source tree"))
        return "".join(f"{label:<14} {text}\n" for label, text in rows)

    def _cover(self, staged: Staged, tip: str) -> str:
        letter = Letter(
            prose=self.prose,
            arm=self.mail.arm,
            kernel=self.source.title,
            base=base_lines(
                self.source.title, self.source.describe.get("commit"), self.store.base_tree
            ),
            sign_off=str(self.sender),
            shortlog=shortlog(staged.repository, staged.base, tip),
            diffstat=diffstat(staged.repository, staged.base, tip),
            tables=self.mail.tables,
        )
        return render_cover(self.frames, self.context, letter, self.templates)


def _mails_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Cover letters and patches, each in order."""
    found = sorted(folder.glob("*.patch"))
    covers = [path for path in found if path.name.endswith(COVER)]
    patches = [path for path in found if path not in covers]
    if not patches:
        raise KdeltaError(f"{folder}: no mails here; `kdelta series` writes them")
    return covers, patches


def _refuse_mail_in_mail(path: Path) -> None:
    """See to it that a file is one mail, with no other in its body."""
    content = read_content(path)
    with scratch_repository() as repository:
        out = repository / "split"
        out.mkdir()
        count = int(git(["mailsplit", "-b", f"-o{out}"], repository, stdin=content))
    if count != 1 or _MAIL_IN_BODY.search(content, 1):
        raise KdeltaError(
            f"{path}: there is another mail in this mail's body; make the mails anew with "
            "`kdelta series`, or take it out"
        )


def _differences(meant: Sequence[tuple[str, str]], mailed: Sequence[tuple[str, str]]) -> list[str]:
    """What differs between the commits that are meant and those that the mails make."""
    if len(meant) != len(mailed):
        return [f"{len(meant)} patches were measured, and {len(mailed)} are mailed"]
    found = []
    for number, (ours, theirs) in enumerate(zip(meant, mailed, strict=True), start=1):
        for what, wanted, got in zip(("author", "subject"), ours, theirs, strict=True):
            if wanted != got:
                found.append(f"patch {number}: its {what} is {wanted!r}, in the mail {got!r}")
    return found


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    others = [p for p in folder.iterdir() if p.suffix != ".patch"] if folder.is_dir() else [folder]
    if others:
        raise KdeltaError(
            f"{folder}: it holds {others[0].name}, which is no mail, and is not deleted for the "
            "series; name a new folder"
        )
