# SPDX-License-Identifier: GPL-2.0-only
"""How much measuring is left, from what is on the disk."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from kdelta.experiment import Experiment
from kdelta.measure.arm import ArmBoot
from kdelta.measure.progress import (
    BOOT_S,
    SLICE_OVERHEAD_S,
    BlockProgress,
    Pending,
    block_seconds,
    blocks_left,
    pending,
    trace_seconds,
)
from kdelta.progress import duration_text
from tests.conftest import SMALL

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = Experiment.model_validate(SMALL)
TRACED = Experiment.model_validate({**SMALL, "mechanism": {"regimes": ["idle", "pressed"]}})


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


def test_a_block_that_nobody_measured_is_guessed() -> None:
    """Four guests get ready, and each runs four cells."""
    cell = 0.5 + 0.1 + SLICE_OVERHEAD_S
    assert block_seconds(EXPERIMENT, "quick", "idle") == pytest.approx(4 * (BOOT_S + 4 * cell))
    more = copy.deepcopy(SMALL)
    more["protocols"]["quick"] |= {"rounds": 3, "duration_s": {"idle": 1.5}}
    rounds = block_seconds(Experiment.model_validate(more), "quick", "idle")
    assert rounds == pytest.approx(4 * (BOOT_S + 3 * 4 * cell))


def test_few_traced_cells_take_less() -> None:
    few = Experiment.model_validate(
        {**SMALL, "mechanism": {"regimes": ["idle"], "cells": {"writers": [2]}}}
    )
    saved = trace_seconds(TRACED) - trace_seconds(few)
    assert saved == pytest.approx((trace_seconds(TRACED) - 4 * BOOT_S) / 2)


def job(block: int | None = 2, **others: object) -> BlockProgress:
    """A block of four guests, of `idle`."""
    return BlockProgress(TRACED, "quick", "idle", block, Pending(**others))  # type: ignore[arg-type]


def boot(arm: str = "patched", reason: str | None = None, changed: str | None = None) -> ArmBoot:
    return ArmBoot([], {"arm": arm, "reason": reason}, changed=changed)


def left(told: str) -> str:
    return told.rpartition("about ")[2].strip()


def test_what_remains_is_blocks_and_traces(capsys: pytest.CaptureFixture[str]) -> None:
    job(blocks={"idle": 1, "pressed": 1}, traces=["idle"]).block_done()
    seconds = sum(block_seconds(TRACED, "quick", regime) for regime in ("idle", "pressed"))
    told = capsys.readouterr().err
    assert told.startswith("idle, block 2 of 2: measured in 0 s; 3 of 6 blocks done, about ")
    assert left(told) == f"{duration_text(seconds + trace_seconds(TRACED))} left"


def test_what_this_run_has_measured_is_known_better(capsys: pytest.CaptureFixture[str]) -> None:
    """A regime under memory pressure takes far longer to settle; others are as far off."""
    job(blocks={"pressed": 1}, known={"idle": 11.0, "pressed": 44.4}).block_done()
    assert left(capsys.readouterr().err) == "44 s left"
    job(
        blocks={"pressed": 2}, known={"idle": 3 * block_seconds(TRACED, "quick", "idle")}
    ).block_done()
    seconds = 2 * 3 * block_seconds(TRACED, "quick", "pressed")
    assert left(capsys.readouterr().err) == f"{duration_text(seconds)} left"


def test_what_is_pending_is_read_from_the_disk(tmp_path: Path) -> None:
    for block, wall_s in ((1, 20), (2, 30)):
        folder = tmp_path / f"raw/pressed/block-{block:03d}"
        folder.mkdir(parents=True)
        (folder / "host.json").write_text(json.dumps({"wall_s": wall_s}))
    (tmp_path / "raw/idle/block-002").mkdir(parents=True)
    (tmp_path / "raw/idle/block-002/host.json").write_text("{}")  # of another version
    for arm in TRACED.booted_arms():
        file = tmp_path / "mechanism/idle" / f"{arm}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    found = pending(TRACED, "quick", tmp_path, tmp_path / "raw/idle/block-001")
    assert found == Pending({"idle": 0, "pressed": 0}, ["pressed"], {"pressed": 25})
    # A regime whose boots are traced now is not to be traced after that.
    found = pending(TRACED, "quick", tmp_path, tmp_path / "mechanism/pressed")
    assert found.traces == []
    assert found.blocks == {"idle": 1, "pressed": 0}


def test_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    job().block_done()
    assert capsys.readouterr().err == (
        "idle, block 2 of 2: measured in 0 s; all 6 blocks of the run done\n"
    )


def test_guests_that_failed_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = job(None)
    progress.note("round 1 of 1", 3)  # silent where nobody watches
    progress.arm_done(boot("baseline"))
    assert capsys.readouterr().err == ""
    progress.arm_done(boot(reason="Kernel panic"))
    progress.arm_done(boot("other", changed="a cgroup came"))
    progress.block_done()
    assert capsys.readouterr().err == (
        "idle, mechanism: patched FAILED; Kernel panic\n"
        "idle, mechanism: other FAILED; its samples are set aside: the guest did not stay as it "
        "was asked for: a cgroup came\n"
        "idle, mechanism: 2 of 4 guests traced in 0 s; all 6 blocks of the run done\n"
    )


PRINTS = """
import sys, time
from kdelta.experiment import Experiment
from kdelta.measure import progress
from tests.conftest import SMALL
progress._REDRAW_EVERY_S = 0
with progress.BlockProgress(Experiment.model_validate(SMALL), "quick", "idle", 1) as shown:
    shown.note("0 of 4 guests ready", 0)
    shown.note("round 1 of 1", 3)
    shown.block_done()
    shown.note("round 1 of 1", 4)
print("kdelta: an error", file=sys.stderr)
"""


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal_one_line_is_rewritten(columns: int) -> None:
    """Never wider than the terminal: of a wrapped line only the last part can be erased."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    subprocess.run([sys.executable, "-c", PRINTS], stderr=theirs, check=True, timeout=60, cwd=ROOT)
    os.close(theirs)
    text = ""
    with contextlib.suppress(OSError):  # the other end is closed: all is read
        while piece := os.read(ours, 4096):
            text += piece.decode()
    os.close(ours)
    drawn = [piece.rstrip("\r\n") for piece in text.split("\r\033[K")]
    assert drawn[0] == ""
    live = [piece for piece in drawn if "ready" in piece or "round 1" in piece]
    assert len(live) == 3
    assert max(map(len, live)) < columns
    # The time left is on a terminal of common width too.
    if columns == 80:
        assert drawn[1].startswith("idle, block 1 of 2: 0 of 4 guests ready; about ")
        assert drawn[2].startswith("idle, block 1 of 2: round 1 of 1, 3 of 16 slices; about ")
    # What follows begins on a clean line.
    assert drawn[-1] == "kdelta: an error"
