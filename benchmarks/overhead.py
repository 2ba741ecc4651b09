# SPDX-License-Identifier: GPL-2.0-only
"""What does the pipeline cost over the shell loop that one would write instead?

The loop (`shell_loop.sh`) unpacks the same source twice, patches one copy,
builds both with the pipeline's configuration, and boots every cell list as many
times as the pipeline does, for as long, with the same static benchmark. Both
start from an empty cache; downloads are not timed on either side.

    .venv/bin/python benchmarks/overhead.py --blocks 2
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from kdelta.config import load_experiment
from kdelta.host.facts import cpu_model, guest_vcpus, host_cpus
from kdelta.kernel.source import fetch
from kdelta.workload.build import cached_program

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = "config/experiments/pipe-prealloc.yaml"
BIN = Path(sys.executable).parent


def copy_checkout(target: Path) -> None:
    """What git tracks, and new files that it does not ignore."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listing.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


def time_pipeline(folder: Path, cache: Path, protocol: dict[str, object]) -> float:
    """Wall seconds of `snakemake --cores N` from an empty cache, the source unpacked."""
    checkout = folder / "checkout"
    copy_checkout(checkout)
    experiment = yaml.safe_load((checkout / EXPERIMENT).read_text())
    experiment["protocols"] = {"benchmark": protocol}
    (checkout / EXPERIMENT).write_text(yaml.safe_dump(experiment, sort_keys=False))
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    begun = time.monotonic()
    subprocess.run(
        [BIN / "snakemake", "--cores", str(host_cpus()), "--config", "protocol=benchmark"],
        cwd=checkout,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - begun


def time_loop(folder: Path, cache: Path, protocol: dict[str, object]) -> dict[str, float]:
    """Wall seconds of the shell loop, by its steps."""
    experiment = load_experiment(ROOT / EXPERIMENT, ROOT)
    tree = fetch(experiment.kernel.source, cache / "kdelta").path
    source = ROOT / "workloads/pipe_bench/pipe_bench.c"
    program = cached_program(source, folder / "pipe_bench.log", cache / "kdelta")
    shutil.copy(program, folder)
    durations = protocol["duration_s"]
    assert isinstance(durations, dict)
    done = subprocess.run(
        ["sh", ROOT / "benchmarks/shell_loop.sh"],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TREE": str(tree),
            "PATCH": str(next((ROOT / "patches/pipe-prealloc/linux-6.12").glob("0001-*"))),
            "FRAGMENTS": " ".join(str(ROOT / f) for f in experiment.kernel.config.fragments),
            "JOBS": str(host_cpus()),
            "VCPUS": str(guest_vcpus(experiment.guest.vcpus)),
            "BLOCKS": str(protocol["blocks"]),
            "ARMS": str(len(experiment.booted_arms())),
            "WARMUP": str(protocol["warmup_s"]),
            "IDLE_SECONDS": str(durations["idle"]),
            "PRESSURE_SECONDS": str(durations["memory-pressure"]),
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {name: float(s) for name, s in (line.split() for line in done.stdout.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Pipeline against a plain shell loop")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    args = parser.parse_args()
    experiment = yaml.safe_load((ROOT / EXPERIMENT).read_text())
    protocol = {**experiment["protocols"]["quick"], "blocks": args.blocks}
    with tempfile.TemporaryDirectory(prefix="kdelta-overhead-") as name:
        folder = args.keep or Path(name)
        cache = folder / "cache"
        # Fetched and unpacked beforehand for both: the network is not what is compared.
        fetch(load_experiment(ROOT / EXPERIMENT, ROOT).kernel.source, cache / "kdelta")
        pipeline = time_pipeline(folder, cache, protocol)
        (folder / "loop").mkdir()
        steps = time_loop(folder / "loop", cache, protocol)
    loop = sum(steps.values())
    without = loop - steps["build-patched"]
    print(
        f"{cpu_model(Path('/proc/cpuinfo').read_text())}, {host_cpus()} CPUs; "
        f"{json.dumps(protocol)}"
    )
    for step, seconds in steps.items():
        print(f"  loop: {step:<16} {seconds:7.0f} s")
    print(f"shell loop                     {loop:7.0f} s")
    print(f"shell loop without 2nd build   {without:7.0f} s")
    print(f"pipeline, report included      {pipeline:7.0f} s")
    print(f"pipeline / loop                {pipeline / loop:7.2f}")
    print(f"pipeline / loop without 2nd build {pipeline / without:4.2f}")


if __name__ == "__main__":
    main()
