# SPDX-License-Identifier: GPL-2.0-only
"""Work by all CPUs: what becomes of its processes when one of them, or the command, is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kdelta.analysis.forked import on_all_cpus
from kdelta.errors import KdeltaError

needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a second CPU")


def dies(shared: int, item: int) -> bytes:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return bytes(1_000_000)


@needs_two
def test_a_killed_worker_is_one_message_and_no_hang() -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt  # as the command takes SIGTERM

    before = signal.signal(signal.SIGTERM, interrupted)
    try:
        with pytest.raises(KdeltaError, match="a process of the analysis was killed"):
            list(on_all_cpus(dies, 0, range(8), worth_it=True))
    finally:
        signal.signal(signal.SIGTERM, before)


@needs_two
def test_workers_end_with_a_killed_command() -> None:
    script = (
        "import time\n"
        "from kdelta.analysis.forked import on_all_cpus\n"
        "list(on_all_cpus(lambda s, i: time.sleep(60), 0, range(4), worth_it=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 30
    while len(workers := psutil.Process(process.pid).children()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
