# SPDX-License-Identifier: GPL-2.0-only
"""Does the CPUs' speed as a covariate narrow intervals without harming coverage?

Draws experiments with known truth on a timeline: boots one after the other, a speed check before
and after each sample, and a machine that is quiet, has a hog beside every third boot, or has
bursts (slower by 20 to 50 % for 5 to 60 s). Samples go through the package's own rule limit,
ratios and overall effects. All samples, and those that the rule leaves, are each analysed with
ratios as they were measured and at equal speed of the CPUs (what the package does).

    .venv/bin/python benchmarks/covariate.py
    .venv/bin/python benchmarks/covariate.py --run results/EXPERIMENT/PROTOCOL

The second form reads a real run and prints the overall effects by each analysis.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kdelta.analysis.deltas import overall_frame, ratios_frame
from kdelta.analysis.settings import AnalysisSettings, Limits
from kdelta.analysis.speed import full_speed, mean_speed
from kdelta.export.run_folder import read_run
from kdelta.run_context import analysis_settings

BOOT_S, CELL_S, SAMPLE_S = 8.0, 1.0, 0.6
ARMS = ("baseline", "patched", "control")
CELLS = 9
SETTINGS = AnalysisSettings(
    factors=("cell",),
    baseline="baseline",
    control="control",
    arms=ARMS,
    regimes=("idle",),
    only=("throughput_mib_s",),
)


def machine(world: str, total_s: float, rng: np.random.Generator) -> np.ndarray:
    """Speed of the machine in steps of 0.1 s, 1 being full."""
    speed = np.ones(int(total_s * 10) + 2)
    if world == "bursts":
        at = rng.exponential(60)
        while at < total_s:
            length = rng.uniform(5, 60)
            speed[int(at * 10) : int((at + length) * 10)] = 1 - rng.uniform(0.2, 0.5)
            at += length + rng.exponential(60)
    return speed


def experiment(world: str, blocks: int, rng: np.random.Generator) -> pd.DataFrame:
    """samples.csv of one experiment without any effect, as far as ratios need it."""
    boot_s = BOOT_S + CELLS * CELL_S
    speed = machine(world, blocks * len(ARMS) * boot_s, rng)
    rows = []
    for place in range(blocks * len(ARMS)):
        block, position = divmod(place, len(ARMS))
        if position == 0:
            order, cells = rng.permutation(ARMS), rng.permutation(CELLS)
        # The scheduler shares the CPUs with a hog by the moment, so checks and samples differ.
        hog = world == "hog" and place % 3 == block % 3
        luck = rng.normal(0, 0.01)
        for number, cell in enumerate(cells):
            start = place * boot_s + BOOT_S + number * CELL_S
            window = speed[int(start * 10) : int((start + SAMPLE_S) * 10)]
            share, before, after = (rng.uniform(0.5, 0.9, 3) if hog else np.ones(3)).tolist()
            rows.append(
                {
                    "regime": "idle",
                    "block": block + 1,
                    "arm": str(order[position]),
                    "cell": int(cell),
                    "throughput_mib_s": 100
                    * float(window.mean())
                    * share
                    * math.exp(luck + rng.normal(0, 0.035)),
                    "speed_before": window[0] * before * math.exp(rng.normal(0, 0.02)),
                    "speed_after": window[-1] * after * math.exp(rng.normal(0, 0.02)),
                }
            )
    frame = pd.DataFrame(rows)
    checks = frame[["speed_before", "speed_after"]].to_numpy()
    frame["relative_speed"] = mean_speed(checks) / full_speed(checks)
    frame["valid"] = frame["relative_speed"] >= Limits().cpu_speed
    return frame


def analyses(samples: pd.DataFrame, s: AnalysisSettings) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and overall table of each analysis, through the package's functions."""
    regimes = samples["regime"].unique()
    levels = samples[list(s.factors)].drop_duplicates().itertuples(index=False, name=None)
    cells = dict.fromkeys(map(str, regimes), sorted(levels, key=str))
    blind = samples.drop(columns="relative_speed")
    for name, taken in (("measured", blind), ("at speed", samples)):
        for which, include in (("all", True), ("rule", False)):
            ratios = ratios_frame(taken, s, include_set_aside=include)
            yield f"{name}, {which}", overall_frame(ratios, cells, s)


def simulate(experiments: int, seed: int) -> None:
    """Print coverage and width per world and analysis."""
    print(f"{experiments} experiments a line without effect; nominal coverage 95 %")
    print(f"standard error of a coverage {100 * math.sqrt(0.0475 / experiments / 2):.1f}")
    print(
        f"{'world':<8}{'blocks':>7}{'set aside':>11}{'analysis':>17}{'coverage':>10}{'width':>8}"
        f"{'have one':>10}"
    )
    for blocks in (5, 10):
        for world in ("quiet", "hog", "bursts"):
            rng = np.random.default_rng(seed)
            hits: dict[str, list[bool]] = {}
            widths: dict[str, list[float]] = {}
            worded: dict[str, list[bool]] = {}
            aside = []
            for _ in range(experiments):
                samples = experiment(world, blocks, rng)
                aside.append(1 - samples["valid"].mean())
                for name, table in analyses(samples, SETTINGS):
                    low, high = (table[c].to_numpy() for c in ("ratio_low", "ratio_high"))
                    there = ~np.isnan(low)
                    worded.setdefault(name, []).extend(there)
                    hits.setdefault(name, []).extend(((low <= 1) & (high >= 1))[there])
                    widths.setdefault(name, []).extend(np.log(high / low)[there])
            for name in hits:
                print(
                    f"{world:<8}{blocks:>7}{100 * np.mean(aside):>10.1f}%{name:>17}"
                    f"{100 * np.mean(hits[name]):>9.1f}%{100 * np.median(widths[name]):>7.1f}%"
                    f"{100 * np.mean(worded[name]):>9.0f}%",
                    flush=True,
                )


def real(path: Path) -> None:
    """Print what the covariate does to a run's overall effects."""
    run = read_run(path)
    samples = pd.read_csv(path / "samples.csv")
    if samples["speed_before"].isna().all():
        raise SystemExit(f"{path}: no sample has a speed check; measure the run again")
    s = replace(analysis_settings(run.experiment, run.protocol, path), only=("throughput_mib_s",))
    found = dict(analyses(samples, s))
    print(f"{'regime':<20}{'arm':<12}" + "".join(f"{name:>26}" for name in found))
    for place, row in found["at speed, rule"].iterrows():
        print(
            f"{row['regime']:<20}{row['arm']:<12}"
            + "".join(f"{_told(table.loc[place]):>26}" for table in found.values())
        )


def _told(effect: pd.Series) -> str:
    delta, low, high = (effect[f"{n}_percent"] for n in ("delta", "delta_low", "delta_high"))
    return f"{delta:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    """Simulate, or read a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--run", type=Path, help="folder of a real run")
    args = parser.parse_args()
    if args.run:
        real(args.run)
    else:
        simulate(args.experiments, seed=31)


if __name__ == "__main__":
    main()
