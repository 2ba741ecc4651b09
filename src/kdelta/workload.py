# SPDX-License-Identifier: GPL-2.0-only
"""Building what runs in guests: static binaries, the same bytes for every guest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kdelta.cache import copy_atomically, make_entry, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file

_SOURCES = Path(__file__).resolve().parents[1]
PROGRAMS = ("pipe_bench", "speed_check", "guest_init")
"""What is copied into a guest: each is one C file in a folder of its name."""
SOURCE, SPEED_SOURCE, INIT_SOURCE = (_SOURCES / name / f"{name}.c" for name in PROGRAMS)
# The build ID and macro prefixes would tie the bytes to this folder.
FLAGS = ("-O2", "-Wall", "-Wextra", "-static", "-pthread", "-Wl,--build-id=none")


def build_workload(output: Path, log: Path, cache: Path, compiler: str = "gcc") -> str:
    """Compile pipe_bench and what runs beside it in a guest, or take them from the cache.

    Args:
        output: where pipe_bench goes; `speed_check` and `guest_init` go beside it, and
            `<name>.json` beside each records its origin.
        log: receives what the compiler says.
        cache: the cache's root.
        compiler: C compiler.

    Returns:
        The sha256 of pipe_bench.

    Raises:
        KdeltaError: no compiler, or one of them does not compile.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    for source in (SPEED_SOURCE, INIT_SOURCE):
        _place(source, output.with_name(source.stem), log, cache, compiler)
    return _place(SOURCE, output, log, cache, compiler)


def cached_program(source: Path, log: Path, cache: Path, compiler: str = "gcc") -> Path:
    """A static program in the cache, compiled if it is not there yet.

    Args:
        source: its one C file.
        log: what the compiler says is appended to it.
        cache: the cache's root.
        compiler: C compiler.

    Raises:
        KdeltaError: no compiler, or it does not compile.
    """
    key, _ = _origin(source, compiler)

    def compile_into(folder: Path) -> None:
        _compile(compiler, source, folder / source.stem, log)

    return make_entry(cache / "workloads" / key, compile_into) / source.stem


def _place(source: Path, output: Path, log: Path, cache: Path, compiler: str) -> str:
    program = cached_program(source, log, cache, compiler)
    output.parent.mkdir(parents=True, exist_ok=True)
    copy_atomically(program, output)
    output.chmod(0o755)
    record = {"binary_sha256": sha256_file(output), **_origin(source, compiler)[1]}
    write_atomically(
        output.with_name(output.name + ".json"), (json.dumps(record, indent=1) + "\n").encode()
    )
    return str(record["binary_sha256"])


def _origin(source: Path, compiler: str) -> tuple[str, dict[str, object]]:
    """Key of a program's binary in the cache, and what it is made from."""
    if shutil.which(compiler) is None:
        raise KdeltaError(f"{compiler} is not installed; apt-get install gcc libc6-dev")
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout.partition("\n")[0]
    source_sha256 = sha256_file(source)
    text = "\0".join([source_sha256, version, *FLAGS])
    return hashlib.sha256(text.encode()).hexdigest()[:24], {
        "program": source.stem,
        "source_sha256": source_sha256,
        "compiler": version,
        "flags": list(FLAGS),
    }


def _compile(compiler: str, source: Path, binary: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [compiler, *FLAGS, "-o", str(binary), str(source)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
        )
    with log.open("a") as file:
        file.write(done.stderr)
    if done.returncode != 0:
        # The compiler's errors, and the linker's; a path may hold the word "error" too.
        signs = ("error:", "cannot find", "undefined reference")
        errors = [line for line in done.stderr.splitlines() if any(s in line for s in signs)]
        first = errors[0] if errors else f"{compiler} exited with {done.returncode}"
        raise KdeltaError(f"{source.stem} does not compile: {first}; whole log: {log}")
