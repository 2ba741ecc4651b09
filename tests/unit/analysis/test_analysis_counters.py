# SPDX-License-Identifier: GPL-2.0-only
"""Counters that moved: found where they did, and by chance no more often than promised."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from synthetic import ARMS, SETTINGS

from kdelta.analysis.boots import RawBoot, Slices
from kdelta.analysis.counters import counters_frame
from kdelta.analysis.records import SampleRecord
from kdelta.analysis.slices import counters_of, growth_columns, growth_of


def boots_of(blocks: int, rates: dict[str, dict[str, float]], seed: int) -> list[RawBoot]:
    """Boots whose counters have these true rates by arm, with 5 % of noise."""
    noise = np.random.default_rng(seed)
    return [
        RawBoot(
            regime="idle",
            block=block,
            arm=arm,
            boot_order=1,
            planned=(),
            boot=None,
            ran=Slices(),
            end=None,
            splats=(),
            rates={
                name: by.get(arm, by["baseline"]) * float(noise.lognormal(0, 0.05))
                for name, by in rates.items()
            },
        )
        for block in range(1, blocks + 1)
        for arm in ARMS
    ]


def test_a_counter_that_moved_is_found_with_its_change() -> None:
    rates = {"vmstat.pgfault": {"baseline": 1000.0, "patched": 2000.0}}
    rates |= {f"vmstat.quiet_{n}": {"baseline": 500.0} for n in range(30)}
    rates |= {"psi.cpu.some": {"baseline": 0.0}}
    table = counters_frame(boots_of(6, rates, 1), SETTINGS)
    moved = table[table["moved"]]
    assert moved[["arm", "counter"]].to_numpy().tolist() == [["patched", "vmstat.pgfault"]]
    row = moved.iloc[0]
    assert row["change_percent"] == pytest.approx(100, abs=20)
    assert 1 < row["baseline_sd_percent"] < 12
    assert "psi.cpu.some" not in set(table["counter"]), "it never moved"


def test_counters_that_did_not_move_are_seldom_called_moved() -> None:
    """Under no effect at all, the share of experiments with any discovery is the rate itself."""
    rates = {f"vmstat.c{n}": {"baseline": 100.0} for n in range(50)}
    wrong = sum(
        bool(counters_frame(boots_of(5, rates, seed), SETTINGS)["moved"].any())
        for seed in range(60)
    )
    # Two arms of an experiment are looked at: about a tenth of the experiments.
    assert wrong <= 15


def test_too_few_blocks_say_nothing() -> None:
    rates = {"vmstat.pgfault": {"baseline": 1.0, "patched": 9.0}}
    assert counters_frame(boots_of(2, rates, 1), SETTINGS).empty


def test_levels_are_no_counters() -> None:
    boots = boots_of(4, {"vmstat.nr_free_pages": {"baseline": -5.0, "patched": 7.0}}, 1)
    assert counters_frame(boots, SETTINGS).empty


def record(**more: object) -> SampleRecord:
    plain = {
        **{"record": "sample", "regime": "idle", "block": 1, "arm": "a"},
        **{"boot_order": 1, "cell_order": 1, "cell": {}, "status": "ok"},
    }
    return msgspec.convert({**plain, **more}, SampleRecord)


def test_records_of_before_counters_were_recorded_as_growth() -> None:
    moments = [
        {
            "vmstat": {"pgscan_direct": 100 + by, "allocstall_normal": by, "allocstall_dma": 1},
            "psi": {"memory": {"some": by, "full": 0}},
            "stat": {"steal": by},
        }
        for by in (0, 7)
    ]
    grown = [growth_of(record(before=moments[0], after=moments[1])), growth_of(record())]
    assert grown[1] == {}
    found = counters_of(growth_columns(grown), len(grown))
    for name in ("pgscan_direct", "allocstall", "steal_ticks", "psi_memory_some_us"):
        assert list(found[name]) == [7, None]
    for name in ("psi_cpu_some_us", "pswpin"):
        assert list(found[name]) == [None, None]
