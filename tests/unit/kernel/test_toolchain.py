# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel is built with: found missing before the first kernel takes minutes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.architecture import host_architecture
from kdelta.cli import main
from kdelta.errors import KdeltaError
from kdelta.kernel.build import request_for
from kdelta.kernel.source import SourceTree
from kdelta.kernel.toolchain import require_programs
from tests.conftest import Project

ARCH = host_architecture()
LLVM = [
    "clang",
    "ld.lld",
    *(f"llvm-{name}" for name in ["ar", "nm", "objcopy", "objdump", "readelf", "strip"]),
]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs: those of this host, without any of LLVM."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("make", "ld", "flex", "bison", "bc", "perl", "git", "tar", "xz", "gzip", "gcc"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def install(programs: Path, *names: str) -> None:
    for name in names:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)


@pytest.mark.usefixtures("programs")
def test_check_names_what_an_arm_lacks(
    project: Project, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    small["arms"]["other"] = {"title": "built by clang", "compiler": "clang-99"}
    project.write(small)
    assert main(["--root", str(project.root), "check", "experiment.yaml"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("kdelta: building arm other (compiler clang-99) needs clang-99, ")
    assert printed.err.endswith("on Debian: apt-get install clang-99 lld-99 llvm-99\n")


@pytest.mark.usefixtures("programs")
def test_the_first_kernel_is_not_built_if_the_last_cannot_be(
    project: Project, small: dict[str, Any], tmp_path: Path
) -> None:
    small["arms"]["other"] = {"title": "built by clang", "compiler": "clang"}
    source = SourceTree("ab", tmp_path, {"type": "git", "url": "u", "kernel_version": "6.12.1"})
    experiment = project.load(small)
    with pytest.raises(KdeltaError, match=r"building arm other \(compiler clang\) needs clang, "):
        request_for(experiment, "baseline", project.root, source, "tcg", tmp_path / "out")


@pytest.mark.parametrize("suffix", ["", "-19"])
@pytest.mark.parametrize("absent", LLVM)
def test_each_program_of_llvm_is_missed(programs: Path, absent: str, suffix: str) -> None:
    install(programs, *(f"{name}{suffix}" for name in LLVM))
    require_programs({"one": f"clang{suffix}"}, ARCH)
    (programs / f"{absent}{suffix}").unlink()
    package = {"clang": "clang", "ld.lld": "lld"}.get(absent, "llvm")
    with pytest.raises(KdeltaError) as caught:
        require_programs({"one": f"clang{suffix}"}, ARCH)
    assert str(caught.value) == (
        f"building arm one (compiler clang{suffix}) needs {absent}{suffix}; "
        f"on Debian: apt-get install {package}{suffix}"
    )


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["gcc", "gcc-98", "clang-99"])))
def test_arms_that_lack_something_are_named_and_no_others(compilers: dict[str, str]) -> None:
    lacking = {arm for arm, compiler in compilers.items() if compiler != "gcc"}
    said = ""
    try:
        require_programs(compilers, ARCH)
    except KdeltaError as error:
        said = str(error)
    assert {arm for arm in compilers if f"{arm} (compiler" in said} == lacking
    assert said.count("apt-get install") == bool(lacking)
