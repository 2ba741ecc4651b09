# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source from git, against a local repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kdelta.arms import GitSource
from kdelta.errors import KdeltaError
from kdelta.kernel.source import fetch, restore

from .kernel_support import FILES, write_tree


def git(folder: Path, *arguments: str) -> str:
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))
    }
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **identity},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "linux"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write_tree(folder)
    for number in (1, 2, 3):
        (folder / "fs/exec.c").write_text(f"int exec = {number};\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"commit {number}")
    return folder


def source(repository: Path | str, commit: str) -> GitSource:
    return GitSource(type="git", url=str(repository), commit=commit)


def test_any_commit_shallow_and_cached(repository: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    middle = git(repository, "rev-parse", "HEAD~1")
    tree = fetch(source(repository, middle), cache)
    assert tree.id == middle
    assert (tree.path / "fs/exec.c").read_text() == "int exec = 2;\n"
    assert (tree.path / "fs/pipe.c").read_text() == FILES["fs/pipe.c"]
    assert tree.kernel_version == "6.12.1"
    assert tree.title == f"Linux 6.12.1 ({repository} {middle[:12]})"
    assert not (tree.path / ".git").exists()
    count = git(cache / "git/kernels.git", "rev-list", "--count", "--all")
    assert count == "1"  # shallow: no history

    shutil.rmtree(repository)  # from here on, only the cache can answer
    assert fetch(source(repository, middle), cache) == tree
    assert restore(tree.record(), cache) == tree


def test_second_commit_of_the_same_repository(repository: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for back, number in ((0, 3), (2, 1)):
        commit = git(repository, "rev-parse", f"HEAD~{back}")
        tree = fetch(source(repository, commit), cache)
        assert (tree.path / "fs/exec.c").read_text() == f"int exec = {number};\n"


def test_the_users_line_endings_do_not_reach_the_tree(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    tree = fetch(source(repository, git(repository, "rev-parse", "HEAD")), tmp_path / "cache")
    assert b"\r" not in (tree.path / "fs/pipe.c").read_bytes()


def test_missing_commit(repository: Path, tmp_path: Path) -> None:
    commit = "0123456789" * 4
    with pytest.raises(KdeltaError) as caught:
        fetch(source(repository, commit), tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"kernel.source.commit: {commit} is not in {repository}")
    assert "git rev-parse" in message
    assert not list((tmp_path / "cache").glob("sources/*"))


def test_missing_repository(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError) as caught:
        fetch(source(tmp_path / "nowhere", "0123456789" * 4), tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"kernel.source.url: {tmp_path / 'nowhere'} cannot be fetched from")
    assert "does not appear to be a git repository" in message


def test_a_repository_that_is_no_kernel(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "README").write_text("no kernel\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
    with pytest.raises(KdeltaError, match="this is no Linux kernel"):
        fetch(source(folder, git(folder, "rev-parse", "HEAD")), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("sources/*"))


def test_relative_cache_folder(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = fetch(source("linux", git(repository, "rev-parse", "HEAD")), Path("cache"))
    assert tree.path.is_absolute()
