# SPDX-License-Identifier: GPL-2.0-only
"""The distribution of a workload's times per arm and cell: tables/latency.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdelta.analysis.boots import RawBoot
from kdelta.analysis.records import Cell
from kdelta.analysis.samples import samples_in_order
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of

QUANTILES = (*(percent / 100 for percent in range(1, 100)), 0.999)
"""Shares of the writes that latency.csv gives a latency for."""


def latency_frame(
    boots: Sequence[RawBoot],
    samples: pd.DataFrame,
    cells: Mapping[str, Sequence[Cell]],
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """Latency by regime, arm, cell and quantile: columns of tables/latency.csv.

    The geometric mean over blocks, and within a block over its rounds, of the quantile. Writes
    are never pooled: a fast boot has more of them, and would weigh more. Each arm stands on
    its own samples; what is compared within blocks is in deltas.csv.

    Args:
        boots: every planned boot.
        samples: as `samples_frame` makes it of these boots.
        cells: regime -> its planned cells, sorted.
        settings: display order.
    """
    levels = np.array(QUANTILES)
    logs: dict[tuple[str, str, Cell], dict[int, list[np.ndarray]]] = {}
    run = samples_in_order(boots, settings)  # the rows of `samples`
    for (boot, sample), valid in zip(run, samples["valid"], strict=True):
        if valid and sample.histogram is not None:
            place = (boot.regime, boot.arm, sample.cell)
            quantiles = np.log(sample.histogram.quantiles_ns(levels) / 1e3)
            logs.setdefault(place, {}).setdefault(boot.block, []).append(quantiles)
    return frame_of(
        "tables/latency.csv",
        (
            {
                "regime": regime,
                "arm": arm,
                **dict(zip(settings.factors, cell, strict=True)),
                "quantile": quantile,
                "latency_us": latency,
                "blocks": len(found),
            }
            for regime in settings.regimes
            for arm in settings.arms
            for cell in cells.get(regime, ())
            if (found := logs.get((regime, arm, cell)))
            # One sample that cannot tell makes the quantile unknown: the mean over the others
            # would be one of the fast boots alone.
            for quantile, latency in zip(QUANTILES, _over_blocks(found), strict=True)
        ),
        settings.factors,
    )


def _over_blocks(found: Mapping[int, list[np.ndarray]]) -> list[float]:
    """Geometric means of the quantiles over blocks, each block's over its rounds."""
    means = [np.mean(rounds, axis=0) for rounds in found.values()]
    return list(map(float, np.exp(np.mean(means, axis=0))))
