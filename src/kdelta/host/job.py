# SPDX-License-Identifier: GPL-2.0-only
"""Where a process runs: its host, and its job if a cluster's scheduler started it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

# What a scheduler calls a job, in the environment that it gives it.
_NUMBERS = {"SLURM_JOB_ID": "SLURM", "PBS_JOBID": "PBS", "LSB_JOBID": "LSF"}


def node_name(environ: Mapping[str, str] = os.environ) -> str:
    """This host, as its scheduler calls it, whose nodes may share a host's name."""
    return environ.get("SLURMD_NODENAME") or socket.gethostname()


def in_job(environ: Mapping[str, str] = os.environ) -> str:
    """The scheduler's job and its node, in words that follow others; empty where there is none."""
    for key, scheduler in _NUMBERS.items():
        if number := environ.get(key):
            return f" ({scheduler} job {number} on {node_name(environ)})"
    return ""
