# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures that several parts of the tests share: the checkout, and a small project."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from kdelta.config import load_experiment
from kdelta.experiment import Experiment
from kdelta.workload.build import HELPERS

# Started in the background of a script, we inherit that Ctrl-C is ignored, and so would
# every program that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The Makefile says why: hundreds of processes that the tests start would compile all they import.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# On a loaded machine everything takes long, and what is asked here is whether it is right.
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")

CHECKOUT = Path(__file__).resolve().parents[1]


# Its figures take half a minute to draw, and all of its tests look at the same runs.
TOGETHER = "tests/unit/report"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file share what their fixtures made, and stay in one process: `loadfile`."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(f"{TOGETHER}/") else super()._split_scope(nodeid)

    return Together(config, log)


@pytest.fixture(autouse=True)
def _another_lock(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The host's own lock belongs to measurements that count, such as those of tests/e2e."""
    if "e2e" in request.node.path.parts:
        yield
        return
    lock = tmp_path_factory.getbasetemp() / "host.lock"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdelta.host.lock.lock_path", lambda: lock)
        yield


SMALL: dict[str, Any] = {
    "schema": 2,
    "name": "small",
    "title": "A small experiment",
    "kernel": {
        "source": {"type": "debian", "package": "linux-source-6.12"},
        "config": {"fragments": ["kernel-configs/guest.config"]},
    },
    "arms": {
        "baseline": {"title": "as it was"},
        "patched": {"title": "with the series", "patches": ["patches/series"]},
        "other": {"title": "with another patch", "patches": ["patches/other.patch"]},
    },
    # Tests leave this host as it is.
    "environment": {
        "governor": "leave",
        "turbo": "leave",
        "pin_vcpus": False,
        "move_irqs": False,
        "wait_for_quiet_s": 0,
    },
    "guest": {"acceleration": "tcg", "vcpus": 1, "memory": "256M", "boot_timeout_s": 60},
    "workloads": {
        "pipe_bench": {
            "matrix": {"writers": [1, 2], "readers": [1, 3]},
            "arguments": {"write_size": 65536, "nonblock": False},
            "timeout_s": 5,
        }
    },
    "regimes": {
        "idle": {"title": "idle"},
        "pressed": {"title": "pressed", "stressor": {"command": ["sleep", "1000"]}},
    },
    "protocols": {
        "quick": {"blocks": 2, "warmup_s": 0.1, "duration_s": {"idle": 0.5, "pressed": 1}},
        "long": {"blocks": 3, "duration_s": {"idle": 10, "pressed": 6}},
    },
    "seed": 7,
}


@dataclass(frozen=True)
class Project:
    """A project's root with everything that the small experiment names."""

    root: Path

    @property
    def file(self) -> Path:
        return self.root / "experiment.yaml"

    def write(self, data: dict[str, Any]) -> Path:
        self.file.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
        return self.file

    def load(self, data: dict[str, Any] | None = None) -> Experiment:
        if data is not None:
            self.write(data)
        return load_experiment(self.file, self.root)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout that these tests are in."""
    return CHECKOUT


@pytest.fixture
def small() -> dict[str, Any]:
    """The small experiment as data; a test may change it."""
    return copy.deepcopy(SMALL)


def plain_diff(old: str, new: str) -> str:
    """A patch to a file of one line."""
    return f"--- a/fs/one.c\n+++ b/fs/one.c\n@@ -1 +1 @@\n-{old}\n+{new}\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder that holds the small experiment and the files that it names."""
    root = tmp_path / "project"
    contents = {
        "kernel-configs/guest.config": "CONFIG_SMP=y\n",
        "patches/series/0001-first.patch": plain_diff("return 1;", "return 2;"),
        "patches/series/0002-second.patch": plain_diff("return 2;", "return 3;"),
        "patches/other.patch": plain_diff("return 1;", "return 4;"),
    } | {f"src/{name}/{name}.c": "int main(void) { return 0; }\n" for name in HELPERS}
    for name in ("pipe_bench.c", "workload.yaml"):
        path = f"workloads/pipe_bench/{name}"
        contents[path] = (CHECKOUT / path).read_text()
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = Project(root)
    found.write(SMALL)
    return found
