# SPDX-License-Identifier: GPL-2.0-only
"""Simulated experiments with a known truth, and the package's own words on them.

The logarithm of a sample is the sum of
  the cell's own level + the host's mood in the block (shared by its arms)
  + drift, boot after boot, and a trend over the boots of a block
  + the arm's true effect in the cell + the boot's luck (shared by its cells) + the sample's luck
  + what a burst of other work on the host left of the CPU meanwhile,
and now and then an outlier. Boots fail, and single samples. Arms are booted in the order that
the package's own schedule says; in a world with rounds they live together, and take turns as it
says. A sample is then the mean over its slices, and its luck that of one slice over the root of
their number.

Nothing here computes an effect: `effects` goes through the functions that the delta tables are
made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kdelta.analysis.effects import DIFFERENT, Effect, cell_effects, overall_effect
from kdelta.analysis.inference import Floats
from kdelta.analysis.nodes import DIFFER, Nodes, compare_nodes
from kdelta.analysis.settings import AnalysisSettings, Limits
from kdelta.analysis.speed import full_speed, mean_speed, what_goes_with_speed
from kdelta.experiment import Experiment
from kdelta.measure.schedule import block_schedule

ARMS = ("baseline", "patched", "control")
BOOT_S = 14.0
CELL_S = 1.0
STEP_S = 0.25  # of the time line on which bursts come and go


@dataclass(frozen=True)
class World:
    """What experiments are drawn from; spreads are standard deviations of logarithms.

    Attributes:
        effect: true log ratio of the arm "patched", on average over cells; the control's is 0.
        unequal: the effects of the cells lie evenly between effect - unequal and
            effect + unequal.
        noisier: the cells' sample_sd lies, evenly on the log scale, between sample_sd / noisier
            and sample_sd x noisier.
        drift: growth of the logarithm from the first boot of a regime to its last.
        trend: growth of the logarithm from one boot of a block to the next.
        outliers: share of samples that are off by a factor between 0.5 and 2.
        failing_boots, failing_samples: shares.
        lost_blocks: blocks in which the last cell of the arm "patched" fails.
        bursts_s: mean time between two bursts of other work on the host, each of 5 to 60 s, in
            which the machine is slower by 20 to 50 %; 0 for none.
        rounds: of a block whose arms live together; 0: they are booted one after the other.
        nodes: how many measure, in turns.
        node_speed_sd: of the nodes' speeds.
        node_effect_sd: of the effects of "patched" on the nodes, around `effects`; drawn anew
            for each experiment and regime.
        noisy_node: by what the last node's boots differ more than those of the others.
    """

    regimes: int = 1
    cells: int = 9
    blocks: int = 10
    effect: float = 0.0
    unequal: float = 0.0
    noisier: float = 1.0
    block_sd: float = 0.2
    boot_sd: float = 0.05
    sample_sd: float = 0.05
    drift: float = 0.0
    trend: float = 0.0
    outliers: float = 0.0
    failing_boots: float = 0.0
    failing_samples: float = 0.0
    lost_blocks: int = 0
    bursts_s: float = 0.0
    rounds: int = 0
    nodes: int = 1
    node_speed_sd: float = 0.0
    node_effect_sd: float = 0.0
    noisy_node: float = 1.0

    @property
    def node_of(self) -> dict[int, str]:
        """Block -> node."""
        return {block + 1: f"n{block % self.nodes}" for block in range(self.blocks)}

    @property
    def effects(self) -> Floats:
        """True log ratios of "patched", shape (cells,)."""
        return np.linspace(self.effect - self.unequal, self.effect + self.unequal, self.cells)


QUIET = World(boot_sd=0.02)
SCENARIOS = {
    "clean": World(),
    "boots differ": World(boot_sd=0.1, sample_sd=0.02),
    "samples differ": World(boot_sd=0.0, sample_sd=0.1),
    "drift": World(drift=0.5),
    "outliers": World(outliers=0.02),
    "unequal effects": World(unequal=0.3),
    "missing": World(unequal=0.3, noisier=2, failing_boots=0.06, failing_samples=0.05),
    "one cell lost": World(unequal=0.3, noisier=2, lost_blocks=4),
    "trend": World(boot_sd=0.02, trend=0.02),
    "everything": World(
        unequal=0.3,
        noisier=2,
        drift=0.3,
        trend=0.02,
        outliers=0.02,
        failing_boots=0.05,
        failing_samples=0.02,
    ),
}
SEVERAL = World(nodes=3, blocks=10, boot_sd=0.02, effect=float(np.log(1.1)))
NODE_WORLDS = {
    "alike": SEVERAL,
    "other speed": replace(SEVERAL, node_speed_sd=0.5),
    "two nodes, 8 blocks, two regimes": replace(SEVERAL, nodes=2, blocks=8, regimes=2),
    "a noisy node": replace(SEVERAL, noisy_node=4.0),
    "effects differ a little": replace(SEVERAL, node_effect_sd=0.02),
    "effects differ": replace(SEVERAL, node_effect_sd=0.1),
    "effects differ, samples lost": replace(
        SEVERAL, node_effect_sd=0.1, unequal=0.3, failing_boots=0.04, failing_samples=0.04
    ),
    "effects differ, 5 blocks on 2 nodes": replace(SEVERAL, nodes=2, blocks=5, node_effect_sd=0.1),
    "effects differ, a node a block": replace(SEVERAL, nodes=5, blocks=5, node_effect_sd=0.1),
}
BURSTS = World(boot_sd=0.02, unequal=0.3, bursts_s=120.0)


@dataclass(frozen=True)
class Simulated:
    """Many experiments.

    Attributes:
        logs: logarithms of throughputs, NaN where there is none; shape
            (experiments, regimes, arms, blocks, cells), arms as in `ARMS`.
        speeds: of the machine at the start and the end of each sample, 1 where nothing else
            runs; shape (experiments, regimes, arms, blocks, cells, 2).
        node_effects: what "patched" gains more on each node than on average over all that there
            could be, as log ratios; shape (experiments, regimes, nodes).
    """

    logs: Floats
    speeds: Floats
    node_effects: Floats


def simulate(world: World, experiments: int, seed: int) -> Floats:
    """`Simulated.logs` of so many experiments."""
    return simulate_all(world, experiments, seed).logs


def simulate_all(world: World, experiments: int, seed: int) -> Simulated:
    """So many experiments of a world."""
    rng = np.random.default_rng(seed)
    outer = (experiments, world.regimes)
    arms, blocks, cells = len(ARMS), world.blocks, world.cells
    shape = (*outer, arms, blocks, cells)
    x = rng.normal(0, world.block_sd, (*outer, 1, blocks, 1)) + np.zeros(shape[2:])
    position = np.array(
        [
            [_positions(seed * 100_003 + n, regime, blocks) for regime in range(world.regimes)]
            for n in range(experiments)
        ]
    )
    boot = position + arms * np.arange(blocks)
    slots = _slots(world, experiments, seed) if world.rounds else position[..., None, None]
    x += (world.drift * boot / (arms * blocks - 1))[..., None]
    x += world.trend * slots.mean(axis=-1)
    node = np.arange(blocks) % world.nodes
    boot_sd = world.boot_sd * np.where(node == world.nodes - 1, world.noisy_node, 1.0)
    x += rng.normal(0, 1, (*outer, arms, blocks, 1)) * boot_sd[:, None]
    sds = world.sample_sd * world.noisier ** np.linspace(-1, 1, cells)
    sds = sds / np.sqrt(max(1, world.rounds))
    x += rng.normal(0, 1, shape) * sds
    x += np.where(
        rng.uniform(size=shape) < world.outliers, rng.uniform(-1, 1, shape) * np.log(2), 0
    )
    x[:, :, ARMS.index("patched")] += world.effects
    speeds = np.ones((*shape, 2))
    if world.bursts_s:
        during, speeds = (
            _bursts_in_turns(world, slots, rng) if world.rounds else _bursts(world, boot, rng)
        )
        x += np.log(during)
    failed_boot = rng.uniform(size=(*outer, arms, blocks, 1)) < world.failing_boots
    failed = failed_boot | (rng.uniform(size=shape) < world.failing_samples)
    failed[:, :, ARMS.index("patched"), : world.lost_blocks, -1] = True
    # Last, so that worlds without nodes are drawn as they were.
    x += rng.normal(0, world.node_speed_sd, (*outer, 1, world.nodes, 1))[..., node, :]
    node_effects = rng.normal(0, world.node_effect_sd, (*outer, world.nodes))
    x[:, :, ARMS.index("patched")] += node_effects[..., node, None]
    return Simulated(np.where(failed, np.nan, x), speeds, node_effects)


def _slots(world: World, experiments: int, seed: int) -> Floats:
    """At which place of its cell each slice ran, from 0; (..., arms, blocks, cells, rounds)."""
    return np.array(
        [
            [_turns(seed * 100_003 + n, regime, world) for regime in range(world.regimes)]
            for n in range(experiments)
        ],
        dtype=float,
    )


def _turns(seed: int, regime: int, world: World) -> NDArray[np.int64]:
    """The same of one regime, by the package's own schedule."""
    matrix = {"writers": list(range(1, world.cells + 1)), "readers": [1]}
    chosen = _experiment().workload.model_copy(update={"matrix": matrix})
    changes = {"seed": seed, "workloads": {"pipe_bench": chosen}}
    experiment = _experiment().model_copy(update=changes)
    slots = np.zeros((len(ARMS), world.blocks, world.cells, world.rounds), dtype=np.int64)
    for block in range(world.blocks):
        schedule = block_schedule(experiment, f"regime-{regime}", block + 1, world.rounds)
        for number, turns in enumerate(schedule.rounds):
            for turn in turns:
                for slot, arm in enumerate(turn.arms):
                    slots[ARMS.index(arm), block, turn.cell, number] = slot
    return slots


@lru_cache(maxsize=20_000)
def _positions(seed: int, regime: int, blocks: int) -> NDArray[np.int64]:
    """When each arm is booted in each block, from 0; shape (arms, blocks)."""
    experiment = _experiment().model_copy(update={"seed": seed})
    orders = [
        list(block_schedule(experiment, f"regime-{regime}", block + 1).arms)
        for block in range(blocks)
    ]
    return np.array([[order.index(arm) for order in orders] for arm in ARMS])


@lru_cache(maxsize=1)
def _experiment() -> Experiment:
    """With the arms of `ARMS`; of its matrix nothing is used."""
    return Experiment.model_validate(
        {
            "schema": 2,
            "name": "simulated",
            "title": "simulated",
            "kernel": {
                "source": {"type": "debian", "package": "linux-source-6.12"},
                "config": {"fragments": ["fragment.config"]},
            },
            "arms": {"baseline": {"title": "b"}, "patched": {"title": "p"}},
            "workloads": {"pipe_bench": {"matrix": {"writers": [1], "readers": [1]}}},
            "seed": 1,
            "regimes": {"idle": {"title": "idle"}},
            "protocols": {"quick": {"blocks": 5, "duration_s": {"idle": 1.0}}},
        }
    )


def _bursts(
    world: World, boot: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """The machine's speed during each sample, and at its start and end.

    Boots follow one another, in each of them the cells, in an order that the block's arms share.

    Args:
        world: how often bursts come, and how many cells a boot has.
        boot: number of each boot from the regime's start, (experiments, regimes, arms, blocks).
        rng: where they are drawn from.
    """
    boot_s = BOOT_S + CELL_S * world.cells
    steps = int(boot_s * len(ARMS) * world.blocks / STEP_S) + 1
    during = np.empty((*boot.shape, world.cells))
    ends = np.empty((*boot.shape, world.cells, 2))
    inside = np.arange(int(CELL_S / STEP_S))
    for place in np.ndindex(boot.shape[:2]):
        line = _speed_line(steps, world.bursts_s, rng)
        turns = np.array([rng.permutation(world.cells) for _ in range(world.blocks)])
        start = boot[place][..., None] * boot_s + BOOT_S + CELL_S * turns
        first = (start / STEP_S).astype(int)
        during[place] = line[first[..., None] + inside].mean(axis=-1)
        ends[place] = line[np.stack([first, first + inside[-1]], axis=-1)]
    return during, ends


def _bursts_in_turns(
    world: World, slots: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """As `_bursts`, of arms that live together: geometric means over the slices of a sample.

    Args:
        world: how often bursts come.
        slots: as `_slots` makes them.
        rng: where bursts and the cells' orders are drawn from.
    """
    arms, blocks, cells, rounds = slots.shape[2:]
    block_s = BOOT_S + CELL_S * arms * cells * rounds
    during = np.empty(slots.shape[:-1])
    ends = np.empty((*slots.shape[:-1], 2))
    inside = np.arange(int(CELL_S / STEP_S))
    for place in np.ndindex(slots.shape[:2]):
        line = _speed_line(int(block_s * blocks / STEP_S) + 1, world.bursts_s, rng)
        order = np.array(
            [[rng.permutation(cells) for _ in range(rounds)] for _ in range(blocks)]
        ).transpose(0, 2, 1)
        turn = order + cells * np.arange(rounds)
        start = block_s * np.arange(blocks)[:, None, None] + BOOT_S
        first = ((start + CELL_S * (arms * turn + slots[place])) / STEP_S).astype(int)
        logs = np.log(line[first[..., None] + inside].mean(axis=-1))
        during[place] = np.exp(logs.mean(axis=-1))
        checks = np.log(line[np.stack([first, first + inside[-1]], axis=-1)])
        ends[place] = np.exp(checks.mean(axis=-2))
    return during, ends


def _speed_line(steps: int, bursts_s: float, rng: np.random.Generator) -> Floats:
    """The machine's speed over time, shape (steps,)."""
    line = np.ones(steps)
    now = -60.0
    while now < steps * STEP_S:
        now += rng.exponential(bursts_s)
        length = rng.uniform(5, 60)
        first, last = (max(0, int(t / STEP_S)) for t in (now, now + length))
        line[first:last] = 1 - rng.uniform(0.2, 0.5)
        now += length
    return line


@dataclass(frozen=True)
class Effects:
    """What the package says of one arm of one experiment, on one metric.

    Attributes:
        cells: of all regimes, regime by regime.
        overall: of each regime.
    """

    cells: list[Effect]
    overall: list[Effect]


def effects(
    logs: Floats,
    arm: str,
    settings: AnalysisSettings,
    *,
    set_aside: NDArray[np.bool_] | None = None,
    apart: Sequence[Nodes | None] | None = None,
) -> Effects:
    """Cells and overall effects, of every planned block and cell.

    Args:
        logs: of one experiment, shape (regimes, arms, blocks, cells).
        arm: one of `ARMS`.
        settings: confidence and margin.
        set_aside: samples that a rule sets aside, of the shape of `logs`.
        apart: of each regime, the blocks' nodes where effects differ between them.
    """
    if set_aside is not None:
        logs = np.where(set_aside, np.nan, logs)
    regimes = block_ratios(logs, arm)
    blocks = logs.shape[2]
    apart = apart or [None] * len(regimes)
    flat = [cell for regime in regimes for cell in regime]
    flat_apart = [nodes for regime, nodes in zip(regimes, apart, strict=True) for _ in regime]
    planned = [blocks] * len(flat)
    return Effects(
        cell_effects(flat, planned, "higher", settings, apart=flat_apart, sign_flip=False),
        [
            overall_effect(
                regime, planned[: len(regime)], "higher", settings, apart=nodes, sign_flip=False
            )
            for regime, nodes in zip(regimes, apart, strict=True)
        ],
    )


def block_ratios(logs: Floats, arm: str) -> list[list[dict[int, float]]]:
    """Block -> log ratio of the arm, for each cell of each regime; arguments as for `effects`."""
    ratios = logs[:, ARMS.index(arm)] - logs[:, ARMS.index("baseline")]
    return [
        [
            {block: float(y) for block, y in enumerate(cell, start=1) if not np.isnan(y)}
            for cell in regime.T
        ]
        for regime in ratios
    ]


@dataclass(frozen=True)
class Calibration:
    """What became of the promises; shares.

    Attributes:
        cells: intervals of "patched"'s cells that hold their true effect.
        overall: likewise of its overall effects.
        false: experiments in which any cell of the control is called faster or slower.
        worded: of all effects, those that are not invalid; the other shares are of these.
        width: median width of the overall intervals, as a difference of logarithms.
    """

    cells: float
    overall: float
    false: float
    worded: float
    width: float


def calibrate(
    world: World,
    settings: AnalysisSettings,
    experiments: int,
    seed: int,
    *,
    cpu_speed: bool = False,
) -> Calibration:
    """Many experiments of a world, each through the package's functions.

    Args:
        world: what is true.
        settings: confidence and margin.
        experiments: how many.
        seed: of the draw.
        cpu_speed: samples on slow CPUs are set aside and ratios corrected, as in any analysis.
    """
    drawn = simulate_all(world, experiments, seed)
    cells: list[bool] = []
    overall: list[bool] = []
    false: list[bool] = []
    widths: list[float] = []
    for logs, speeds in zip(drawn.logs, drawn.speeds, strict=True):
        if cpu_speed:
            logs = at_equal_speed(np.where(slow_samples(speeds), np.nan, logs), speeds)
        found = effects(logs, "patched", settings)
        true = np.exp(np.tile(world.effects, world.regimes))
        cells += _held(found.cells, true)
        overall += _held(found.overall, np.exp([world.effect] * world.regimes))
        widths += [
            float(np.log(one.estimate.high / one.estimate.low))
            for one in found.overall
            if one.verdict != "invalid"
        ]
        control = effects(logs, "control", settings)
        false.append(any(one.verdict in DIFFERENT for one in control.cells))
    planned = experiments * world.regimes * (world.cells + 1)
    return Calibration(
        cells=float(np.mean(cells)),
        overall=float(np.mean(overall)),
        false=float(np.mean(false)),
        worded=(len(cells) + len(overall)) / planned,
        width=float(np.median(widths)),
    )


@dataclass(frozen=True)
class NodeCalibration:
    """What became of the promises of runs on several nodes; shares of experiments.

    Attributes:
        patched: "patched" is said to differ between nodes in any regime.
        control: the control is.
        mean: overall intervals of "patched" that hold the mean effect on the measured nodes,
            each as often as it has blocks.
        every: of those that reach over all nodes, the ones that hold the effect on each of them.
        cells: intervals of cells, as `mean`.
        false: any cell of the control is called faster or slower.
        width: median width of the overall intervals, as a difference of logarithms.
        pooled: `mean` of intervals that are made as if there were no nodes.
    """

    patched: float
    control: float
    mean: float
    every: float
    cells: float
    false: float
    width: float
    pooled: float


def calibrate_nodes(
    world: World, settings: AnalysisSettings, experiments: int, seed: int
) -> NodeCalibration:
    """Many experiments on several nodes, each through the package's functions.

    Args:
        world: what is true.
        settings: confidence and margin.
        experiments: how many.
        seed: of the draw.
    """
    drawn = simulate_all(world, experiments, seed)
    nodes = dict.fromkeys(map(str, range(world.regimes)), world.node_of)
    shares = np.bincount(np.arange(world.blocks) % world.nodes) / world.blocks
    held: dict[str, list[bool]] = {name: [] for name in ("mean", "every", "cells", "pooled")}
    said: dict[str, list[bool]] = {"patched": [], "control": []}
    false: list[bool] = []
    widths: list[float] = []
    for logs, more in zip(drawn.logs, drawn.node_effects, strict=True):
        cells = {
            (str(number), arm): regime
            for arm in said
            for number, regime in enumerate(block_ratios(logs, arm))
        }
        found = compare_nodes(cells, nodes, settings)
        apart = {
            arm: [
                world.node_of if found[str(number), arm].differ == DIFFER else None
                for number in range(world.regimes)
            ]
            for arm in said
        }
        for arm, differing in said.items():
            differing.append(any(nodes is not None for nodes in apart[arm]))
        ours = effects(logs, "patched", settings, apart=apart["patched"])
        means = more @ shares
        held["mean"] += _held(ours.overall, np.exp(world.effect + means))
        true = np.exp(world.effects + means[:, None]).ravel()
        held["cells"] += _held(ours.cells, true)
        plain = effects(logs, "patched", settings)
        held["pooled"] += _held(plain.overall, np.exp(world.effect + means))
        for one, here, differs in zip(ours.overall, more, apart["patched"], strict=True):
            if differs and one.verdict != "invalid":
                ends = np.exp(world.effect + here.min()), np.exp(world.effect + here.max())
                held["every"].append(one.estimate.low <= ends[0] and ends[1] <= one.estimate.high)
        widths += [float(np.log(one.estimate.high / one.estimate.low)) for one in ours.overall]
        control = effects(logs, "control", settings, apart=apart["control"])
        false.append(any(one.verdict in DIFFERENT for one in control.cells))
    return NodeCalibration(
        patched=float(np.mean(said["patched"])),
        control=float(np.mean(said["control"])),
        mean=float(np.mean(held["mean"])),
        every=float(np.mean(held["every"])) if held["every"] else float("nan"),
        cells=float(np.mean(held["cells"])),
        false=float(np.mean(false)),
        width=float(np.nanmedian(widths)),
        pooled=float(np.mean(held["pooled"])),
    )


def slow_samples(speeds: Floats) -> NDArray[np.bool_]:
    """Samples of one experiment that break rule cpu-speed; of the shape of `Simulated.logs`."""
    full = np.array([full_speed(checks.reshape(-1, 2)) for checks in speeds])
    relative = mean_speed(speeds) / full.reshape(-1, 1, 1, 1)
    return np.asarray(relative < Limits().cpu_speed)


def at_equal_speed(logs: Floats, speeds: Floats) -> Floats:
    """The samples, so that ratios to the baseline are those at equal speed of the CPUs."""
    out = logs.copy()
    base = ARMS.index("baseline")
    others = [index for index in range(len(ARMS)) if index != base]
    x = np.log(mean_speed(speeds))
    for regime in range(len(logs)):
        y = logs[regime, others] - logs[regime, base]
        there = np.isfinite(y)
        arm, block, cell = np.indices(y.shape)
        part = np.zeros(y.shape)
        part[there] = what_goes_with_speed(
            y[there],
            (x[regime, others] - x[regime, base])[there],
            (arm * y.shape[2] + cell)[there],
            block[there],
        )
        out[regime, others] -= part
    return out


def _held(found: list[Effect], true: Floats) -> list[bool]:
    """Whether the interval holds the true ratio, of every effect that is not invalid."""
    return [
        bool(one.estimate.low <= ratio <= one.estimate.high)
        for one, ratio in zip(found, true, strict=True)
        if one.verdict != "invalid"
    ]
