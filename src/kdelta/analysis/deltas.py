# SPDX-License-Identifier: GPL-2.0-only
"""Delta tables from samples: ratios within blocks, effects over blocks.

The control arm is an arm like any other here: nothing below knows its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from kdelta.analysis.columns import EFFECT_COLUMNS, typed
from kdelta.analysis.inference import (
    Estimate,
    Floats,
    blocks_to_settle,
    estimates,
    holm,
)
from kdelta.analysis.raw import cell_key
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings, Metric
from kdelta.analysis.verdict import verdict

_Pairs = dict[int, tuple[float, float]]  # block -> baseline's and arm's value


def ratios_frame(samples: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """Every block's ratio arm/baseline: columns of tables/ratios.csv.

    Args:
        samples: as `samples_frame` makes it. A pair counts only if both its samples
            are valid and both values positive.
        settings: names and order of factors, arms, regimes and metrics.
    """
    factors = list(settings.factors)
    columns = ["regime", "block", "arm", *factors, "metric", "baseline", "value", "ratio"]
    names = [metric.name for metric in settings.metrics]
    values = {
        (regime, block, arm, cell): row
        for regime, block, arm, cell, row in zip(
            samples["regime"],
            samples["block"],
            samples["arm"],
            _cells(samples, settings),
            samples[names].to_numpy(dtype=float),
            strict=True,
        )
    }
    valid = {key for key, ok in zip(values, samples["valid"], strict=True) if ok}
    rows = []
    for key in valid:
        regime, block, arm, cell = key
        reference = (regime, block, settings.baseline, cell)
        if arm == settings.baseline or reference not in valid:
            continue
        for index, name in enumerate(names):
            baseline, value = float(values[reference][index]), float(values[key][index])
            if baseline > 0 and value > 0:  # false for NaN too
                rows.append((regime, block, arm, *cell, name, baseline, value, value / baseline))
    end = 3 + len(factors)
    rows.sort(
        key=lambda r: (
            settings.regimes.index(r[0]),
            r[1],
            settings.arms.index(r[2]),
            cell_key(r[3:end]),
            names.index(r[end]),
        )
    )
    return typed(pd.DataFrame(rows, columns=columns))


def deltas_frame(
    ratios: pd.DataFrame, cells: Mapping[str, Sequence[Cell]], settings: AnalysisSettings
) -> pd.DataFrame:
    """The effect of every arm in every cell: columns of tables/deltas.csv.

    Args:
        ratios: as `ratios_frame` makes it.
        cells: regime -> its planned cells. A cell without any pair gets a row that
            says so (blocks 0, inconclusive).
        settings: names and order, confidence and margin.
    """
    pairs = _pairs(ratios, settings)
    rows = []
    for regime, arm, metric in _families(cells, settings):
        planned = sorted(cells[regime], key=cell_key)
        found = [pairs.get((regime, arm, metric.name, cell), {}) for cell in planned]
        effects = _effects([_log_ratios(cell_pairs) for cell_pairs in found], metric, settings)
        for cell, cell_pairs, (effect, columns) in zip(planned, found, effects, strict=True):
            baseline = _geometric_mean([pair[0] for pair in cell_pairs.values()])
            rows.append(
                {
                    **_family_columns(regime, arm, metric),
                    **dict(zip(settings.factors, cell, strict=True)),
                    "blocks": len(cell_pairs),
                    "baseline": baseline,
                    # Not a mean of its own: value / baseline is the ratio, to the last digit.
                    "value": baseline * effect.ratio,
                    **columns,
                }
            )
    names = ["regime", "arm", *settings.factors, "metric", "unit", "direction", "blocks"]
    return typed(pd.DataFrame(rows, columns=[*names, "baseline", "value", *EFFECT_COLUMNS]))


def overall_frame(
    ratios: pd.DataFrame, cells: Mapping[str, Sequence[Cell]], settings: AnalysisSettings
) -> pd.DataFrame:
    """The effect of every arm in a whole regime: columns of tables/overall.csv.

    Within a block, the geometric mean of the ratios of the cells that the block has;
    then over blocks as in a cell. A row is a family of its own, so p_holm = p_value.
    """
    pairs = _pairs(ratios, settings)
    rows = []
    for regime, arm, metric in _families(cells, settings):
        by_block: dict[int, list[float]] = {}
        used = 0
        for cell in sorted(cells[regime], key=cell_key):
            cell_pairs = pairs.get((regime, arm, metric.name, cell), {})
            used += bool(cell_pairs)
            for block, (baseline, value) in cell_pairs.items():
                by_block.setdefault(block, []).append(math.log(value / baseline))
        means = np.array([np.mean(by_block[block]) for block in sorted(by_block)], dtype=float)
        rows.append(
            {
                **_family_columns(regime, arm, metric),
                "cells": used,
                "blocks": len(means),
                **_effects([means], metric, settings)[0][1],
            }
        )
    columns = ["regime", "arm", "metric", "unit", "direction", "cells", "blocks"]
    return typed(pd.DataFrame(rows, columns=[*columns, *EFFECT_COLUMNS]))


def _effects(
    log_ratios: Sequence[Floats], metric: Metric, settings: AnalysisSettings
) -> list[tuple[Estimate, dict[str, object]]]:
    """Estimates, and columns of the table, of one family: one array of log ratios per cell."""
    confidence, margin = settings.confidence, settings.equivalence_margin
    found = estimates(log_ratios, confidence)
    adjusted = holm(np.array([cell.p_value for cell in found], dtype=float))
    tests = max(1, int(np.count_nonzero(~np.isnan(adjusted))))
    effects = []
    for cell, p_holm in zip(found, adjusted, strict=True):
        word = verdict(
            cell.low,
            cell.high,
            float(p_holm),
            direction=metric.direction,
            confidence=confidence,
            margin=margin,
        )
        more = (
            blocks_to_settle(cell, cells=tests, confidence=confidence, margin=margin)
            if word == "inconclusive"
            else None
        )
        effects.append((cell, _effect_columns(cell, float(p_holm), word, more, confidence)))
    return effects


def _effect_columns(
    cell: Estimate, p_holm: float, word: str, more: int | None, confidence: float
) -> dict[str, object]:
    return {
        "ratio": cell.ratio,
        "ratio_low": cell.low,
        "ratio_high": cell.high,
        "delta_percent": 100 * (cell.ratio - 1),
        "delta_low_percent": 100 * (cell.low - 1),
        "delta_high_percent": 100 * (cell.high - 1),
        "confidence": confidence,
        "p_value": cell.p_value,
        "p_holm": p_holm,
        "p_sign_flip": cell.p_sign_flip,
        "verdict": word,
        "blocks_to_settle": more,
    }


def _families(
    cells: Mapping[str, Sequence[Cell]], settings: AnalysisSettings
) -> Iterator[tuple[str, str, Metric]]:
    for regime in settings.regimes:
        if regime in cells:
            for arm in settings.compared_arms:
                for metric in settings.metrics:
                    yield regime, arm, metric


def _family_columns(regime: str, arm: str, metric: Metric) -> dict[str, object]:
    return {
        "regime": regime,
        "arm": arm,
        "metric": metric.name,
        "unit": metric.unit,
        "direction": metric.direction,
    }


def _pairs(
    ratios: pd.DataFrame, settings: AnalysisSettings
) -> dict[tuple[str, str, str, Cell], _Pairs]:
    pairs: dict[tuple[str, str, str, Cell], _Pairs] = {}
    for regime, arm, metric, cell, block, baseline, value in zip(
        ratios["regime"],
        ratios["arm"],
        ratios["metric"],
        _cells(ratios, settings),
        ratios["block"],
        ratios["baseline"],
        ratios["value"],
        strict=True,
    ):
        pairs.setdefault((regime, arm, metric, cell), {})[block] = (baseline, value)
    return pairs


def _cells(frame: pd.DataFrame, settings: AnalysisSettings) -> list[Cell]:
    return list(zip(*(frame[factor] for factor in settings.factors), strict=True))


def _log_ratios(pairs: _Pairs) -> Floats:
    return np.array([math.log(pairs[b][1] / pairs[b][0]) for b in sorted(pairs)], dtype=float)


def _geometric_mean(values: list[float]) -> float:
    return float(stats.gmean(values)) if values else math.nan
