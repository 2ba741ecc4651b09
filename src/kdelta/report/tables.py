# SPDX-License-Identifier: GPL-2.0-only
"""The table model: which cells a table has and what stands in them.

Every output lays out the same strings, so that page, paper and text cannot disagree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, Factor, Metric, Regime, ReportContext
from kdelta.report.formatting import (
    format_interval,
    format_percent,
    format_value,
    hides_sign,
    level_label,
    level_words,
    percent_decimals,
    plural,
    value_decimals,
)
from kdelta.report.frames import number, whole
from kdelta.report.results import Results

INVALID = "invalid"
VERDICT_MARKS = {"faster": "+", "slower": "-", "equivalent": "=", "inconclusive": "~", INVALID: "x"}
NO_VERDICT_MARK = "?"


@dataclass(frozen=True)
class Cell:
    """One cell of a delta table, formatted.

    ``measured`` is False where no block gave a pair of valid samples; all strings but a verdict
    of ``invalid`` and its mark are then empty. ``set_aside`` counts pairs that broke a rule.
    """

    row: str
    column: str
    measured: bool
    baseline: str = ""
    value: str = ""
    delta: str = ""
    interval: str = ""
    verdict: str = ""
    mark: str = ""
    blocks: int = 0
    short_of_blocks: bool = False
    blocks_to_settle: int | None = None
    set_aside: int = 0

    @property
    def invalid(self) -> bool:
        """Whether too many of its samples were set aside for any verdict."""
        return self.verdict == INVALID

    @property
    def set_aside_note(self) -> str:
        """How many pairs were set aside: ``3 of 4 pairs set aside``."""
        return f"{self.set_aside} of {plural(self.blocks + self.set_aside, 'pair')} set aside"


@dataclass(frozen=True)
class DeltaTable:
    """A table of one regime, metric and arm, at one level of every extra factor."""

    regime: Regime
    metric: Metric
    arm: Arm
    row_factor: Factor
    column_factor: Factor | None
    extra: tuple[tuple[Factor, str], ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def extra_label(self) -> str:
        """The levels of the extra factors in words, or an empty string."""
        return ", ".join(level_words(f, level) for f, level in self.extra)

    @property
    def row_labels(self) -> tuple[str, ...]:
        """What stands before each row."""
        return tuple(level_label(self.row_factor, row[0].row) for row in self.rows)

    @property
    def column_labels(self) -> tuple[str, ...]:
        """What stands over each column: factor and level, or the unit where there is no factor."""
        factor = self.column_factor
        if factor is None:
            return (self.metric.unit,)
        return tuple(level_words(factor, level) for level in self.columns)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, row by row."""
        return tuple(itertools.chain.from_iterable(self.rows))


@dataclass(frozen=True)
class Precision:
    """Digits after the point, the same over a whole report so that tables can be compared."""

    percent: int
    values: dict[str, int]

    def of(self, metric: Metric) -> int:
        """Digits of a metric's values."""
        return self.values.get(metric.name, 0)


def choose_precision(run: Results) -> Precision:
    """Digits that the run's own intervals and magnitudes deserve."""
    arms, metrics = [a.name for a in run.compared], [m.name for m in run.main_metrics]

    def ends(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        shown = table[table["metric"].isin(metrics) & table["arm"].isin(arms)]
        return shown["delta_low_percent"], shown["delta_high_percent"]

    percent = percent_decimals(*ends(run.frames.deltas))
    for whole_regimes in (run.frames.overall, run.frames.overall_all):
        percent = max(percent, int(hides_sign(itertools.chain(*ends(whole_regimes)))))
    values = {
        str(name): value_decimals([*group["baseline"], *group["value"]])
        for name, group in run.frames.deltas.groupby("metric")
    }
    return Precision(percent, values)


def table_columns(run: Results) -> tuple[str, ...]:
    """The labels across a table; one empty label for a matrix of one factor."""
    if run.column_factor is None:
        return ("",)
    return run.levels(run.column_factor)


def extra_levels(run: Results) -> tuple[tuple[tuple[Factor, str], ...], ...]:
    """Every combination of levels of the extra factors; one empty one when there are none."""
    axes = [[(factor, level) for level in run.levels(factor.name)] for factor in run.extra_factors]
    return tuple(itertools.product(*axes))


def at_levels(frame: pd.DataFrame, extra: tuple[tuple[Factor, str], ...]) -> pd.DataFrame:
    """The rows of a frame at the given levels of the extra factors."""
    for factor, level in extra:
        frame = frame[frame[factor.name] == level]
    return frame


def delta_tables(
    run: Results,
    regime: Regime,
    arm: Arm,
    metric: Metric,
    precision: Precision,
) -> tuple[DeltaTable, ...]:
    """The tables of one regime, arm and metric: one per combination of extra levels."""
    data = run.deltas(regime, arm, metric)
    columns = table_columns(run)
    column = run.column_factor
    tables = []
    for extra in extra_levels(run):
        part = at_levels(data, extra)
        found = {
            (row[run.row_factor], row[column] if column else ""): row
            for row in part.to_dict("records")
        }
        rows = tuple(
            tuple(
                make_cell(level, label, found.get((level, label)), metric, precision, run)
                for label in columns
            )
            for level in run.levels(run.row_factor)
        )
        tables.append(
            DeltaTable(
                regime=regime,
                metric=metric,
                arm=arm,
                row_factor=run.factor(run.row_factor),
                column_factor=run.factor(column) if column else None,
                extra=extra,
                columns=columns,
                rows=rows,
            )
        )
    return tuple(tables)


def make_cell(
    row_label: str,
    column_label: str,
    row: Mapping[Hashable, object] | None,
    metric: Metric,
    precision: Precision,
    context: ReportContext,
) -> Cell:
    """Format one row of ``deltas.csv``; a row that is absent or has no pair is unmeasured."""
    if row is None:
        return Cell(row_label, column_label, measured=False)
    verdict = str(row["verdict"])
    mark = VERDICT_MARKS.get(verdict, NO_VERDICT_MARK)
    aside = whole(row["set_aside"]) or 0
    if number(row["blocks"]) < 1 or not math.isfinite(number(row["ratio"])):
        if verdict != INVALID:
            return Cell(row_label, column_label, measured=False)
        return Cell(row_label, column_label, False, verdict=verdict, mark=mark, set_aside=aside)
    low, high = number(row["delta_low_percent"]), number(row["delta_high_percent"])
    blocks = int(number(row["blocks"]))
    return Cell(
        row=row_label,
        column=column_label,
        measured=True,
        baseline=format_value(number(row["baseline"]), precision.of(metric)),
        value=format_value(number(row["value"]), precision.of(metric)),
        delta=format_percent(number(row["delta_percent"]), precision.percent),
        interval=format_interval(low, high, precision.percent),
        verdict=verdict,
        mark=mark,
        set_aside=aside,
        blocks=blocks,
        short_of_blocks=blocks < context.blocks,
        blocks_to_settle=whole(row["blocks_to_settle"]),
    )
