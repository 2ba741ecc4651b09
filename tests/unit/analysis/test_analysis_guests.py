# SPDX-License-Identifier: GPL-2.0-only
"""Blocks of different guests are never pooled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hand_made import boot_of, records_of

from kdelta.analysis.boots import RawBoot, require_same_guests
from kdelta.errors import KdeltaError

RAW = Path("raw")


def boot(block: int, regime: str = "idle", **host: Any) -> RawBoot:
    return boot_of(records_of(regime, block), host={"schema": 1, **host} if host else None)


@pytest.mark.parametrize(
    ("key", "one", "other", "words", "what", "cure"),
    [
        ("vcpus", 8, 16, "vCPUs", "in different guests", "measure these blocks again"),
        ("memory_mib", 1024, 2048, "memory in MiB", "in different guests", "where the others"),
        ("acceleration", {"mode": "kvm"}, {"mode": "tcg"}, "acceleration", "in diff", "again"),
        ("key", "0a1b.2c", "0a1b.3d", "settings", "with other settings or kernels", "older ones"),
    ],
)
def test_other_guests_in_a_regime(
    key: str, one: Any, other: Any, words: str, what: str, cure: str
) -> None:
    boots = [boot(1, **{key: one}), boot(2, **{key: one}), boot(3, **{key: other})]
    require_same_guests(boots[:2], RAW)
    with pytest.raises(KdeltaError) as caught:
        require_same_guests(boots, RAW)
    said = str(caught.value)
    told = [value["mode"] if isinstance(value, dict) else value for value in (one, other)]
    assert said.startswith(f"raw/idle: its blocks were measured {what}")
    assert f"(blocks 1, 2: {words} {told[0]}; block 3: {words} {told[1]})" in said
    assert cure in said


def test_other_regimes_are_not_pooled_with_it() -> None:
    require_same_guests([boot(1, vcpus=8), boot(1, "pressure", vcpus=16)], RAW)


def test_what_was_not_recorded_is_no_difference() -> None:
    require_same_guests([boot(1, memory_mib=512), boot(2), boot(3, memory_mib=512)], RAW)


def test_what_the_guest_saw_where_the_host_says_nothing() -> None:
    records = records_of("idle", 2)
    records[0]["gate"]["vcpus"] = 99
    with pytest.raises(KdeltaError, match="block 2: vCPUs 99"):
        require_same_guests([boot(1), boot_of(records)], RAW)
