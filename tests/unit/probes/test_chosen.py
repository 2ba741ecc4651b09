# SPDX-License-Identifier: GPL-2.0-only
"""Which probes look at which workload."""

from __future__ import annotations

import pytest

from kdelta.experiment import Mechanism
from kdelta.probes.inside import PROBES
from kdelta.workload.folder import load_workload


@pytest.mark.parametrize(
    ("workload", "wanted", "chosen"),
    [
        ("pipe_bench", None, ("pipe-allocation", "lock-contention")),
        ("hackbench", None, ("lock-contention",)),
        ("pipe_bench", ("lock-contention",), ("lock-contention",)),
        ("pipe_bench", ("pipe-allocation",), ("pipe-allocation",)),
        ("pipe_bench", tuple(reversed(PROBES)), tuple(PROBES)),
    ],
)
def test_probes_are_those_that_can_look_at_a_workload(
    workload: str, wanted: tuple[str, ...] | None, chosen: tuple[str, ...]
) -> None:
    mechanism = Mechanism(regimes=("idle",), probes=wanted)
    assert mechanism.probes_of(load_workload(workload)) == chosen


def test_a_probe_that_cannot_is_named_with_what_it_misses() -> None:
    mechanism = Mechanism(regimes=("idle",), probes=("pipe-allocation",))
    with pytest.raises(ValueError, match=r"mechanism\.probes: pipe-allocation: the workload decl"):
        mechanism.probes_of(load_workload("hackbench"))


@pytest.mark.parametrize(
    ("probes", "message"),
    [(("locks",), "no probe 'locks'; there are pipe-allocation, lock-contention"), ((), "1 item")],
)
def test_probes_that_there_are_not(probes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mechanism(regimes=("idle",), probes=probes)
