# SPDX-License-Identifier: GPL-2.0-only
"""Git trees: of a whole kernel source, of what was measured, and of what `git am` makes."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdelta.cache import file_lock, make_entry, remove_leftovers, require_free
from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import environment, git, init, run_git, said
from kdelta.kernel.patches import read_patches
from kdelta.kernel.patching import Staged
from kdelta.kernel.process import run as run_watched
from kdelta.kernel.source import SourceTree
from kdelta.progress import Progress

_NEEDED_BYTES = 700 * 2**20  # packed objects of a kernel tree, and an index
_BASE = "refs/heads/base"


@dataclass(frozen=True)
class AppliedSeries:
    """What `git am` made of a series.

    Attributes:
        tree: hash of the resulting tree.
        commits: author (``Name <mail>``) and subject of each, in order.
    """

    tree: str
    commits: tuple[tuple[str, str], ...]


class TreeStore:
    """A bare repository with the objects of one kernel source, in the cache.

    Made once per source by hashing the whole tree, which takes about a minute; everything
    that is done with it works in temporary repositories that borrow its objects.
    """

    def __init__(self, source: SourceTree, cache: Path) -> None:
        """Open the store of a source, and make it if it is not there.

        Args:
            source: the pristine tree; only read.
            cache: the cache folder.

        Raises:
            KdeltaError: the disk is full, or git fails.
        """
        self._source = source
        self._path = cache.resolve() / "trees" / f"{source.id}.git"
        with file_lock(cache / "locks" / f"tree-{source.id[:16]}", "the git tree of this source"):
            if not self._path.is_dir():
                require_free(self._path, _NEEDED_BYTES, "the git tree of a kernel source")
                remove_leftovers(self._path)
                make_entry(self._path, self._create)
        self.base_tree = _word(["rev-parse", f"{_BASE}^{{tree}}"], self._path)

    def _create(self, repository: Path) -> None:
        init(repository, bare=True)
        # The size limit of 1 byte makes git write one pack and not 90,000 files.
        fast = ["-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "-c", "gc.auto=0"]
        tree = str(self._source.path.resolve())
        arguments = [*fast, f"--git-dir={repository}", f"--work-tree={tree}", "add", "-A", "-f"]
        with Progress("hashing the kernel source into a git tree (once per source)") as progress:
            done = run_watched(
                ["git", *arguments, "."],
                cwd=Path(tree),
                env=environment(repository),
                on_tick=progress.update,
            )
        if done.status != 0:
            raise KdeltaError(f"{tree}: git cannot hash this kernel source: {done.tail.strip()}")
        found = _word(["write-tree"], repository)
        commit = _word(["commit-tree", found, "-m", self._source.title], repository)
        git(["update-ref", _BASE, commit], repository)
        (repository / "index").unlink()

    def measured_tree(self, staged: Staged) -> str:
        """Hash of the tree that an arm's kernel was built from: the source with these files."""
        with self._scratch() as repository:
            git(["read-tree", _BASE], repository)
            for path, file in staged.files.items():
                if file is None:
                    git(["update-index", "--force-remove", "--", path], repository)
            for path, file in staged.files.items():
                if file is not None:
                    entry = f"{_mode(file)},{_hash_object(file, repository)},{path}"
                    git(["update-index", "--add", "--cacheinfo", entry], repository)
            for path, commit in staged.submodules.items():
                entry = f"160000,{commit},{path}"
                git(["update-index", "--add", "--cacheinfo", entry], repository)
            return _word(["write-tree"], repository)

    def apply_mails(self, mails: Sequence[Path]) -> AppliedSeries:
        """Apply mails with `git am`, as whoever receives them does.

        Args:
            mails: the patches in order, without the cover letter.

        Raises:
            KdeltaError: one of them is damaged, or `git am` does not take it.
        """
        touched = sorted({path for file in read_patches(mails) for path in file.paths})
        with self._scratch() as repository:
            # Only these files are written out, of 90,000.
            (repository / ".git" / "info" / "sparse-checkout").write_bytes(
                b"".join(b"/%s\n" % os.fsencode(_pattern(path)) for path in touched)
            )
            git(["config", "core.sparseCheckout", "true"], repository)
            git(["read-tree", "-m", "-u", _BASE], repository)
            git(["update-ref", "HEAD", _BASE], repository)
            names = [str(mail.resolve()) for mail in mails]
            # The second is what a maintainer does for files whose lines end in CR LF.
            failures = []
            for keep in ("--no-keep-cr", "--keep-cr"):
                done = run_git(["am", "--quiet", "--no-gpg-sign", keep, *names], repository)
                if done.returncode == 0:
                    break
                failures.append(said(done))
                run_git(["am", "--abort"], repository)
            else:
                raise KdeltaError(
                    f"git am does not apply the mails in {mails[0].parent} to "
                    f"{self._source.title}: {failures[0]}"
                )
            tree = _word(["rev-parse", "HEAD^{tree}"], repository)
            return AppliedSeries(tree, commits_of(repository, _BASE, "HEAD"))

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A temporary repository that has the store's objects and its base."""
        with tempfile.TemporaryDirectory(prefix="kdelta-series-") as name:
            folder = Path(name)
            init(folder)
            alternates = folder / ".git" / "objects" / "info" / "alternates"
            alternates.parent.mkdir(parents=True, exist_ok=True)
            alternates.write_text(f"{self._path / 'objects'}\n")
            git(["update-ref", _BASE, _word(["rev-parse", _BASE], self._path)], folder)
            yield folder


def commits_of(repository: Path, base: str, tip: str) -> tuple[tuple[str, str], ...]:
    """Author (``Name <mail>``) and subject of the commits after `base`, in order."""
    arguments = ["log", "--reverse", "-z", "--format=%an <%ae>%n%s", f"{base}..{tip}"]
    listed = git(arguments, repository).decode("utf-8", "replace").split("\0")
    pairs = [entry.split("\n", 1) for entry in listed if entry]
    return tuple((author, subject.rstrip("\n")) for author, subject in pairs)


def commit_tree_of(cache: Path, commit: str) -> str | None:
    """The tree of a commit that a git source was fetched from; None if it is not at hand."""
    repository = cache.resolve() / "git" / "kernels.git"
    if not repository.is_dir():
        return None
    done = run_git(["rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}"], repository)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _word(arguments: Sequence[str], folder: Path) -> str:
    return git(arguments, folder).decode().strip()


def _mode(file: Path) -> str:
    if file.is_symlink():
        return "120000"
    return "100755" if file.stat().st_mode & 0o100 else "100644"


def _hash_object(file: Path, repository: Path) -> str:
    content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
    return git(["hash-object", "-w", "--stdin"], repository, stdin=content).decode().strip()


def _pattern(path: str) -> str:
    """A path as a sparse-checkout pattern that stands for itself."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", path)
