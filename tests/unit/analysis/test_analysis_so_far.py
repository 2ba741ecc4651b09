# SPDX-License-Identifier: GPL-2.0-only
"""The answers while a regime is still being measured."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import SETTINGS, Truth, write_raw

from kdelta.analysis.run import so_far


def test_one_line_of_all_arms_with_the_blocks_that_there_are(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(regimes=("idle", "memory-pressure"), blocks=4))
    settings = replace(SETTINGS, blocks=6)
    said = so_far(raw, "idle", settings)
    match = re.fullmatch(
        r"idle: throughput after 4 of 6 blocks, not final: patched \+(\S+)% \[\S+, \S+\], "
        r"control (\S+)% \[\S+, \S+\]",
        said,
    )
    assert match is not None, said
    assert float(match[1]) == pytest.approx(20, abs=4)
    assert float(match[2]) == pytest.approx(0, abs=4)


def test_two_blocks_have_no_interval_yet(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=2))
    assert so_far(raw, "idle", replace(SETTINGS, blocks=6)).count("[no interval yet]") == 2


def test_an_arm_that_never_ran_is_said(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=3))
    for path in raw.rglob("patched.jsonl"):
        path.unlink()
    assert "patched n/a (a cell without a ratio)" in so_far(
        raw, "idle", replace(SETTINGS, blocks=6)
    )
    shutil.rmtree(raw)
