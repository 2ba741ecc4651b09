# SPDX-License-Identifier: GPL-2.0-only
"""What is it worth that the guests of a block are alive together and run in turns?

The same kernel twice (baseline and control), the flagship's idle regime, emulated. Two designs
take turns, block by block: all guests alive together, and one guest after the other, which is what
a block falls back to where there is too little memory. First on the host as it is, which should be
quiet, then beside one or two spinning processes that come and go (5 to 20 s on, 5 to 20 s off).
Printed for each: how far a block's overall log ratio spreads, as measured and at equal speed of the
CPUs, and the standard error that the design reaches in a given time.

    .venv/bin/python benchmarks/interleaving.py --blocks 6

Six blocks are 24 of some 40 s, about 16 minutes on 2 cores, plus the build of a kernel where it is
not in the cache yet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from kdelta.analysis.deltas import ratios_frame
from kdelta.analysis.raw import read_raw
from kdelta.analysis.run import analyse_boots
from kdelta.config import load_experiment
from kdelta.experiment import Experiment
from kdelta.host.facts import cpu_model, host_cpus
from kdelta.measure import turns
from kdelta.measure.arm import GuestSource
from kdelta.measure.block import BlockRequest, measure_block
from kdelta.provenance import read_json
from kdelta.run_context import analysis_settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from overhead import BIN, copy_checkout

FLAGSHIP = "config/experiments/pipe-prealloc.yaml"
EXPERIMENT = "config/experiments/interleaving.yaml"
PROTOCOL, REGIME = "idle-only", "idle"
DESIGNS = {"together": True, "one after the other": False}
BUDGET_S = 240.0


def write_experiment(checkout: Path, blocks: int, rounds: int) -> None:
    """The flagship's idle regime with the same kernel twice."""
    data = yaml.safe_load((checkout / FLAGSHIP).read_text())
    data["name"] = "interleaving"
    data["arms"] = {"baseline": data["arms"]["baseline"]}
    data["guest"] = {**data.get("guest", {}), "acceleration": "tcg"}
    protocol = {"blocks": blocks, "rounds": rounds, "warmup_s": 0.1}
    data["protocols"] = {PROTOCOL: {**protocol, "duration_s": {REGIME: 0.6 * rounds}}}
    data["regimes"] = {REGIME: data["regimes"][REGIME]}
    for key in ("mechanism", "claims", "mail", "negative_controls"):
        data.pop(key, None)
    (checkout / EXPERIMENT).write_text(yaml.safe_dump(data, sort_keys=False))


def spin(seconds: float) -> None:
    """Keep one CPU busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(100_000):
            pass


def come_and_go(seed: int) -> None:
    """One or two spinners for 5 to 20 s, then 5 to 20 s of nothing, as long as the script lives."""
    parent, drawn = os.getppid(), random.Random(seed)
    while os.getppid() == parent:
        seconds = drawn.uniform(5, 20)
        spinners = [
            multiprocessing.Process(target=spin, args=(seconds,))
            for _ in range(drawn.randint(1, 2))
        ]
        for spinner in spinners:
            spinner.start()
        for spinner in spinners:
            spinner.join()
        time.sleep(drawn.uniform(5, 20))


@contextlib.contextmanager
def hog(seed: int) -> Iterator[None]:
    """Something else that runs on the host now and then."""
    process = multiprocessing.get_context("spawn").Process(target=come_and_go, args=(seed,))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@dataclass(frozen=True)
class Found:
    """What one design gave in one world.

    Attributes:
        as_measured, at_speed: a block's overall log ratio, mean over its cells.
        block_s: mean seconds of a block.
    """

    as_measured: np.ndarray
    at_speed: np.ndarray
    block_s: float

    def line(self, name: str) -> str:
        words = f"{name:<34}{self.block_s:8.0f} s"
        for values in (self.as_measured, self.at_speed):
            spread = float(values.std(ddof=1))
            error = spread / math.sqrt(BUDGET_S / self.block_s)
            words += f"{100 * spread:11.2f} %{100 * error:8.2f} %"
        return words + f"{100 * float(self.as_measured.mean()):+9.2f} %"


def measure(checkout: Path, world: str, experiment: Experiment, blocks: int) -> None:
    """Blocks of both designs in turns."""
    base = checkout / "results" / experiment.name
    source = GuestSource(
        experiment=experiment,
        protocol=PROTOCOL,
        kernels=base / "kernels",
        programs=base / "programs",
        acceleration=read_json(base / "acceleration.json"),
    )
    enough = turns.memory_for
    for block in range(1, blocks + 1):
        # Neither design always comes first.
        order = list(DESIGNS) if block % 2 else list(DESIGNS)[::-1]
        for design in order:
            turns.memory_for = enough if DESIGNS[design] else lambda *_: False
            out = checkout / world / design / "raw" / REGIME / f"block-{block:03d}"
            measure_block(BlockRequest(source, REGIME, block, "", out))


def found(folder: Path, experiment: Experiment, checkout: Path) -> Found:
    """What the blocks of one design say."""
    settings = analysis_settings(experiment, PROTOCOL, checkout)
    samples = analyse_boots(read_raw(folder / "raw", settings).boots, settings).samples
    ratios = ratios_frame(samples, settings, include_set_aside=True)
    ours = ratios[ratios["metric"] == "throughput_mib_s"]
    ours = ours.assign(value=ours["value"] / ours["baseline"])
    logs = np.log(ours[["value", "ratio"]])
    means = logs.groupby(ours["block"]).mean()
    seconds = [
        json.loads(path.read_text())["wall_s"] for path in (folder / "raw").glob("*/*/host.json")
    ]
    return Found(means["value"].to_numpy(), means["ratio"].to_numpy(), float(np.mean(seconds)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Guests together against one after the other")
    parser.add_argument("--blocks", type=int, default=6, help="of each design, quiet and not")
    parser.add_argument("--rounds", type=int, default=2, help="of a block")
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    args = parser.parse_args()
    if args.blocks < 3:
        parser.error("--blocks: 3 or more, or there is no spread")
    with tempfile.TemporaryDirectory(prefix="kdelta-interleaving-") as name:
        checkout = (args.keep or Path(name)) / "checkout"
        copy_checkout(checkout)
        write_experiment(checkout, args.blocks, args.rounds)
        experiment = load_experiment(checkout / EXPERIMENT, checkout)
        base = f"results/{experiment.name}"
        subprocess.run(
            [
                *(BIN / "snakemake", "--cores", str(host_cpus()), "--config"),
                *(f"experiment={EXPERIMENT}", f"protocol={PROTOCOL}", "--"),
                f"{base}/kernels/baseline/vmlinuz",
                *(f"{base}/workload/pipe_bench", f"{base}/acceleration.json"),
            ],
            cwd=checkout,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            check=True,
        )
        measure(checkout, "quiet", experiment, args.blocks)
        with hog(seed=1):
            measure(checkout, "hog", experiment, args.blocks)
        print(f"{cpu_model(Path('/proc/cpuinfo').read_text())}, {host_cpus()} CPUs")
        print(
            f"{args.blocks} blocks of {args.rounds} rounds; errors after {BUDGET_S:.0f} s\n"
            f"{'':<34}{'a block':>10}{'spread':>13}{'error':>10}{'at speed':>13}{'error':>10}"
            f"{'mean':>11}"
        )
        for world in ("quiet", "hog"):
            for design in DESIGNS:
                print(
                    found(checkout / world / design, experiment, checkout).line(
                        f"{world}, {design}"
                    )
                )


if __name__ == "__main__":
    main()
