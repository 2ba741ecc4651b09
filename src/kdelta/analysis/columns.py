# SPDX-License-Identifier: GPL-2.0-only
"""Columns of the result files and their types; their meaning is in docs/contracts.md."""

from __future__ import annotations

import pandas as pd

from kdelta.analysis.table_columns import ALL_COLUMNS

# Nullable types: a counter that the kernel lacks is missing, which is not 0.
SAMPLE_DTYPES = {
    "regime": "str",
    "block": "int64",
    "arm": "str",
    "variant": "str",
    "boot_order": "int64",
    "round": "int64",
    "slot": "Int64",
    "cell_order": "int64",
    "write_size": "Int64",
    "pipe_size": "Int64",
    "mode": "str",
    "nonblock": "boolean",
    "acceleration": "str",
    "vcpus": "Int64",
    "memory_mib": "Int64",
    "status": "str",
    "duration_requested_s": "float64",
    "elapsed_s": "float64",
    "writes": "Int64",
    "bytes_written": "Int64",
    "throughput_mib_s": "float64",
    "latency_mean_ns": "float64",
    "latency_p50_ns": "float64",
    "latency_p90_ns": "float64",
    "latency_p99_ns": "float64",
    "latency_p99_9_ns": "float64",
    "latency_max_ns": "float64",
    "identity_error": "float64",
    "voluntary_switches": "Int64",
    "involuntary_switches": "Int64",
    "user_s": "float64",
    "system_s": "float64",
    "eagain": "Int64",
    "short_writes": "Int64",
    "pgscan_direct": "Int64",
    "pgsteal_direct": "Int64",
    "pgscan_kswapd": "Int64",
    "allocstall": "Int64",
    "oom_kill": "Int64",
    "pswpin": "Int64",
    "pswpout": "Int64",
    "psi_memory_some_us": "Int64",
    "psi_memory_full_us": "Int64",
    "psi_cpu_some_us": "Int64",
    "steal_ticks": "Int64",
    "speed_before": "float64",
    "speed_after": "float64",
    "relative_speed": "float64",
    "memcg": "boolean",
    "stressor_alive": "boolean",
    "valid": "bool",
}

EFFECT_COLUMNS = [
    "ratio",
    "ratio_low",
    "ratio_high",
    "delta_percent",
    "delta_low_percent",
    "delta_high_percent",
    "confidence",
    "p_value",
    "p_holm",
    "p_sign_flip",
    "verdict",
    "blocks_to_settle",
]
TABLE_DTYPES = {
    "regime": "str",
    "arm": "str",
    "metric": "str",
    "unit": "str",
    "direction": "str",
    "verdict": "str",
    "block": "int64",
    "cells": "int64",
    "blocks": "int64",
    "rounds": "int64",
    "set_aside": "int64",
    "differs": "bool",
    "false_verdicts": "int64",
    "blocks_to_settle": "Int64",
    **dict.fromkeys(("baseline", "value", *EFFECT_COLUMNS[:-2]), "float64"),
    **dict.fromkeys(
        ("largest_delta_percent", "median_half_width_percent", "noise_floor_percent"), "float64"
    ),
}

# As a factor of the matrix, such a name takes the place of the sample column of the
# same meaning; no other column may be shadowed.
_WORKLOAD_COLUMNS = {"write_size", "pipe_size", "mode", "nonblock"}
RESERVED_COLUMNS = (
    frozenset({*SAMPLE_DTYPES, *TABLE_DTYPES, "rule", "limit", "detail"}) | ALL_COLUMNS
) - _WORKLOAD_COLUMNS


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every known column in its type, also where it is empty."""
    return frame.astype(
        {name: TABLE_DTYPES[name] for name in frame.columns if name in TABLE_DTYPES}
    )
