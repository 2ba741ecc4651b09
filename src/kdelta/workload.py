# SPDX-License-Identifier: GPL-2.0-only
"""Building the benchmark: one static binary, the same bytes for every guest."""

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

SOURCE = Path(__file__).resolve().parents[1] / "pipe_bench" / "pipe_bench.c"
# The build ID and macro prefixes would tie the bytes to this folder.
FLAGS = ("-O2", "-Wall", "-Wextra", "-static", "-pthread", "-Wl,--build-id=none")


def build_workload(output: Path, log: Path, cache: Path, compiler: str = "gcc") -> str:
    """Compile pipe_bench, or take it from the cache.

    Args:
        output: where the binary goes; `<output>.json` beside it records its origin.
        log: receives what the compiler says.
        cache: the cache's root.
        compiler: C compiler.

    Returns:
        The binary's sha256.

    Raises:
        KdeltaError: no compiler, or it does not compile.
    """
    if shutil.which(compiler) is None:
        raise KdeltaError(f"{compiler} is not installed; apt-get install gcc libc6-dev")
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout.partition("\n")[0]
    source_sha256 = sha256_file(SOURCE)
    text = "\0".join([source_sha256, version, *FLAGS])
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    log.parent.mkdir(parents=True, exist_ok=True)

    def compile_into(folder: Path) -> None:
        _compile(compiler, folder / "pipe_bench", log)

    entry = make_entry(cache / "workloads" / key, compile_into)
    output.parent.mkdir(parents=True, exist_ok=True)
    copy_atomically(entry / "pipe_bench", output)
    output.chmod(0o755)
    binary_sha256 = sha256_file(output)
    record = {
        "program": "pipe_bench",
        "source_sha256": source_sha256,
        "binary_sha256": binary_sha256,
        "compiler": version,
        "flags": list(FLAGS),
    }
    write_atomically(
        output.with_name(output.name + ".json"), (json.dumps(record, indent=1) + "\n").encode()
    )
    return binary_sha256


def _compile(compiler: str, binary: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [compiler, *FLAGS, "-o", str(binary), str(SOURCE)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
        )
    log.write_text(done.stderr)
    if done.returncode != 0:
        # The compiler's errors, and the linker's; a path may hold the word "error" too.
        signs = ("error:", "cannot find", "undefined reference")
        errors = [line for line in done.stderr.splitlines() if any(s in line for s in signs)]
        first = errors[0] if errors else f"{compiler} exited with {done.returncode}"
        raise KdeltaError(f"pipe_bench does not compile: {first}; whole log: {log}")
