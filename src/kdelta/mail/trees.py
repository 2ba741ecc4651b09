# SPDX-License-Identifier: GPL-2.0-only
"""Git trees: of a whole kernel source, of what was measured, and of what `git am` makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdelta.cache import file_lock, make_entry, remove_leftovers, require_free
from kdelta.errors import KdeltaError
from kdelta.kernel.patching import Patch, stage, touched_paths
from kdelta.kernel.process import clean_environment
from kdelta.kernel.process import run as run_watched
from kdelta.kernel.source import SourceTree
from kdelta.progress import Progress

_NEEDED_BYTES = 700 * 2**20  # packed objects of a kernel tree, and an index
_BASE = "refs/heads/base"
# Bytes as they are: neither line ends nor keywords are converted.
_RAW = "* -text -ident -filter -working-tree-encoding\n"
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "kdelta"),
        ("EMAIL", "kdelta@example.org"),
        ("DATE", "1970-01-01T00:00:00Z"),
    )
}


@dataclass(frozen=True)
class AppliedSeries:
    """What `git am` made of a series.

    Attributes:
        tree: hash of the resulting tree.
        diffstat: of the whole series, with created and deleted files, as under a cover letter.
    """

    tree: str
    diffstat: str


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
        self.base_tree = _git(["rev-parse", f"{_BASE}^{{tree}}"], self._path).strip()

    def _create(self, repository: Path) -> None:
        _git(["init", "--quiet", "--bare", "--template=", "."], repository)
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "attributes").write_text(_RAW)
        # The size limit of 1 byte makes git write one pack and not 90,000 files.
        fast = ["-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "-c", "gc.auto=0"]
        tree = str(self._source.path.resolve())
        arguments = [*fast, f"--git-dir={repository}", f"--work-tree={tree}", "add", "-A", "-f"]
        with Progress("hashing the kernel source into a git tree (once per source)") as progress:
            done = run_watched(
                ["git", *arguments, "."],
                cwd=Path(tree),
                env=_environment(),
                on_tick=progress.update,
            )
        if done.status != 0:
            raise KdeltaError(f"{tree}: git cannot hash this kernel source: {done.tail.strip()}")
        found = _git(["write-tree"], repository).strip()
        commit = _git(["commit-tree", found, "-m", self._source.title], repository, _NOBODY)
        _git(["update-ref", _BASE, commit.strip()], repository)
        (repository / "index").unlink()

    def measured_tree(self, patches: Sequence[Patch], variant: str) -> str:
        """Hash of the tree that a variant's kernel was built from: patched as the build does it.

        Raises:
            KdeltaError: a patch does not apply.
        """
        with self._scratch() as repository:
            staging = repository / "staging"
            files = stage(self._source.path, staging, patches, variant, self._source.title)
            _git(["read-tree", _BASE], repository)
            for path, file in files.items():
                if file is None:
                    _git(["update-index", "--force-remove", "--", path], repository)
                else:
                    entry = f"{_mode(file)},{_hash_object(file, repository)},{path}"
                    _git(["update-index", "--add", "--cacheinfo", entry], repository)
            return _git(["write-tree"], repository).strip()

    def apply_mails(self, mails: Sequence[Path]) -> AppliedSeries:
        """Apply mails with `git am`, as whoever receives them does.

        Args:
            mails: the patches in order, without the cover letter.

        Raises:
            KdeltaError: `git am` does not take one of them.
        """
        with self._scratch() as repository:
            texts = [mail.read_text(encoding="utf-8", errors="surrogateescape") for mail in mails]
            touched = sorted({path for text in texts for path in touched_paths(text)})
            # Only these files are written out, of 90,000.
            (repository / ".git" / "info" / "sparse-checkout").write_text(
                "".join(f"/{_pattern(path)}\n" for path in touched),
                encoding="utf-8",
                errors="surrogateescape",
            )
            _git(["config", "core.sparseCheckout", "true"], repository)
            _git(["read-tree", "-m", "-u", _BASE], repository)
            _git(["update-ref", "HEAD", _BASE], repository)
            done = _run_git(
                ["am", "--quiet", "--no-gpg-sign", *(str(mail.resolve()) for mail in mails)],
                repository,
                _NOBODY,
            )
            if done.returncode != 0:
                said = "; ".join(_lines(done.stderr) or _lines(done.stdout))
                raise KdeltaError(
                    f"git am does not apply the mails in {mails[0].parent} to "
                    f"{self._source.title}: {said}"
                )
            tree = _git(["rev-parse", "HEAD^{tree}"], repository).strip()
            stat = ["diff", "--stat=72", "--summary", "-M", _BASE, "HEAD"]
            return AppliedSeries(tree, _git(stat, repository).rstrip("\n"))

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A temporary repository that has the store's objects and its base."""
        with tempfile.TemporaryDirectory(prefix="kdelta-series-") as name:
            folder = Path(name)
            _git(["init", "--quiet", "--template=", "."], folder)
            git_dir = folder / ".git"
            for sub in ("info", "objects/info"):
                (git_dir / sub).mkdir(parents=True, exist_ok=True)
            (git_dir / "info" / "attributes").write_text(_RAW)
            (git_dir / "objects/info/alternates").write_text(f"{self._path / 'objects'}\n")
            base = _git(["rev-parse", _BASE], self._path).strip()
            _git(["update-ref", _BASE, base], folder)
            yield folder


def commit_tree_of(cache: Path, commit: str) -> str | None:
    """The tree of a commit that a git source was fetched from; None if it is not at hand."""
    repository = cache.resolve() / "git" / "kernels.git"
    if not repository.is_dir():
        return None
    done = _run_git(["rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}"], repository)
    return done.stdout.decode().strip() if done.returncode == 0 else None


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """No settings of the user or the system: they could change what is hashed or applied."""
    return clean_environment(
        {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **(extra or {})}
    )


def _run_git(
    arguments: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    if shutil.which("git") is None:
        raise KdeltaError("git is not installed; the mails cannot be checked without it")
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=_environment(extra), capture_output=True, check=False
    )


def _git(arguments: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None) -> str:
    done = _run_git(arguments, folder, extra)
    if done.returncode != 0:
        said = "; ".join(_lines(done.stderr))
        raise KdeltaError(f"{folder}: git {' '.join(arguments[:2])} failed: {said}")
    return done.stdout.decode("utf-8", "surrogateescape")


def _lines(output: bytes) -> list[str]:
    lines = (line.strip() for line in output.decode("utf-8", "replace").splitlines())
    return [line for line in lines if line and not line.startswith("hint:")]


def _mode(file: Path) -> str:
    if file.is_symlink():
        return "120000"
    return "100755" if file.stat().st_mode & 0o100 else "100644"


def _hash_object(file: Path, repository: Path) -> str:
    content = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
    done = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=repository,
        env=_environment(),
        input=content,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def _pattern(path: str) -> str:
    """A path as a sparse-checkout pattern that stands for itself."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", path)
