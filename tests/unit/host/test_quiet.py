# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for a quiet host: when it ends, what it says, what it records; and what it sees."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.host.quiet import HostWindow, Window, busiest, wait_for_quiet

LIMIT = 0.05


class Host:
    """A host whose windows follow a script, a second each; the last goes on for ever."""

    def __init__(self, shares: Iterable[float], names: tuple[tuple[str, float], ...] = ()) -> None:
        self._shares = list(shares)
        self._names = names
        self.looked = 0
        self.said: list[str] = []

    def look(self) -> Window:
        share = self._shares[min(self.looked, len(self._shares) - 1)]
        self.looked += 1
        return Window(share, 0.0, self._names if share > LIMIT else ())

    def wait(self, at_most_s: float) -> dict[str, Any] | None:
        return wait_for_quiet(
            "idle, block 1",
            LIMIT,
            at_most_s,
            look=self.look,
            say=self.said.append,
            clock=lambda: float(self.looked),
        )


def test_a_quiet_host_is_not_waited_for_and_nothing_is_said() -> None:
    host = Host([0.01, 0.02])
    assert host.wait(60) == {"waited_s": 2.0, "share": 0.02, "quiet": True}
    assert host.said == []


def test_a_busy_host_is_waited_for_and_that_is_said_once() -> None:
    host = Host([0.4, 0.3, 0.02, 0.2, 0.05, 0.01], (("cc1", 0.35), ("sh", 0.02)))
    assert host.wait(60) == {"waited_s": 6.0, "share": 0.01, "quiet": True}
    assert host.said == [
        "idle, block 1: other programs take 40% of this host's CPU time (cc1 35%, sh 2%); waiting "
        "for at most 60 s until it is 5% or less (environment.wait_for_quiet_s)",
        "idle, block 1: quiet after 6 s",
    ]


def test_after_the_deadline_it_goes_on_and_says_so() -> None:
    host = Host([0.4])
    assert host.wait(3) == {"waited_s": 3.0, "share": 0.4, "quiet": False}
    assert host.said[0].startswith("idle, block 1: other programs take 40% of this host's CPU time")
    assert host.said[1:] == [
        "idle, block 1: not quiet after 3 s, measuring all the same: other programs take 40% of "
        "this host's CPU time; slices beside which they take more than 5% are disturbed"
    ]


def test_zero_means_not_even_to_look() -> None:
    host = Host([0.4])
    assert host.wait(0) is None
    assert (host.looked, host.said) == (0, [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.5, 20))
def test_it_ends_soon_after_the_deadline_and_is_right_about_the_end(
    shares: list[float], at_most_s: float
) -> None:
    host = Host(shares)
    found = host.wait(at_most_s)
    assert found is not None
    assert found["waited_s"] == host.looked
    # a calm window at the deadline is followed by the one that decides
    assert host.looked <= at_most_s + 2
    seen = (shares + [shares[-1]] * host.looked)[: host.looked]
    assert found["share"] == pytest.approx(seen[-1], abs=1e-4)
    calm = [share <= LIMIT for share in seen]
    assert found["quiet"] == calm[-1]
    # it ended at the first two calm windows in a row, or with a loud one after the deadline
    assert calm[-2:] == [True, True] or (not calm[-1] and host.looked >= at_most_s)
    assert not any(a and b for a, b in itertools.pairwise(calm[:-1]))
    assert bool(host.said) == (not all(calm))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, ()),
        # below half a per cent nobody is named
        ({(1, 0.0): ("a", 5.009)}, ()),
        ({(1, 0.0): ("a", 6.0)}, (("a", 0.5),)),
        # the id was given anew: all its time lies in between
        ({(1, 9.0): ("b", 0.5)}, (("b", 0.25),)),
        # by name, the largest first, at most three
        (
            {
                (1, 0.0): ("a", 5.1),
                (2, 1.0): ("cc1", 0.4),
                (3, 1.0): ("cc1", 0.4),
                (4, 1.0): ("d", 0.2),
                (5, 1.0): ("e", 0.04),
            },
            (("cc1", 0.4), ("d", 0.1), ("a", pytest.approx(0.05))),
        ),
    ],
)
def test_the_busiest_programs(after: Any, expected: Any) -> None:
    assert busiest({(1, 0.0): ("a", 5.0), (7, 0.0): ("gone", 3.0)}, after, 2.0) == expected


def test_a_program_that_spins_is_seen_and_named() -> None:
    spinning = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"])
    try:
        # on a busy machine it takes longer to get its share
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            watch = HostWindow()
            time.sleep(1)
            window = watch.seen()
            if any(name.startswith("python") for name, _ in window.busiest):
                break
    finally:
        spinning.kill()
        spinning.wait()
    assert "python" in window.names
    assert 0.005 < window.other_share <= 1.05
