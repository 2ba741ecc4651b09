# SPDX-License-Identifier: GPL-2.0-only
"""What copying, clearing, filling and locking cost on each CPU that QEMU can emulate.

An emulated guest is to be slow in proportion. `kernel_paths.c` and `pipe_bench` (1 writer, 1
reader) run in one guest for each CPU model, one after the other, in several rounds and random
order, and on the host itself. Printed: nanoseconds of each path, how copying and clearing relate
to taking a mutex, and pipe_bench's throughput; the best of all rounds, since whatever else runs can
only slow them.

    .venv/bin/python benchmarks/cpu_models.py --run results/EXPERIMENT [--models MODEL ...]

takes architecture, kernel and root of the guests from a run whose guests are emulated. About 10 s a
guest.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.architecture import Architecture, architecture
from kdelta.cache import cache_root
from kdelta.guest.launch import SHARE_IN_GUEST, Guest, GuestSpec
from kdelta.guest.share import shared_folder
from kdelta.host.facts import cpu_model, host_cpus
from kdelta.kernel.image import KERNEL
from kdelta.provenance import read_json
from kdelta.workload.build import INIT_SOURCE, Target, cached_program
from kdelta.workload.guest_root import root_of

ROOT = Path(__file__).resolve().parents[1]
PATHS_SOURCE = Path(__file__).resolve().with_name("kernel_paths.c")
MODELS = {
    "x86_64": ("max", "max,-erms", "max,-erms,-fsrm", "Nehalem", "EPYC,-erms", "qemu64"),
    "arm64": ("max", "max,pauth-impdef=on", "neoverse-n1", "cortex-a57", "cortex-a76"),
}
PATHS = ("copy", "clear", "fill", "lock", "call")
BENCH = "pipe_bench --format json --writers 1 --readers 1 --duration 1 --warmup 0.2"
DEADLINE_S = 120.0

Json = dict[str, Any]


def measured(text: str) -> Json:
    """The two programs' lines as one result."""
    paths, bench = (json.loads(line) for line in text.splitlines())
    return {**paths, "mib_s": bench["throughput_mib_s"]}


def built(target: Target) -> dict[str, Path]:
    """Both programs and the guests' first process, by name."""
    sources = (PATHS_SOURCE, ROOT / "workloads/pipe_bench/pipe_bench.c", INIT_SOURCE)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        return {one.stem: cached_program(one, log, cache_root(), target) for one in sources}


def on_host(programs: dict[str, Path]) -> Json:
    """Both programs, without a guest."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        lines = [
            subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            for argv in (
                [str(programs["kernel_paths"]), f"{folder}/file"],
                [str(programs["pipe_bench"]), *BENCH.split()[1:]],
            )
        ]
    return measured("".join(lines))


@dataclass(frozen=True)
class Guests:
    """What all guests are, but for their CPU."""

    arch: Architecture
    kernel: Path
    root: Path | None
    programs: dict[str, Path]


def in_guest(guests: Guests, model: str) -> Json:
    """Both programs in a guest with this CPU."""
    with shared_folder() as share:
        for name, program in {KERNEL: guests.kernel, **guests.programs}.items():
            shutil.copy(program, share / name)
        # In the guest's memory: neither program is to wait for the host's disk.
        (share / "run.sh").write_text(
            f"cp {SHARE_IN_GUEST}/kernel_paths {SHARE_IN_GUEST}/pipe_bench /tmp && cd /tmp &&\n"
            f"{{ ./kernel_paths file && ./{BENCH}; }} > {SHARE_IN_GUEST}/out 2>&1\n"
        )
        spec = GuestSpec(
            arch=guests.arch,
            root=guests.root,
            kernel=share / KERNEL,
            acceleration="tcg",
            cpu=model,
            vcpus=2,
            memory_mib=1024,
            share=share,
            command=("/bin/sh", f"{SHARE_IN_GUEST}/run.sh"),
        )
        console = share.with_name("console.log")
        Guest(spec, console, DEADLINE_S).wait()
        if not (share / "out").is_file():
            raise SystemExit(f"{model}: the guest said nothing:\n{console.read_text()[-2000:]}")
        return measured((share / "out").read_text())


def line(name: str, results: list[Json]) -> str:
    """The best of one CPU's rounds."""
    found = {path: min(one[path] for one in results) for path in PATHS}
    mib_s = max(one["mib_s"] for one in results)
    return (
        f"{name:<18}"
        + "".join(f"{found[path]:>10.0f}" for path in PATHS)
        + f"{found['copy'] / found['lock']:>12.1f}{found['clear'] / found['lock']:>12.1f}"
        + f"{mib_s:>12.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a folder results/EXPERIMENT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", help="as QEMU's -cpu")
    args = parser.parse_args()

    arch = architecture(read_json(args.run / "acceleration.json")["arch"])
    guests = Guests(
        arch,
        args.run / "kernels/baseline" / KERNEL,
        root_of(args.run / "programs", cache_root()),
        built(Target(arch)),
    )
    models = args.models or MODELS[arch.name]
    results: dict[str, list[Json]] = {"the host itself": [], **{m: [] for m in models}}
    here, shuffled = built(Target()), random.Random(1)
    for _ in range(args.rounds):
        results["the host itself"].append(on_host(here))
        for model in shuffled.sample(models, len(models)):
            results[model].append(in_guest(guests, model))
    print(
        f"{cpu_model(Path('/proc/cpuinfo').read_text())}, {host_cpus()} CPUs; {arch.title} guests"
    )
    print(
        f"64 KiB copied, cleared, put into a pipe; a mutex, a system call: ns; {args.rounds} rounds"
    )
    print(
        f"{'CPU':<18}"
        + "".join(f"{path:>10}" for path in PATHS)
        + f"{'copy/lock':>12}{'clear/lock':>12}{'MiB/s 1x1':>12}"
    )
    for name, found in results.items():
        print(line(name, found))


if __name__ == "__main__":
    main()
