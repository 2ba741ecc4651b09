# SPDX-License-Identifier: GPL-2.0-only
"""What the analysis has to be told: names, their display order, and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdelta.analysis.records import Cell
from kdelta.errors import KdeltaError
from kdelta.schema import COLUMN_NAMES
from kdelta.workload.declaration import Direction, Workload
from kdelta.workload.folder import load_workload
from kdelta.workload.parameters import Level


@dataclass(frozen=True)
class Metric:
    """One measured quantity: a column of samples.csv that deltas are computed of."""

    name: str
    unit: str
    direction: Direction  # which way is better


@dataclass(frozen=True)
class Limits:
    """Limits of the validity rules; meaning and defaults as in the experiment file's `validity`."""

    clock_jump_ms: float = 10.0
    steal: float = 0.05
    host_load: float = 1.0
    host_other_cpu: float = 0.05
    cpu_speed: float = 0.6


@dataclass(frozen=True)
class Expectation:
    """What a regime must do to a counter in at least `share` of each arm's samples.

    Exactly one of `at_least` and `at_most` is given: bounds of the counter's growth.
    """

    regime: str
    counter: str  # a column of samples.csv
    at_least: int | None
    at_most: int | None
    share: float


@dataclass(frozen=True)
class Claim:
    """One published delta: of an arm, in a regime, cell and metric.

    Attributes:
        levels: factor -> level of the cell.
        metric: of the workload, by its name.
        baseline, value: the published numbers, in `unit`.
        delta_percent: as published, rounded to whole per cent.
    """

    regime: str
    arm: str
    metric: str
    levels: dict[str, Level]
    baseline: float
    value: float
    delta_percent: float


@dataclass(frozen=True)
class NegativeControl:
    """Cells in which no arm can have an effect: factor -> levels, and why."""

    levels: dict[str, tuple[Level, ...]]
    reason: str


@dataclass(frozen=True)
class AnalysisSettings:
    """Everything the analysis needs besides the raw files.

    Attributes:
        factors: the matrix's column names, in the order of the experiment file.
        baseline: the arm that every other one is divided by.
        arms: every arm, baseline and control included, in display order.
        regimes: every regime, in display order.
        control: the A/A arm, or None if the experiment runs none.
        confidence: of every interval; 1 - confidence is the level of every test.
        equivalence_margin: m; an effect whose interval lies within
            [1/(1+m), 1+m] is equivalent to none.
        limits: of the validity rules.
        expectations: of the regimes, in display order.
        claims: published deltas to compare with, in their file's order.
        negative_controls: cells without effect.
        power: with which the noise floor's effect would be found.
        workload: what was run; it says what its output means, and what has to hold of it.
        workload_name: of several, which of them these are about.
        script: what reads its output, if that is a script of its own.
        arguments: parameters that are the same in every cell.
        workload_limits: bounds of its checks other than its own.
        only: names of the metrics that get deltas; None: all of the workload's.
        blocks: planned blocks of each regime; a folder with a higher number is of an
            older, longer run and is not read, and one that is missing counts as lost. None,
            where no protocol is known, reads every block there is and takes the highest
            number of each regime for what was planned.
        cells: the matrix, each cell's levels in the order of the factors: what was planned,
            whatever the raw files have. None takes the cells that the raw files plan.
        other_regimes: of the experiment, which the protocol does not run; a folder of one is of
            an older, longer run and is not read.
        traced_regimes: whose mechanism boots are read, in display order; None: `regimes`.
        memory_regime: whose boots say how much memory is in use after boot; None: no one's.
        kernels: arm -> its kernel's image.json, as the manifest has it; empty where it is not
            known: then nothing is said of what a kernel weighs.

    Raises:
        KdeltaError: names that contradict each other, or a limit out of range.
    """

    factors: tuple[str, ...]
    baseline: str
    arms: tuple[str, ...]
    regimes: tuple[str, ...]
    control: str | None = None
    confidence: float = 0.95
    equivalence_margin: float = 0.03
    limits: Limits = Limits()
    expectations: tuple[Expectation, ...] = ()
    claims: tuple[Claim, ...] = ()
    negative_controls: tuple[NegativeControl, ...] = ()
    power: float = 0.8
    workload: Workload = field(default_factory=lambda: load_workload("pipe_bench"))
    workload_name: str = "pipe_bench"
    script: Path | None = None
    arguments: Mapping[str, Level] = field(default_factory=dict)
    workload_limits: Mapping[str, float] = field(default_factory=dict)
    only: tuple[str, ...] | None = None
    blocks: int | None = None
    cells: tuple[Cell, ...] | None = None
    other_regimes: tuple[str, ...] = ()
    traced_regimes: tuple[str, ...] | None = None
    memory_regime: str | None = None
    kernels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names in (
            ("factors", self.factors),
            ("arms", self.arms),
            ("regimes", self.regimes),
        ):
            if not names or len(set(names)) != len(names):
                raise KdeltaError(
                    f"analysis settings: {what}: {list(names)} must name each once, at least one"
                )
        shadowing = [name for name in self.factors if name in self._columns()]
        if shadowing:
            raise KdeltaError(
                f"analysis settings: factors: {shadowing[0]!r} is the name of a column of the "
                "result tables; call the factor something else"
            )
        if self.baseline not in self.arms:
            raise KdeltaError(
                f"analysis settings: baseline: {self.baseline!r} is not one of the arms "
                f"{', '.join(self.arms)}"
            )
        if self.control is not None and (
            self.control not in self.arms or self.control == self.baseline
        ):
            raise KdeltaError(
                f"analysis settings: control: {self.control!r} must be one of the arms "
                f"{', '.join(self.arms)}, and not the baseline"
            )
        for what, value, low, high in (
            ("confidence", self.confidence, 0.0, 1.0),
            ("power", self.power, 0.0, 1.0),
            ("equivalence_margin", self.equivalence_margin, 0.0, math.inf),
        ):
            if not low < value < high:
                raise KdeltaError(
                    f"analysis settings: {what}: {value!r} must lie between {low} and {high}"
                )

    def _columns(self) -> frozenset[str]:
        """Names that a factor cannot have."""
        return COLUMN_NAMES | self.workload.recorded.keys()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The columns of samples.csv that get deltas."""
        return tuple(
            Metric(name, metric.unit, metric.better)
            for name, metric in self.workload.metrics.items()
            if self.only is None or name in self.only
        )

    @property
    def primary(self) -> str:
        """The name of the metric that verdicts are about."""
        return self.workload.primary

    @property
    def alpha(self) -> float:
        """Level of every test: 1 - confidence."""
        return 1.0 - self.confidence

    @property
    def compared_arms(self) -> tuple[str, ...]:
        """Every arm that is divided by the baseline, the control among them."""
        return tuple(arm for arm in self.arms if arm != self.baseline)
