# SPDX-License-Identifier: GPL-2.0-only
"""The root of guests of another architecture: what it is made of, and what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdelta.architecture import architectures
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.kernel.apt_state import parse_uris
from kdelta.workload.guest_root import (
    INIT_IN_ROOT,
    PYTHON,
    RECORD,
    find_program,
    make_root,
    root_of,
    wanted_packages,
)

CHECKOUT = Path(__file__).resolve().parents[3]
NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}", fullmatch=True)
VERSIONS = st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,15}", fullmatch=True)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.tuples(NAMES, VERSIONS, DIGESTS), max_size=5))
def test_packages_are_read_from_what_apt_prints(packages: list[tuple[str, str, str]]) -> None:
    lines = ["Reading package lists...", "The following NEW packages will be installed:", "  dash"]
    for name, version, digest in packages:
        file = f"{name}_{version.replace(':', '%3a')}_arm64.deb"
        lines.append(f"'http://host/pool/{file.replace('%', '%25')}' {file} 123 SHA256:{digest}")
    found = parse_uris("\n".join(lines))
    assert [(p.name, p.version, p.sha256) for p in found] == packages


def test_what_guests_need_follows_from_the_experiment() -> None:
    data = yaml.safe_load((CHECKOUT / "config/experiments/pipe-prealloc.yaml").read_text())
    flagship = Experiment.model_validate(data, context={"root": CHECKOUT})
    assert {"python3", "stress-ng"} <= set(wanted_packages(flagship))
    calm = flagship.model_copy(
        update={"regimes": {n: r for n, r in flagship.regimes.items() if not r.stressor}}
    )
    assert "stress-ng" not in wanted_packages(calm)


def root(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return folder


def test_a_program_is_found_where_guests_have_it(tmp_path: Path) -> None:
    made = root(tmp_path, "usr/bin/cat", "usr/sbin/mkswap", "usr/bin/both", "usr/sbin/both")
    assert find_program("cat", made) == Path("/usr/bin/cat")
    assert find_program("mkswap", made) == Path("/usr/sbin/mkswap")
    assert find_program("both", made) == Path("/usr/bin/both")
    assert find_program("dog", made) is None
    assert find_program("sh", None) is not None  # of this host


def test_the_hosts_root_has_no_record(tmp_path: Path) -> None:
    assert root_of(tmp_path, tmp_path / "cache") is None


def test_a_root_without_python_is_one_message(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / RECORD).write_text(json.dumps({"key": "ab12"}))
    made = root(cache / "roots/ab12", "usr/bin/cat")
    with pytest.raises(KdeltaError, match=r"ab12: there is no /usr/bin/python3 in this root"):
        root_of(tmp_path, cache)
    root(made, PYTHON)
    assert root_of(tmp_path, cache) == made


# Debian's archive with the packages that lie beside it; the state folder is its second word's.
APT = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
*indextargets*) echo 'Debian|Debian|main|http://x|/etc/apt/sources.list:1' ;;
*--print-uris*) cd "$here" && for file in *.deb; do
    echo "'http://x/$file' $file 1 SHA256:$(sha256sum < "$file" | cut -d' ' -f1)"; done ;;
*--download-only*) cp "$here"/*.deb "$(dirname "$2")/archives/" ;;
esac
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an apt-get, first on PATH, and no package yet."""
    folder = tmp_path / "apt"
    folder.mkdir()
    (folder / "apt-get").write_text(APT)
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put_python(apt: Path, version: str) -> None:
    """The only package there is from now on."""
    for old in apt.glob("*.deb"):
        old.unlink()
    tree = apt / version
    root(tree, PYTHON)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: python3\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: t <t@example.org>\nDescription: test\n"
    )
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, apt / f"python3_{version}_all.deb"],
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb: not a Debian host")
def test_a_root_that_was_pruned_is_made_anew_or_it_is_one_message(
    apt: Path, tmp_path: Path
) -> None:
    arch = next(one for one in architectures().values() if not one.native and one.debian_release)
    programs, cache = tmp_path / "programs", tmp_path / "cache"
    init = root(programs, Path(INIT_IN_ROOT).name) / Path(INIT_IN_ROOT).name
    put_python(apt, "1")
    made = make_root(arch, ["python3"], init, cache)
    (programs / RECORD).write_text(json.dumps(made))
    found = root_of(programs, cache)
    assert found is not None
    shutil.rmtree(found)
    assert root_of(programs, cache) == found
    assert (found / PYTHON).exists()
    shutil.rmtree(found)
    put_python(apt, "2")
    with pytest.raises(KdeltaError, match=r"no longer in the cache, and Debian has other versions"):
        root_of(programs, cache)
