# SPDX-License-Identifier: GPL-2.0-only
"""Applying patches: the tree is left alone, and the hunk that does not apply is named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.kernel.patch_advice import where
from kdelta.kernel.patches import PatchFile, read_patches
from kdelta.kernel.patching import stage

PIPE = [f"line {number}\n" for number in range(1, 101)]


def diff(old: list[str], new: list[str], name: str = "fs/pipe.c") -> str:
    return "".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"))


def changed(*numbers: int, base: list[str] = PIPE) -> list[str]:
    return [f"patched {n}\n" if n in numbers else line for n, line in enumerate(base, start=1)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "fs").mkdir(parents=True)
    (tree / "fs/pipe.c").write_text("".join(PIPE))
    (tree / "fs/other.c").write_text("untouched\n")
    return tree


def patch(tmp_path: Path, text: str, name: str = "0001.patch") -> PatchFile:
    file = tmp_path / name
    file.write_text(text)
    return read_patches([file])[0]


def apply(tree: Path, *patches: PatchFile) -> Mapping[str, Path | None]:
    return stage(tree, tree.parent / "staging", patches, "patched", "Linux 6.12.1").files


def test_applies_in_order_and_leaves_the_tree_alone(tree: Path, tmp_path: Path) -> None:
    first = patch(tmp_path, diff(PIPE, changed(10)), "1.patch")
    second = patch(tmp_path, diff(changed(10), changed(10, 11)), "2.patch")
    staged = apply(tree, first, second)
    assert list(staged) == ["fs/pipe.c"]
    assert staged["fs/pipe.c"].read_text() == "".join(changed(10, 11))
    assert (tree / "fs/pipe.c").read_text() == "".join(PIPE)


def test_new_deleted_and_renamed_files(tree: Path, tmp_path: Path) -> None:
    text = (
        "diff --git a/fs/new.c b/fs/new.c\nnew file mode 100755\n--- /dev/null\n+++ b/fs/new.c\n"
        "@@ -0,0 +1 @@\n+hello\n"
        "diff --git a/fs/other.c b/fs/other.c\ndeleted file mode 100644\n--- a/fs/other.c\n"
        "+++ /dev/null\n@@ -1 +0,0 @@\n-untouched\n"
        "diff --git a/fs/pipe.c b/fs/tube.c\nsimilarity index 100%\nrename from fs/pipe.c\n"
        "rename to fs/tube.c\n"
    )
    staged = apply(tree, patch(tmp_path, text))
    assert staged["fs/new.c"].read_text() == "hello\n"
    assert staged["fs/new.c"].stat().st_mode & 0o111
    assert staged["fs/other.c"] is None
    assert staged["fs/pipe.c"] is None
    assert staged["fs/tube.c"].read_text() == "".join(PIPE)


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_failure_names_arm_patch_file_hunk_and_kernel(tree: Path, tmp_path: Path, bad: int) -> None:
    lines = (10, 50, 90)
    wrong = list(PIPE)
    wrong[lines[bad - 1] - 2] = "not what the kernel has\n"  # a context line of that hunk
    broken = patch(tmp_path, diff(wrong, changed(*lines, base=wrong)), "0007-pipe.patch")
    with pytest.raises(KdeltaError) as caught:
        apply(tree, broken)
    message = str(caught.value)
    header = f"@@ -{lines[bad - 1] - 3},7 +{lines[bad - 1] - 3},7 @@"
    assert "arm patched" in message
    assert "0007-pipe.patch does not apply to Linux 6.12.1" in message
    assert f"fs/pipe.c, hunk {bad} of 3: {header}" in message


def test_no_fuzz(tree: Path, tmp_path: Path) -> None:
    wrong = list(PIPE)
    wrong[6] = "outermost context line\n"  # patch(1) would shrug at this one
    with pytest.raises(KdeltaError, match="hunk 1 of 1"):
        apply(tree, patch(tmp_path, diff(wrong, changed(10, base=wrong))))


def test_offset_is_allowed(tree: Path, tmp_path: Path) -> None:
    shifted = ["one more line\n", *PIPE]
    staged = apply(tree, patch(tmp_path, diff(shifted, ["one more line\n", *changed(50)])))
    assert staged["fs/pipe.c"].read_text() == "".join(changed(50))


def test_a_repository_around_the_cache_does_not_matter(tree: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git/objects").mkdir()
    (tmp_path / ".git/refs").mkdir()
    staged = apply(tree, patch(tmp_path, diff(PIPE, changed(10))))
    assert staged["fs/pipe.c"].read_text() == "".join(changed(10))


def test_missing_file_is_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"fs/gone\.c: does not exist"):
        apply(tree, patch(tmp_path, diff(["a\n"], ["b\n"], "fs/gone.c")))


@pytest.mark.parametrize("path", ["../outside.c", "fs/../../outside.c"])
def test_paths_out_of_the_tree_are_refused(tree: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(KdeltaError, match="leads out of the kernel tree"):
        apply(tree, patch(tmp_path, diff(["a\n"], ["b\n"], path)))


def test_a_file_without_diff_is_no_patch(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match="no diff in this file"):
        apply(tree, patch(tmp_path, "Subject: [PATCH] nothing\n\nhello\n"))


def test_unreadable_patch(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"gone\.patch: the patch cannot be read: No such file"):
        read_patches([tmp_path / "gone.patch"])


def test_a_removed_line_that_looks_like_a_header_is_none(tmp_path: Path) -> None:
    text = (
        "--- a/fs/pipe.c\n+++ b/fs/pipe.c\n@@ -1,2 +1,2 @@\n context\n--- a/trap.c\n+++ b/trap.c\n"
    )
    assert patch(tmp_path, text).paths == {"fs/pipe.c"}


def test_other_failures_keep_gits_words() -> None:
    assert where(b"", "error: corrupt patch at line 12") == "corrupt patch at line 12"


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 100), min_size=1), st.integers(0, 9))
def test_every_hunk_is_found_again(numbers: set[int], pick: int) -> None:
    text = diff(["x\n"], ["y\n"], "fs/other.c") + diff(PIPE, changed(*numbers))
    headers = [line for line in text.splitlines() if line.startswith("@@")][1:]
    number = pick % len(headers)
    start = int(headers[number].split(",")[0].removeprefix("@@ -"))
    said = f"error: patch failed: fs/pipe.c:{start}; error: fs/pipe.c: patch does not apply"
    assert (
        where(text.encode(), said)
        == f"fs/pipe.c, hunk {number + 1} of {len(headers)}: {headers[number]}"
    )
