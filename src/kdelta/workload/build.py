# SPDX-License-Identifier: GPL-2.0-only
"""What runs in guests: static binaries, the same bytes for every guest, and the host's programs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from kdelta.cache import copy_atomically, make_entry, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.workload.declaration import Workload

_SOURCES = Path(__file__).resolve().parents[2]
HELPERS = ("speed_check", "guest_init")
"""What every guest is given beside the workload: each is one C file in a folder of its name."""
SPEED_SOURCE, INIT_SOURCE = (_SOURCES / name / f"{name}.c" for name in HELPERS)
RECORD = "workload.json"
"""What the workload's program is, beside the programs."""
# The build ID and macro prefixes would tie the bytes to this folder.
FLAGS = ("-O2", "-Wall", "-Wextra", "-static", "-pthread", "-Wl,--build-id=none")


def built_programs(workload: Workload) -> list[str]:
    """Names of the programs that are built for a workload's guests."""
    own = [workload.program.name] if workload.program.source is not None else []
    return [*own, *HELPERS]


def program_sources(workload: Workload, folder: Path) -> list[Path]:
    """The C files of these programs.

    Args:
        workload: the workload.
        folder: of the workload.
    """
    own = [folder / workload.program.source] if workload.program.source is not None else []
    return [*own, SPEED_SOURCE, INIT_SOURCE]


def host_program(workload: Workload) -> Path:
    """A package's program on the host, and so in guests, whose root is the host's.

    Raises:
        KdeltaError: it is not installed.
    """
    name = workload.program.name
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise KdeltaError(
            f"workload.program: {name} is not installed on this host (guests use the host's "
            f"programs); apt-get install {workload.program.package}"
        )
    return Path(found)


def build_programs(
    workload: Workload, folder: Path, output: Path, log: Path, cache: Path, compiler: str = "gcc"
) -> None:
    """Compile what guests run, or take it from the cache.

    Args:
        workload: the workload.
        folder: of the workload.
        output: folder that gets the programs, and `RECORD` about the workload's own.
        log: receives what the compiler says.
        cache: the cache's root.
        compiler: C compiler.

    Raises:
        KdeltaError: no compiler, one of them does not compile, or a package is not installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    record: dict[str, Any] = {}
    if workload.program.source is None:
        path = host_program(workload)
        record = {
            "program": str(path),
            "package": workload.program.package,
            "binary_sha256": sha256_file(path.resolve()),
        }
    for source in program_sources(workload, folder):
        program = cached_program(source, log, cache, compiler)
        placed = output / source.stem
        output.mkdir(parents=True, exist_ok=True)
        copy_atomically(program, placed)
        placed.chmod(0o755)
        if source.name == workload.program.source:
            record = {"binary_sha256": sha256_file(placed), **_origin(source, compiler)[1]}
    write_atomically(output / RECORD, (json.dumps(record, indent=1) + "\n").encode())


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
            [compiler, *FLAGS, "-o", str(binary), str(source.resolve())],
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
