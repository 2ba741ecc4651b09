# SPDX-License-Identifier: GPL-2.0-only
"""Does a run see that its host was disturbed, and is it right without what it set aside?

The flagship's idle regime (baseline, bulk, control), emulated, measured twice: on the host as it
is, which should be quiet, and with a program that keeps every CPU busy beside every third boot.
The program is started when the boot's QEMU appears and ended when it is gone, so that it is
beside that boot and no other. Printed: which boots were disturbed and which were flagged, noise
floors and overall effects with and without the flagged boots, how log speed and log throughput
go together, and the quantiles of the speed checks in quiet and in disturbed boots.

    .venv/bin/python benchmarks/disturbance.py --blocks 6

Six blocks are 36 boots of some 15 to 20 s, about 10 to 12 minutes on 2 cores, plus the build of
two kernels where they are not in the cache yet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml

from kdelta.analysis.control import control_frame
from kdelta.analysis.deltas import ratios_frame
from kdelta.analysis.disturbance import SLOW
from kdelta.analysis.raw import read_raw
from kdelta.analysis.run import analyse_boots
from kdelta.analysis.settings import THROUGHPUT, AnalysisSettings
from kdelta.analysis.speed import sample_speeds
from kdelta.analysis.validity import violations
from kdelta.config import load_experiment
from kdelta.experiment import Experiment
from kdelta.measure.host import cpu_model, host_cpus
from kdelta.measure.schedule import block_schedule
from kdelta.run_context import analysis_settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from overhead import BIN, copy_checkout

FLAGSHIP = "config/experiments/pipe-prealloc.yaml"
EXPERIMENT = "config/experiments/disturbance.yaml"
PROTOCOL, REGIME = "idle-only", "idle"
EVERY = 3
POLL_S = 0.05
QEMU = "qemu-system"


def write_experiment(checkout: Path, blocks: int) -> None:
    """The flagship's idle regime alone, without what other regimes and reports need."""
    data = yaml.safe_load((checkout / FLAGSHIP).read_text())
    data["name"] = "disturbance"
    data["variants"] = {name: data["variants"][name] for name in ("baseline", "bulk")}
    data["guest"] = {**data.get("guest", {}), "acceleration": "tcg"}
    flagship = next(p for p in data["protocols"].values() if REGIME in p["duration_s"])
    timing = {REGIME: flagship["duration_s"][REGIME]}
    data["protocols"] = {PROTOCOL: {**flagship, "blocks": blocks, "duration_s": timing}}
    data["regimes"] = {REGIME: data["regimes"][REGIME]}
    for key in ("mechanism", "claims", "mail", "negative_controls"):
        data.pop(key, None)
    (checkout / EXPERIMENT).write_text(yaml.safe_dump(data, sort_keys=False))


def guests_below(pid: int) -> set[int]:
    """Process ids of the QEMUs that descend from a process."""
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    found = set()
    for process in family:
        # It may end while it is looked at.
        with contextlib.suppress(psutil.Error):
            # Without a kernel it only says its version, to whoever asks.
            if process.name().startswith(QEMU) and "-kernel" in process.cmdline():
                found.add(process.pid)
    return found


def spin() -> None:
    """Keep one CPU busy, for no longer than the script lives."""
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


@contextlib.contextmanager
def hog() -> Iterator[None]:
    """As many spinning processes as there are CPUs."""
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=spin, daemon=True) for _ in range(host_cpus())]
    for spinner in spinners:
        spinner.start()
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.join()


def measure(
    checkout: Path, results: str, experiment: Experiment, blocks: int, every: int
) -> list[bool]:
    """Measure all blocks; whether each boot, in their order, had the hog beside it.

    Args:
        checkout: a copy of the project, its kernels built.
        results: name of the folder that the raw files go to.
        experiment: as loaded from the checkout.
        blocks: how many.
        every: the hog is beside every so-manieth boot; 0: beside none.
    """
    disturbed: list[bool] = []
    kernels = checkout / "results" / experiment.name
    for block in range(1, blocks + 1):
        command = [
            *(BIN / "kdelta", "measure", "--experiment", EXPERIMENT, "--protocol", PROTOCOL),
            *("--regime", REGIME, "--block", str(block), "--kernels", kernels / "kernels"),
            *("--workload", kernels / "workload/pipe_bench"),
            *("--acceleration", kernels / "acceleration.json"),
            *("--output", checkout / results / "raw" / REGIME / f"block-{block:03d}"),
        ]
        with subprocess.Popen(list(map(str, command)), cwd=checkout) as process:
            boots = len(disturbed)
            while process.poll() is None:
                if not guests_below(process.pid):
                    time.sleep(POLL_S)
                    continue
                boots += 1
                disturbed.append(bool(every) and boots % every == 0)
                with hog() if disturbed[-1] else contextlib.nullcontext():
                    while process.poll() is None and guests_below(process.pid):
                        time.sleep(POLL_S)
        if process.returncode:
            raise SystemExit(f"block {block} could not be measured, see above")
        expected = block * len(experiment.arms())
        if len(disturbed) != expected:
            raise SystemExit(f"{len(disturbed)} guests were seen, {expected} were booted")
    return disturbed


def samples_of(
    raw: Path, experiment: Experiment, settings: AnalysisSettings, disturbed: list[bool]
) -> pd.DataFrame:
    """One row per sample: block, arm, cell, throughput, speed, slow, and columns of its boot.

    Those are: hog, set_aside (number of samples), flagged (half of them or more), rules.
    """
    boots = read_raw(raw, settings).boots
    speeds = sample_speeds(boots)
    broken: dict[tuple[int, str], dict[Any, set[str]]] = {}
    for violation in violations(boots, settings):
        of_boot = broken.setdefault((violation.block, violation.arm), {})
        of_boot.setdefault(violation.cell, set()).add(violation.breach.rule)
    order = [
        (block, arm)
        for block in sorted({boot.block for boot in boots})
        for arm, _ in block_schedule(experiment, REGIME, block).arms
    ]
    had_hog = dict(zip(order, disturbed, strict=True))
    rows = []
    for boot in boots:
        for sample in boot.samples:
            place = (boot.block, boot.arm)
            speed = speeds.get((boot.regime, *place, sample.cell))
            if sample.record.bench is None or speed is None:
                continue
            rules = broken.get(place, {})
            rows.append(
                {
                    "block": boot.block,
                    "arm": boot.arm,
                    "cell": sample.cell,
                    "throughput": sample.record.bench.throughput_mib_s,
                    "speed": speed.mean,
                    "slow": speed.relative < SLOW,
                    "hog": had_hog[place],
                    "set_aside": len(rules),
                    "flagged": len(rules) >= len(boot.planned) / 2,
                    "rules": ", ".join(sorted(set().union(*rules.values()))),
                }
            )
    return pd.DataFrame(rows)


def results(raw: Path, settings: AnalysisSettings) -> dict[str, str]:
    """Noise floor and overall effects, without what was set aside and with it, in words."""
    analysed = analyse_boots(read_raw(raw, settings).boots, settings)
    kept = (analysed.ratios, analysed.deltas, analysed.overall)
    tables = {"without what was set aside": kept}
    if len(analysed.deltas_all):
        everything = ratios_frame(analysed.samples, settings, include_set_aside=True)
        tables["with it"] = (everything, analysed.deltas_all, analysed.overall_all)
    found = {}
    for words, (ratios, deltas, overall) in tables.items():
        for _, row in throughput_of(control_frame(ratios, deltas, overall, settings)).iterrows():
            found[f"noise floor, {words}"] = f"{row['noise_floor_percent']:.1f} %"
        for _, row in throughput_of(overall).iterrows():
            found[f"overall, {row['arm']}, {words}"] = (
                f"{row['delta_percent']:+.1f} % [{row['delta_low_percent']:+.1f}, "
                f"{row['delta_high_percent']:+.1f}] over {row['blocks']} blocks"
            )
    return found


def throughput_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows about throughput."""
    return table[table["metric"] == THROUGHPUT.name]


def tell(name: str, table: pd.DataFrame) -> None:
    """What was seen of one run."""
    boots = table.groupby(["block", "arm"], sort=False).agg(
        **{name: (name, "first") for name in ("hog", "flagged", "set_aside", "rules")}
    )
    flagged = boots["flagged"]
    print(f"\n{name}: {len(boots)} boots, {int(boots['hog'].sum())} with a hog beside them")
    print(f"  flagged with a hog:    {int((flagged & boots['hog']).sum())}")
    print(f"  flagged without one:   {int((flagged & ~boots['hog']).sum())}")
    print(f"  hog that was missed:   {int((~flagged & boots['hog']).sum())}")
    slow = table.groupby(["block", "arm"], sort=False)["slow"].any() & ~boots["hog"]
    print(f"  slow CPUs without one: {int(slow.sum())}")
    for (block, arm), row in boots[(boots["set_aside"] > 0) | boots["hog"]].iterrows():
        print(
            f"    block {block}, {arm}: {'hog' if row['hog'] else 'no hog'}, {row['set_aside']} "
            f"samples set aside {row['rules'] or '-'}"
        )
    logs = np.log(table[["speed", "throughput"]])
    # Cells differ in throughput by themselves: what is left beside their means counts.
    centred = logs - logs.groupby(table["cell"]).transform("mean")
    print(f"  correlation of log speed and log throughput: {centred.corr().iloc[0, 1]:+.2f}")


def quantiles(name: str, table: pd.DataFrame, best: float) -> None:
    """The speed of samples relative to the median of the quiet run."""
    ratios = (table["speed"] / best).to_numpy()
    if len(ratios) == 0:
        return
    at = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    words = "  ".join(f"{q:.0%} {np.quantile(ratios, q):.3f}" for q in at)
    print(f"  {name:<22} {words}  ({len(ratios)} samples)")


def main() -> None:
    parser = argparse.ArgumentParser(description="A quiet run against one with a CPU hog")
    parser.add_argument("--blocks", type=int, default=6, help="of each of both runs, 3 or more")
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    args = parser.parse_args()
    if args.blocks < 3:
        parser.error("--blocks: 3 or more, or there are no intervals")
    with tempfile.TemporaryDirectory(prefix="kdelta-disturbance-") as name:
        checkout = (args.keep or Path(name)) / "checkout"
        print("building what is to be booted", file=sys.stderr)
        copy_checkout(checkout)
        write_experiment(checkout, args.blocks)
        experiment = load_experiment(checkout / EXPERIMENT, checkout)
        base = f"results/{experiment.name}"
        targets = [f"{base}/kernels/{name}/bzImage" for name in experiment.variants]
        subprocess.run(
            [
                *(BIN / "snakemake", "--cores", str(host_cpus()), "--config"),
                *(f"experiment={EXPERIMENT}", f"protocol={PROTOCOL}", "--"),
                *(*targets, f"{base}/workload/pipe_bench", f"{base}/acceleration.json"),
            ],
            cwd=checkout,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            check=True,
        )
        settings = analysis_settings(experiment, PROTOCOL, checkout)
        tables = {}
        for run, every in (("quiet", 0), ("hogged", EVERY)):
            beside = f"a hog beside every boot of {every}" if every else "nothing beside it"
            print(f"run {run}: {args.blocks} blocks, {beside}", file=sys.stderr)
            begun = time.monotonic()
            disturbed = measure(checkout, run, experiment, args.blocks, every)
            print(f"run {run}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
            raw = checkout / run / "raw"
            (checkout / run / "hog.json").write_text(json.dumps(disturbed))
            tables[run] = samples_of(raw, experiment, settings, disturbed)
        print(f"{cpu_model(Path('/proc/cpuinfo').read_text())}, {host_cpus()} CPUs")
        for run, table in tables.items():
            tell(run, table)
            raw = checkout / run / "raw"
            for label, text in results(raw, settings).items():
                print(f"  {label + ':':<48} {text}")
        quiet, hogged = tables["quiet"], tables["hogged"]
        best = float(quiet["speed"].median())
        print("\nspeed of a sample over the median of the quiet run")
        quantiles("quiet run", quiet, best)
        quantiles("hogged run, no hog", hogged[~hogged["hog"]], best)
        quantiles("hogged run, with a hog", hogged[hogged["hog"]], best)


if __name__ == "__main__":
    main()
