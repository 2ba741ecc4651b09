# SPDX-License-Identifier: GPL-2.0-only
"""Building the benchmark, with the real compiler."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.workload.build import RECORD, Target, build_programs, cached_program
from kdelta.workload.declaration import Workload
from tests.workloads import PIPE_BENCH

PT_INTERP = 3


def segment_types(elf: bytes) -> set[int]:
    """The types of a 64-bit ELF file's program headers (elf(5))."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return {struct.unpack_from("<I", elf, start + number * size)[0] for number in range(count)}


def build(source: Path, folder: Path, name: str = "out", compiler: str = "gcc") -> str:
    out = folder / name
    workloads = {"pipe_bench": (PIPE_BENCH, source.parent)}
    build_programs(workloads, out, out / "build.log", folder / "cache", Target(compiler=compiler))
    return str(json.loads((out / RECORD).read_text())["pipe_bench"]["binary_sha256"])


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "workload" / "pipe_bench.c"
    path.parent.mkdir()
    path.write_text("int main(void) { return 7; }\n")
    return path


def test_a_static_binary_and_its_origin(tmp_path: Path, source: Path) -> None:
    digest = build(source, tmp_path)
    binary = tmp_path / "out" / "pipe_bench"
    assert subprocess.run([binary], check=False).returncode == 7
    assert PT_INTERP not in segment_types(binary.read_bytes()), "it needs no library of the guest"
    record = json.loads((tmp_path / "out" / RECORD).read_text())["pipe_bench"]
    assert record["binary_sha256"] == digest
    assert "gcc" in record["compiler"]
    assert (tmp_path / "out" / "build.log").exists()


def test_the_speed_check_comes_beside_it(tmp_path: Path, source: Path) -> None:
    build(source, tmp_path)
    check = tmp_path / "out" / "speed_check"
    done = subprocess.run([check, "1000"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["work"] == 1000
    assert PT_INTERP not in segment_types(check.read_bytes())


def test_the_same_bytes_whatever_the_cache(tmp_path: Path, source: Path) -> None:
    first = build(source, tmp_path / "a")
    assert build(source, tmp_path / "b") == first
    assert build(source, tmp_path / "a", "again") == first


def test_the_cache_knows_the_source(tmp_path: Path, source: Path) -> None:
    first = build(source, tmp_path)
    source.write_text("int main(void) { return 8; }\n")
    assert build(source, tmp_path) != first


def test_programs_of_the_same_text_keep_their_names(tmp_path: Path, source: Path) -> None:
    other = source.with_name("other.c")
    other.write_text(source.read_text())
    for one in (source, other):
        program = cached_program(one, tmp_path / "log", tmp_path / "cache")
        assert subprocess.run([program], check=False).returncode == 7
        assert program.name == one.stem


def test_a_compile_error_is_its_first_line(tmp_path: Path, source: Path) -> None:
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(KdeltaError) as caught:
        build(source, tmp_path)
    said = str(caught.value)
    assert said.startswith("pipe_bench does not compile: ")
    assert "'nothing' undeclared" in said
    log = Path(said.rpartition("whole log: ")[2])
    assert "nothing" in log.read_text()
    assert not (tmp_path / "out" / "pipe_bench").exists()


def test_no_compiler(tmp_path: Path, source: Path) -> None:
    with pytest.raises(KdeltaError, match="no-such-cc is not installed; apt-get install"):
        build(source, tmp_path, compiler="no-such-cc")


def test_a_program_of_a_package_is_the_hosts(tmp_path: Path, source: Path) -> None:
    """Guests have the host's root file system: nothing is built or copied but what runs beside."""
    workload = Workload.model_validate(
        {
            "title": "true",
            "program": {"package": "coreutils", "command": "true"},
            "command": ["{program}"],
            "output": "nothing",
            "metrics": {"elapsed_s": {"title": "Time", "unit": "s", "better": "lower"}},
        }
    )
    out = tmp_path / "out"
    build_programs({"true": (workload, tmp_path)}, out, out / "build.log", tmp_path / "cache")
    record = json.loads((out / RECORD).read_text())["true"]
    assert record["package"] == "coreutils"
    assert record["binary_sha256"] == sha256_file(Path(record["program"]))
    assert not (out / "true").exists()
    missing = workload.program.model_copy(
        update={"package": "no-such", "command": "no-such-program"}
    )
    with pytest.raises(KdeltaError, match=r"install no-such \(is no-such-program a program of"):
        build_programs(
            {"true": (workload.model_copy(update={"program": missing}), tmp_path)},
            *(out, out / "build.log", tmp_path / "cache"),
        )
