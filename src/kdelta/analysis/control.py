# SPDX-License-Identifier: GPL-2.0-only
"""tables/control.csv: our own error, as the A/A arm shows it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from kdelta.analysis.effects import DIFFERENT
from kdelta.analysis.inference import holm
from kdelta.analysis.planning import pooled_over_blocks
from kdelta.analysis.power import Design, smallest_effect
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of


def control_frame(
    ratios: pd.DataFrame,
    deltas: pd.DataFrame,
    overall: pd.DataFrame,
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """What the A/A arm says of our own error: columns of tables/control.csv.

    Its true effect is 1 in every cell, so per regime and metric, over the cells that
    have an interval:

    - cells: how many those are; blocks: the fewest that any of them rests on.
    - largest_delta_percent: largest |delta| that was found where there is none.
    - median_half_width_percent: of the intervals, on the log scale.
    - noise_floor_percent: the smallest true effect that a cell would have been called faster
      or slower at, with `settings.power`: `smallest_effect` at the control's spread.
    - false_verdicts: cells declared faster or slower.
    - differs: whether any was, or the regime as a whole, the latter corrected for the number
      of regimes: a warning that cries wolf in every fifth good run is soon read by nobody.

    Args:
        ratios: as `ratios_frame` makes it.
        deltas: as `deltas_frame` makes it. Without control arm the result is empty.
        overall: as `overall_frame` makes it.
        settings: the control arm's name, confidence, margin and power.
    """
    rows: list[dict[str, object]] = []
    ours = deltas[deltas["arm"] == settings.control]
    different = _different_overall(overall[overall["arm"] == settings.control], settings)
    # The family of tests is that of the tables: one metric over all regimes, as planned.
    tests = ours["metric"].value_counts().to_dict()
    logs = ratios[ratios["arm"] == settings.control]
    logs = logs.assign(log_ratio=np.log(logs["ratio"]))
    for (regime, metric), table in ours.groupby(["regime", "metric"], sort=False):
        tested = table.dropna(subset=["ratio_low", "ratio_high"])
        false_verdicts = int(table["verdict"].isin(DIFFERENT).sum())
        row: dict[str, object] = {
            "regime": regime,
            "metric": metric,
            "cells": len(tested),
            "blocks": int(tested["blocks"].min()) if len(tested) else 0,
            "false_verdicts": false_verdicts,
            "differs": false_verdicts > 0 or (regime, metric) in different,
        }
        if len(tested):
            half = np.log(tested["ratio_high"].to_numpy() / tested["ratio_low"].to_numpy()) / 2
            design = Design(
                blocks=int(tested["blocks"].min()),
                cells=int(tests[metric]),
                confidence=settings.confidence,
                margin=settings.equivalence_margin,
            )
            here = logs[(logs["regime"] == regime) & (logs["metric"] == metric)]
            spread = pooled_over_blocks(here, list(settings.factors))
            assert spread is not None  # some cell has an interval, so it has a spread
            floor = smallest_effect(spread, design, settings.power)
            row["largest_delta_percent"] = float(tested["delta_percent"].abs().max())
            row["median_half_width_percent"] = 100 * math.expm1(float(np.median(half)))
            row["noise_floor_percent"] = 100 * math.expm1(floor)
        rows.append(row)
    return frame_of("tables/control.csv", rows)


def _different_overall(overall: pd.DataFrame, s: AnalysisSettings) -> set[tuple[str, str]]:
    """Regime and metric of the overall effects that hold after Holm over the planned regimes."""
    found = set()
    for metric, rows in overall.groupby("metric", sort=False):
        adjusted = holm(rows["p_value"].to_numpy(dtype=float))
        for regime, verdict, p_value in zip(rows["regime"], rows["verdict"], adjusted, strict=True):
            if verdict in DIFFERENT and p_value < s.alpha:
                found.add((str(regime), str(metric)))
    return found
