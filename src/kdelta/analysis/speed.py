# SPDX-License-Identifier: GPL-2.0-only
"""What the vCPUs were worth around each sample, by its speed check.

The check is a fixed amount of user-mode arithmetic on every vCPU at once. Its speed is taken per
second of the check's own CPU time in the guest: the stressor of a regime, which shares the vCPU,
does not count, and whatever took the CPU away below the guest does. The slowest vCPU counts, since
a workload whose threads wait for each other is as slow as that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.records import Cell, SpeedCheck, SpeedTimes

REFERENCE_QUANTILE = 0.9
"""Of a regime's checks, the one whose speed is called full.

High, so that a run that is disturbed most of the time is still seen: an undisturbed tenth is
enough. Not the highest: now and then a single check is too fast, by a clock rate that cannot be
held or by a clock that was read late, and one such check would make every other sample slow.
"""


@dataclass(frozen=True)
class SampleSpeed:
    """Speeds in millions of steps per second of CPU time, NaN where a check did not run.

    Attributes:
        before, after: of the two checks.
        reference: what the same kind of host reached in this regime of this run.
    """

    before: float
    after: float
    reference: float

    @property
    def relative(self) -> float:
        """The slower of the two over the reference; NaN without any check."""
        return float(np.fmin(self.before, self.after)) / self.reference

    @property
    def mean(self) -> float:
        """Geometric mean of the two; NaN unless both ran."""
        return math.sqrt(self.before * self.after)


def sample_speeds(boots: Iterable[RawBoot]) -> dict[tuple[str, int, str, Cell], SampleSpeed]:
    """Regime, block, arm, cell -> speed, of every sample with a check.

    Speeds of another regime are no reference: what runs beside the check there costs caches and
    memory bandwidth. Nor are those of another kind of host, of another number of vCPUs, or of
    emulation against hardware. Samples that are set aside count: a disturbance says nothing
    against a check.
    """
    found: dict[tuple[str, int, str, Cell], tuple[float, float]] = {}
    groups: dict[tuple[object, ...], list[tuple[str, int, str, Cell]]] = {}
    for boot in boots:
        for sample in boot.samples:
            if sample.record.speed is not None:
                key = (boot.regime, boot.block, boot.arm, sample.cell)
                found[key] = _speeds(sample.record.speed)
                groups.setdefault(_machine(boot), []).append(key)
    result = {}
    for keys in groups.values():
        checks = np.array([found[key] for key in keys]).ravel()
        checks = checks[np.isfinite(checks)]
        full = float(np.quantile(checks, REFERENCE_QUANTILE)) if checks.size else math.nan
        result.update({key: SampleSpeed(*found[key], full) for key in keys})
    return result


def _speeds(check: SpeedCheck) -> tuple[float, float]:
    return _speed(check.work, check.before), _speed(check.work, check.after)


def _speed(work: int, times: SpeedTimes | None) -> float:
    return math.nan if times is None else 1e3 * work / max(times.cpu_ns)


def _machine(boot: RawBoot) -> tuple[object, ...]:
    gate = boot.boot.gate if boot.boot else None
    model = boot.host.host.cpu_model if boot.host else None
    return (boot.regime, gate.acceleration if gate else None, boot.vcpus, model)
