# SPDX-License-Identifier: GPL-2.0-only
"""Where a process runs, by the environment that schedulers give it."""

from __future__ import annotations

import socket

import pytest

from kdelta.host.job import in_job, node_name


@pytest.mark.parametrize(
    ("environ", "node", "words"),
    [
        ({}, socket.gethostname(), ""),
        ({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n2"}, "n2", " (SLURM job 7 on n2)"),
        (
            {"PBS_JOBID": "7.head"},
            socket.gethostname(),
            f" (PBS job 7.head on {socket.gethostname()})",
        ),
    ],
)
def test_where(environ: dict[str, str], node: str, words: str) -> None:
    assert node_name(environ) == node
    assert in_job(environ) == words
