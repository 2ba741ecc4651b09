# SPDX-License-Identifier: GPL-2.0-only
"""A guest's CPU time must arrive here, through the supervisor and all that is below it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kdelta.guest import supervise
from kdelta.host.cpu_time import HostCpu

BURN_S = 0.6
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass"
# A grandchild that its parent waits for, and one that outlives its parent and is killed.
WAITED = f'"{sys.executable}" -c "{BURN}"; true'
ORPHAN = f'("{sys.executable}" -c "{BURN}\ntime.sleep(60)" &); sleep 4'


@pytest.mark.parametrize("script", [WAITED, ORPHAN], ids=["waited-for", "orphan"])
def test_time_of_grandchildren_is_our_own(script: str) -> None:
    watch = HostCpu()
    process = subprocess.Popen(
        [sys.executable, "-I", supervise.__file__, "30", "sh", "-c", script],
        stdin=subprocess.PIPE,  # its end would be ours, to the supervisor
    )
    assert process.wait(timeout=40) == 0
    process.communicate()
    used = watch.used()
    # Interpreters starting are part of it too.
    assert BURN_S <= used["own_s"] < BURN_S + 1.5
    assert used["own_s"] <= used["elapsed_s"] * used["cpus"]
