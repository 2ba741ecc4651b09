# SPDX-License-Identifier: GPL-2.0-only
"""Names of what the analysis writes below a run's folder; no import, so that parsing is quick."""

RESULT_FILES = (
    "samples.csv",
    "validity.csv",
    "tables/deltas.csv",
    "tables/overall.csv",
    "tables/deltas_all.csv",
    "tables/overall_all.csv",
    "tables/set_aside.csv",
    "tables/disturbance.csv",
    "tables/control.csv",
    "tables/position.csv",
    "tables/ratios.csv",
    "tables/latency.csv",
    "tables/pressure.csv",
    "tables/expectations.csv",
    "tables/claims.csv",
    "tables/negative_controls.csv",
    "tables/mechanism.csv",
)
