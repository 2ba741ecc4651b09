# SPDX-License-Identifier: GPL-2.0-only
"""A run as every part of the report is given it: the facts, and the analysed tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import pandas as pd

from kdelta.analysis.nodes import DIFFER
from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.formatting import order_levels
from kdelta.report.frames import ReportFrames, select


@dataclass(frozen=True, kw_only=True)
class Results(ReportContext):
    """The facts of one run, with its analysed tables as ``frames``."""

    frames: ReportFrames

    @classmethod
    def of(cls, frames: ReportFrames, context: ReportContext) -> Self:
        """Tables and facts of the same run."""
        return cls(**{**vars(context), "frames": frames})

    def with_tables(self, **tables: Any) -> Self:
        """The same run with other tables in the place of these."""
        return replace(self, frames=replace(self.frames, **tables))

    def deltas(self, regime: Regime, arm: Arm, metric: Metric | None = None) -> pd.DataFrame:
        """A row per cell; of the primary metric if none is given."""
        return self.frames.deltas_of(regime.name, arm.name, (metric or self.primary).name)

    def overall(self, regime: Regime, arm: Arm, metric: Metric | None = None) -> pd.Series | None:
        """The overall effect of a regime, likewise; None where there is none."""
        return self.frames.overall_of(regime.name, arm.name, (metric or self.primary).name)

    def control(self, regime: Regime, metric: Metric | None = None) -> pd.Series | None:
        """The noise floor of a regime, likewise; None without a control arm."""
        return self.frames.control_of(regime.name, (metric or self.primary).name)

    def nodes_differ(self, regime: Regime, arm: Arm) -> bool:
        """Whether the effect of an arm differs between the nodes that measured it."""
        rows = select(self.frames.nodes, regime=regime.name, arm=arm.name)
        return bool((rows["differ"] == DIFFER).any())

    def levels(self, factor: str) -> tuple[str, ...]:
        """Every planned or observed level of a factor, in order."""
        return order_levels(self.frames.levels(factor), self.factor(factor).levels)

    @property
    def cells(self) -> int:
        """The number of cells of the matrix, planned or observed."""
        return math.prod(len(self.levels(factor.name)) for factor in self.factors)
