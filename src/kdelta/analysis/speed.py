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

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.inference import Floats
from kdelta.analysis.records import Cell, SpeedCheck, SpeedTimes

SliceKey = tuple[str, int, str, Cell, int]
Labels = NDArray[np.integer[Any]]

FULL_SPEED_QUANTILE = 0.9
"""Of a regime's samples, the one whose speed is called full.

High, so that a run that is disturbed most of the time is still seen: an undisturbed tenth is
enough. Not the highest: now and then a single check is too fast, by a clock rate that cannot be
held or by a clock that was read late, and one such check would make every other sample slow.
"""

FEWEST_DF = 10
"""With fewer degrees of freedom, what goes with the speed is chance."""

# Logarithms of speeds that differ by less are the same speed after rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SampleSpeed:
    """Speeds in millions of steps per second of CPU time, NaN where no check ran.

    Attributes:
        before, after: of the two checks, geometric means over the vCPUs.
        full: what the same kind of host reached in this regime of this run.
    """

    before: float
    after: float
    full: float

    @property
    def mean(self) -> float:
        """Geometric mean of the checks that ran."""
        return float(mean_speed(np.array([self.before, self.after])))

    @property
    def relative(self) -> float:
        """The mean over full speed."""
        return self.mean / self.full


def sample_speeds(boots: Iterable[RawBoot]) -> dict[SliceKey, SampleSpeed]:
    """Regime, block, arm, cell, round -> speed, of every sample with a check.

    Speeds of another regime are no reference: what runs beside the check there costs caches and
    memory bandwidth. Nor are those of another kind of host, of another number of vCPUs, or of
    emulation against hardware. Samples that are set aside count: a disturbance says nothing
    against a check.
    """
    found: dict[SliceKey, Floats] = {}
    groups: dict[tuple[object, ...], list[SliceKey]] = {}
    for boot in boots:
        for sample in boot.samples:
            if sample.record.speed is not None:
                key = (boot.regime, boot.block, boot.arm, *sample.place)
                found[key] = _checks(sample.record.speed)
                groups.setdefault(_machine(boot), []).append(key)
    result = {}
    for keys in groups.values():
        full = full_speed(np.array([found[key] for key in keys]))
        for key in keys:
            before, after = found[key].tolist()
            result[key] = SampleSpeed(before, after, full)
    return result


def full_speed(checks: Floats) -> float:
    """The speed that is called full, of samples' two checks each, NaN where one did not run.

    Args:
        checks: shape (samples, 2); the result has their unit, and is NaN without any check.
    """
    speeds = mean_speed(checks)
    speeds = speeds[np.isfinite(speeds)]
    return float(np.quantile(speeds, FULL_SPEED_QUANTILE)) if speeds.size else math.nan


def at_equal_speed(pairs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """The pairs with a column `ratio`: value / baseline at the same speed of the CPUs.

    The logarithm of value / baseline goes with that of the speeds by a slope per regime and
    metric, estimated within the cells of each arm, so that neither effects nor levels of cells
    count. The speed is that of arithmetic in user mode, which no kernel in the comparison does
    for the guest, so that no effect is taken out with it. A block's slope comes from the other
    blocks: a slope that was fitted to a block's own noise would make it look quieter than it is.
    Why, and what it brings: docs/methodology.md, "A disturbed host".

    Args:
        pairs: regime, block, arm, factors, metric, baseline, value, speed_ratio (the arm's speed
            over the baseline's, NaN where a check did not run: such a pair stays as it is).
        factors: names of the cells' columns.
    """
    logs = np.log(pairs["value"].to_numpy(dtype=float) / pairs["baseline"].to_numpy(dtype=float))
    speeds = np.log(pairs["speed_ratio"].to_numpy(dtype=float))
    corrections = np.zeros(len(pairs))
    for _, part in pairs.reset_index(drop=True).groupby(["regime", "metric"], sort=False):
        here = part.index.to_numpy()
        cells = part.groupby(["arm", *factors], sort=False).ngroup().to_numpy()
        corrections[here] = what_goes_with_speed(
            logs[here], speeds[here], cells, part["block"].to_numpy()
        )
    return pairs.assign(ratio=np.exp(logs - corrections))


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
    # What is summed are differences from the cell's mean, so that sums can be subtracted: the
    # slope of the others is one of all sums less the block's own.
    x, y = centred(speeds[known], cell), centred(logs[known], cell)
    shape = (len(numbers), int(cell.max()) + 1)
    place = block * shape[1] + cell

    def of_others(values: Floats | None = None) -> Floats:
        sums = np.bincount(place, values, minlength=shape[0] * shape[1]).reshape(shape)
        return np.asarray(sums.sum(axis=0) - sums, dtype=float)

    count, along, up = of_others(), of_others(x), of_others(y)
    shared = np.divide(along, count, out=np.zeros(shape), where=count > 0)
    square = (of_others(x * x) - shared * along).sum(axis=1)
    product = (of_others(x * y) - shared * up).sum(axis=1)
    df = (count - (count > 0)).sum(axis=1)
    told = (df >= FEWEST_DF) & (square > _ROUNDING**2 * known.size)
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


def _checks(check: SpeedCheck) -> Floats:
    return np.array([_speed(check.work, check.before), _speed(check.work, check.after)])


def _speed(work: int, times: SpeedTimes | None) -> float:
    if times is None:
        return math.nan
    return float(mean_speed(1e3 * work / np.array(times.cpu_ns, dtype=float)))


def _machine(boot: RawBoot) -> tuple[object, ...]:
    gate = boot.boot.gate if boot.boot else None
    model = boot.host.host.cpu_model if boot.host else None
    return (boot.regime, gate.acceleration if gate else None, boot.vcpus, model)
