# SPDX-License-Identifier: GPL-2.0-only
"""A noise floor before anything is measured: from what a host's CPUs are worth over some seconds.

A forecast, not a measurement: ten seconds do not see what happens every few minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kdelta.analysis.inference import Floats
from kdelta.analysis.power import Design, Spread, smallest_effect

QUIET_LOG_SD = 0.05
"""Of a cell's log ratio between two boots on a quiet host: 4.5 to 5.5 % were found with cells of
0.6 s, emulated, on 2 CPUs. Not known for KVM, where it should be less."""

WINDOWS = 8
"""Into so many windows at least a series is cut: fewer say nothing of their spread."""

SLOW = 1.25
"""A check that took this much longer than an unhindered one is called slow."""

_UNHINDERED = 10
"""Percentile of the checks that is taken for what one takes by itself."""


@dataclass(frozen=True)
class Steadiness:
    """How even a host's CPUs are.

    Attributes:
        unhindered_ns: of a check by itself, as the fastest tenth of them shows it.
        slow_share: of the checks, each CPU by itself, that took `SLOW` times that or more.
        worst: the longest check over it.
    """

    unhindered_ns: float
    slow_share: float
    worst: float


def steadiness(wall_ns: Floats) -> Steadiness:
    """Summary of a series of speed checks.

    Args:
        wall_ns: shape (checks, CPUs), at least one check.
    """
    alone = float(np.percentile(wall_ns, _UNHINDERED))
    return Steadiness(
        alone, float(np.mean(wall_ns >= SLOW * alone)), float(np.max(wall_ns)) / alone
    )


def window_log_sd(ended_s: Floats, wall_ns: Floats, window_s: float) -> float:
    """Standard deviation of the log speed of the machine over windows of a cell's length.

    The speed of a CPU in a window is work per time over the window's checks, that of the
    machine the mean over its CPUs. A window longer than an eighth of the series is cut to
    that: longer cells are taken to be no steadier than those, since disturbances last.

    Args:
        ended_s: when each check was over, shape (checks,), ascending, at least two.
        wall_ns: shape (checks, CPUs).
        window_s: length of a cell.
    """
    window = min(window_s, float(ended_s[-1]) / WINDOWS)
    # What is left after the last whole window belongs to that.
    whole = math.floor(ended_s[-1] / window + 1e-9)
    number = np.minimum(np.floor(ended_s / window), whole - 1)
    if number[0] == number[-1]:  # one check took nearly all of the time
        number = np.arange(len(ended_s))
    speeds = [np.mean(1 / wall_ns[number == index].mean(axis=0)) for index in np.unique(number)]
    return float(np.std(np.log(speeds), ddof=1))


def ratio_log_sd(window_sd: float) -> float:
    """Standard deviation of a cell's log ratio: the quiet one, and each boot's disturbance."""
    return math.sqrt(QUIET_LOG_SD**2 + 2 * window_sd**2)


def forecast_floor(log_sd: float, design: Design, power: float) -> float:
    """Noise floor of a cell, as a ratio minus 1: the smallest effect that would be found.

    Args:
        log_sd: of a cell's log ratio over blocks, taken as known.
        design: of the protocol.
        power: with which it would be called faster or slower.
    """
    return math.expm1(smallest_effect(Spread(log_sd), design, power))
