# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests with scripted guests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.integration.scripted_guest import Environment, Marked


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A Python environment whose `vng` each test writes for itself."""
    return Environment(tmp_path_factory.mktemp("environment") / "env")


@pytest.fixture
def scripted(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """That environment, as the one that this process's kdelta runs on."""
    monkeypatch.setattr(sys, "executable", str(environment.python))
    return environment


@pytest.fixture
def marked() -> Iterator[Marked]:
    """A mark for processes; whatever bears it is gone after the test."""
    found = Marked()
    yield found
    for pid in found.alive():  # of a test that has failed
        os.kill(pid, signal.SIGKILL)
