# SPDX-License-Identifier: GPL-2.0-only
"""Another kernel, of another architecture, by the same experiment: two words of it are changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from kdelta.architecture import architecture
from kdelta.arms import DebianSource
from kdelta.cache import cache_root
from kdelta.kernel.configure import configure, read_fragments
from kdelta.kernel.process import clean_environment
from kdelta.kernel.source import fetch
from kdelta.per_kernel import fragment_files

from .conftest import ROOT, Project, copy_checkout, text_of

PACKAGE = "linux-source-7.2"
ARCH = "arm64"
FRAGMENTS = ["kernel-configs/guest.config", "kernel-configs/observe.config"]
WORKLOADS = ("pipe_bench", "selftest-pipe", "fio")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small run on a 7.x kernel by plain snakemake: one block of baseline and control."""
    project = copy_checkout(tmp_path_factory.mktemp("later"))
    project.write_experiment(
        {
            "arms": {"baseline": {"title": "as it is"}},
            "guest": {"vcpus": 2, "memory": "1G"},
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
    experiment = yaml.safe_load(text.replace("linux-source-6.12", PACKAGE))
    experiment["kernel"]["arch"] = ARCH
    file.write_text(yaml.safe_dump(experiment, sort_keys=False))
    page = "results/small/smoke/pipe_bench/report/index.html"
    project.run_to_its_end(page, *map(text_of, WORKLOADS))
    return project


def slices(later: Project, arm: str) -> list[dict[str, Any]]:
    lines = (later.run_dir / f"raw/idle-memcg/block-001/{arm}.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == "sample"]


def test_it_is_found_built_and_passes_the_gate(later: Project) -> None:
    source = json.loads((later.results / "kernels/source.json").read_text())
    assert source["kernel_version"].startswith("7.2.")
    found = json.loads((later.results / "acceleration.json").read_text())
    assert (found["mode"], found["arch"]) == ("tcg", ARCH)
    image = json.loads((later.results / "kernels/baseline/image.json").read_text())
    assert (image["acceleration"], image["arch"]) == ("tcg", ARCH)
    files = [fragment["file"] for fragment in image["fragments"]]
    assert files == [
        "kernel-configs/guest.config",
        f"kernel-configs/guest.{ARCH}.config",
        "kernel-configs/guest.linux-7.2.config",
        f"kernel-configs/guest.{ARCH}.linux-7.2.config",
        "kernel-configs/observe.config",
        "workloads/fio/fio.config",
    ]
    for arm in ("baseline", "control"):
        path = later.run_dir / f"raw/idle-memcg/block-001/{arm}.jsonl"
        boot, *samples, _ = [json.loads(line) for line in path.read_text().splitlines()]
        assert boot["gate"]["ok"], boot["gate"]
        assert boot["gate"]["kernel_release"].startswith("7.2.")
        assert boot["gate"]["memory_cgroups"] == 2
        assert (boot["gate"]["machine"], boot["gate"]["page_kib"]) == ("aarch64", 4)
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
    root = json.loads((later.results / "programs/root.json").read_text())
    assert {"python3", "fio"} <= set(root["wanted"])
    assert f"fio {root['packages']['fio']}" in page


@pytest.mark.parametrize(
    ("arch", "package", "mode"),
    [
        ("x86_64", "linux-source-6.12", "kvm"),
        ("x86_64", PACKAGE, "kvm"),
        ("x86_64", PACKAGE, "tcg"),
        ("riscv64", "linux-source-6.12", "tcg"),
        ("riscv64", PACKAGE, "tcg"),
        ("arm64", "linux-source-6.12", "tcg"),
    ],
)
def test_every_option_takes_in_kernels_that_are_not_built_here(
    arch: str, package: str, mode: str, tmp_path: Path
) -> None:
    tree = fetch(DebianSource(type="debian", package=package), cache_root())
    files = fragment_files(FRAGMENTS, ROOT, tree.series, mode, arch)
    found = architecture(arch)
    make = ["make", "-C", str(tree.path), f"O={tmp_path}", f"ARCH={found.make_arch}"]
    # What an assembler can do decides some of arm64's; nobody needs riscv64's to run the tests.
    make += [f"CROSS_COMPILE={found.cross}"] if shutil.which(f"{found.cross}gcc") else []
    with (tmp_path / "log").open("wb") as log:
        config = configure(
            make,
            clean_environment(),
            *(tree.path, tmp_path, "allnoconfig", read_fragments(files), package, found.source),
            log,
        )
    expected = "n" if (arch, mode) == ("x86_64", "tcg") else "y"
    assert config.get("CONFIG_JUMP_LABEL", "n") == expected
