# SPDX-License-Identifier: GPL-2.0-only
"""One commit of a git repository, shallow."""

from __future__ import annotations

import os
from pathlib import Path

from kdelta.arms import GitSource
from kdelta.cache import disk_full, file_lock, make_entry, says_disk_full
from kdelta.errors import KdeltaError
from kdelta.kernel.process import clean_environment, run
from kdelta.progress import Progress

# What git says when it reached the repository but not the commit.
_NO_COMMIT = ("not our ref", "unadvertised object", "couldn't find remote ref")


def unpack_commit(source: GitSource, store: Path, tree: Path) -> None:
    """Fetch one commit and unpack its files.

    Args:
        source: the repository and the commit.
        store: a folder for the bare repository that the commit is fetched into;
            it stays, so that a second commit of the same tree is a small download.
        tree: an empty folder, which gets the files.

    Raises:
        KdeltaError: the repository cannot be reached, or has no such commit.
    """
    repository = store / "kernels.git"
    with file_lock(store / "lock", "the git repository in the cache"):
        make_entry(repository, lambda folder: _init(folder, store))
        status, said = _fetch(source, repository)
    if status != 0:
        raise _cannot_fetch(source, store, said)
    # Attributes and line-ending settings of the user must not reach the tree.
    script = 'git --git-dir="$1" archive "$2" | tar -x -C "$3"'
    with Progress(f"unpacking commit {source.commit[:12]}") as progress:
        result = run(
            ["bash", "-o", "pipefail", "-c", script, "unpack", repository, source.commit, tree],
            env=clean_environment({"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}),
            on_tick=progress.update,
        )
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(tree, "unpacking a kernel's source")
        raise KdeltaError(
            f"kernel.source: commit {source.commit} of {source.url} cannot be unpacked: "
            f"{_last_line(result.tail)}"
        )


def _fetch(source: GitSource, repository: Path) -> tuple[int, str]:
    # The ref keeps the commit from being pruned.
    refspec = f"+{source.commit}:refs/kdelta/{source.commit}"
    arguments = ["fetch", "--quiet", "--depth", "1", "--no-tags", source.url, refspec]
    with Progress(f"fetching commit {source.commit[:12]} from {source.url}") as progress:
        result = run(
            ["git", f"--git-dir={repository}", "-c", "gc.auto=0", *arguments],
            # The user's own git settings stay: proxies and credentials are there.
            # A question at the terminal would hang a pipeline.
            env={**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
            on_tick=progress.update,
        )
    return result.status, result.tail


def _cannot_fetch(source: GitSource, store: Path, said: str) -> KdeltaError:
    if says_disk_full(said):
        return disk_full(store, "fetching a kernel's source")
    if any(sign in said for sign in _NO_COMMIT):
        return KdeltaError(
            f"kernel.source.commit: {source.commit} is not in {source.url} (or its server does "
            "not hand out single commits); `git rev-parse NAME^{commit}` in a clone prints the id "
            f"of a tag or branch. git says: {_last_line(said)}"
        )
    return KdeltaError(
        f"kernel.source.url: {source.url} cannot be fetched from; check the address or path "
        f"(`git ls-remote {source.url}` must work). git says: {_last_line(said)}"
    )


def _init(folder: Path, store: Path) -> None:
    doing = "preparing a repository"
    result = run(["git", "init", "--quiet", "--bare", folder], env=clean_environment())
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(store, doing)
        raise KdeltaError(f"{store}: {doing} failed. git says: {_last_line(result.tail)}")


def _last_line(text: str) -> str:
    """The line that says most: git's last `fatal:` or `error:`, or else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return (telling or lines or ["nothing"])[0]
