# SPDX-License-Identifier: GPL-2.0-only
"""Every cell of the delta tables down to its blocks: both samples, counters, what was set aside."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from kdelta.pressure_counters import PRESSURE_COUNTERS
from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.formatting import (
    format_value,
    join_words,
    level_words,
)
from kdelta.report.frames import number, whole
from kdelta.report.results import Results
from kdelta.report.sentences import effect_words
from kdelta.report.tables import Cell as TableCell
from kdelta.report.tables import DeltaTable, Precision

_NOTHING = "–"
_UNITS = {"": "count", "us": "µs"}

Levels = tuple[str, ...]
# Regime, block, arm and cell of one sample.
SampleKey = tuple[str, int, str, Levels]
Sample = Mapping[Hashable, Any]
# Regime, block and arm to the address of the boot's console log, or an empty string.
Console = Callable[[str, int, str], str]


class Counter(NamedTuple):
    """A kernel counter that grew in some sample of a cell."""

    title: str
    unit: str


class BlockRow(NamedTuple):
    """One block of a cell.

    ``values`` holds baseline, arm and ratio of every metric, ``counters`` baseline and arm of
    every counter.
    """

    block: int
    notes: tuple[str, ...]
    values: tuple[str, ...]
    consoles: tuple[str, str]
    counters: tuple[str, ...]


@dataclass(frozen=True)
class CellBlocks:
    """A cell of one regime and arm with a row per planned block.

    Attributes:
        key: Unique in the page.
        title: The cell in words.
        result: Its throughput delta with interval; empty where there is none.
        verdict: On the throughput.
        counters: Those that are shown, two columns each: baseline and arm.
        unmoved: The counters that are not shown, and why, in a sentence.
        rows: One per block.
    """

    key: str
    title: str
    result: str
    verdict: str
    counters: tuple[Counter, ...]
    unmoved: str
    rows: tuple[BlockRow, ...]

    @property
    def noted(self) -> bool:
        """Whether any block has a note."""
        return any(row.notes for row in self.rows)


@dataclass(frozen=True)
class Drilldown:
    """The blocks behind every cell of the delta tables."""

    metrics: tuple[Metric, ...]
    cells: Mapping[tuple[str, str], tuple[CellBlocks, ...]]
    keys: Mapping[tuple[str, str, Levels], str]
    factors: tuple[str, ...]

    def of(self, regime: Regime, arm: Arm) -> tuple[CellBlocks, ...]:
        """The cells of one regime and arm, in the order of its tables."""
        return self.cells[regime.name, arm.name]

    def key(self, table: DeltaTable, cell: TableCell) -> str:
        """The key of a table's cell."""
        levels = {factor.name: level for factor, level in table.extra}
        levels[table.row_factor.name] = cell.row
        if table.column_factor is not None:
            levels[table.column_factor.name] = cell.column
        place = tuple(levels[name] for name in self.factors)
        return self.keys[table.regime.name, table.arm.name, place]


def drilldown(run: Results, precision: Precision, console: Console) -> Drilldown:
    """Lay out the blocks of every cell of every arm under test.

    Args:
        run: Tables and facts.
        precision: Digits of the metrics, as in the delta tables.
        console: Where a boot's console log is; an empty string if there is none.
    """
    facts = _Facts(run, precision, console)
    names = tuple(factor.name for factor in run.factors)
    cells: dict[tuple[str, str], tuple[CellBlocks, ...]] = {}
    keys: dict[tuple[str, str, Levels], str] = {}
    for r, regime in enumerate(run.regimes, 1):
        for a, arm in enumerate(run.treatments, 1):
            found = []
            for c, levels in enumerate(_matrix(run), 1):
                key = keys[regime.name, arm.name, levels] = f"cell-{r}-{a}-{c}"
                found.append(facts.cell(key, regime.name, arm.name, levels))
            cells[regime.name, arm.name] = tuple(found)
    return Drilldown(facts.metrics, cells, keys, names)


def _matrix(run: Results) -> Iterator[Levels]:
    """Every cell's levels, in the order of the factors: by table, then row by row."""
    order = [f.name for f in run.extra_factors] + [run.row_factor]
    if run.column_factor is not None:
        order.append(run.column_factor)
    names = [factor.name for factor in run.factors]
    for levels in itertools.product(*(run.levels(name) for name in order)):
        by_name = dict(zip(order, levels, strict=True))
        yield tuple(by_name[name] for name in names)


class _Facts:
    """Puts cells together from what is known of their samples."""

    def __init__(self, run: Results, precision: Precision, console: Console) -> None:
        self._context = run
        self._precision = precision
        self._console = console
        self._index = SampleIndex(run)
        columns = set(run.frames.samples)
        self.metrics = tuple(m for m in run.metrics if m.name in columns)
        self._counters = tuple(
            (counter.name, counter.title, _UNITS.get(counter.unit, counter.unit))
            for counter in PRESSURE_COUNTERS
            if counter.name in columns
        )
        last = max(run.frames.samples["block"], default=0)
        self._blocks = range(1, max(run.blocks, int(last)) + 1)

    def cell(self, key: str, regime: str, arm: str, levels: Levels) -> CellBlocks:
        base = self._context.baseline
        pairs = [
            ((regime, block, base, levels), (regime, block, arm, levels)) for block in self._blocks
        ]
        samples = [
            self._index.samples[k] for pair in pairs for k in pair if k in self._index.samples
        ]
        moved = tuple(c for c in self._counters if any(number(s[c[0]]) > 0 for s in samples))
        rows = tuple(self._row(pair, moved) for pair in pairs)
        result, verdict = self._result(regime, arm, levels)
        words = (
            level_words(f, level) for f, level in zip(self._context.factors, levels, strict=True)
        )
        return CellBlocks(
            key=key,
            title=", ".join(words),
            result=result,
            verdict=verdict,
            counters=tuple(Counter(title, unit) for _, title, unit in moved),
            unmoved=self._unmoved(samples, moved),
            rows=rows,
        )

    def _result(self, regime: str, arm: str, levels: Levels) -> tuple[str, str]:
        row = self._index.deltas.get((regime, arm, levels))
        if row is None:
            return "", ""
        verdict = str(row["verdict"])
        if not math.isfinite(number(row["delta_percent"])):
            return "", verdict
        return effect_words(row, self._precision.percent), verdict

    def _row(
        self, keys: tuple[SampleKey, SampleKey], counters: tuple[tuple[str, str, str], ...]
    ) -> BlockRow:
        samples = [self._index.samples.get(key) for key in keys]
        values: list[str] = []
        for metric in self.metrics:
            values += [self._value(s, metric) for s in samples]
            values.append(_ratio(self._index.ratios.get((keys[1], metric.name))))
        regime, block, *_ = keys[1]
        notes = [f"{key[2]}: {text}" for key in keys for text in self._index.breaches.get(key, ())]
        notes += [
            f"{key[2]}: not run"
            for key, sample in zip(keys, samples, strict=True)
            if sample is None and key not in self._index.breaches
        ]
        baseline, arm = (self._console(regime, block, key[2]) for key in keys)
        return BlockRow(
            block=block,
            notes=tuple(notes),
            values=tuple(values),
            consoles=(baseline, arm),
            counters=tuple(_count(s, name) for name, *_ in counters for s in samples),
        )

    def _value(self, sample: Sample | None, metric: Metric) -> str:
        value = math.nan if sample is None else number(sample[metric.name])
        if not math.isfinite(value):
            return _NOTHING
        return format_value(value, self._precision.of(metric))

    def _unmoved(self, samples: list[Sample], moved: tuple[tuple[str, str, str], ...]) -> str:
        rest = [c for c in self._counters if c not in moved]
        known = [c for c in rest if any(math.isfinite(number(s[c[0]])) for s in samples)]
        still = [title for name, title, _ in known]
        lacking = [title for name, title, unit in rest if (name, title, unit) not in known]
        parts = []
        if still:
            parts.append(f"0 in every sample: {join_words(still)}.")
        if lacking and samples:
            parts.append(f"Not counted by this kernel: {join_words(lacking)}.")
        return " ".join(parts)


def _ratio(ratio: float | None) -> str:
    return _NOTHING if ratio is None else format_value(ratio, 3)


def _count(sample: Sample | None, name: str) -> str:
    value = None if sample is None else whole(sample.get(name))
    return _NOTHING if value is None else str(value)


class SampleIndex:
    """What is known of each sample.

    Attributes:
        samples: Its slices together: see `_together`.
        ratios: The ratio to the baseline by the arm's sample and metric; only of pairs used.
        breaches: The rules that it broke, each with its detail; none for one that is not listed.
        deltas: Of the primary metric, by regime, arm and cell.
    """

    def __init__(self, run: Results) -> None:
        factors = tuple(factor.name for factor in run.factors)
        ratios, validity = run.frames.ratios, run.frames.validity
        slices: dict[SampleKey, list[Sample]] = defaultdict(list)
        rows = run.frames.samples.to_dict("records")
        for key, row in zip(_keys(run.frames.samples, factors), rows, strict=True):
            slices[key].append(row)
        self.samples = {key: _together(found, run) for key, found in slices.items()}
        self.ratios: dict[tuple[SampleKey, str], float] = {
            (key, metric): ratio
            for key, metric, ratio in zip(
                _keys(ratios, factors), ratios["metric"], ratios["ratio"], strict=True
            )
        }
        self.breaches: dict[SampleKey, list[str]] = defaultdict(list)
        for key, row in zip(_keys(validity, factors), validity.to_dict("records"), strict=True):
            detail = row.get("detail")
            where = f"round {row['round']}: " if len(slices[key]) > 1 else ""
            rule = f"{row['rule']}: {detail}" if detail else str(row["rule"])
            self.breaches[key].append(f"{where}{rule}")
        primary = run.frames.deltas[run.frames.deltas["metric"] == run.primary.name]
        self.deltas: dict[tuple[str, str, Levels], Sample] = {
            (str(row["regime"]), str(row["arm"]), tuple(str(row[name]) for name in factors)): row
            for row in primary.to_dict("records")
        }


def _together(slices: list[Sample], context: ReportContext) -> Sample:
    """What a sample's slices come to, as if they were one.

    Metrics are geometric means over the valid slices, as in the deltas, or over all where none
    is valid; counters are sums over all of them; whatever else is as in the first one.
    """
    if len(slices) == 1:
        return slices[0]
    valid = [one for one in slices if one["valid"]] or slices
    merged = dict(slices[0])
    for metric in context.metrics:
        values = [number(one.get(metric.name)) for one in valid]
        positive = [math.log(value) for value in values if value > 0]
        merged[metric.name] = math.exp(fmean(positive)) if positive else math.nan
    for counter in PRESSURE_COUNTERS:
        grown = [number(one.get(counter.name)) for one in slices]
        known = [value for value in grown if math.isfinite(value)]
        merged[counter.name] = sum(known) if known else math.nan
    return merged


def _keys(frame: pd.DataFrame, factors: tuple[str, ...]) -> Iterator[SampleKey]:
    levels = zip(*(frame[name] for name in factors), strict=True)
    for regime, block, arm, cell in zip(
        frame["regime"], frame["block"], frame["arm"], levels, strict=True
    ):
        yield str(regime), int(block), str(arm), tuple(cell)
