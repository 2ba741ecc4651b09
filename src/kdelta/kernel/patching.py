# SPDX-License-Identifier: GPL-2.0-only
"""Applying patches, by git, to copies of the files that they touch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kdelta.errors import KdeltaError
from kdelta.kernel.isolated_git import git, init, run_git, said
from kdelta.kernel.patch_advice import Refused, advice, leads_out, where
from kdelta.kernel.patches import Commit, PatchFile

_SUBMODULE = "160000"
_NO_FILE = "000000"


@dataclass(frozen=True)
class Staged:
    """What patches make of a kernel tree.

    Attributes:
        files: path in the tree -> patched copy, or None if there is no such file any more. Only
            files that really differ.
        submodules: path -> commit, for the entries of other repositories that patches add: to a
            kernel that is built, they are empty folders.
        repository: holds the patched copies, and a commit for each patch.
        base: the commit in it that stands for the unpatched tree.
        commits: those of the patches, in order.
    """

    files: Mapping[str, Path | None] = field(default_factory=dict)
    submodules: Mapping[str, str] = field(default_factory=dict)
    repository: Path = Path()
    base: str = ""
    commits: tuple[str, ...] = ()


def stage(
    pristine: Path, staging: Path, patches: Sequence[PatchFile], arm: str, kernel: str
) -> Staged:
    """Apply an arm's patches to copies of the files they touch, one commit each.

    The kernel tree itself is only read. What `git am` takes is taken, with the tree that it
    gives: context must match exactly, line numbers may be off. A plain diff, which `git am` does
    not take, is taken as `git apply` takes it.

    Args:
        pristine: the unpatched kernel tree.
        staging: an empty folder, which becomes a repository of the patched copies.
        patches: in the order they apply.
        arm: its name, for messages.
        kernel: the kernel's description, for messages.

    Raises:
        KdeltaError: a patch does not apply; the message names the arm,
            the patch, the source file, the hunk and the kernel, and what helps.
    """
    if not any(file.commits for file in patches):
        return Staged()
    staging.mkdir(parents=True, exist_ok=True)
    for file in patches:
        copy_preimages(pristine, staging, file.paths)
    init(staging)
    git(["add", "--all", "--force", "."], staging)
    git(["commit", "--quiet", "--allow-empty", "--message=base"], staging)
    base = _head(staging)
    for file in patches:
        _apply_file(file, Refused(pristine, staging, patches, arm, kernel))
    listed = git(["rev-list", "--reverse", f"{base}..HEAD"], staging).decode().split()
    files, submodules = _differences(staging, base)
    return Staged(files, submodules, staging, base, tuple(listed))


def copy_preimages(pristine: Path, staging: Path, paths: Iterable[str]) -> None:
    """Copy what patches find at their paths: files, and links and files in the paths' way.

    With a link or a file where a patch expects a folder, git refuses in the copy as it does in
    the tree. Paths that lead out of the tree are left for git to refuse.
    """
    for path in paths:
        if leads_out(path):
            continue
        parts = PurePosixPath(path).parts
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            found = pristine / here
            if found.is_symlink() or found.is_file():
                _copy(found, staging / here)
                break
            if not found.is_dir():
                break
        else:
            # A folder where the patch has a file: one file in it is enough to keep it one.
            inside = next((file for file in found.rglob("*") if file.is_file()), None)
            if inside is not None:
                _copy(inside, staging / inside.relative_to(pristine))


def _copy(source: Path, target: Path) -> None:
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _apply_commit(commit: Commit, repository: Path, *, keep_cr: bool = False) -> str | None:
    """Apply one patch in a repository, as a commit.

    Returns:
        What git says where it does not apply; the repository is then as it was.
    """
    before = _head(repository)
    if commit.mail is not None:
        # Cut out of its file already, with or without its carriage returns.
        cr = "--keep-cr" if keep_cr else "--no-keep-cr"
        done = run_git(
            ["am", "--quiet", cr, "--patch-format=mbox", "--no-gpg-sign"],
            repository,
            stdin=commit.mail,
        )
    else:
        done = run_git(
            ["apply", "--index", "--whitespace=nowarn", "-"], repository, stdin=commit.diff
        )
        if done.returncode == 0:
            message = f"--message={commit.subject}"
            done = run_git(["commit", "--quiet", "--allow-empty", message], repository)
    if done.returncode == 0:
        return None
    _restore(repository, before)
    return said(done)


def _restore(repository: Path, commit: str) -> None:
    """Put a repository back to a commit, whatever `git am` left."""
    shutil.rmtree(repository / ".git" / "rebase-apply", ignore_errors=True)
    git(["reset", "--quiet", "--hard", commit], repository)
    git(["clean", "--quiet", "-ffdx"], repository)


def _apply_file(file: PatchFile, refused: Refused) -> None:
    before = _head(refused.repository)
    failure: tuple[Commit, str, str] | None = None
    for number, form in enumerate(file.forms):
        for commit in form:
            error = _apply_commit(commit, refused.repository, keep_cr=form is file.with_cr)
            if error is not None:
                failure = failure or (commit, error, _head(refused.repository))
                break
        else:
            return
        if number + 1 < len(file.forms):
            _restore(refused.repository, before)
    assert failure is not None
    commit, error, state = failure
    _restore(refused.repository, state)
    raise KdeltaError(_does_not_apply(file, commit, error, refused))


def _does_not_apply(file: PatchFile, commit: Commit, error: str, refused: Refused) -> str:
    of = ""
    if len(file.commits) > 1:
        number = next(n for n, c in enumerate(file.commits, 1) if c.subject == commit.subject)
        of = f" (patch {number} of {len(file.commits)} in it, {commit.subject!r})"
    program = "git apply" if commit.mail is None else "git am"
    return (
        f"arm {refused.arm}: {file.path}{of} does not apply to {refused.kernel}\n"
        f"  {where(commit.diff, error)}\n"
        f"  {program} says: {error}\n"
        f"{advice(refused, file, commit, error)}. "
        f"The source it was tried on is in {refused.pristine}"
    )


def _differences(staging: Path, base: str) -> tuple[dict[str, Path | None], dict[str, str]]:
    """The files that differ between base and HEAD, and the submodules that came."""
    options = ("--raw", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff")
    raw = git(["diff", *options, base, "HEAD"], staging).split(b"\0")
    files: dict[str, Path | None] = {}
    submodules: dict[str, str] = {}
    for head, name in zip(raw[0::2], raw[1::2], strict=False):
        _, mode, _, new, _ = head.decode().split(" ")
        path = os.fsdecode(name)
        if mode == _SUBMODULE:
            submodules[path] = new
            files[path] = None
        else:
            files[path] = None if mode == _NO_FILE else staging / path
    return dict(sorted(files.items())), submodules


def _head(repository: Path) -> str:
    return git(["rev-parse", "HEAD"], repository).decode().strip()
