# SPDX-License-Identifier: GPL-2.0-only
"""Reading the analysed tables of one results folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdelta.errors import KdeltaError
from kdelta.report.formatting import format_level

_EFFECT_COLUMNS = ("delta_percent", "delta_low_percent", "delta_high_percent", "verdict")
_RATIO_COLUMNS = (
    *("ratio", "ratio_low", "ratio_high", "blocks_to_settle", "set_aside"),
    *_EFFECT_COLUMNS,
)
_DELTA_COLUMNS = ("regime", "arm", "metric", "unit", "blocks", "baseline", "value", *_RATIO_COLUMNS)
_OVERALL_COLUMNS = ("regime", "arm", "metric", "cells", "blocks", *_RATIO_COLUMNS)
_REQUIRED = {
    "samples.csv": ("regime", "block", "arm", "boot_order", "valid"),
    "validity.csv": ("regime", "block", "arm", "rule"),
    "tables/deltas.csv": _DELTA_COLUMNS,
    "tables/overall.csv": _OVERALL_COLUMNS,
    "tables/deltas_all.csv": _DELTA_COLUMNS,
    "tables/overall_all.csv": _OVERALL_COLUMNS,
    "tables/control.csv": (
        *("regime", "metric", "cells", "blocks", "largest_delta_percent"),
        *("median_half_width_percent", "noise_floor_percent", "false_verdicts", "differs"),
    ),
    "tables/position.csv": (
        *("regime", "metric", "blocks", "position_percent", "position_low_percent"),
        *("position_high_percent", "p_holm", "largest_bias_percent", "differs"),
    ),
    "tables/set_aside.csv": ("regime", "arm", "boots", "boots_failed", "samples", "set_aside"),
    "tables/disturbance.csv": (
        *("regime", "boots", "boots_disturbed", "samples_disturbed", "samples_run"),
        *("samples_checked", "boots_host_load", "boots_host_steal", "boots_host_other_cpu"),
        *("boots_guest_steal", "boots_cpu_speed", "boots_slow"),
        *("other_cpu_highest", "steal_highest", "relative_speed_lowest", "speed_variance_share"),
        *("control_spread_percent", "times_quiet", "unexplained"),
    ),
    "tables/pressure.csv": (
        *("regime", "arm", "samples", "with_direct_reclaim", "pgscan_direct_per_s"),
        *("allocstall_per_s", "pswpin_per_s", "pswpout_per_s", "psi_memory_some_percent"),
        *("psi_memory_full_percent", "psi_cpu_some_percent", "oom_kill"),
    ),
    "tables/expectations.csv": (
        *("regime", "arm", "counter", "bound", "limit", "share_wanted", "samples"),
        *("samples_met", "met", "median", "lowest", "highest"),
    ),
    "tables/claims.csv": (
        *("regime", "arm", "metric", "unit", "claimed_baseline", "claimed_value"),
        *("claimed_delta_percent", "blocks", "status", *_EFFECT_COLUMNS),
    ),
    "tables/negative_controls.csv": ("regime", "arm", "status", "reason", *_EFFECT_COLUMNS),
    "tables/mechanism.csv": (
        *("regime", "arm", "status", "writes", "pages_before_lock_per_write"),
        *("pages_under_lock_per_write", "bulk_calls", "bulk_pages_requested_per_call"),
        *("bulk_pages_per_call", "reclaims_before_lock", "reclaims_under_lock"),
        *("waits_per_write", "wait_us_per_write", "wait_p99_us", "lost_events"),
    ),
    "tables/ratios.csv": (
        "regime",
        "block",
        "arm",
        "metric",
        "baseline",
        "value",
        "speed_ratio",
        "ratio",
    ),
    "tables/latency.csv": ("regime", "arm", "quantile", "latency_us", "blocks"),
}
_TEXT_COLUMNS = (
    *("regime", "arm", "metric", "unit", "direction", "verdict", "rule", "detail"),
    *("status", "reason", "counter", "bound"),
)
_TRUTH_COLUMNS = ("valid", "met", "differs", "unexplained")


@dataclass(frozen=True)
class ReportFrames:
    """The tables of ``docs/contracts.md``; factor columns hold text labels."""

    samples: pd.DataFrame
    validity: pd.DataFrame
    deltas: pd.DataFrame
    overall: pd.DataFrame
    control: pd.DataFrame
    position: pd.DataFrame
    ratios: pd.DataFrame
    deltas_all: pd.DataFrame
    overall_all: pd.DataFrame
    set_aside: pd.DataFrame
    disturbance: pd.DataFrame
    pressure: pd.DataFrame
    expectations: pd.DataFrame
    claims: pd.DataFrame
    negative_controls: pd.DataFrame
    mechanism: pd.DataFrame
    latency: pd.DataFrame
    factors: tuple[str, ...]

    def deltas_of(self, regime: str, arm: str, metric: str) -> pd.DataFrame:
        """The rows of one table: one per cell."""
        return _select(self.deltas, regime=regime, arm=arm, metric=metric)

    def overall_of(self, regime: str, arm: str, metric: str) -> pd.Series | None:
        """The overall effect of a regime, or None where there is none."""
        return _first(_select(self.overall, regime=regime, arm=arm, metric=metric))

    def control_of(self, regime: str, metric: str) -> pd.Series | None:
        """The noise floor of a table, or None without a control arm."""
        return _first(_select(self.control, regime=regime, metric=metric))

    @property
    def rules(self) -> tuple[str, ...]:
        """The validity rules that were broken anywhere: columns of ``set_aside``."""
        columns = list(self.set_aside.columns)
        return tuple(columns[columns.index("set_aside") + 1 :])

    def levels(self, factor: str) -> tuple[str, ...]:
        """The labels of a factor that occur in any table, unordered."""
        frames = (self.samples, self.deltas, self.ratios)
        return tuple({label for f in frames if factor in f for label in f[factor]})


def load_frames(results_dir: Path) -> ReportFrames:
    """Read the analysed tables of ``results/<experiment>/``.

    Args:
        results_dir: The folder that holds ``samples.csv``, ``validity.csv`` and ``tables/``.

    Raises:
        KdeltaError: A table is missing, unreadable or lacks a column.
    """
    tables = {name: _read(results_dir / name, columns) for name, columns in _REQUIRED.items()}
    deltas = tables["tables/deltas.csv"]
    columns = list(deltas.columns)
    factors = tuple(c for c in columns[: columns.index("metric")] if c not in ("regime", "arm"))
    for frame in tables.values():
        for factor in factors:
            if factor in frame:
                frame[factor] = pd.Series(
                    [format_level(v) for v in frame[factor]], index=frame.index, dtype=object
                )
    return ReportFrames(
        **{Path(name).stem: frame for name, frame in tables.items()}, factors=factors
    )


def _read(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    try:
        # A level may well be called "None" or "NA": only an empty field is a missing one.
        frame = pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    except FileNotFoundError:
        raise KdeltaError(
            f"{path}: no such table; run the analysis of this results folder first"
        ) from None
    except (OSError, ValueError) as error:
        raise KdeltaError(f"{path}: not readable as CSV: {error}") from error
    missing = [column for column in required if column not in frame]
    if missing:
        raise KdeltaError(
            f"{path}: column {', '.join(missing)} is missing; "
            "the file is from another version: run the analysis again"
        )
    for column in _TEXT_COLUMNS:
        if column in frame:
            frame[column] = frame[column].fillna("").astype(str)
    for column in _TRUTH_COLUMNS:
        if column in frame:
            frame[column] = [str(v).lower() == "true" for v in frame[column]]
            frame[column] = frame[column].astype(bool)
    return frame


def _select(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def _first(frame: pd.DataFrame) -> pd.Series | None:
    return None if frame.empty else frame.iloc[0]
