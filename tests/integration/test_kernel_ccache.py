# SPDX-License-Identifier: GPL-2.0-only
"""The real ccache as builds use it: what an assembler includes counts, too.

arch/x86/boot/compressed/piggy.S includes the compressed kernel by `.incbin` and names its
size. Two kernels of one compressed size have the same piggy.S, and a cache that looks at
the source alone hands out the kernel that was built first.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kdelta.architecture import host_architecture
from kdelta.kernel.costs import parse_stack
from kdelta.kernel.toolchain import build_environment, make_command, read_toolchain

needs_ccache = pytest.mark.skipif(shutil.which("ccache") is None, reason="needs ccache")

ASSEMBLY = '.section ".rodata"\n.incbin "data.bin"\n'
INLINE = 'asm(".section .rodata\\n.incbin \\"data.bin\\"\\n");\n'


def compile_with(
    cache: Path, folder: Path, source: str, data: bytes, *, first: bool = False
) -> bytes:
    """The object that a build's compiler makes of a source that includes `data`."""
    (folder / "data.bin").write_bytes(data)
    make = make_command(read_toolchain("gcc", host_architecture()), folder, folder)
    compiler = next(word.removeprefix("CC=") for word in make if word.startswith("CC="))
    output = folder / "out.o"
    output.unlink(missing_ok=True)
    env = build_environment(cache, "0" * 64, folder / "ccache.log", first=first)
    subprocess.run(
        # Kbuild's way to have the headers listed, without which ccache has no depend mode.
        [
            *compiler.split(),
            *env["KCFLAGS"].split(),
            "-Wp,-MMD,out.d",
            "-c",
            "-o",
            output.name,
            source,
        ],
        cwd=folder,
        env=env,
        check=True,
    )
    return output.read_bytes()


@needs_ccache
@pytest.mark.parametrize(("name", "text"), [("piggy.S", ASSEMBLY), ("configs.c", INLINE)])
def test_a_changed_file_that_is_included_as_data_is_seen(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    first = compile_with(tmp_path / "cache", tmp_path, name, b"one kernel")
    second = compile_with(tmp_path / "cache", tmp_path, name, b"same size!")
    assert b"one kernel" in first
    assert b"same size!" in second


@needs_ccache
def test_other_sources_come_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text("int plain;\n")
    for _ in range(2):
        compile_with(tmp_path / "cache", tmp_path, "plain.c", b"")
    log = (tmp_path / "ccache.log").read_text().splitlines()
    assert log.count("direct_cache_hit") == 1


@needs_ccache
def test_stack_use_comes_from_the_cache_too(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text(
        "int plain(void) { volatile char a[600] = {1}; return *a; }\n"
    )
    found = []
    for _ in range(2):
        (tmp_path / "out.su").unlink(missing_ok=True)
        compile_with(tmp_path / "cache", tmp_path, "plain.c", b"")
        found.append(parse_stack((tmp_path / "out.su").read_text()))
    log = (tmp_path / "ccache.log").read_text().splitlines()
    assert log.count("direct_cache_hit") == 1
    assert found[0] == found[1]
    assert found[0]["plain"] >= 300


@needs_ccache
def test_a_first_build_does_not_pay_for_the_cache(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text("int plain;\n")
    compile_with(tmp_path / "cache", tmp_path, "plain.c", b"", first=True)
    assert not (tmp_path / "cache" / "compiler").exists()
    compile_with(tmp_path / "cache", tmp_path, "plain.c", b"")
    assert (tmp_path / "ccache.log").read_text().splitlines().count("cache_miss") == 1
