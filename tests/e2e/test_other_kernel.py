# SPDX-License-Identifier: GPL-2.0-only
"""Another kernel by the same experiment: nothing but the package's name is changed."""

from __future__ import annotations

import json

import pytest

from .conftest import Project, copy_checkout

PACKAGE = "linux-source-7.2"


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small run on a 7.x kernel by plain snakemake: one block of baseline and control."""
    project = copy_checkout(tmp_path_factory.mktemp("later"))
    project.write_experiment(
        {
            "arms": {"baseline": {"title": "as it is"}},
            "workloads": {"pipe_bench": {"matrix": {"writers": [1], "readers": [1]}}},
            # Asked for: whether KVM works would cost a kernel more to find out, and is known.
            "guest": {"acceleration": "tcg", "vcpus": 2, "memory": "1G"},
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
    ]
    config = (later.results / "kernels/baseline/config").read_text()
    assert ("CONFIG_JUMP_LABEL=y\n" in config) == (mode == "kvm")
    for arm in ("baseline", "control"):
        path = later.run_dir / f"raw/idle-memcg/block-001/{arm}.jsonl"
        boot, sample, *_ = [json.loads(line) for line in path.read_text().splitlines()]
        assert boot["gate"]["ok"], boot["gate"]
        assert boot["gate"]["kernel_release"].startswith("7.2.")
        assert boot["gate"]["memory_cgroups"] == 2
        assert sample["status"] == "ok", sample


def test_the_report_names_the_kernel_and_its_configuration(later: Project) -> None:
    page = (later.run_dir / "report/index.html").read_text()
    assert PACKAGE in page
    assert "guest.linux-7.2.config" in page
