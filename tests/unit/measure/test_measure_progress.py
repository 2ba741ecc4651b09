# SPDX-License-Identifier: GPL-2.0-only
"""How much measuring is left, from what is on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdelta.experiment import Experiment
from kdelta.measure.progress import BlockProgress, blocks_left, cell_seconds, remaining_s
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)


def finish(raw: Path, regime: str, block: int) -> None:
    folder = raw / regime / f"block-{block:03d}"
    folder.mkdir(parents=True)
    (folder / "host.json").write_text("{}")


def test_the_current_block_is_not_left(tmp_path: Path) -> None:
    current = tmp_path / "idle" / "block-001"
    assert blocks_left(EXPERIMENT, "quick", tmp_path, current) == {"idle": 1, "pressed": 2}


def test_a_block_counts_once_its_host_json_is_there(tmp_path: Path) -> None:
    finish(tmp_path, "pressed", 1)
    (tmp_path / "pressed" / "block-002").mkdir()
    current = tmp_path / "idle" / "block-002"
    assert blocks_left(EXPERIMENT, "quick", tmp_path, current) == {"idle": 1, "pressed": 1}


def test_the_last_block_leaves_nothing(tmp_path: Path) -> None:
    for regime in ("idle", "pressed"):
        for block in (1, 2):
            finish(tmp_path, regime, block)
    current = tmp_path / "pressed" / "block-002"
    assert blocks_left(EXPERIMENT, "quick", tmp_path, current) == {"idle": 0, "pressed": 0}


def test_cells_by_themselves() -> None:
    assert cell_seconds(EXPERIMENT, "quick", "idle") == pytest.approx(4 * 0.6)
    assert cell_seconds(EXPERIMENT, "long", "idle") == pytest.approx(4 * 10.2)


def test_what_remains_is_boots_times_their_cells_and_overhead() -> None:
    left = remaining_s(EXPERIMENT, "quick", "idle", 2, {"idle": 1, "pressed": 1}, 10)
    idle, pressed = 10 + 4 * 0.6, 10 + 4 * 1.1
    assert left == pytest.approx(2 * idle + 4 * idle + 4 * pressed)


def test_nothing_left() -> None:
    assert remaining_s(EXPERIMENT, "quick", "idle", 0, {"idle": 0, "pressed": 0}, 10) == 0


def test_the_line_of_an_arm(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BlockProgress(EXPERIMENT, "quick", "idle", 2, {"idle": 0, "pressed": 0})
    progress.sample_done(1)  # silent where nobody watches
    progress.arm_done("patched", {"wall_s": 12.4, "status": "ok", "reason": None})
    first = capsys.readouterr().err
    # three boots of 12.4 s
    assert first == (
        "idle, block 2 of 2: patched measured in 12 s (1 of 4); about 37 s of measuring left\n"
    )
    for arm in ("baseline", "other", "control"):
        progress.arm_done(arm, {"wall_s": 12.4, "status": "ok", "reason": None})
    assert capsys.readouterr().err.endswith(
        "idle, block 2 of 2: control measured in 12 s (4 of 4)\n"
    )


def test_the_line_of_an_arm_whose_boot_failed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BlockProgress(EXPERIMENT, "quick", "idle", 2, {"idle": 0, "pressed": 0})
    progress.arm_done("patched", {"wall_s": 9, "status": "failed", "reason": "Kernel panic"})
    assert capsys.readouterr().err == (
        "idle, block 2 of 2: patched FAILED in 9 s (1 of 4); about 27 s of measuring left; "
        "Kernel panic\n"
    )
