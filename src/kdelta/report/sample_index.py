# SPDX-License-Identifier: GPL-2.0-only
"""The tables by sample, one cell in one boot: looking up in frames would take minutes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from statistics import fmean
from typing import Any

import pandas as pd

from kdelta.report.cells import number
from kdelta.report.context import ReportContext
from kdelta.report.frames import ReportFrames

Levels = tuple[str, ...]
# Regime, block, arm and cell of one sample.
SampleKey = tuple[str, int, str, Levels]
Sample = Mapping[Hashable, Any]

COUNTERS = (
    "pgscan_direct",
    "allocstall",
    "pgscan_kswapd",
    "pswpin",
    "pswpout",
    "psi_memory_some_us",
    "psi_cpu_some_us",
    "oom_kill",
)
"""Columns of samples.csv that count what the kernel did over a slice."""


class SampleIndex:
    """What is known of each sample.

    Attributes:
        samples: Its slices together: see `_together`.
        ratios: The ratio to the baseline by the arm's sample and metric; only of pairs used.
        breaches: The rules that it broke, each with its detail; none for one that is not listed.
        deltas: Of the primary metric, by regime, arm and cell.
    """

    def __init__(self, frames: ReportFrames, context: ReportContext) -> None:
        factors = tuple(factor.name for factor in context.factors)
        ratios, validity = frames.ratios, frames.validity
        slices: dict[SampleKey, list[Sample]] = defaultdict(list)
        rows = frames.samples.to_dict("records")
        for key, row in zip(_keys(frames.samples, factors), rows, strict=True):
            slices[key].append(row)
        self.samples = {key: _together(found, context) for key, found in slices.items()}
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
        primary = frames.deltas[frames.deltas["metric"] == context.primary.name]
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
    for counter in COUNTERS:
        grown = [number(one.get(counter)) for one in slices]
        known = [value for value in grown if math.isfinite(value)]
        merged[counter] = sum(known) if known else math.nan
    return merged


def _keys(frame: pd.DataFrame, factors: tuple[str, ...]) -> Iterator[SampleKey]:
    levels = zip(*(frame[name] for name in factors), strict=True)
    for regime, block, arm, cell in zip(
        frame["regime"], frame["block"], frame["arm"], levels, strict=True
    ):
        yield str(regime), int(block), str(arm), tuple(cell)
