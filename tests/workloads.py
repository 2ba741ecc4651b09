# SPDX-License-Identifier: GPL-2.0-only
"""The flagship's workload, and its metrics as the report has them."""

from __future__ import annotations

from kdelta.report.context import metrics_of
from kdelta.workload.build import HELPERS, RECORD, built_programs
from kdelta.workload.folder import load_workload

PIPE_BENCH = load_workload("pipe_bench")
PROGRAMS = [*built_programs(PIPE_BENCH), *HELPERS]
"""What is built for its guests."""
GUEST_FILES = (*PROGRAMS, RECORD)
METRICS = metrics_of(PIPE_BENCH)
THROUGHPUT, LATENCY_MEAN, *_ = METRICS
