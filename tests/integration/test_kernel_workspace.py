# SPDX-License-Identifier: GPL-2.0-only
"""The build folder: the cached source cannot change, and a crash leaves nothing wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kdelta.kernel import workspace as workspace_module
from kdelta.kernel.source import SourceTree
from kdelta.kernel.workspace import Workspace, open_workspace, remove_half_written

from .kernel_support import FILES, cached_tree, snapshot


@pytest.fixture
def tree(tmp_path: Path) -> SourceTree:
    return cached_tree(tmp_path / "cache")


def use(tree: SourceTree):
    return open_workspace(tree.path.parents[2], tree.id, tree.path, "gcc\nld")


def put(workspace: Workspace, texts: Mapping[str, str | None]) -> list[str]:
    """Set files by content."""
    contents: dict[str, Path | None] = {}
    for name, text in texts.items():
        if text is None:
            contents[name] = None
        else:
            file = workspace.staging / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            contents[name] = file
    return workspace.set_files(contents)


def texts(workspace: Workspace) -> dict[str, str]:
    return {name: value[0].decode() for name, value in snapshot(workspace.src).items()}


def test_starts_as_links_to_the_source(tree: SourceTree) -> None:
    with use(tree) as workspace:
        assert snapshot(workspace.src) == snapshot(tree.path)
        assert list(workspace.obj.iterdir()) == []


def test_the_cached_source_never_changes(tree: SourceTree) -> None:
    before = snapshot(tree.path)
    with use(tree) as workspace:
        put(workspace, {"fs/pipe.c": "patched\n", "fs/exec.c": None, "new/deep/file.c": "new\n"})
        assert texts(workspace) == {
            **{name: text for name, text in FILES.items() if name != "fs/exec.c"},
            "fs/pipe.c": "patched\n",
            "new/deep/file.c": "new\n",
        }
        assert snapshot(tree.path) == before
        put(workspace, {})
        assert texts(workspace) == FILES
        assert not (workspace.src / "new").exists()
    assert snapshot(tree.path) == before


def test_only_changed_files_get_a_new_time(tree: SourceTree) -> None:
    with use(tree) as workspace:
        first = snapshot(workspace.src)
        assert put(workspace, {"fs/pipe.c": "patched\n", "fs/exec.c": FILES["fs/exec.c"]}) == [
            "fs/pipe.c"
        ]
        second = snapshot(workspace.src)
        assert {name for name in first if first[name] != second[name]} == {"fs/pipe.c"}
        assert second["fs/pipe.c"][1] > first["fs/pipe.c"][1]
    with use(tree) as workspace:
        assert put(workspace, {"fs/pipe.c": "patched\n"}) == []
        assert snapshot(workspace.src) == second
        # going back is a change too, however old the file is that comes back
        assert put(workspace, {}) == ["fs/pipe.c"]
        third = snapshot(workspace.src)
        assert third["fs/pipe.c"][1] > second["fs/pipe.c"][1]


def test_permission_to_execute_counts_as_content(tree: SourceTree) -> None:
    with use(tree) as workspace:
        script = workspace.staging / "fs/exec.c"
        script.parent.mkdir(parents=True)
        script.write_text(FILES["fs/exec.c"])
        script.chmod(0o755)
        assert workspace.set_files({"fs/exec.c": script}) == ["fs/exec.c"]
        assert os.access(workspace.src / "fs/exec.c", os.X_OK)
    assert not os.access(tree.path / "fs/exec.c", os.X_OK)


def second_arm(tree: SourceTree) -> None:
    with use(tree) as workspace:
        put(workspace, {"fs/exec.c": "second\n", "b/added.c": "second\n", "Kconfig": None})
    raise Killed


class Killed(BaseException):
    """Stands for a process that is gone."""


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_step_the_next_arm_is_right(
    tree: SourceTree, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each file operation of `set_files` in turn is the last one that the process does."""
    with use(tree) as workspace:
        put(workspace, {"fs/pipe.c": "first\n", "a/added.c": "first\n"})
    left = step

    def dying(real):
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(
            workspace_module, "write_atomically", dying(workspace_module.write_atomically)
        )
        patched.setattr(Path, "replace", dying(Path.replace))
        patched.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(Killed):
            second_arm(tree)
    with use(tree) as workspace:
        put(workspace, {"fs/exec.c": "third\n"})
        assert texts(workspace) == {**FILES, "fs/exec.c": "third\n"}


def test_objects_of_an_older_way_to_build_are_not_used(tree: SourceTree) -> None:
    with use(tree) as workspace:
        (workspace.obj / "left.o").write_text("x")
        state = workspace.root / "state.json"
    recorded = json.loads(state.read_text())
    state.write_text(json.dumps({**recorded, "schema": recorded["schema"] - 1}))
    with use(tree) as workspace:
        assert list(workspace.obj.iterdir()) == []


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99}', "[]", None])
def test_unreadable_state_means_a_new_workspace(tree: SourceTree, damage: str | None) -> None:
    with use(tree) as workspace:
        put(workspace, {"fs/pipe.c": "patched\n"})
        (workspace.obj / "left.o").write_text("x")
        state = workspace.root / "state.json"
    if damage is None:
        state.unlink()
    else:
        state.write_text(damage)
    with use(tree) as workspace:
        assert texts(workspace) == FILES
        assert list(workspace.obj.iterdir()) == []


def test_a_moved_cache_means_a_new_workspace(tree: SourceTree, tmp_path: Path) -> None:
    with use(tree) as workspace:
        (workspace.obj / "Makefile").write_text("an absolute path")
    (tmp_path / "cache").rename(tmp_path / "moved")
    pristine = tmp_path / "moved/sources/5eed/tree"
    with open_workspace(tmp_path / "moved", tree.id, pristine, "gcc\nld") as workspace:
        assert list(workspace.obj.iterdir()) == []


def test_another_compiler_has_another_workspace(tree: SourceTree) -> None:
    cache = tree.path.parents[2]
    with use(tree) as one, open_workspace(cache, tree.id, tree.path, "clang\nld") as other:
        assert one.root != other.root


def test_half_written_targets_go_after_a_kill_only(tree: SourceTree) -> None:
    def target(folder: Path, name: str, age_of_cmd: float) -> Path:
        (folder / name).write_text("object")
        (folder / f".{name}.cmd").write_text("cmd")
        now = (folder / name).stat().st_mtime
        os.utime(folder / f".{name}.cmd", (now - age_of_cmd, now - age_of_cmd))
        return folder / name

    with use(tree) as workspace:
        whole, half = target(workspace.obj, "whole.o", -1), target(workspace.obj, "half.o", 1)
        workspace.begin_build()
        assert half.exists()
    with use(tree) as workspace:  # the build never ended
        assert json.loads((workspace.root / "state.json").read_text())["building"] is True
        workspace.begin_build()
        assert whole.exists()
        assert not half.exists()
        workspace.end_build()
        assert workspace.built
    assert remove_half_written(workspace.obj) == []
