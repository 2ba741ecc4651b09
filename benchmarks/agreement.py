# SPDX-License-Identifier: GPL-2.0-only
"""Do our pipe_bench and the kernel's own agree on throughput?

The kernel's benchmark comes from Debian's `linux-source-7.2`, fetched into the
cache and compiled in a temporary folder; none of it is kept. Both programs are
run by turns on this host, in random order, cell by cell, for several rounds;
the ratio of their throughputs is taken within a round, and its interval over
rounds: they agree where it covers 1.

    .venv/bin/python benchmarks/agreement.py --suite trixie-backports
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from kdelta.arms import DebianSource
from kdelta.cache import cache_root
from kdelta.host.facts import cpu_model, host_cpus
from kdelta.kernel.source import fetch
from kdelta.workload.build import cached_program

ROOT = Path(__file__).resolve().parents[1]
CELLS = list(itertools.product((1, 2, 5), (1, 5, 10)))


def compile_theirs(tree: Path, folder: Path) -> Path:
    """The in-tree benchmark, with the flags that our own is built with."""
    binary = folder / "in_tree_bench"
    source = tree / "tools/testing/selftests/pipe/pipe_bench.c"
    subprocess.run(
        ["gcc", "-O2", "-static", "-pthread", "-o", str(binary), str(source)], check=True
    )
    return binary


def ours_mib_s(binary: Path, writers: int, readers: int, seconds: int) -> float:
    """Throughput of one cell by our benchmark."""
    argv = [str(binary), "--format", "json", "--writers", str(writers), "--readers", str(readers)]
    # The other one has no warm-up, and neither has ours here.
    argv += ["--duration", str(seconds), "--warmup", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["throughput_mib_s"])


def theirs_mib_s(binary: Path, writers: int, readers: int, seconds: int) -> float:
    """Throughput of one cell by the in-tree benchmark, whose "MBps" are MiB/s."""
    argv = [str(binary), "-w", str(writers), "-r", str(readers), "-d", str(seconds)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = re.search(r"^throughput_MBps: ([0-9.]+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"no throughput in:\n{done.stdout}")
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", help="Debian suite that has the package, if the host's has not")
    parser.add_argument("--package", default="linux-source-7.2")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1, help="per cell and program")
    args = parser.parse_args()

    tree = fetch(DebianSource(type="debian", package=args.package, suite=args.suite), cache_root())
    shuffled = random.Random(1)
    ratios: dict[tuple[int, int], list[float]] = {cell: [] for cell in CELLS}
    means: dict[tuple[int, int], list[tuple[float, float]]] = {cell: [] for cell in CELLS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = ROOT / "workloads/pipe_bench/pipe_bench.c"
        ours = cached_program(source, folder / "log", cache_root())
        theirs = compile_theirs(tree.path, folder)
        for _ in range(args.rounds):
            for cell in shuffled.sample(CELLS, len(CELLS)):
                measured = {}
                for program in shuffled.sample(("ours", "theirs"), 2):
                    run = ours_mib_s if program == "ours" else theirs_mib_s
                    binary = ours if program == "ours" else theirs
                    measured[program] = run(binary, *cell, args.seconds)
                ratios[cell].append(measured["ours"] / measured["theirs"])
                means[cell].append((measured["theirs"], measured["ours"]))

    print(f"{tree.title}; {cpu_model(Path('/proc/cpuinfo').read_text())}, {host_cpus()} CPUs")
    print(
        f"{args.rounds} rounds, {args.seconds} s per cell; ratio ours / in-tree with 95 % interval"
    )
    print(f"{'writers':>7} {'readers':>7} {'in-tree':>9} {'ours':>9}  ratio")
    for cell in CELLS:
        low, mid, high = interval(ratios[cell])
        theirs_mean, ours_mean = np.exp(np.mean(np.log(means[cell]), axis=0))
        agrees = "agree" if low <= 1 <= high else "DIFFER"
        print(
            f"{cell[0]:>7} {cell[1]:>7} {theirs_mean:>9.1f} {ours_mean:>9.1f}"
            f"  {mid:.3f} [{low:.3f}, {high:.3f}]  {agrees}"
        )
    per_round = np.exp(np.mean([np.log(values) for values in ratios.values()], axis=0))
    low, mid, high = interval(list(per_round))
    print(f"all cells: {mid:.3f} [{low:.3f}, {high:.3f}]")


def interval(values: list[float]) -> tuple[float, float, float]:
    """Geometric mean of ratios with its 95 % t interval: low, mean, high."""
    logs = np.log(values)
    half = stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)
    middle = logs.mean()
    return float(np.exp(middle - half)), float(np.exp(middle)), float(np.exp(middle + half))


if __name__ == "__main__":
    main()
