# SPDX-License-Identifier: GPL-2.0-only
"""The distribution of a workload's times per arm and cell: tables/latency.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdelta.analysis.boots import Floats, Histogram
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import frame_of

if TYPE_CHECKING:
    from kdelta.analysis.blocks import Blocks

QUANTILES = (*(percent / 100 for percent in range(1, 100)), 0.999)
"""Shares of the writes that latency.csv gives a latency for."""

_AT_ONCE = 256
"""Histograms whose quantiles are computed at once: what that takes has room in a CPU's cache."""

Numbers = NDArray[np.int64]

Latencies = dict[tuple[str, str, Cell], dict[int, Floats]]
"""(regime, arm, cell) -> block -> mean over its rounds of the logarithms of `QUANTILES`."""


def log_quantiles(histograms: Sequence[Histogram]) -> Floats:
    """Natural logarithms of each one's `QUANTILES` in microseconds: shape (histograms, quantiles).

    NaN where a histogram says nothing of a quantile.
    """
    found, levels = np.empty((len(histograms), len(QUANTILES))), np.array(QUANTILES)
    for first in range(0, len(histograms), _AT_ONCE):
        here = slice(first, first + _AT_ONCE)
        np.log(quantiles_ns(histograms[here], levels) / 1e3, out=found[here])
    return found


def quantiles_ns(histograms: Sequence[Histogram], levels: Floats) -> Floats:
    """Latencies that the given shares of writes stay below, in ns: shape (histograms, levels).

    Within a bucket the writes are taken to lie evenly. NaN where less than one write lies beyond
    the level: the histogram says nothing about it.

    Args:
        histograms: all at once: one after another takes several times as long.
        levels: between 0 and 1, both excluded.
    """
    found = np.full((len(histograms), len(levels)), np.nan)
    told = [place for place, histogram in enumerate(histograms) if histogram.data]
    if not told:
        return found
    data = [histograms[place].data for place in told]
    lower, upper, count = Histogram(b"".join(data)).buckets.T
    lengths = np.array([*map(len, data)]) // Histogram.BUCKET_BYTES
    # One sum over all of them; what came before a histogram is taken off, in whole numbers.
    below = np.cumsum(count)
    ends = below[np.cumsum(lengths) - 1]
    writes = np.diff(ends, prepend=0)[:, np.newaxis]
    before = ends[:, np.newaxis] - writes
    wanted = levels * writes
    place = np.searchsorted(below, before + np.ceil(wanted).astype(np.int64))
    share = (wanted - ((below - count)[place] - before)) / count[place]
    # Rounded: 1 - 0.99 is a little less than 0.01.
    known = np.round((1 - levels) * writes, 6) >= 1
    found[told] = np.where(known, lower[place] + share * (upper - lower)[place], np.nan)
    return found


def over_rounds(
    boots: Numbers, cells: Numbers, quantiles: Floats
) -> Iterator[tuple[int, int, Floats]]:
    """Boot, cell, and the mean over the rounds of the boot's cell of its logarithms of quantiles.

    Args:
        boots: of each slice, numbered; slices of a boot's cell stand together.
        cells: likewise.
        quantiles: theirs, shape (slices, quantiles).
    """
    if not len(boots):
        return
    first = np.flatnonzero(np.diff(boots, prepend=-1) | np.diff(cells, prepend=-1))
    sizes = np.diff(first, append=len(boots))
    means = np.add.reduceat(quantiles, first, axis=0) / sizes[:, np.newaxis]
    yield from zip(boots[first].tolist(), cells[first].tolist(), means, strict=True)


def latency_frame(
    blocks: Sequence[Blocks], cells: Mapping[str, Sequence[Cell]], settings: AnalysisSettings
) -> pd.DataFrame:
    """Latency by regime, arm, cell and quantile: columns of tables/latency.csv.

    The geometric mean over blocks, and within a block over its rounds, of the quantile. Writes
    are never pooled: a fast boot has more of them, and would weigh more. Each arm stands on
    its own samples; what is compared within blocks is in deltas.csv.

    Args:
        blocks: every block, settled.
        cells: regime -> its planned cells, sorted.
        settings: display order.
    """
    logs: Latencies = {}
    for some in blocks:
        for place, means in some.latencies.items():
            logs.setdefault(place, {}).update(means)
    return frame_of(
        "tables/latency.csv",
        (
            {
                "regime": regime,
                "arm": arm,
                **dict(zip(settings.factors, cell, strict=True)),
                "quantile": quantile,
                "latency_us": latency,
                "blocks": len(ours),
            }
            for regime in settings.regimes
            for arm in settings.arms
            for cell in cells.get(regime, ())
            if (ours := logs.get((regime, arm, cell)))
            # One sample that cannot tell makes the quantile unknown: the mean over the others
            # would be one of the fast boots alone.
            for quantile, latency in zip(
                QUANTILES, np.exp(np.mean([*ours.values()], axis=0)), strict=True
            )
        ),
        settings.factors,
    )
