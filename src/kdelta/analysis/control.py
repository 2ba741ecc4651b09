# SPDX-License-Identifier: GPL-2.0-only
"""tables/control.csv: our own error, as the A/A arm shows it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from kdelta.analysis.columns import typed
from kdelta.analysis.inference import Floats, detectable_effect
from kdelta.analysis.settings import AnalysisSettings


def control_frame(deltas: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """What the A/A arm says of our own error: columns of tables/control.csv.

    Its true effect is 1 in every cell, so per regime and metric, over the cells that
    have an interval:

    - cells: how many those are; blocks: the fewest that any of them rests on.
    - largest_delta_percent: largest |delta| that was found where there is none.
    - median_half_width_percent: of the intervals, on the log scale.
    - noise_floor_percent: the smallest effect that the table could have seen: the one
      that a cell's test, with the control's spread (pooled over cells), finds with
      `settings.power` at Holm's strictest level. The equivalence margin has no part
      in it: an effect between the floor and the margin is seen, and called equivalent.
    - false_verdicts: cells declared faster or slower.

    Args:
        deltas: as `deltas_frame` makes it. Without control arm the result is empty.
        settings: the control arm's name, confidence and power.
    """
    columns = [
        "regime",
        "metric",
        "cells",
        "blocks",
        "largest_delta_percent",
        "median_half_width_percent",
        "noise_floor_percent",
        "false_verdicts",
    ]
    rows: list[dict[str, object]] = []
    ours = deltas[deltas["arm"] == settings.control]
    for (regime, metric), table in ours.groupby(["regime", "metric"], sort=False):
        tested = table.dropna(subset=["ratio_low", "ratio_high"])
        row: dict[str, object] = {
            "regime": regime,
            "metric": metric,
            "cells": len(tested),
            "blocks": int(tested["blocks"].min()) if len(tested) else 0,
            "false_verdicts": int(table["verdict"].isin(["faster", "slower"]).sum()),
        }
        if len(tested):
            half = np.log(tested["ratio_high"].to_numpy() / tested["ratio_low"].to_numpy()) / 2
            blocks = tested["blocks"].to_numpy()
            row["largest_delta_percent"] = float(tested["delta_percent"].abs().max())
            row["median_half_width_percent"] = 100 * math.expm1(float(np.median(half)))
            row["noise_floor_percent"] = _noise_floor_percent(half, blocks, settings)
        rows.append(row)
    return typed(pd.DataFrame(rows, columns=columns))


def _noise_floor_percent(
    half_widths: Floats, blocks: NDArray[np.int64], s: AnalysisSettings
) -> float:
    sd = half_widths / stats.t.isf(s.alpha / 2, blocks - 1) * np.sqrt(blocks)
    pooled = math.sqrt(np.average(sd**2, weights=blocks - 1))
    effect = detectable_effect(
        pooled,
        blocks=int(blocks.min()),
        cells=len(blocks),
        confidence=s.confidence,
        power=s.power,
    )
    return 100 * math.expm1(effect)
