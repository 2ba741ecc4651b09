# SPDX-License-Identifier: GPL-2.0-only
"""Columns and types of the tables on validity, regimes, claims and mechanism.

Their meaning is in docs/contracts.md. The matrix's columns are not in here; `table`
puts them in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from kdelta.analysis.breach import DISTURBANCE_RULES

RATE_COUNTERS = (
    "pgscan_direct",
    "pgsteal_direct",
    "pgscan_kswapd",
    "allocstall",
    "pswpin",
    "pswpout",
)
STALLS = ("psi_memory_some", "psi_memory_full", "psi_cpu_some")

SET_ASIDE_DTYPES = {
    "regime": "str",
    "arm": "str",
    "boots": "int64",
    "boots_failed": "int64",
    "samples": "int64",
    "set_aside": "int64",
}
DISTURBANCE_DTYPES = {
    "regime": "str",
    "boots": "int64",
    "boots_disturbed": "int64",
    "samples": "int64",
    "samples_disturbed": "int64",
    "samples_run": "int64",
    "samples_checked": "int64",
    **{f"boots_{rule.replace('-', '_')}": "int64" for rule in DISTURBANCE_RULES},
    "boots_slow": "int64",
    "other_cpu_highest": "float64",
    "steal_highest": "float64",
    "relative_speed_lowest": "float64",
    "speed_variance_share": "float64",
    "control_spread_percent": "float64",
    "times_quiet": "float64",
    "unexplained": "bool",
}
POSITION_DTYPES = {
    "regime": "str",
    "metric": "str",
    "blocks": "int64",
    "position_percent": "float64",
    "position_low_percent": "float64",
    "position_high_percent": "float64",
    "p_value": "float64",
    "p_holm": "float64",
    "largest_bias_percent": "float64",
    "differs": "bool",
}
PRESSURE_DTYPES = {
    "regime": "str",
    "arm": "str",
    "samples": "int64",
    "with_direct_reclaim": "Int64",
    **{f"{name}_per_s": "float64" for name in RATE_COUNTERS},
    **{f"{name}_percent": "float64" for name in STALLS},
    "oom_kill": "Int64",
}
LATENCY_DTYPES = {
    "regime": "str",
    "arm": "str",
    "quantile": "float64",
    "latency_us": "float64",
    "blocks": "int64",
}
EXPECTATION_DTYPES = {
    "regime": "str",
    "arm": "str",
    "counter": "str",
    "bound": "str",
    "limit": "int64",
    "share_wanted": "float64",
    "samples": "int64",
    "samples_met": "int64",
    "share_met": "float64",
    "met": "bool",
    "median": "float64",
    "lowest": "float64",
    "highest": "float64",
}
CLAIM_DTYPES = {
    "regime": "str",
    "arm": "str",
    "metric": "str",
    "unit": "str",
    "claimed_baseline": "float64",
    "claimed_value": "float64",
    "claimed_delta_percent": "float64",
    "blocks": "int64",
    "delta_percent": "float64",
    "delta_low_percent": "float64",
    "delta_high_percent": "float64",
    "verdict": "str",
    "status": "str",
}
NEGATIVE_CONTROL_DTYPES = {
    "regime": "str",
    "arm": "str",
    "delta_percent": "float64",
    "delta_low_percent": "float64",
    "delta_high_percent": "float64",
    "verdict": "str",
    "status": "str",
    "reason": "str",
}
MECHANISM_DTYPES = {
    "regime": "str",
    "arm": "str",
    "status": "str",
    "writes": "Int64",
    "pages_before_lock_per_write": "float64",
    "pages_under_lock_per_write": "float64",
    "bulk_calls": "Int64",
    "bulk_pages_requested_per_call": "float64",
    "bulk_pages_per_call": "float64",
    "reclaims_before_lock": "Int64",
    "reclaims_under_lock": "Int64",
    "contention_writes": "Int64",
    "waits_per_write": "float64",
    "wait_us_per_write": "float64",
    "wait_mean_us": "float64",
    "wait_p50_us": "float64",
    "wait_p99_us": "float64",
    "wait_max_us": "float64",
    "lost_events": "Int64",
}

ALL_COLUMNS = frozenset(
    {
        *POSITION_DTYPES,
        *PRESSURE_DTYPES,
        *LATENCY_DTYPES,
        *CLAIM_DTYPES,
        *NEGATIVE_CONTROL_DTYPES,
        *MECHANISM_DTYPES,
    }
)
"""Every column that stands beside those of the matrix in some table."""


def table(
    rows: Iterable[Mapping[str, object]],
    dtypes: Mapping[str, str],
    factors: Sequence[str] = (),
    *,
    after: str = "arm",
) -> pd.DataFrame:
    """The rows as a frame: columns of `dtypes` in order and type, the factors `after` one.

    A value that a row lacks is missing.
    """
    names = list(dtypes)
    place = names.index(after) + 1
    frame = pd.DataFrame(list(rows), columns=[*names[:place], *factors, *names[place:]])
    return frame.astype(dict(dtypes))
