# SPDX-License-Identifier: GPL-2.0-only
"""The benchmarks are run by hand, and rarely: a test sees when what they build on has moved."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

SCRIPTS = sorted((CHECKOUT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_builds_on(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (script.parent, CHECKOUT / "tests/unit/analysis"):
        monkeypatch.syspath_prepend(folder)
    assert callable(runpy.run_path(str(script))["main"])


def test_there_are_benchmarks() -> None:
    assert SCRIPTS
