# SPDX-License-Identifier: GPL-2.0-only
"""Snakemake's locks go when, and only when, the run that made them is provably gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from kdelta.workflow_lock import hold
folder = Path(sys.argv[1])
print(hold(folder), flush=True)
(folder / "locks").mkdir(exist_ok=True)
(folder / "locks" / "0.input.lock").touch()
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "waits":
    sys.stdin.read()
"""


def run(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    return out.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".snakemake"


def test_after_a_kill_the_next_start_goes_on(folder: Path) -> None:
    assert said(run(folder, "dies")) == "False"
    assert (folder / "locks" / "0.input.lock").exists()
    assert said(run(folder, "ends")) == "True"


def test_locks_of_a_run_that_ended_are_somebody_elses(folder: Path) -> None:
    assert said(run(folder, "ends")) == "False"
    assert said(run(folder, "ends")) == "False"
    assert (folder / "locks" / "0.input.lock").exists()


def test_locks_of_a_run_that_lives_are_left(folder: Path) -> None:
    first = run(folder, "waits")
    assert first.stdout is not None
    assert first.stdout.readline() == "False\n"
    try:
        assert said(run(folder, "ends")) == "None"
        assert (folder / "locks" / "0.input.lock").exists()
    finally:
        first.kill()
        first.communicate()
    assert said(run(folder, "ends")) == "True"


def test_a_folder_that_cannot_be_written_is_snakemakes_to_tell(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert (
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from kdelta.workflow_lock import hold; from pathlib import Path;"
                f"print(hold(Path({str(blocked / 'x')!r})))",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        == "None\n"
    )
