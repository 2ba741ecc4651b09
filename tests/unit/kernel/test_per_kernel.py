# SPDX-License-Identifier: GPL-2.0-only
"""Which fragments and patches belong to a kernel, by its version and its acceleration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.arms import Arm
from kdelta.errors import KdeltaError
from kdelta.kernel.aptconf import suites_beyond
from kdelta.patch_files import patch_files
from kdelta.per_kernel import fragment_files, patch_folder, series_of, series_text
from tests.conftest import CHECKOUT

SHIPPED = ["kernel-configs/guest.config", "kernel-configs/observe.config"]


@pytest.mark.parametrize(
    ("version", "series"),
    [("6.12.117", (6, 12)), ("7.3.0-rc7", (7, 3)), ("7.10", (7, 10)), ("10.0.0", (10, 0))],
)
def test_the_series_of_a_version(version: str, series: tuple[int, int]) -> None:
    assert series_of(version) == series


@given(st.tuples(st.integers(0, 99), st.integers(0, 99)), st.integers(0, 300))
def test_a_series_is_found_in_every_version_of_it(series: tuple[int, int], level: int) -> None:
    assert series_of(f"{series_text(series)}.{level}") == series == series_of(series_text(series))


@pytest.mark.parametrize("version", ["", "6", "next-20260101", "v6.12"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(ValueError, match="no version of a kernel"):
        series_of(version)


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in (
        *("a.config", "a.linux-7.2.config", "a.linux-7.10.config", "a.linux-6.1.config"),
        *("a.tcg.config", "b.config", "b.kvm.config", "a.other.config", "a.linux-7.2.txt"),
    ):
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("series", "acceleration", "expected"),
    [
        ((6, 0), "kvm", "a b b.kvm"),
        ((6, 12), "tcg", "a a.linux-6.1 a.tcg b"),
        ((7, 2), "tcg", "a a.linux-6.1 a.linux-7.2 a.tcg b"),
        # 10 comes after 2
        ((7, 9), "kvm", "a a.linux-6.1 a.linux-7.2 b b.kvm"),
        ((8, 0), "kvm", "a a.linux-6.1 a.linux-7.2 a.linux-7.10 b b.kvm"),
    ],
)
def test_fragments_by_series_and_acceleration(
    configs: Path, series: tuple[int, int], acceleration: str, expected: str
) -> None:
    found = fragment_files(["a.config", "b.config"], configs, series, acceleration, "arm64")
    assert [file.name.removesuffix(".config") for file in found] == expected.split()


def test_a_fragment_named_for_no_series_is_a_mistake(configs: Path) -> None:
    (configs / "a.linux-7.config").write_text("")
    with pytest.raises(KdeltaError, match=r"a\.linux-7\.config: named for no series of kernels"):
        fragment_files(["a.config"], configs, (6, 12), "tcg", "arm64")


def test_static_branches_are_off_for_the_emulator_alone() -> None:
    from kdelta.kernel.configure import read_fragments

    for series in ((6, 12), (7, 2), (7, 3)):
        values = {
            mode: read_fragments(fragment_files(SHIPPED, CHECKOUT, series, mode, "x86_64"))
            for mode in ("kvm", "tcg")
        }
        differ = {
            name
            for name in values["kvm"].keys() | values["tcg"].keys()
            if values["kvm"][name].value != values["tcg"][name].value
        }
        assert differ == {"CONFIG_JUMP_LABEL"}
        assert values["kvm"]["CONFIG_JUMP_LABEL"].value == "y"


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    for name in ("linux-6.12", "linux-7.2", "linux-7.10", "notes"):
        (tmp_path / "topic" / name).mkdir(parents=True)
        (tmp_path / "topic" / name / "0001-x.patch").write_text(name)
    (tmp_path / "topic/README.md").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("series", "folder"),
    [
        ((6, 12), "linux-6.12"),
        ((6, 18), "linux-6.12"),
        ((7, 2), "linux-7.2"),
        ((7, 9), "linux-7.2"),
        ((7, 10), "linux-7.10"),
        ((8, 0), "linux-7.10"),
        (None, "linux-7.10"),
    ],
)
def test_patches_of_a_topic(topic: Path, series: tuple[int, int] | None, folder: str) -> None:
    (file,) = patch_files(Arm(title="x", patches=["topic"]), topic, series)
    assert file == topic / "topic" / folder / "0001-x.patch"


def test_a_topic_without_patches_for_a_kernel_says_what_it_has(topic: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        patch_files(Arm(title="x", patches=["topic"]), topic, (6, 6))
    assert str(caught.value).startswith(
        "topic has no patches for Linux 6.6: its folders are linux-6.12, linux-7.2, linux-7.10; add"
    )


def test_a_folder_of_patches_is_itself(topic: Path) -> None:
    named = topic / "topic/linux-6.12"
    assert patch_folder(named, (7, 2)) == named


DEBIAN_12 = ["Debian|Debian|main|oldstable|bookworm"]


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (DEBIAN_12, "bookworm-backports stable-backports stable testing unstable experimental"),
        (
            [*DEBIAN_12, "Debian|Debian|main|oldstable-backports|bookworm-backports"],
            "stable-backports stable testing unstable experimental",
        ),
        (
            ["Debian|Debian|main|stable|trixie", "Debian|Debian-Security|main|x|y", "x|y|z|a|b"],
            "trixie-backports stable-backports testing unstable experimental",
        ),
        (["Debian|Debian|main|unstable|sid"], "stable-backports stable testing experimental"),
        (["Ubuntu|Ubuntu|main|noble|noble"], ""),
        ([], ""),
    ],
)
def test_where_a_package_is_looked_for(listing: list[str], expected: str) -> None:
    assert suites_beyond(listing) == expected.split()
