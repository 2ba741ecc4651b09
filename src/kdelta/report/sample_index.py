# SPDX-License-Identifier: GPL-2.0-only
"""The tables by sample: looking each one up in a frame would take minutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from kdelta.report.frames import ReportFrames
from kdelta.report.metrics import PRIMARY

Levels = tuple[str, ...]
# Regime, block, arm and cell of one sample.
SampleKey = tuple[str, int, str, Levels]
Sample = Mapping[Hashable, Any]


class SampleIndex:
    """What is known of each sample.

    Attributes:
        samples: Its row of ``samples.csv``.
        ratios: The ratio to the baseline by the arm's sample and metric; only of pairs used.
        breaches: The rules that it broke, each with its detail; none for one that is not listed.
        deltas: Of the primary metric, by regime, arm and cell.
    """

    def __init__(self, frames: ReportFrames, factors: tuple[str, ...]) -> None:
        ratios, validity = frames.ratios, frames.validity
        self.samples: dict[SampleKey, Sample] = dict(
            zip(_keys(frames.samples, factors), frames.samples.to_dict("records"), strict=True)
        )
        self.ratios: dict[tuple[SampleKey, str], float] = {
            (key, metric): ratio
            for key, metric, ratio in zip(
                _keys(ratios, factors), ratios["metric"], ratios["ratio"], strict=True
            )
        }
        self.breaches: dict[SampleKey, list[str]] = defaultdict(list)
        for key, row in zip(_keys(validity, factors), validity.to_dict("records"), strict=True):
            detail = row.get("detail")
            self.breaches[key].append(f"{row['rule']}: {detail}" if detail else str(row["rule"]))
        primary = frames.deltas[frames.deltas["metric"] == PRIMARY.name]
        self.deltas: dict[tuple[str, str, Levels], Sample] = {
            (str(row["regime"]), str(row["arm"]), tuple(str(row[name]) for name in factors)): row
            for row in primary.to_dict("records")
        }


def _keys(frame: pd.DataFrame, factors: tuple[str, ...]) -> Iterator[SampleKey]:
    levels = zip(*(frame[name] for name in factors), strict=True)
    for regime, block, arm, cell in zip(
        frame["regime"], frame["block"], frame["arm"], levels, strict=True
    ):
        yield str(regime), int(block), str(arm), tuple(cell)
