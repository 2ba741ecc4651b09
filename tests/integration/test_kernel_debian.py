# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source from a Debian package: a real package, and an apt-get that serves it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kdelta.arms import DebianSource
from kdelta.cache import USED
from kdelta.errors import KdeltaError
from kdelta.kernel import debian
from kdelta.kernel.source import fetch, restore

from .kernel_support import FILES, write_tree

NAME = "linux-source-6.12"
FILE = f"{NAME}_6.12.1-1_all.deb"

pytestmark = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="needs dpkg-deb: not a Debian host"
)

# Answers as apt-get does; every call is noted, so that tests see what needed the network.
APT = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$*" in
*--print-uris*={version}|*--print-uris*{name})
    echo "'http://x/{file}' {file} $(stat -c %s "$here/{file}") SHA256:$(cat "$here/sum")" ;;
*--print-uris*) echo "E: Unable to locate package" >&2; exit 100 ;;
*download*) [ -e "$here/offline" ] && {{ echo "E: Failed to fetch" >&2; exit 100; }}
    cp "$here/{file}" . ;;
esac
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with apt-get, apt-cache and the package, first on PATH."""
    folder = tmp_path / "apt"
    top = tmp_path / "work" / NAME
    write_tree(top)
    package = tmp_path / "package"
    (package / "usr/src").mkdir(parents=True)
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN/control").write_text(
        f"Package: {NAME}\nVersion: 6.12.1-1\nArchitecture: all\nMaintainer: t <t@example.org>\n"
        "Description: test\n"
    )
    archive = package / f"usr/src/{NAME}.tar.xz"
    subprocess.run(["tar", "-C", top.parent, "-cJf", archive, NAME], check=True)
    folder.mkdir()
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", package, folder / FILE],
        check=True,
        capture_output=True,
    )
    (folder / "sum").write_text(hashlib.sha256((folder / FILE).read_bytes()).hexdigest())
    (folder / "apt-get").write_text(APT.format(name=NAME, version="6.12.1-1", file=FILE))
    (folder / "apt-cache").write_text(f"#!/bin/sh\necho '{NAME} - Linux kernel source'\n")
    for program in ("apt-get", "apt-cache"):
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def source(**options: str) -> DebianSource:
    return DebianSource(type="debian", **{"package": NAME, **options})


def calls(apt: Path, word: str) -> int:
    return sum(word in line.split() for line in (apt / "calls").read_text().splitlines())


def test_downloaded_and_unpacked_once(apt: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    tree = fetch(source(), cache)
    assert tree.id == (apt / "sum").read_text()
    assert tree.describe == {
        "type": "debian",
        "package": NAME,
        "version": "6.12.1-1",
        "sha256": tree.id,
        "suite": None,
        "kernel_version": "6.12.1",
    }
    assert {
        str(path.relative_to(tree.path)): path.read_text()
        for path in tree.path.rglob("*")
        if path.is_file()
    } == FILES
    assert {path.name for path in tree.path.parent.iterdir()} == {USED, "source.json", "tree"}
    assert fetch(source(version="6.12.1-1"), cache) == tree
    downloads = [line for line in (apt / "calls").read_text().splitlines() if "--print" not in line]
    assert len(downloads) == 1

    asked = (apt / "calls").read_text()
    assert restore(tree.record(), cache) == tree
    assert (apt / "calls").read_text() == asked  # a recorded source needs no apt at all


def test_restored_from_the_archive_when_the_cache_is_gone(apt: Path, tmp_path: Path) -> None:
    record = fetch(source(), tmp_path / "cache").record()
    assert restore(record, tmp_path / "other").id == record["id"]
    (apt / "sum").write_text("0" * 64)
    with pytest.raises(KdeltaError, match="SHA-256"):
        restore(record, tmp_path / "third")


@pytest.mark.parametrize("options", [{"package": "linux-source-9.9"}, {"version": "6.12.9-9"}])
def test_unknown_package_or_version(apt: Path, tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(KdeltaError) as caught:
        fetch(source(**options), tmp_path / "cache")
    message = str(caught.value)
    assert next(iter(options.values())) in message
    assert f"It offers {NAME}." in message
    assert "apt-get update" in message
    assert "E: Unable to locate package" in message


def test_damaged_download_is_refused(apt: Path, tmp_path: Path) -> None:
    with (apt / FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(KdeltaError, match="was damaged on the way"):
        fetch(source(), tmp_path / "cache")
    assert not list((tmp_path / "cache/sources").iterdir())


def test_failed_download_is_clear_and_leaves_nothing(apt: Path, tmp_path: Path) -> None:
    (apt / "offline").touch()
    with pytest.raises(KdeltaError, match=r"cannot be downloaded.*\n.*E: Failed to fetch"):
        fetch(source(), tmp_path / "cache")
    assert not list((tmp_path / "cache/sources").iterdir())


def test_package_without_a_source_archive(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(KdeltaError, match=f"{FILE} cannot be unpacked"):
        debian.unpack_source(apt / FILE, "linux-source-5.10", tmp_path / "tree")


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KdeltaError, match="type debian needs apt-get and dpkg-deb"):
        fetch(source(), tmp_path / "cache")
