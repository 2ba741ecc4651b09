# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta measure` interrupted and killed: nothing runs on, nothing half is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.integration.scripted_guest import (
    PATIENCE_S,
    Environment,
    Marked,
    lay_out_inputs,
    start,
    wait_for,
)

ARMS = ("baseline", "patched", "other", "control")
FILES = ("schedule.json", "host.json", *(f"{arm}.jsonl" for arm in ARMS))

# Says where it is, leaves a child behind, and goes on for as long as the test needs.
SLOW = """
    subprocess.Popen(["sleep", "1000"])
    boot(); serve(1)
    Path({reached!r}).touch()
    time.sleep(1000)
"""


class Measure:
    """`kdelta measure` of one block, as processes of its own."""

    def __init__(self, environment: Environment, project: Project, marked: Marked) -> None:
        self.environment = environment
        self.marked = marked
        self.root = project.root
        self.out = project.root / "run" / "raw" / "idle" / "block-001"
        self.reached = project.root / "reached"
        environment.kdelta(project.root / "host.lock")
        self.argv = [
            str(environment.bin / "kdelta"),
            *("measure", "--experiment", "experiment.yaml", "--protocol", "quick"),
            *("--regime", "idle", "--block", "1", "--output", "run/raw/idle/block-001"),
            *lay_out_inputs(project.root, ARMS[:3]),
        ]

    def start(self, *before: str) -> subprocess.Popen[str]:
        # What a killed boot leaves in the folder for temporary files is not of interest here.
        (self.root / "tmp").mkdir(exist_ok=True)
        environment = self.marked.environment(TMPDIR=str(self.root / "tmp"))
        return start([*before, *self.argv], cwd=self.root, env=environment)

    def start_slow(self, *before: str) -> subprocess.Popen[str]:
        self.environment.guest(SLOW.format(reached=str(self.reached)))
        process = self.start(*before)
        wait_for(lambda: self.reached.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    def nothing_is_left(self) -> None:
        self.marked.wait_gone()
        assert not [name for name in FILES if (self.out / name).exists()]

    def finishes(self) -> None:
        self.environment.guest("sweep()")
        done = self.start()
        _, err = done.communicate(timeout=PATIENCE_S)
        assert done.returncode == 0, err
        self.is_whole()
        assert not list(self.out.glob("*partial*"))
        assert not list(self.out.glob(".*"))

    def is_whole(self) -> None:
        for name in FILES:
            text = (self.out / name).read_text()
            if name.endswith(".jsonl"):
                kinds = [json.loads(line)["record"] for line in text.splitlines()]
                assert kinds == ["boot", *["sample"] * 4, "end"]
            else:
                json.loads(text)


@pytest.fixture
def measure(environment: Environment, project: Project, marked: Marked) -> Measure:
    return Measure(environment, project, marked)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_block(measure: Measure, signum: int) -> None:
    process = measure.start_slow()
    # Ctrl-C reaches the whole group, a scheduler's SIGTERM the process alone.
    (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert out == ""
    assert err == "kdelta: interrupted; a new start continues\n"
    measure.nothing_is_left()
    assert list(measure.out.glob("*.console.partial.jsonl")), "what was measured is kept"
    assert not list(measure.out.glob(".*"))
    measure.finishes()


def test_one_whose_parent_is_killed(
    measure: Measure, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDELTA_ARGV", "snakemake --cores 2")
    script = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    parent = measure.start_slow(str(environment.python), "-c", script)
    assert len(measure.marked.alive()) >= 5  # parent, kdelta, supervisor, guest, its child
    parent.kill()
    parent.communicate(timeout=PATIENCE_S)
    measure.nothing_is_left()
    measure.finishes()


def test_killed_at_any_moment(measure: Measure) -> None:
    """Seeded, so that a failure can be had again; where in the block it hits, time decides."""
    moments = random.Random("killed")
    measure.environment.guest("sweep(pause_s=0.02)")
    for _ in range(5):
        process = measure.start()
        try:
            process.wait(moments.uniform(0.3, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=PATIENCE_S)
        measure.marked.wait_gone()
        if (measure.out / "host.json").exists():
            measure.is_whole()
    measure.finishes()


def test_an_interrupt_while_waiting_for_the_host(
    measure: Measure, environment: Environment
) -> None:
    first = measure.start_slow()
    second = measure.start()
    assert second.stderr is not None
    said = second.stderr.readline()
    assert said.startswith(
        "measuring small: idle, block 1: waiting for this host: measuring small: idle, block 1 (pr"
    )
    assert str(first.pid) in said
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=PATIENCE_S)
    assert (second.returncode, err) == (130, "kdelta: interrupted; a new start continues\n")
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    measure.marked.wait_gone()
    # its lock went with it
    measure.finishes()


Change = Callable[[list[str]], list[str]]


def swap(old: str, new: str) -> Change:
    return lambda argv: [new if word == old else word for word in argv]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            swap("idle", "lazy"),
            "kdelta: experiment.yaml: regimes: there is no regime 'lazy' in protocol quick; "
            "it has idle, pressed",
        ),
        (
            swap("quick", "fast"),
            "kdelta: experiment.yaml: protocols: no protocol 'fast'; it defines quick, long",
        ),
        (
            swap("1", "3"),
            "kdelta: --block: there is no block 3; protocol quick of experiment.yaml "
            "has blocks 1 to 2",
        ),
        (swap("1", "0"), "kdelta: --block: there is no block 0; protocol quick of experiment.yam"),
        (swap("acceleration.json", "none"), "kdelta: none: no such file; has the run finished?"),
        (swap("kernels", "none"), "kdelta: No such file or directory: none/"),
    ],
)
def test_wrong_arguments(measure: Measure, change: Change, expected: str) -> None:
    measure.environment.guest("sweep()")
    measure.argv = change(measure.argv)
    done = measure.start()
    out, err = done.communicate(timeout=PATIENCE_S)
    assert (done.returncode, out) == (1, "")
    assert err.startswith(expected)
    assert len(err.splitlines()) == 1


def test_a_folder_that_cannot_be_made(measure: Measure) -> None:
    measure.environment.guest("sweep()")
    Path(measure.root / "run").write_text("a file where a folder should be")
    done = measure.start()
    _, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 1
    assert err.startswith("kdelta: Not a directory: run/raw/idle")
