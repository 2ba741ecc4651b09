# SPDX-License-Identifier: GPL-2.0-only
"""What a killed run left in SLURM's queue, with a queue that follows a script."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kdelta import left_jobs
from kdelta.errors import KdeltaError
from kdelta.left_jobs import only_looks, settle

BLOCK = "rule_measure_block_wildcards_idle_001"

# One file for each look at the queue, the last one for all that follow.
SQUEUE = """#!/bin/sh
cd "$(dirname "$0")"
printf '%s\\n' "$*" >>asked
[ -e broken ] && { echo 'squeue: error: no contact' >&2; exit 1; }
for look in look-*; do break; done
cat "$look"
[ "$look" = look-9 ] || rm "$look"
"""
SCANCEL = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/cancelled"
exit 1
"""


class Cluster:
    """A run's folder, and the programs that answer for SLURM."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.looks = 0
        for name, script in (("squeue", SQUEUE), ("scancel", SCANCEL)):
            (self.bin / name).write_text(script)
            (self.bin / name).chmod(0o755)
        (self.bin / "look-9").write_text("")
        (self.run / ".snakemake" / "incomplete").mkdir(parents=True)

    def begun(self, name: str, job: str | None) -> None:
        """Snakemake's mark of a file that is being made."""
        path = self.run / ".snakemake" / "incomplete" / name
        path.write_text(json.dumps({"external_jobid": job}))

    def queue(self, *lines: str) -> None:
        """What the next look at the queue finds."""
        (self.bin / f"look-{self.looks}").write_text("".join(line + "\n" for line in lines))
        self.looks += 1

    def job(self, number: int | str, state: str, comment: str = BLOCK, folder: str = "") -> str:
        node = "" if state == "PENDING" else "n1"
        return f"{number}|{state}|{node}|{comment}|{folder or self.run}"

    def lines(self, name: str) -> list[str]:
        path = self.bin / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster(tmp_path)
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(left_jobs, "ASK_S", 0.0)
    monkeypatch.setattr(left_jobs, "_is_local", lambda folder: True)
    return found


@pytest.mark.parametrize("marks", [{}, {"a": None}])
def test_a_run_that_left_no_job_does_not_ask(cluster: Cluster, marks: dict[str, None]) -> None:
    """Nor does one on this machine alone, where SLURM's programs may be installed too."""
    for name, job in marks.items():
        cluster.begun(name, job)
    settle(cluster.run)
    assert cluster.lines("asked") == []


def test_what_waits_is_cancelled_and_what_runs_is_waited_for(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.begun("a", "12")
    running = cluster.job(12, "RUNNING")
    cluster.queue(running, cluster.job("13_[2-9]", "PENDING"), cluster.job(14, "PENDING"))
    cluster.queue(running, cluster.job("13_1", "COMPLETING"))
    cluster.queue(running)
    settle(cluster.run)
    assert len(cluster.lines("asked")) == 4
    assert cluster.lines("cancelled") == ["13_[2-9] 14"]
    job = "(measure_block idle_001"
    assert capsys.readouterr().err.splitlines() == [
        "kdelta: cancelling jobs of the killed run that have not begun: "
        f"13_[2-9] {job}), 14 {job})",
        f"kdelta: waiting for what the killed run left running: 12 {job} on n1); to end it: "
        "scancel 12",
        f"kdelta: waiting for what the killed run left running: 13_1 {job} on n1); to end it: "
        "scancel 13_1",
    ]


def test_jobs_of_others_are_left_alone(cluster: Cluster) -> None:
    cluster.begun("a", "12")
    cluster.queue(
        cluster.job(20, "PENDING", folder="/home/else|where"),
        cluster.job(21, "RUNNING", comment=""),
        cluster.job(22, "PENDING", comment="my notebook"),
    )
    settle(cluster.run)
    assert cluster.lines("cancelled") == []
    assert len(cluster.lines("asked")) == 1


def test_a_queue_that_does_not_answer(cluster: Cluster) -> None:
    cluster.begun("a", "12")
    (cluster.bin / "broken").touch()
    with pytest.raises(KdeltaError, match="squeue: error: no contact; see that SLURM answers"):
        settle(cluster.run)


def test_a_shared_file_system_gets_time(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.begun("a", "12")
    monkeypatch.setattr(left_jobs, "_is_local", lambda folder: False)
    monkeypatch.setattr(left_jobs, "LATE_S", 0.01)
    settle(cluster.run)
    assert "waiting 0.01 s for what other nodes wrote" in capsys.readouterr().err


def test_which_file_systems_are_a_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    part = type("part", (), {})

    def mounted(mountpoint: str, fstype: str) -> object:
        found = part()
        found.mountpoint, found.fstype = mountpoint, fstype
        return found

    mounts = [mounted("/", "ext4"), mounted("/home", "nfs4"), mounted("/home/local", "xfs")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    local = {
        place: left_jobs._is_local(Path(place))
        for place in ("/srv/run", "/home/u/run", "/home/local/run", "/homes/run")
    }
    assert local == {
        "/srv/run": True,
        "/home/u/run": False,
        "/home/local/run": True,
        "/homes/run": True,
    }


@pytest.mark.parametrize(
    ("words", "looks"),
    [
        ([], False),
        (["--cores", "2"], False),
        (["--workflow-profile", "profiles/slurm", "--config", "protocol=paper"], False),
        (["--cores", "2", "-n"], True),
        (["--unlock"], True),
        (["--report=report.zip"], True),
    ],
)
def test_who_only_looks_waits_for_nobody(words: list[str], looks: bool) -> None:
    assert only_looks(["snakemake", *words]) is looks
