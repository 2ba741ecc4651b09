# SPDX-License-Identifier: GPL-2.0-only
"""A whole kernel source as a git tree, and repositories in which patches are applied to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdelta.cache import file_lock, make_entry, remove_leftovers, require_free, use
from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import environment, git, init, run_git
from kdelta.kernel.process import run as run_watched
from kdelta.kernel.source import SourceTree
from kdelta.progress import Progress

BASE = "refs/heads/base"
_NEEDED_BYTES = 700 * 2**20  # packed objects of a kernel tree, and an index


class TreeStore:
    """A bare repository with the objects of one kernel source, in the cache.

    Made once per source by hashing the whole tree, which takes about a minute; everything
    that is done with it works in temporary repositories that borrow its objects.

    Attributes:
        source: the kernel source; only read.
        base_tree: hash of its git tree.
    """

    def __init__(self, source: SourceTree, cache: Path) -> None:
        """Open the store of a source, and make it if it is not there.

        Args:
            source: the pristine tree.
            cache: the cache folder.

        Raises:
            KdeltaError: the disk is full, or git fails.
        """
        self.source = source
        self._cache = cache.resolve()
        self._path = self._cache / "trees" / f"{source.id}.git"
        with file_lock(cache / "locks" / f"tree-{source.id[:16]}", "the git tree of this source"):
            if not use(self._path):
                require_free(self._path, _NEEDED_BYTES, "the git tree of a kernel source")
                remove_leftovers(self._path)
                make_entry(self._path, self._create)
        self.base_tree = word(["rev-parse", f"{BASE}^{{tree}}"], self._path)

    def _create(self, repository: Path) -> None:
        init(repository, bare=True)
        # The size limit of 1 byte makes git write one pack and not 90,000 files.
        fast = ["-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "-c", "gc.auto=0"]
        tree = str(self.source.path.resolve())
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
        commit = word(
            ["commit-tree", word(["write-tree"], repository), "-m", self.source.title], repository
        )
        git(["update-ref", BASE, commit], repository)
        (repository / "index").unlink()

    @contextmanager
    def repository(self) -> Iterator[Path]:
        """A temporary repository that has the store's objects, and the source as `BASE`.

        None of the source's 90,000 files is written out: git takes those that it wants to
        change from the index.
        """
        with tempfile.TemporaryDirectory(prefix="kdelta-series-") as name:
            folder = Path(name)
            init(folder)
            alternates = folder / ".git" / "objects" / "info" / "alternates"
            alternates.parent.mkdir(parents=True, exist_ok=True)
            alternates.write_text(f"{self._path / 'objects'}\n")
            git(["update-ref", BASE, word(["rev-parse", BASE], self._path)], folder)
            yield folder

    @property
    def commit(self) -> str | None:
        """The commit that the source was fetched from; None if it came from no repository."""
        return self.source.describe.get("commit")

    def commits_tree(self) -> str | None:
        """The tree of that commit; None if it is not at hand."""
        fetched = self._cache / "git" / "kernels.git"
        if self.commit is None or not fetched.is_dir():
            return None
        done = run_git(["rev-parse", "--verify", "-q", f"{self.commit}^{{tree}}"], fetched)
        return done.stdout.decode().strip() if done.returncode == 0 else None


def word(arguments: list[str], folder: Path) -> str:
    """The one word that git prints."""
    return git(arguments, folder).decode().strip()
