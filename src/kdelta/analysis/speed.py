# SPDX-License-Identifier: GPL-2.0-only
"""What the vCPUs were worth around each sample, by its speed check.

The check is a fixed amount of user-mode arithmetic on every vCPU at once, before the sample and
after it. Its speed is taken per second of the check's own CPU time in the guest: the stressor of a
regime, which shares the vCPU, does not count, and whatever took the CPU away below the guest does.
A sample's speed is the geometric mean over both checks and all vCPUs. On a disturbed host it tells
throughput better than the slowest vCPU or the slower check (docs/methodology.md), and one check of
some ten milliseconds that had bad luck does not condemn a sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.inference import Floats
from kdelta.analysis.records import SpeedCheck

Labels = NDArray[np.integer[Any]]

FULL_SPEED_QUANTILE = 0.9
"""Of a regime's samples, the one whose speed is called full.

High, so that a run that is disturbed most of the time is still seen: an undisturbed tenth is
enough. Not the highest: now and then a single check is too fast, by a clock rate that cannot be
held or by a clock that was read late, and one such check would make every other sample slow.
"""

FEWEST_DF = 10
"""With fewer degrees of freedom, what goes with the speed is chance."""

# Of the squares of speeds, the share that is rounding, and no spread.
_ROUNDING = 1e-12


def relative_speeds(checks: Floats, machines: Labels) -> tuple[Floats, Floats]:
    """What the vCPUs did around each sample, as a share of full speed; and what full speed was.

    Speeds of another regime are no reference: what runs beside the check there costs caches and
    memory bandwidth. Nor are those of another node (one that is slow throughout is not disturbed),
    of another number of vCPUs, or of emulation against hardware. Samples that are set aside count:
    a disturbance says nothing against a check.

    Args:
        checks: of every sample the speeds before and after, NaN where no check ran: shape
            (samples, 2).
        machines: of each sample, numbered: those that `machine_of` gives the same for are one.

    Returns:
        Two arrays of shape (samples,), the second one in the checks' unit.
    """
    full = np.full(len(checks), math.nan)
    for machine in np.unique(machines):
        here = machines == machine
        full[here] = full_speed(checks[here])
    return np.asarray(mean_speed(checks) / full), full


def full_speed(checks: Floats) -> float:
    """The speed that is called full, of samples' two checks each, NaN where one did not run.

    Args:
        checks: shape (samples, 2); the result has their unit, and is NaN without any check.
    """
    speeds = mean_speed(checks)
    speeds = speeds[np.isfinite(speeds)]
    return float(np.quantile(speeds, FULL_SPEED_QUANTILE)) if speeds.size else math.nan


def at_equal_speed(
    logs: Floats, speeds: Floats, regimes: Labels, cells: Labels, blocks: Labels
) -> Floats:
    """Logarithms of value / baseline of one metric, at the same speed of the CPUs.

    They go with the logarithms of the speeds' ratios by a slope per regime and metric, estimated
    within the cells of each arm, so that neither effects nor levels of cells
    count. The speed is that of arithmetic in user mode, which no kernel in the comparison does
    for the guest, so that no effect is taken out with it. A block's slope comes from the other
    blocks: a slope that was fitted to a block's own noise would make it look quieter than it is.
    Why, and what it brings: docs/methodology.md, "A disturbed host".

    Args:
        logs: of pairs of samples, shape (pairs,).
        speeds: of the arm's over the baseline's, NaN where a check did not run: such a pair stays
            as it is.
        regimes: of each pair, numbered.
        cells: likewise; an arm's cell is another one than another arm's.
        blocks: likewise.
    """
    found = logs.copy()
    for regime in np.unique(regimes):
        here = np.flatnonzero(regimes == regime)
        found[here] -= what_goes_with_speed(logs[here], speeds[here], cells[here], blocks[here])
    return found


def what_goes_with_speed(logs: Floats, speeds: Floats, cells: Labels, blocks: Labels) -> Floats:
    """The part of logarithms of ratios that goes with the logarithms of the speeds' ratios.

    Args:
        logs: of pairs of samples, shape (pairs,).
        speeds: of the same pairs; where one is NaN, the part is 0.
        cells: of each pair, numbered; an arm's cell is another one than another arm's.
        blocks: of each pair, numbered.
    """
    part = np.zeros(len(logs))
    known = np.flatnonzero(np.isfinite(speeds))
    if not known.size:
        return part
    _, cell = np.unique(cells[known], return_inverse=True)
    numbers, block = np.unique(blocks[known], return_inverse=True)
    x, y = speeds[known], logs[known]
    shape = (len(numbers), int(cell.max()) + 1)
    place = block * shape[1] + cell

    def of_others(values: Floats | None = None) -> Floats:
        """Sums over the other blocks, shape (blocks, cells): what comes before, and after."""
        sums = np.bincount(place, values, minlength=shape[0] * shape[1]).reshape(shape)
        nothing = np.zeros((1, shape[1]))
        before = np.cumsum(np.vstack([nothing, sums[:-1]]), axis=0)
        after = np.cumsum(np.vstack([nothing, sums[:0:-1]]), axis=0)[::-1]
        return np.asarray(before + after)

    count, along, up, squared = of_others(), of_others(x), of_others(y), of_others(x * x)
    mean = np.divide(along, count, out=np.zeros(shape), where=count > 0)
    square = (squared - mean * along).sum(axis=1)
    product = (of_others(x * y) - mean * up).sum(axis=1)
    df = (count - (count > 0)).sum(axis=1)
    told = (df >= FEWEST_DF) & (square > _ROUNDING * squared.sum(axis=1))
    slope = np.divide(product, square, out=np.zeros(shape[0]), where=told)
    part[known] = slope[block] * speeds[known]
    return part


def speed_shares(pairs: pd.DataFrame, factors: Sequence[str], metric: str) -> dict[str, float]:
    """Regime -> share of the variance of value / baseline that goes with the speeds.

    R^2 of the metric's log ratio on that of the speeds, both within an arm's cell. A regime
    without enough pairs, or without any spread, has none.
    """
    ours = pairs[
        (pairs["metric"] == metric) & np.isfinite(pairs["speed_ratio"].to_numpy(dtype=float))
    ]
    found = {}
    for regime, part in ours.groupby("regime", sort=False):
        cells = part.groupby(["arm", *factors], sort=False).ngroup().to_numpy()
        if len(part) - len(set(cells)) < FEWEST_DF:
            continue
        x = centred(np.log(part["speed_ratio"].to_numpy()), cells)
        y = centred(np.log((part["value"] / part["baseline"]).to_numpy()), cells)
        variance = float(x @ x) * float(y @ y)
        if variance > 0:
            found[str(regime)] = float(x @ y) ** 2 / variance
    return found


def centred(values: Floats, groups: Labels) -> Floats:
    """The values less the mean of their group; groups are numbered."""
    _, groups = np.unique(groups, return_inverse=True)
    return np.asarray(values - (np.bincount(groups, weights=values) / np.bincount(groups))[groups])


def mean_speed(values: Floats) -> Floats:
    """Geometric mean over the last axis, of what is not NaN; NaN where there is nothing."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.log(np.where(there, values, 1.0)).sum(axis=-1)
        return np.asarray(np.exp(total / there.sum(axis=-1)))


def speeds_of(checks: Sequence[SpeedCheck | None]) -> Floats:
    """Speeds before and after each sample, in millions of steps per second of CPU time.

    Geometric means over the vCPUs; NaN where a check did not run. Shape (samples, 2).
    """
    speeds = np.full((len(checks), 2), math.nan)
    for side, name in enumerate(("before", "after")):
        found = [getattr(check, name) if check else None for check in checks]
        times = [one.cpu_ns if one else () for one in found]
        cpus = np.array([*map(len, times)], dtype=int)
        work = np.array([check.work if check else 0 for check in checks], dtype=float)
        cpu_ns = np.fromiter(itertools.chain.from_iterable(times), dtype=float)
        for number in set(cpus.tolist()) - {0}:
            here = cpus == number
            alike = cpu_ns[np.repeat(here, cpus)].reshape(-1, number)
            speeds[here, side] = mean_speed(1e3 * work[here, np.newaxis] / alike)
    return speeds


def machine_of(boot: RawBoot) -> tuple[object, ...]:
    """What has to be alike for speeds of two boots to be compared."""
    gate = boot.boot.gate if boot.boot else None
    model = boot.host.host.cpu_model if boot.host else None
    return (boot.regime, gate.acceleration if gate else None, boot.vcpus, model, boot.node)
