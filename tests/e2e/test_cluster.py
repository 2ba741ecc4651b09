# SPDX-License-Identifier: GPL-2.0-only
"""A run on a cluster, by the documented command, to which happens what happens on clusters.

SLURM is real, its three nodes are virtual: they share this machine, and with it the host's lock,
so that of two blocks that begin at once one waits for the other.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil
import pytest
import yaml

from tests.cluster.local_slurm import PARTITION, Slurm, local_slurm

from .conftest import SMALL, Project, environment, tool

NODES = {"ice1": "icy", "ice2": "icy", "warm1": "warm"}
PATIENCE_S = 900.0
BLOCKS = ("001", "002", "003")

Found = TypeVar("Found")


class Run:
    """The finished project of the other tests, to be measured once more, on a cluster."""

    def __init__(self, project: Project, slurm: Slurm) -> None:
        self.project = project
        self.slurm = slurm
        self.folder = project.results / "cluster"

    def write(self) -> None:
        """A short protocol, and what the profile has to be told of the cluster."""
        path = self.project.root / SMALL
        experiment = yaml.safe_load(path.read_text())
        experiment["protocols"]["cluster"] = {
            **{"blocks": len(BLOCKS), "arms": ["bulk"], "mechanism": []},
            **{"warmup_s": 0.1, "duration_s": {"idle": 0.5}},
        }
        path.write_text(yaml.safe_dump(experiment, sort_keys=False))
        profile = self.project.root / "profiles/slurm/config.yaml"
        text = profile.read_text()
        for name, value in (("partition", PARTITION), ("constraint", "icy"), ("cores", 2)):
            text, count = re.subn(rf"^  {name}: \S+", f"  {name}: {value}", text, flags=re.M)
            assert count == 1, name
        profile.write_text(text)

    def start(self, log: str) -> subprocess.Popen[bytes]:
        """The documented command, for the answer as text."""
        argv = [tool("snakemake"), "--workflow-profile", "profiles/slurm"]
        argv += ["--config", "protocol=cluster", "--"]
        argv += [str((self.folder / "report" / "tables.txt").relative_to(self.project.root))]
        with (self.project.root / log).open("wb") as file:
            return subprocess.Popen(
                argv,
                cwd=self.project.root,
                env={**environment(), **self.slurm.environ},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self, log: str) -> str:
        return (self.project.root / log).read_text(errors="replace")

    def measuring(self) -> list[dict[str, str]]:
        """The jobs of blocks, each with its block."""
        found = []
        for job in self.slurm.jobs():
            if match := re.fullmatch(r"rule_measure_block_wildcards_idle_(\d{3})", job["comment"]):
                found.append({**job, "block": match[1]})
        return found

    def has_the_machine(self, block: str) -> bool:
        """Whether a block is being measured, and does not wait for the other one's end."""
        folder = self.folder / "raw" / "idle" / f"block-{block}"
        return any(folder.glob(".writing-*"))

    def guests(self) -> set[int]:
        """Processes of emulators, and of what starts and watches them."""
        place = self.slurm.environ["TMPDIR"]
        return {
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if any(place in word for word in process.info["cmdline"] or ())
        }

    def host(self, block: str) -> dict[str, object]:
        path = self.folder / "raw" / "idle" / f"block-{block}" / "host.json"
        return json.loads(path.read_text())


def wait_for(what: str, look: Callable[[], Found | None], run: Run) -> Found:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        logs = "".join(path.read_text()[-3000:] for path in run.project.root.glob("*.log"))
        assert time.monotonic() < deadline, f"{what}: in vain\n{run.slurm.run('squeue')}\n{logs}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with local_slurm(NODES) as found:
        yield found


def test_a_run_that_loses_a_job_a_node_and_its_submitter(copied: Project, slurm: Slurm) -> None:
    run = Run(copied, slurm)
    run.write()
    # Built once more by a job, which finds it in the cache.
    (copied.results / "kernels" / "bulk" / "vmlinuz").unlink()
    first = run.start("first.log")
    try:
        # Two nodes of the kind: two blocks at once, of which one has the machine.
        def both() -> list[dict[str, str]] | None:
            running = [job for job in run.measuring() if job["state"] == "RUNNING"]
            one = any(run.has_the_machine(job["block"]) for job in running)
            return running if len(running) == 2 and one and run.guests() else None

        jobs = wait_for("two blocks", both, run)
        assert {job["node"] for job in jobs} == {"ice1", "ice2"}
        for job in jobs:
            said = slurm.run("scontrol", "show", "job", job["number"])
            assert re.search(r"OverSubscribe=NO", said), said
            assert re.search(r"Features=icy", said), said
            assert re.search(r"TimeLimit=02:00:00", said), said
            assert re.search(rf"Partition={PARTITION}", said), said
        lost = next(job for job in jobs if run.has_the_machine(job["block"]))
        kept = next(job for job in jobs if job != lost)

        # The node is taken out on which one measures, and its job is cancelled: the guests go with
        # it, and the other block begins. Then the machine goes that jobs are submitted from.
        slurm.run("scontrol", "update", f"nodename={lost['node']}", "state=drain", "reason=test")
        alive = run.guests()
        slurm.run("scancel", lost["number"])
        wait_for("the end of the guests", lambda: not alive & run.guests(), run)
        folder = run.folder / "raw" / "idle"
        assert not (folder / f"block-{kept['block']}" / "host.json").exists()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    wait_for("guests of the other block", run.guests, run)

    second = run.start("second.log")
    try:
        second.wait(PATIENCE_S)
    finally:
        if second.poll() is None:
            os.killpg(second.pid, signal.SIGKILL)
    said = run.said("second.log")
    assert second.returncode == 0, run.said("first.log") + said
    assert "kdelta: an earlier run was killed; this one goes on" in said
    assert "cancelling jobs of the killed run that have not begun: " in said
    assert f"waiting for what the killed run left running: {kept['number']} (measure_block" in said

    # Each block was measured to its end once; what was lost is told where it was made up for.
    finished = [job for job in run.measuring() if job["state"] == "COMPLETED"]
    assert sorted(job["block"] for job in finished) == list(BLOCKS)
    nodes = {job["block"]: job["node"] for job in finished}
    assert nodes == dict.fromkeys(BLOCKS, kept["node"])
    earlier = {block: run.host(block)["earlier_attempts"] for block in BLOCKS}
    reasons = [attempt["reason"] for attempt in earlier.pop(lost["block"])]
    assert reasons == [f"interrupted (SLURM job {lost['number']} on {lost['node']})"]
    assert not any(earlier.values())
    report = (run.folder / "report" / "tables.txt").read_text()
    assert "1 earlier attempt ended without data" in report
    assert f"(SLURM job {lost['number']} on {lost['node']})" in report
    assert run.guests() == set()

    built = [job for job in slurm.jobs() if job["comment"].startswith("rule_build_kernel")]
    assert [job["comment"] for job in built] == ["rule_build_kernel_wildcards_bulk"]

    # Nothing is left to do, here or there.
    again = run.start("third.log")
    assert again.wait(PATIENCE_S) == 0
    assert "Nothing to be done" in run.said("third.log")
