# SPDX-License-Identifier: GPL-2.0-only
"""Another kernel by the same experiment: nothing but the package's name is changed."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from .conftest import Project, copy_checkout

PACKAGE = "linux-source-7.2"
WORKLOADS = ("pipe_bench", "selftest-pipe", "fio")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small run on a 7.x kernel by plain snakemake: one block of baseline and control."""
    project = copy_checkout(tmp_path_factory.mktemp("later"))
    project.write_experiment(
        {
            "arms": {"baseline": {"title": "as it is"}},
            # Asked for: whether KVM works would cost a kernel more to find out, and is known.
            "guest": {"acceleration": "tcg", "vcpus": 2, "memory": "1G"},
            "workloads": {
                "pipe_bench": {"matrix": {"writers": [1], "readers": [1]}},
                # Built from the very tree that is measured.
                "selftest-pipe": {"matrix": {"writers": [1], "readers": [1]}},
                # Asks for options of the kernel, and for a disk.
                "fio": {
                    "matrix": {"where": ["tmpfs", "disk"], "rw": ["randread", "randwrite"]},
                    "arguments": {"file_size": "4M", "jobs": 2},
                },
            },
            "regimes": {"idle-memcg": {"title": "in a memory cgroup", "memcg": True}},
            "protocols": {
                "smoke": {"blocks": 1, "warmup_s": 0.1, "duration_s": {"idle-memcg": 0.3}}
            },
        }
    )
    file = project.root / "config/experiments/small.yaml"
    text = file.read_text()
    assert text.count("linux-source-6.12") == 1
    file.write_text(text.replace("linux-source-6.12", PACKAGE))
    project.run_to_its_end()
    return project


def slices(later: Project, arm: str) -> list[dict[str, Any]]:
    lines = (later.run_dir / f"raw/idle-memcg/block-001/{arm}.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == "sample"]


def test_it_is_found_built_and_passes_the_gate(later: Project) -> None:
    source = json.loads((later.results / "kernels/source.json").read_text())
    assert source["kernel_version"].startswith("7.2.")
    mode = json.loads((later.results / "acceleration.json").read_text())["mode"]
    image = json.loads((later.results / "kernels/baseline/image.json").read_text())
    assert image["acceleration"] == mode
    files = [fragment["file"] for fragment in image["fragments"]]
    assert files == [
        "kernel-configs/guest.config",
        "kernel-configs/guest.linux-7.2.config",
        f"kernel-configs/guest.{mode}.config",
        "kernel-configs/observe.config",
        "workloads/fio/fio.config",
    ]
    config = (later.results / "kernels/baseline/config").read_text()
    assert ("CONFIG_JUMP_LABEL=y\n" in config) == (mode == "kvm")
    for arm in ("baseline", "control"):
        path = later.run_dir / f"raw/idle-memcg/block-001/{arm}.jsonl"
        boot, *samples, _ = [json.loads(line) for line in path.read_text().splitlines()]
        assert boot["gate"]["ok"], boot["gate"]
        assert boot["gate"]["kernel_release"].startswith("7.2.")
        assert boot["gate"]["memory_cgroups"] == 2
        assert boot["gate"]["disk_bytes"] == 8 * 2**20
        assert {s["workload"] for s in samples} == set(WORKLOADS)
        assert {s["error"] for s in samples} == {None}


def test_the_kernel_trees_own_benchmark_is_measured_too(later: Project) -> None:
    programs = json.loads((later.results / "programs/programs.json").read_text())
    assert programs["selftest-pipe"]["tree"].startswith("tools/testing/selftests/")
    samples = pd.read_csv(later.run_dir / "selftest-pipe/samples.csv")
    assert sorted(samples["arm"]) == ["baseline", "control"]
    assert (samples["throughput_mib_s"] > 0).all()


def test_a_workload_has_the_kernel_options_that_it_needs(later: Project) -> None:
    config = (later.results / "kernels/baseline/config").read_text().splitlines()
    assert {"CONFIG_SYSVIPC=y", "CONFIG_VIRTIO_BLK=y"} <= set(config)


def test_files_in_memory_and_the_scratch_disk_are_read_and_written(later: Project) -> None:
    samples = pd.read_csv(later.run_dir / "fio/samples.csv")
    measured = samples.groupby(["arm", "where", "rw"])["bandwidth_mib_s"].min()
    assert len(measured) == 8
    assert (measured > 0).all(), measured.to_string()
    # What went through the block layer, in KiB: all of the one, none of the other.
    moved = {
        (slice_["cell"]["rw"], slice_["cell"]["where"]): {
            name for name in ("pgpgin", "pgpgout") if slice_["grown"].get(f"vmstat.{name}", 0) > 0
        }
        for slice_ in slices(later, "baseline")
        if slice_["workload"] == "fio"
    }
    assert moved == {
        ("randread", "disk"): {"pgpgin"},
        ("randwrite", "disk"): {"pgpgout"},
        ("randread", "tmpfs"): set(),
        ("randwrite", "tmpfs"): set(),
    }


def test_the_report_names_the_kernel_and_its_configuration(later: Project) -> None:
    page = (later.run_dir / "pipe_bench/report/index.html").read_text()
    assert PACKAGE in page
    assert "guest.linux-7.2.config" in page
