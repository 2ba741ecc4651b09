# SPDX-License-Identifier: GPL-2.0-only
"""Kernel options that a workload needs are in the configuration of every arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kdelta.cli import main
from kdelta.kernel.build import request_for
from kdelta.kernel.configure import read_fragments
from kdelta.kernel.source import SourceTree
from kdelta.workflow import plan_run
from tests.conftest import Project

ARMS = ("baseline", "patched", "other")


@pytest.fixture
def needing(project: Project, small: dict[str, Any]) -> Project:
    """The small experiment with two workloads, one of which needs an option."""
    folder = project.root / "workloads/needing"
    folder.mkdir()
    declared = {
        **{"title": "needs an option", "program": {"package": "coreutils", "command": "true"}},
        **{"command": ["{program}"], "output": "nothing", "fragments": ["mine.config"]},
        "parameters": {"times": {"type": "count", "default": 1}},
        "metrics": {"elapsed_s": {"title": "Time", "unit": "s", "better": "lower"}},
    }
    (folder / "workload.yaml").write_text(yaml.safe_dump(declared))
    (folder / "mine.config").write_text("CONFIG_SYSVIPC=y\nCONFIG_SMP=n\n")
    (folder / "mine.linux-7.2.config").write_text("CONFIG_LATER=y\n")
    (project.root / "kernel-configs/own.config").write_text("CONFIG_SYSVIPC=n\n")
    small["workloads"]["needing"] = {"matrix": {"times": [1]}}
    small["arms"]["other"]["fragments"] = ["kernel-configs/own.config"]
    project.write(small)
    return project


def asked(project: Project, arm: str, version: str) -> dict[str, str]:
    """What an arm's configuration asks for."""
    tree = SourceTree("5eed", project.root, {"kernel_version": version, "type": "debian"})
    out = project.root / "out"
    request = request_for(project.load(), arm, project.root, tree, "tcg", out)
    return {name: option.value for name, option in read_fragments(request.fragments).items()}


def test_every_arm_has_them_and_may_still_say_otherwise(needing: Project) -> None:
    for arm in ("baseline", "patched"):
        assert asked(needing, arm, "6.12.1") == {"CONFIG_SMP": "n", "CONFIG_SYSVIPC": "y"}
    assert asked(needing, "other", "6.12.1")["CONFIG_SYSVIPC"] == "n"
    assert asked(needing, "baseline", "7.3.0")["CONFIG_LATER"] == "y"


def test_they_are_part_of_every_kernels_key(needing: Project) -> None:
    def keys() -> dict[str, str]:
        run = plan_run({"experiment": needing.file.name, "protocol": "quick"}, "c", needing.root)
        return {arm: run.build_key(arm, (6, 12), "tcg") for arm in ARMS}

    before = keys()
    Path(needing.root, "workloads/needing/mine.config").write_text("CONFIG_SYSVIPC=y\n")
    after = keys()
    assert all(before[arm] != after[arm] for arm in ARMS)


def test_a_line_that_is_none_is_told_before_anything_is_built(
    needing: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(needing.root, "workloads/needing/mine.config").write_text("CONFIG_SYSVIPC=y\nSYSV\n")
    assert main(["--root", str(needing.root), "check", "experiment.yaml"]) == 1
    said = capsys.readouterr().err
    assert "workloads/needing: fragments: " in said
    assert "mine.config:2: not a line of a config fragment: 'SYSV'" in said
