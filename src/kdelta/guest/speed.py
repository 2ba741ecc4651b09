# SPDX-License-Identifier: GPL-2.0-only
"""The speed check: what the CPUs are worth at one moment, whoever takes them away.

Runs in the guest, and on the host for `kdelta doctor`: standard library only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Run = Callable[[list[str]], tuple[Json | None, str | None]]
"""Runs a program that prints one JSON object: that, and what went wrong (None: nothing)."""

PROGRAM = "speed_check"

# Steps of the generators on each CPU. Chosen so that a check takes about 10 ms on an ordinary
# machine: long enough to outweigh the moments in which an emulator translates code (checks of
# 1 ms jump by factors of 2 or 3), short beside a sample. On an AMD EPYC at 2.4 GHz a step takes
# 2.2 ns natively, and 6.6 ns in an emulated guest (fastest of some dozen checks each).
WORK = {"kvm": 4_000_000, "tcg": 1_500_000}

DEADLINE_S = 5.0
"""A check that has not ended by then is given up."""


def check_speed(program: Path, work: int, run: Run) -> tuple[Json | None, str | None]:
    """Run the check once.

    Never raises for what the program or the system does: a check must not cost a sample.

    Args:
        program: the static binary.
        work: steps on each CPU.
        run: how to run it.

    Returns:
        `wall_ns` and `cpu_ns`, one value per CPU, or None and why there are none.
    """
    try:
        result, error = run([str(program), str(work)])
    except (OSError, subprocess.SubprocessError) as problem:
        return None, f"cannot be run: {problem}"
    if result is None:
        return None, error
    times = {name: result.get(name) for name in ("wall_ns", "cpu_ns")}
    if result.get("work") != work or not all(map(_are_times, times.values())):
        return None, f"not a result of {work} steps: {str(result)[:200]}"
    return times, None


def _are_times(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(isinstance(value, int) and value > 0 for value in values)
    )


def speed_record(
    work: int, before: tuple[Json | None, str | None], after: tuple[Json | None, str | None]
) -> Json:
    """A sample's entry `speed` from what `check_speed` gave before and after it."""
    reasons = [
        f"{when}: {error}"
        for when, (_, error) in (("before", before), ("after", after))
        if error is not None
    ]
    return {
        "work": work,
        "before": before[0],
        "after": after[0],
        "reason": "; ".join(reasons) or None,
    }
