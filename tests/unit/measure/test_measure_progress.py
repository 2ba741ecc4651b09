# SPDX-License-Identifier: GPL-2.0-only
"""How much measuring is left, from what is on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdelta.experiment import Experiment
from kdelta.measure.progress import BootProgress, Pending, blocks_left, cell_seconds, pending
from tests.conftest import SMALL

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = Experiment.model_validate(SMALL)
TRACED = Experiment.model_validate({**SMALL, "mechanism": {"regimes": ["idle", "pressed"]}})


def finish(raw: Path, regime: str, block: int, boots: Sequence[object] = ()) -> None:
    folder = raw / regime / f"block-{block:03d}"
    folder.mkdir(parents=True)
    (folder / "host.json").write_text(json.dumps({"boots": list(boots)}))


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


def job(block: int | None = 2, **others: object) -> BootProgress:
    """A job of four boots, of `idle`."""
    return BootProgress(TRACED, "quick", "idle", block, Pending(**others))  # type: ignore[arg-type]


def boot(wall_s: float = 12.4, reason: str | None = None) -> dict[str, object]:
    return {"wall_s": wall_s, "status": "failed" if reason else "ok", "reason": reason}


def test_what_remains_is_boots_times_their_cells_and_overhead() -> None:
    progress = job(blocks={"idle": 1, "pressed": 1})
    assert progress.remaining_s() is None
    for arm in ("patched", "baseline"):
        progress.arm_done(arm, boot(10 + 4 * 0.6))
    idle, pressed = 10 + 4 * 0.6, 10 + 4 * 1.1
    assert progress.remaining_s() == pytest.approx(2 * idle + 4 * idle + 4 * pressed)


def test_mechanism_boots_are_counted() -> None:
    """A cell is traced twice, and probes are set before each of the two."""
    progress = job(traces=["idle", "pressed"])
    progress.arm_done("patched", boot(10 + 4 * 0.6))
    traced = 10 + 4 * 2 * (0.3 + 0.5)
    assert progress.remaining_s() == pytest.approx(3 * (10 + 4 * 0.6) + 2 * 4 * traced)
    assert progress.boots_left() == (3 + 8, 4 * 4 + 2 * 4)


def test_a_mechanism_boots_job(capsys: pytest.CaptureFixture[str]) -> None:
    progress = job(None, blocks={"idle": 1})
    progress.arm_done("patched", boot(10 + 4 * 2 * 0.8))
    assert progress.remaining_s() == pytest.approx(3 * (10 + 4 * 2 * 0.8) + 4 * (10 + 4 * 0.6))
    assert capsys.readouterr().err == (
        "idle, mechanism: patched traced in 16 s (1 of 4); 17 of 24 boots of the run done, "
        "about 1 min 39 s left\n"
    )


def test_what_this_run_has_measured_is_known_better() -> None:
    """A regime under memory pressure takes far longer to settle than the one being booted."""
    progress = job(blocks={"pressed": 1}, traces=["pressed"], known={"idle": 11.0, "pressed": 44.4})
    assert progress.remaining_s() == pytest.approx(4 * 11 + 4 * 44.4 + 4 * (40 + 6.4))


def test_what_is_pending_is_read_from_the_disk(tmp_path: Path) -> None:
    finish(tmp_path / "raw", "pressed", 1, [boot(20), boot(30), boot(5, "Kernel panic")])
    (tmp_path / "raw/idle/block-002").mkdir(parents=True)
    (tmp_path / "raw/idle/block-002/host.json").write_text("{}")  # of another version
    for arm in TRACED.arms():
        file = tmp_path / "mechanism/idle" / f"{arm}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    found = pending(TRACED, "quick", tmp_path, tmp_path / "raw/idle/block-001")
    assert found == Pending({"idle": 0, "pressed": 1}, ["pressed"], {"pressed": 25})
    # A regime whose boots are traced now is not to be traced after that.
    found = pending(TRACED, "quick", tmp_path, tmp_path / "mechanism/pressed")
    assert found.traces == []
    assert found.blocks == {"idle": 1, "pressed": 1}


def test_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = job()
    for arm in ("patched", "baseline", "other", "control"):
        progress.arm_done(arm, boot())
    assert progress.remaining_s() == 0
    assert capsys.readouterr().err.endswith(
        "idle, block 2 of 2: control measured in 12 s (4 of 4); all 24 boots of the run done\n"
    )


def test_the_line_of_an_arm(capsys: pytest.CaptureFixture[str]) -> None:
    progress = job()
    progress.sample_done(1)  # silent where nobody watches
    progress.arm_done("patched", boot())
    # three boots of 12.4 s
    assert capsys.readouterr().err == (
        "idle, block 2 of 2: patched measured in 12 s (1 of 4); 21 of 24 boots of the run done, "
        "about 37 s left\n"
    )


def test_the_line_of_an_arm_whose_boot_failed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = job()
    progress.arm_done("patched", boot(9, "Kernel panic"))
    assert capsys.readouterr().err == (
        "idle, block 2 of 2: patched FAILED in 9 s (1 of 4); 21 of 24 boots of the run done, "
        "about 27 s left; Kernel panic\n"
    )


def test_a_boot_that_failed_says_little_of_the_time_of_others() -> None:
    progress = job()
    progress.arm_done("patched", boot(12.4))
    progress.arm_done("other", boot(120, "no driver within 120 s"))
    assert progress.remaining_s() == pytest.approx(2 * 12.4)


PRINTS = """
import sys
from kdelta.experiment import Experiment
from kdelta.measure.progress import BootProgress, Pending
from tests.conftest import SMALL
with BootProgress(Experiment.model_validate(SMALL), "quick", "idle", 1, Pending()) as progress:
    progress.sample_done(0)
    progress.sample_done(3)
    progress.arm_done("patched", {"wall_s": 12.4, "status": "ok", "reason": None})
    progress.sample_done(1)
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
    live = [piece for piece in drawn if " cells" in piece or "boot 1 of 4" in piece]
    assert live
    assert max(map(len, live)) < columns
    # The time left is on a terminal of common width too.
    if columns == 80:
        assert drawn[2] == "idle, block 1 of 2: boot 1 of 4, 3 of 4 cells"
        assert drawn[4] == "idle, block 1 of 2: boot 2 of 4, 1 of 4 cells; about 37 s left"
    # What follows begins on a clean line.
    assert drawn[-1] == "kdelta: an error"
