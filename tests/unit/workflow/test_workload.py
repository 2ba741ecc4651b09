# SPDX-License-Identifier: GPL-2.0-only
"""Building the benchmark, with the real compiler."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from kdelta import workload
from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.workload import build_workload

PT_INTERP = 3


def segment_types(elf: bytes) -> set[int]:
    """The types of a 64-bit ELF file's program headers (elf(5))."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return {struct.unpack_from("<I", elf, start + number * size)[0] for number in range(count)}


def build(folder: Path, name: str = "out", compiler: str = "gcc") -> str:
    return build_workload(
        folder / name / "pipe_bench", folder / name / "build.log", folder / "cache", compiler
    )


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pipe_bench.c"
    path.write_text("int main(void) { return 7; }\n")
    monkeypatch.setattr(workload, "SOURCE", path)
    return path


def test_a_static_binary_and_its_origin(tmp_path: Path, source: Path) -> None:
    digest = build(tmp_path)
    binary = tmp_path / "out" / "pipe_bench"
    assert subprocess.run([binary], check=False).returncode == 7
    assert PT_INTERP not in segment_types(binary.read_bytes()), "it needs no library of the guest"
    record = json.loads((tmp_path / "out" / "pipe_bench.json").read_text())
    assert record["binary_sha256"] == digest
    assert "gcc" in record["compiler"]
    assert (tmp_path / "out" / "build.log").exists()


def test_the_speed_check_comes_beside_it(tmp_path: Path, source: Path) -> None:
    build(tmp_path)
    check = tmp_path / "out" / "speed_check"
    done = subprocess.run([check, "1000"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["work"] == 1000
    assert PT_INTERP not in segment_types(check.read_bytes())
    record = json.loads((tmp_path / "out" / "speed_check.json").read_text())
    assert record["program"] == "speed_check"
    assert record["binary_sha256"] == sha256_file(check)


def test_the_same_bytes_whatever_the_cache(tmp_path: Path, source: Path) -> None:
    first = build(tmp_path / "a")
    assert build(tmp_path / "b") == first
    assert build(tmp_path / "a", "again") == first


def test_the_cache_knows_the_source(tmp_path: Path, source: Path) -> None:
    first = build(tmp_path)
    source.write_text("int main(void) { return 8; }\n")
    assert build(tmp_path) != first


def test_a_compile_error_is_its_first_line(tmp_path: Path, source: Path) -> None:
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(KdeltaError) as caught:
        build(tmp_path)
    said = str(caught.value)
    assert said.startswith("pipe_bench does not compile: ")
    assert "'nothing' undeclared" in said
    log = Path(said.rpartition("whole log: ")[2])
    assert "nothing" in log.read_text()
    assert not (tmp_path / "out" / "pipe_bench").exists()


def test_no_compiler(tmp_path: Path, source: Path) -> None:
    with pytest.raises(KdeltaError, match="no-such-cc is not installed; apt-get install"):
        build(tmp_path, compiler="no-such-cc")
