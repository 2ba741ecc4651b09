# SPDX-License-Identifier: GPL-2.0-only
"""The forecast of a noise floor, from series of speed checks whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.analysis.forecast import (
    QUIET_LOG_SD,
    forecast_floor,
    ratio_log_sd,
    steadiness,
    window_log_sd,
)
from kdelta.analysis.inference import Floats
from kdelta.analysis.power import Design

CHECK_S = 0.01
DESIGN = Design(blocks=5, cells=36, confidence=0.95, margin=0.03)


def series(speeds: Floats, cpus: int = 2) -> tuple[Floats, Floats]:
    """Checks of 10 ms of work, the machine being worth `speeds`, one value per check."""
    seconds = CHECK_S / speeds
    return np.cumsum(seconds), np.repeat(seconds[:, np.newaxis] * 1e9, cpus, axis=1)


def test_an_even_machine_adds_nothing() -> None:
    ended_s, wall_ns = series(np.ones(1000))
    assert window_log_sd(ended_s, wall_ns, 0.6) == pytest.approx(0, abs=1e-12)
    assert ratio_log_sd(0.0) == QUIET_LOG_SD
    found = steadiness(wall_ns)
    assert found.unhindered_ns == pytest.approx(1e7)
    assert (found.slow_share, found.worst) == (0, pytest.approx(1))


def test_the_spread_is_that_of_the_windows() -> None:
    # half of the windows of 0.5 s are worth half of the others
    speeds = np.tile(np.repeat([1.0, 0.5], [50, 25]), 10)
    ended_s, wall_ns = series(speeds)
    assert ended_s[-1] == pytest.approx(10)
    expected = math.log(2) / 2 * math.sqrt(20 / 19)
    assert window_log_sd(ended_s, wall_ns, 0.5) == pytest.approx(expected, rel=0.02)
    found = steadiness(wall_ns)
    assert found.slow_share == pytest.approx(1 / 3)
    assert found.worst == pytest.approx(2)


def test_noise_from_check_to_check_averages_out_and_bursts_do_not() -> None:
    rng = np.random.default_rng(1)
    quick = np.exp(rng.normal(0, 0.2, 2000))
    slow = np.exp(np.repeat(rng.normal(0, 0.2, 10), 200))
    assert window_log_sd(*series(quick), 1.0) < 0.04
    assert 0.1 < window_log_sd(*series(slow), 1.0) < 0.3


def test_cells_longer_than_an_eighth_of_the_series_are_no_steadier_than_that() -> None:
    rng = np.random.default_rng(2)
    ended_s, wall_ns = series(np.exp(rng.normal(0, 0.2, 1000)))
    assert window_log_sd(ended_s, wall_ns, 60.0) == window_log_sd(ended_s, wall_ns, ended_s[-1] / 8)


def test_one_cpu_of_two_counts_half() -> None:
    speeds = np.repeat([1.0, 0.5], 500)
    ended_s, both = series(speeds)
    one = both.copy()
    one[:, 1] = both[0, 1]
    assert window_log_sd(ended_s, one, 1) < window_log_sd(ended_s, both, 1)


@given(st.lists(st.floats(1e6, 1e10), min_size=16, max_size=60), st.floats(0.01, 100))
def test_any_series_gives_a_number(wall: list[float], window_s: float) -> None:
    wall_ns = np.array(wall)[:, np.newaxis]
    found = window_log_sd(np.cumsum(wall_ns[:, 0]) / 1e9, wall_ns, window_s)
    assert found >= 0
    assert math.isfinite(found)


def test_the_floor_grows_with_the_disturbance() -> None:
    quiet = forecast_floor(ratio_log_sd(0.0), DESIGN, 0.8)
    shaken = forecast_floor(ratio_log_sd(0.1), DESIGN, 0.8)
    # t of the strictest of 36 tests on 4 degrees of freedom, over the root of five blocks
    assert quiet == pytest.approx(0.25, abs=0.03)
    assert ratio_log_sd(0.1) == pytest.approx(math.sqrt(0.05**2 + 0.1**2 * 2))
    assert math.log1p(shaken) / math.log1p(quiet) == pytest.approx(3, rel=0.05)
