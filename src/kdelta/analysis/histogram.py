# SPDX-License-Identifier: GPL-2.0-only
"""A distribution of times, as buckets that a workload recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Buckets `[lower, upper, count]`, kept as bytes: 10,000 samples as lists fill the memory.

    Attributes:
        data: 64-bit integers, three per bucket.
    """

    data: bytes

    @classmethod
    def of(cls, buckets: Any) -> Self:
        """From a list of `[lower_ns, upper_ns, count]`, all of them whole.

        Raises:
            ValueError: it is none, the buckets are not ascending, or one is empty.
        """
        try:
            table = np.array(buckets)
            if table.size == 0:
                table = table.reshape(0, 3).astype(np.int64)
            if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != 3:
                raise ValueError("buckets are [lower, upper, count], in whole numbers of 64 bits")
        except OverflowError:
            raise ValueError("a bucket's bound or count does not fit 64 bits") from None
        lower, upper, count = table.T
        if (
            (lower < 0).any()
            or (lower >= upper).any()
            or (upper[:-1] > lower[1:]).any()
            or (count < 1).any()
        ):
            raise ValueError("buckets must ascend and hold at least one write each")
        return cls(table.tobytes())

    @property
    def buckets(self) -> NDArray[np.int64]:
        """Lower bound (included) and upper bound (excluded) in ns, and count: shape (n, 3)."""
        return np.frombuffer(self.data, dtype=np.int64).reshape(-1, 3)

    @property
    def writes(self) -> int:
        """The writes in all buckets."""
        return int(self.buckets[:, 2].sum())

    def quantiles_ns(self, levels: Floats) -> Floats:
        """Latencies that the given shares of writes stay below, in ns, shape as `levels`.

        Within a bucket the writes are taken to lie evenly. NaN where less than one write lies
        beyond the level: the sample says nothing about it.

        Args:
            levels: between 0 and 1, both excluded.
        """
        lower, upper, count = self.buckets.T
        writes = self.writes
        if not writes:
            return np.full(levels.shape, np.nan)
        below = np.cumsum(count)
        wanted = levels * writes
        place = np.minimum(np.searchsorted(below, wanted), len(below) - 1)
        share = (wanted - (below - count)[place]) / count[place]
        found = lower[place] + share * (upper - lower)[place]
        # Rounded: 1 - 0.99 is a little less than 0.01.
        return np.where(np.round((1 - levels) * writes, 6) >= 1, found, np.nan)
