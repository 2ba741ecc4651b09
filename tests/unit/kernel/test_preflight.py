# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes in patches and fragments are told by `kdelta check`, before anything is built."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.arms import Arm
from kdelta.cache import USED
from kdelta.cli import main
from kdelta.patch_files import natural_order, patch_files, surely_cover_letter
from kdelta.workflow import plan_run
from tests.conftest import Project, plain_diff

COVER = b"From: A <a@b>\nSubject: [PATCH v2 0/2] fs: why\n\nBlurb.\n\n fs/one.c | 2 +-\n-- \n2.39\n"


def check(project: Project) -> int:
    return main(["--root", str(project.root), "check", "experiment.yaml"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the source that the small experiment names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = tmp_path / "cache/kdelta/sources/5eed"
    (entry / "tree/fs").mkdir(parents=True)
    (entry / "tree/Makefile").write_text("VERSION = 6\n")
    (entry / "tree/fs/one.c").write_text("return 1;\n")
    record = {"type": "debian", "package": "linux-source-6.12", "version": "6.12.1-1"}
    more = {"suite": None, "sha256": "5eed", "kernel_version": "6.12.1", "schema": 1, "id": "5eed"}
    (entry / "source.json").write_text(json.dumps({**record, **more}))
    return entry


def test_patches_are_applied_where_the_source_is_at_hand(
    project: Project, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # But for the mark of its use.
    files = [path for path in cache.rglob("*") if path.name != USED]
    before = [(path, path.stat().st_mtime_ns) for path in files]
    assert check(project) == 0
    printed = capsys.readouterr().out
    assert "    0002-second.patch: 0002-second.patch\n" in printed
    assert "patches apply to Linux 6.12.1 (linux-source-6.12 6.12.1-1)" in printed
    (project.root / "patches/other.patch").write_text(plain_diff("return 9;", "return 4;"))
    assert check(project) == 1
    said = capsys.readouterr().err
    assert "arm other: " in said
    assert "fs/one.c, hunk 1 of 1: @@ -1 +1 @@" in said
    assert [(path, path.stat().st_mtime_ns) for path in files] == before
    assert {*cache.rglob("*")} == {*files, cache / USED}


@pytest.mark.usefixtures("cache")
def test_arms_without_patches_are_told_what_makes_them(
    project: Project, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    small["arms"] = {"baseline": {"title": "old"}, "new": {"title": "n", "compiler": "gcc"}}
    project.write(small)
    assert check(project) == 0
    printed = capsys.readouterr().out
    assert "  arm new: n (Linux 6.12.1 (linux-source-6.12 6.12.1-1), gcc)\n" in printed
    assert "apply" not in printed


def test_a_rate_of_zero_is_told(
    project: Project, small: dict[str, Any], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"title": "t", "output": "regex", "command": ["{program}", "{rate} per s"]}
    said["program"] = {"package": "coreutils", "command": "echo"}
    said["parameters"] = {"rate": {"type": "count", "minimum": 0}}
    said["metrics"] = {
        "rate_s": {"read": "^(\\d+)", "title": "R", "unit": "1/s", "better": "higher"}
    }
    folder = project.root / "workloads/still"
    folder.mkdir()
    (folder / "workload.yaml").write_text(json.dumps(said))
    for rate in (0, 3):
        small["workloads"] = {"still": {"matrix": {"rate": [rate]}}}
        project.write(small)
        assert check(project) == 0
        assert ("rate_s is not above zero: " in capsys.readouterr().out) == (rate == 0)


def test_what_is_an_arms_own_is_said(
    project: Project, small: dict[str, Any], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "saved.config").write_text("CONFIG_SMP=y\n")
    newer = {"type": "debian", "package": "linux-source-7.2"}
    ours = {"type": "git", "url": "/home/me/linux", "commit": "0123456789" * 4}
    arms = {
        "baseline": {"title": "as it is"},
        "newer": {"title": "newer", "source": newer, "compiler": "gcc-12"},
        "saved": {"title": "mine", "base": "saved.config"},
        "ours": {"title": "ours", "source": ours, "fragments": ["kernel-configs/guest.config"]},
    }
    project.write(small | {"arms": arms})
    assert check(project) == 0
    printed = capsys.readouterr().out
    here = "Linux 6.12.1 (linux-source-6.12 6.12.1-1)"
    assert f"  arm baseline: as it is ({here})\n" in printed
    assert "  arm newer: newer (linux-source-7.2, gcc-12)\n" in printed
    assert f"  arm saved: mine ({here}, base saved.config)\n" in printed
    fragment = "fragment kernel-configs/guest.config"
    assert f"  arm ours: ours (/home/me/linux 012345678901, {fragment})\n" in printed
    assert "patches" not in printed


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("kernel.config.base", lambda data: data["kernel"]["config"]),
        ("arms.other.base", lambda data: data["arms"]["other"]),
    ],
)
def test_a_base_that_is_no_configuration(
    project: Project,
    small: dict[str, Any],
    key: str,
    changed: Callable[[dict[str, Any]], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (project.root / "saved.config").write_text("# nothing of a kernel's\nroot:x:0:0\n")
    changed(small)["base"] = "saved.config"
    project.write(small)
    assert check(project) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"kdelta: experiment.yaml: {key}: ")
    assert "no line CONFIG_NAME=value in it" in err


@pytest.mark.parametrize("verb", ["check", "take"])
def test_an_image_that_is_none(
    project: Project, small: dict[str, Any], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "vmlinuz").write_bytes(b"no kernel")
    small["arms"]["other"] = {"title": "ready", "image": "vmlinuz"}
    project.write(small)
    root, out = ["--root", str(project.root)], str(project.root / "out")
    take = ["take", "--experiment", "experiment.yaml", "--arm", "other", "--output", out]
    assert main(root + (take if verb == "take" else ["check", "experiment.yaml"])) == 1
    err = capsys.readouterr().err
    assert err.startswith("kdelta: experiment.yaml: arms.other.image: ")
    assert "no kernel that x86-64 guests boot: it has not the header of one" in err


def test_without_the_source_it_is_said(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert check(project) == 0
    assert "patches were not tried" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("patches/other.patch", b"no patch\n", "arms.other.patches: .*no diff in this file"),
        ("patches/other.patch", COVER, "arms.other.patches: a cover letter and no patch"),
        ("patches/series/0003.patch.gz", b"\x1f\x8b\x08", "compressed with gzip; unpack it"),
        (
            "kernel-configs/guest.config",
            b"CONFIG_SMP=y\nSMP=y\n",
            "kernel.config.fragments: .*guest.config:2: not a line of a config fragment",
        ),
    ],
)
def test_mistakes_are_told(
    project: Project, file: str, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / file).write_bytes(content)
    assert check(project) == 1
    err = capsys.readouterr().err
    assert err.startswith("kdelta: experiment.yaml: ")
    assert re.search(said, err)


def test_a_cover_letter_is_told_and_is_no_part_of_the_key(
    project: Project, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def key() -> str:
        settings: dict[str, Any] = {"experiment": "experiment.yaml", "protocol": "quick"}
        return plan_run(settings, "c", project.root).build_key("patched", (6, 12), "tcg")

    without = key()
    cover = project.root / "patches/series/v2-0000-cover-letter.patch"
    cover.write_bytes(COVER)
    assert key() == without
    assert check(project) == 0
    printed = capsys.readouterr().out
    assert (
        "arm patched: with the series (Linux 6.12.1 (linux-source-6.12 6.12.1-1), 2 pat" in printed
    )
    assert "cover letter: fs: why (kept)" in printed
    # With a diff in it, it is a patch, whatever its number.
    cover.write_bytes(COVER + plain_diff("return 3;", "return 5;").encode())
    assert key() != without


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_an_encoded_letter_is_no_sure_one(encoding: bytes) -> None:
    assert surely_cover_letter(COVER)
    assert surely_cover_letter(b"From 12 Mon Sep 17 00:00:00 2001\n" + COVER)
    assert not surely_cover_letter(b"Content-Transfer-Encoding: " + encoding + b"\n" + COVER)
    assert not surely_cover_letter(COVER.replace(b"0/2", b"1/2"))


def test_files_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    taken = ["2-b.patch", "9-a.diff", "10-c.patch", "11-series.mbx", "12-x.mbox", "13-y.eml"]
    left = [".hidden.patch", "2-b.patch~", "#2-b.patch#", ".2-b.patch.swp", "2-b.patch.orig"]
    for name in (*taken, *left, "README.md", "series"):
        (folder / name).touch()
    (folder / "folder.patch").mkdir()
    found = patch_files(Arm(title="x", patches=["p"]), tmp_path)
    assert [file.name for file in found] == taken


@given(st.lists(st.integers(0, 9999), min_size=2, unique=True))
def test_numbers_count_as_numbers(numbers: list[int]) -> None:
    files = [Path(f"{number}-some.patch") for number in numbers]
    assert sorted(files, key=natural_order) == [Path(f"{n}-some.patch") for n in sorted(numbers)]
