# SPDX-License-Identifier: GPL-2.0-only
"""Tables of a few cells whose every value a test writes out."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdelta.analysis.deltas import deltas_frame, overall_frame, ratios_frame
from kdelta.analysis.settings import AnalysisSettings

SETTINGS = AnalysisSettings(
    factors=("size",),
    baseline="baseline",
    control="control",
    arms=("baseline", "patched", "control"),
    regimes=("idle",),
    only=("throughput_mib_s",),
)
ONE_CELL = {"idle": [(1,)]}
Values = dict[str, Sequence[float]]


def samples(cells: dict[Any, Values]) -> pd.DataFrame:
    """Cell -> arm -> value in block 1, 2, ...; NaN where there is no valid sample."""
    rows = [
        ("idle", block, arm, cell, value, not math.isnan(value))
        for cell, arms in cells.items()
        for arm, values in arms.items()
        for block, value in enumerate(values, start=1)
    ]
    columns = ["regime", "block", "arm", "size", "throughput_mib_s", "valid"]
    return pd.DataFrame(rows, columns=columns).assign(round=1)


def ratios_of(cells: dict[Any, Values], s: AnalysisSettings = SETTINGS) -> pd.DataFrame:
    return ratios_frame(samples(cells), s)


def deltas(cells: dict[Any, Values], s: AnalysisSettings = SETTINGS) -> pd.DataFrame:
    return deltas_frame(ratios_of(cells, s), {"idle": [(cell,) for cell in cells]}, s)


def overall(cells: dict[Any, Values], s: AnalysisSettings = SETTINGS) -> pd.DataFrame:
    return overall_frame(ratios_of(cells, s), {"idle": [(cell,) for cell in cells]}, s)


def row(frame: pd.DataFrame, arm: str = "patched", **where: object) -> pd.Series:
    for name, value in {"arm": arm, **where}.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]
