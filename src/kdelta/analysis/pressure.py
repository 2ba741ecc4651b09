# SPDX-License-Identifier: GPL-2.0-only
"""What a regime did to the kernel, as its counters show: pressure.csv and expectations.csv.

Samples that were set aside count too: what was done to the kernel was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdelta.analysis.inference import Floats
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings, Expectation
from kdelta.analysis.tables import frame_of, numbered
from kdelta.errors import KdeltaError
from kdelta.pressure_counters import PRESSURE_COUNTERS


def pressure_frame(
    samples: pd.DataFrame,
    wall_s: Floats,
    cells: Mapping[str, Sequence[Cell]],
    settings: AnalysisSettings,
) -> pd.DataFrame:
    """One row per regime, arm and planned cell: columns of tables/pressure.csv.

    Rates are per second, shares in per cent, both of the sample's wall time and then
    the mean over the cell's samples. A counter that no sample has is missing, not 0.

    Args:
        samples: of all blocks, as `blocks.together` makes it.
        wall_s: of each of them; NaN where it was not recorded.
        cells: regime -> its planned cells, sorted.
        settings: display order.
    """
    places = [
        (regime, arm, cell)
        for regime in settings.regimes
        for arm in settings.arms
        for cell in cells.get(regime, ())
    ]
    position = {place: number for number, place in enumerate(places)}
    # One after another, a million places would take longer than all that is done with them.
    keys = ["regime", "arm", *settings.factors]
    numbers, first = numbered(samples, keys)
    there = samples[keys].iloc[first]
    levels = zip(*(there[factor].to_numpy().tolist() for factor in settings.factors), strict=True)
    names = (there[name].to_numpy().tolist() for name in ("regime", "arm"))
    known = [position[place] for place in zip(*names, levels, strict=True)]
    group = np.array(known, dtype=np.int64)[numbers]
    measured = pd.DataFrame(
        {
            # A share of time in per cent, of microseconds.
            counter.column: _numbers(samples[counter.name])
            / wall_s
            / (1e4 if counter.unit == "us" else 1)
            for counter in PRESSURE_COUNTERS
            if not counter.rare
        }
    )
    scanned = _numbers(samples["pgscan_direct"])
    counted = pd.DataFrame(
        {
            "with_direct_reclaim": np.where(np.isnan(scanned), np.nan, scanned > 0),
            **{c.column: _numbers(samples[c.name]) for c in PRESSURE_COUNTERS if c.rare},
        }
    )
    everywhere = range(len(places))
    means = measured.groupby(group).mean().reindex(everywhere)
    sums = counted.groupby(group).sum(min_count=1).reindex(everywhere)
    sizes = np.bincount(group, minlength=len(places))
    values = pd.concat([means, sums], axis="columns").to_dict("records")
    return frame_of(
        "tables/pressure.csv",
        (
            {
                "regime": regime,
                "arm": arm,
                **dict(zip(settings.factors, cell, strict=True)),
                "samples": int(size),
                **{str(name): value for name, value in row.items()},
            }
            for (regime, arm, cell), size, row in zip(places, sizes, values, strict=True)
        ),
        settings.factors,
    )


def expectations_frame(samples: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """Whether each regime did what it names: columns of tables/expectations.csv.

    One row per expectation of a measured regime and arm. A sample without the counter
    does not meet it.

    Args:
        samples: as `blocks.together` makes it; those set aside count too.
        settings: expectations and display order.

    Raises:
        KdeltaError: an expectation of something that is no counter.
    """
    measured = set(samples["regime"].unique())
    rows = []
    for wanted in sorted(settings.expectations, key=lambda w: _place(w.regime, settings)):
        if wanted.counter not in samples.columns:
            raise KdeltaError(
                f"analysis settings: expectations: {wanted.counter!r} is not a counter of "
                "samples.csv; docs/contracts.md lists them"
            )
        for arm in settings.arms if wanted.regime in measured else ():
            ours = samples[(samples["regime"] == wanted.regime) & (samples["arm"] == arm)]
            rows.append({"arm": arm, **_expectation_row(wanted, _numbers(ours[wanted.counter]))})
    return frame_of("tables/expectations.csv", rows)


def _expectation_row(wanted: Expectation, growth: np.ndarray) -> dict[str, object]:
    if wanted.at_least is not None:
        bound, limit = "at_least", wanted.at_least
        met = growth >= limit  # false for a missing counter
    else:
        assert wanted.at_most is not None, "an expectation has one bound"
        bound, limit = "at_most", wanted.at_most
        met = growth <= limit
    known = growth[~np.isnan(growth)]
    share = float(met.mean()) if len(growth) else np.nan
    return {
        "regime": wanted.regime,
        "counter": wanted.counter,
        "bound": bound,
        "limit": limit,
        "share_wanted": wanted.share,
        "samples": len(growth),
        "samples_met": int(met.sum()),
        "share_met": share,
        "met": share >= wanted.share,
        "median": float(np.median(known)) if len(known) else np.nan,
        "lowest": float(known.min()) if len(known) else np.nan,
        "highest": float(known.max()) if len(known) else np.nan,
    }


def _numbers(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float, na_value=np.nan)


def _place(regime: str, settings: AnalysisSettings) -> int:
    return settings.regimes.index(regime) if regime in settings.regimes else len(settings.regimes)
