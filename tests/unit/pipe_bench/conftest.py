# SPDX-License-Identifier: GPL-2.0-only
"""Builds of pipe_bench for its tests: as shipped, with faults, and its bucket arithmetic."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "workloads" / "pipe_bench"
WARNINGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]

Bench = Callable[..., subprocess.CompletedProcess[str]]


def compile_c(output: Path, *arguments: str | Path) -> Path:
    subprocess.run(["gcc", *WARNINGS, *arguments, "-o", output], check=True)
    return output


def execute(program: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program; 60 s is far beyond any test's own time, so that a hang is a failure."""
    environment = dict(os.environ) | options.pop("env", {})
    return subprocess.run(
        [program, *arguments],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment,
        check=False,
        **options,
    )


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is shipped to a guest: static, no warnings."""
    folder = tmp_path_factory.mktemp("pipe_bench")
    return compile_c(folder / "pipe_bench", "-static", SOURCES / "pipe_bench.c")


@pytest.fixture
def bench(program: Path) -> Bench:
    """Runs pipe_bench with the given arguments."""
    return lambda *arguments, **options: execute(program, *arguments, **options)


@pytest.fixture
def cell(bench: Bench) -> Callable[..., dict[str, Any]]:
    """Measures one cell of 1 writer and 1 reader unless told otherwise; returns its JSON."""

    def measure(*arguments: str, **options: Any) -> dict[str, Any]:
        short = ["--writers", "1", "--readers", "1", "--duration", "0.3", "--warmup", "0.05"]
        done = bench(*short, "--format", "json", *arguments, **options)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        (line,) = done.stdout.splitlines()
        return json.loads(line, parse_constant=pytest.fail)

    return measure


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Runs the same source, linked dynamically, with one fault put into its read() or write()."""
    folder = tmp_path_factory.mktemp("pipe_bench_faults")
    program = compile_c(folder / "pipe_bench_dynamic", SOURCES / "pipe_bench.c")
    library = compile_c(folder / "faults.so", "-shared", "-fPIC", HERE / "faults.c")

    def run(fault: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        short = ["--writers", "1", "--readers", "1", "--duration", "0.3", "--warmup", "0.05"]
        preload = {"LD_PRELOAD": str(library), "PIPE_FAULT": fault} | options.pop("env", {})
        return execute(program, *short, *arguments, env=preload, **options)

    return run


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[int]], list[list[int]]]:
    """Returns [index, lower, width] of the histogram bucket of each value, as the C code says."""
    folder = tmp_path_factory.mktemp("pipe_bench_buckets")
    program = compile_c(folder / "buckets", "-I", SOURCES, HERE / "buckets.c")

    def ask(values: list[int]) -> list[list[int]]:
        done = execute(program, input="\n".join(map(str, values)))
        rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
        assert len(rows) == len(values)
        return rows

    return ask
