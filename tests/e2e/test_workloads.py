# SPDX-License-Identifier: GPL-2.0-only
"""Every workload that ships, in a real guest, all in the same boots, by arms of every kind.

The kernel is the finished project's own baseline: nothing is built.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdelta.workload.folder import load_workload

from .conftest import ROOT, Project, copy_checkout, text_of

# Those that need a kernel of their own: fio asks for CONFIG_SYSVIPC, selftest-pipe for Linux 7.2.
OTHER_KERNELS = {"fio", "selftest-pipe"}

MATRICES: dict[str, dict[str, Any]] = {
    "pipe_bench": {"matrix": {"writers": [1], "readers": [1]}},
    "hackbench": {"matrix": {"groups": [1]}, "arguments": {"fds": 4, "loops": 20}},
    "perf-sched-pipe": {"matrix": {"loops": [500]}},
    "perf-sched-messaging": {"matrix": {"groups": [1]}, "arguments": {"loops": 10}},
    "perf-futex-hash": {"matrix": {"threads": [1]}},
    "perf-syscall": {"matrix": {"loops": [2000]}},
    "perf-memcpy": {"matrix": {"size": ["64K"]}},
    "stress-ng": {"matrix": {"stressor": ["get"]}},
    "cyclictest": {"matrix": {"loops": [50]}},
    "command": {"matrix": {"line": ["true"]}},
}
# Of which page and paper are made too; the flagship's are other tests' to look at.
DRAWN = ("cyclictest", "hackbench")
FORMS = ("index.html", "paper.pdf")
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
SHIPPED = sorted(path.parent.name for path in ROOT.glob("workloads/*/workload.yaml"))


@pytest.fixture(scope="module")
def run_dir(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: one block, arms that share one image and a kernel that is ready."""
    project = copy_checkout(tmp_path_factory.mktemp("workloads"))
    ready = finished.results / "kernels/baseline/vmlinuz"
    shipped = {name: MATRICES[name] for name in SHIPPED if name in MATRICES}
    others = [name for name in SHIPPED if name not in {*MATRICES, *OTHER_KERNELS}]
    shipped |= {name: {"matrix": _first_matrix(name)} for name in others}
    project.write_experiment(
        {
            "arms": {
                "baseline": {"title": "as it is"},
                "open": {
                    "title": "booted otherwise",
                    "boot_parameters": ["mitigations=off"],
                    "sysctl": {"vm.swappiness": 10},
                    "memory": "768M",
                    "vcpus": 1,
                },
                "ready": {"title": "built elsewhere", "image": str(ready)},
            },
            "control": False,
            "workloads": shipped,
            "regimes": {"idle": {"title": "idle"}},
            "mechanism": {
                "regimes": ["idle"],
                "probes": ["lock-contention"],
                # Of one pipe, whose ends are sure to meet; others may have luck.
                "workload": "pipe_bench",
                "duration_s": 0.1,
            },
            "protocols": {"smoke": {"blocks": 1, "warmup_s": 0.1, "duration_s": {"idle": 0.3}}},
        }
    )
    measured = [name for name in SHIPPED if name not in OTHER_KERNELS]
    drawn = [text_of(name).replace("tables.txt", form) for name in DRAWN for form in FORMS]
    project.run_to_its_end(*map(text_of, measured), *drawn)
    return project.run_dir


def _first_matrix(name: str) -> dict[str, list[Any]]:
    """Of a workload that this test does not know by name: one cell, of its own defaults."""
    parameters = load_workload(name).parameters
    first = next(n for n, p in parameters.items() if p.default is not None)
    assert not load_workload(name).required(), f"{name}: say here which cell to run"
    return {first: [parameters[first].default]}


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in OTHER_KERNELS])
def test_a_workload_is_measured_and_understood(run_dir: Path, name: str) -> None:
    samples = pd.read_csv(run_dir / name / "samples.csv")
    assert sorted(samples["arm"]) == ["baseline", "open", "ready"]
    primary = load_workload(name).primary
    assert (samples[primary] > 0).all(), samples[["arm", "status", "error", primary]].to_string()
    assert (samples["status"] == "ok").all()
    deltas = pd.read_csv(run_dir / name / "tables/deltas.csv")
    assert set(deltas["arm"]) == {"open", "ready"}
    for form in ("tables.txt", *(FORMS if name in DRAWN else ())):
        assert (run_dir / name / "report" / form).stat().st_size > 1000


def test_arms_are_booted_as_they_were_asked_for(run_dir: Path) -> None:
    boots = {}
    for arm in ("baseline", "open", "ready"):
        path = run_dir / f"raw/idle/block-001/{arm}.jsonl"
        boots[arm] = json.loads(path.read_text().splitlines()[0])["gate"]
        assert boots[arm]["ok"], boots[arm]
    assert "mitigations=off" in boots["open"]["cmdline"].split()
    assert "mitigations=off" not in boots["baseline"]["cmdline"]
    assert [boots[arm]["vcpus"] for arm in boots] == [2, 1, 2]
    host = json.loads((run_dir / "raw/idle/block-001/host.json").read_text())
    assert "threads were not found" not in json.dumps(host["environment"]), host["environment"]
    assert boots["open"]["memory_total_kib"] < 768 * 1024 < boots["baseline"]["memory_total_kib"]
    # What was built elsewhere is known by its own name.
    assert boots["ready"]["build_id"] == boots["baseline"]["build_id"] is not None
    kernels = run_dir.parent / "kernels"
    images = {arm: json.loads((kernels / arm / "image.json").read_text()) for arm in boots}
    assert images["open"]["image_sha256"] == images["baseline"]["image_sha256"]
    assert images["ready"]["build_id"] == boots["ready"]["build_id"]


def test_the_locks_that_a_workload_waits_for_are_traced(run_dir: Path) -> None:
    locks = pd.read_csv(run_dir / "pipe_bench/tables/locks.csv")
    assert set(locks["arm"]) == {"baseline", "open", "ready"}
    assert (locks["status"] == "ok").all(), locks.to_string()
    # On two CPUs they cannot but meet; on one they may not.
    assert (locks.loc[locks["arm"] != "open", "waits_per_s"] > 0).any()


def test_all_workloads_share_the_boots_of_a_block(run_dir: Path) -> None:
    assert len(list((run_dir / "raw/idle").glob("block-*"))) == 1
    records = (run_dir / "raw/idle/block-001/baseline.jsonl").read_text().splitlines()
    ran = [json.loads(line)["workload"] for line in records if '"record":"sample"' in line]
    assert sorted(ran) == sorted(set(SHIPPED) - OTHER_KERNELS)
