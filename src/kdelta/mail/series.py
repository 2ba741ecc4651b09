# SPDX-License-Identifier: GPL-2.0-only
"""The mailable series: made from a run, and checked against what the run measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from kdelta.cache import storage_errors_are_clear, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.patching import Patch
from kdelta.kernel.source import SourceTree
from kdelta.mail.checkpatch import Checkpatch, run_checkpatch
from kdelta.mail.cover import Letter, base_lines, render_cover
from kdelta.mail.headers import file_name, message_headers, mime_headers, subject_line
from kdelta.mail.identity import Identity
from kdelta.mail.patch_mail import PatchMail, read_patch_mail
from kdelta.mail.rewrite import render_patch, shortlog
from kdelta.mail.settings import Mail
from kdelta.mail.trees import AppliedSeries, TreeStore, commit_tree_of
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames

COVER = "0000-cover-letter.patch"
CHECK_FILE = "series-check.txt"
CHECKPATCH_FILE = "checkpatch.txt"


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
        mail: variant, prefix, version, addresses.
        sender: who mails it.
        date: of the mails.
        patches: the measured patch files, in order.
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
    patches: Sequence[Path]
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
        mails = [read_patch_mail(path) for path in self.patches]
        with (
            storage_errors_are_clear(folder.parent, "writing the mails"),
            tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name,
        ):
            fresh = Path(name) / folder.name
            fresh.mkdir()
            paths = [self._write_patch(fresh, mails, n) for n in range(1, len(mails) + 1)]
            diffstat = self._check(paths, folder).diffstat
            cover = fresh / f"{self.mail.file_prefix}{COVER}"
            cover.write_bytes(self._cover(mails, diffstat))
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        return self.check(folder)

    def check(self, folder: Path) -> Series:
        """Check the mails in a folder, as they are now.

        Raises:
            KdeltaError: there are none, `git am` does not take them, or they give another tree
                than the one measured.
        """
        found = sorted(folder.glob("*.patch"))
        covers = [path for path in found if path.name.endswith(COVER)]
        patches = [path for path in found if path not in covers]
        if not patches:
            raise KdeltaError(f"{folder}: no mails here; `kdelta series` writes them")
        tree = self._check(patches, folder).tree
        checked = run_checkpatch(self.source.path, patches)
        write_atomically(folder.parent / CHECKPATCH_FILE, checked.text.encode())
        return Series(folder, (*covers, *patches), tree, self.store.base_tree, checked)

    def _write_patch(self, folder: Path, mails: Sequence[PatchMail], number: int) -> Path:
        patch = mails[number - 1]
        path = folder / file_name(self.mail.file_prefix, number, patch.subject)
        # One second apart, so that mail readers keep them in order.
        date = self.date + timedelta(seconds=number)
        path.write_bytes(render_patch(patch, self.sender, self.mail, number, len(mails), date))
        return path

    def _check(self, mails: Sequence[Path], folder: Path) -> AppliedSeries:
        """Apply the mails, compare trees, and keep the result beside `folder`."""
        patches = [Patch.read(path) for path in self.patches]
        measured = self.store.measured_tree(patches, self.mail.variant)
        applied = self.store.apply_mails(mails)
        text = self._check_text(folder, measured, applied.tree)
        write_atomically(folder.parent / CHECK_FILE, text.encode())
        if applied.tree != measured:
            raise KdeltaError(
                f"{folder}: git am of these mails gives tree {applied.tree}, but {measured} was "
                f"measured (variant {self.mail.variant}); do not mail them. Make them anew with "
                "`kdelta series`, or measure what they say"
            )
        return applied

    def _check_text(self, folder: Path, measured: str, mailed: str) -> str:
        rows = [
            ("source", self.source.title),
            ("source tree", self.store.base_tree),
            (
                "measured tree",
                f"{measured}  patches of {self.mail.variant}, applied as for its build",
            ),
            ("mailed tree", f"{mailed}  git am of {folder.name}/"),
            ("result", "equal" if measured == mailed else "DIFFERENT"),
        ]
        commit = self.source.describe.get("commit")
        if commit and (tree := commit_tree_of(self.cache, commit)):
            same = "equal to" if tree == self.store.base_tree else "NOT"
            rows.insert(2, ("base-commit", f"{commit}, tree {tree}: {same} the source tree"))
        return "".join(f"{label:<14} {text}\n" for label, text in rows)

    def _cover(self, mails: Sequence[PatchMail], diffstat: str) -> bytes:
        letter = Letter(
            prose=self.prose,
            arm=self.mail.variant,
            kernel=self.source.title,
            base=base_lines(
                self.source.title, self.source.describe.get("commit"), self.store.base_tree
            ),
            sign_off=str(self.sender),
            shortlog=shortlog(mails, self.sender),
            diffstat=diffstat,
            tables=self.mail.tables,
        )
        body = render_cover(self.frames, self.context, letter, self.templates).encode()
        headers = message_headers(
            self.sender.header,
            self.date,
            subject_line(self.mail.prefix, self.mail.version, 0, len(mails), self.title),
            self.mail.to,
            self.mail.cc,
        )
        return (headers + mime_headers(body) + "\n").encode() + body


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    others = [p for p in folder.iterdir() if p.suffix != ".patch"] if folder.is_dir() else [folder]
    if others:
        raise KdeltaError(
            f"{folder}: it holds {others[0].name}, which is no mail, and is not deleted for the "
            "series; name a new folder"
        )
