# SPDX-License-Identifier: GPL-2.0-only
"""A block's files reach their place all together: `host.json` is the mark of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdelta.measure.block import _publish

NAMES = ("baseline.jsonl", "host.json", "patched.jsonl", "schedule.json")


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it is done."""


def fill(folder: Path, content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(content)


def test_all_files_are_moved(tmp_path: Path) -> None:
    fill(tmp_path / "scratch", "new")
    (tmp_path / "out").mkdir()
    _publish(tmp_path / "scratch", tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == dict.fromkeys(
        NAMES, "new"
    )
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("survived", range(len(NAMES) + 1))
def test_killed_between_any_two_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    fill(tmp_path / "scratch", "new")
    fill(tmp_path / "out", "old")
    done = []
    replace = Path.replace

    def dying(path: Path, target: Any) -> Path:
        if len(done) == survived:
            raise KilledError
        done.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", dying)
    if survived < len(NAMES):
        with pytest.raises(KilledError):
            _publish(tmp_path / "scratch", tmp_path / "out")
    else:
        _publish(tmp_path / "scratch", tmp_path / "out")
    if (tmp_path / "out" / "host.json").exists():
        contents = {(tmp_path / "out" / name).read_text() for name in NAMES}
        assert contents == {"new"}
    else:
        assert survived < len(NAMES)
