# SPDX-License-Identifier: GPL-2.0-only
"""What arms cost: kernels' sizes as recorded, memory compared within blocks, silence else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pandas as pd
import pytest
from synthetic import SETTINGS

from kdelta.analysis.boots import RawBoot, Slices
from kdelta.analysis.costs import costs_frame, symbols_frame
from kdelta.analysis.records import BootRecord

BASE = {
    "key": "aa",
    "sizes": {"text": 10_000_000, "data": 4_000_000, "bss": 0},
    "image_bytes": 3_000_000,
}


def change(kind: str, name: str, baseline: int | None, arm: int | None) -> dict[str, object]:
    return {"kind": kind, "name": name, "baseline": baseline, "arm": arm}


PATCHED = {
    "key": "bb",
    "sizes": {"text": 10_001_500, "data": 3_999_936, "bss": 0},
    "image_bytes": 3_000_512,
    "costs": {
        "symbols": {
            "count": 7,
            "bytes": {"baseline": 7_000_000, "arm": 7_001_436},
            "largest": [
                change("text", "pipe_write", 1000, 2400),
                change("text", "helper", None, 100),
                change("data", "table", 64, None),
            ],
        },
        "stack": {"count": 1, "largest": [change("stack", "fs/pipe.o:pipe_write", 96, 224)]},
    },
}


def boot(arm: str, block: int, used: int | None, regime: str = "idle") -> RawBoot:
    record = {
        **{"record": "boot", "schema": 1, "regime": regime, "block": block, "arm": arm},
        **{"boot_order": 1, "gate": {"ok": True, "memory_used_kib": used}},
    }
    return RawBoot(
        regime=regime,
        block=block,
        arm=arm,
        boot_order=1,
        planned=(),
        boot=msgspec.convert(record, BootRecord),
        ran=Slices(),
        end=None,
        splats=(),
    )


def boots_of(**by_arm: list[int | None]) -> list[RawBoot]:
    return [boot(arm, n, kib) for arm, used in by_arm.items() for n, kib in enumerate(used, 1)]


def row(table: pd.DataFrame, arm: str, quantity: str) -> dict[str, Any]:
    (found,) = table[(table["arm"] == arm) & (table["quantity"] == quantity)].to_dict("records")
    return found


def settings(**kernels: object) -> Any:
    return replace(SETTINGS, kernels=kernels, memory_regime="idle")


def test_sizes_beside_the_baselines() -> None:
    table = costs_frame([], settings(baseline=BASE, patched=PATCHED))
    text = row(table, "patched", "text")
    assert (text["baseline"], text["value"], text["change"]) == (10_000_000, 10_001_500, 1500)
    assert text["change_percent"] == pytest.approx(0.015)
    assert row(table, "patched", "data")["change"] == -64
    assert pd.isna(row(table, "patched", "bss")["change_percent"]), "of nothing there is no share"
    assert row(table, "patched", "image")["change"] == 512
    assert row(table, "patched", "symbols")["change"] == 1436
    assert row(table, "patched", "symbols_changed")["value"] == 7
    assert row(table, "patched", "stack_changed")["value"] == 1
    assert not table["same_kernel"].any()
    assert set(table["arm"]) == {"patched"}, "the control has the baseline's very kernel"


def test_symbols_in_their_order_with_what_is_missing() -> None:
    table = symbols_frame(settings(baseline=BASE, patched=PATCHED))
    assert list(table["symbol"]) == ["pipe_write", "helper", "table", "fs/pipe.o:pipe_write"]
    assert list(table["change_bytes"]) == [1400, 100, -64, 128]
    assert table["baseline_bytes"].isna().tolist() == [False, True, False, False]
    assert table["bytes"].isna().tolist() == [False, False, True, False]


def test_an_arm_with_the_baselines_kernel() -> None:
    table = costs_frame([], settings(baseline=BASE, patched={**BASE, "arm": "patched"}))
    assert table["same_kernel"].all()
    assert (table["change"] == 0).all()


@pytest.mark.parametrize(
    "kernels",
    [{}, {"baseline": {"key": "aa"}, "patched": {"key": "bb"}}, {"baseline": BASE}],
    ids=["no manifest", "an earlier version's", "the arm's not"],
)
def test_what_was_not_recorded_is_not_told(kernels: dict[str, object]) -> None:
    assert costs_frame(boots_of(baseline=[None], patched=[5]), settings(**kernels)).empty
    assert symbols_frame(settings(**kernels)).empty


def test_memory_is_compared_within_blocks() -> None:
    # The host's mood moves whole blocks by much more than the arm does.
    moods = [0, 3000, -2000, 700]
    boots = boots_of(
        baseline=[60_000 + mood for mood in moods],
        patched=[
            60_040 + mood + wobble for mood, wobble in zip(moods, (-2, 2, 1, -1), strict=True)
        ],
    )
    found = row(costs_frame(boots, settings()), "patched", "memory_used")
    assert found["blocks"] == 4
    assert found["change"] == pytest.approx(40)
    assert 30 < found["change_low"] < 40 < found["change_high"] < 50


def test_memory_of_lost_boots_and_other_regimes_does_not_count() -> None:
    boots = boots_of(baseline=[100, 100, None], patched=[110, None, 900])
    boots += [boot("patched", 2, 5000, "memory-pressure"), boot("baseline", 4, 100)]
    found = row(costs_frame(boots, settings()), "patched", "memory_used")
    assert (found["blocks"], found["change"]) == (1, 10)
    assert pd.isna(found["change_low"])
    none = replace(settings(), memory_regime=None)
    assert costs_frame(boots, none).empty
