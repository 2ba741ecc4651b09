# SPDX-License-Identifier: GPL-2.0-only
"""Results folders, made once per test run."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_cases import ASSETS, EMULATED, NASTY, Case, render
from report_synthetic import AXES, FLAGSHIP, FOUR, GAPS, WIDE

from kdelta.report.context import EarlierAttempt


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A complete run with KVM."""
    return render(FLAGSHIP, tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An emulated run with lost boots, lost cells, broken rules and a hostile title."""
    attempt = EarlierAttempt("idle", 3, "2026-05-15 11:02", "the host was shut down")
    changes = {**EMULATED, "title": NASTY, "earlier_attempts": (attempt,)}
    return render(GAPS, tmp_path_factory.mktemp("emulated"), **changes)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Four arms, three regimes, 36 cells; the text only, its figures take long."""
    return render(WIDE, tmp_path_factory.mktemp("wide"), figures=False)


@pytest.fixture(scope="session")
def axes(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three factors in 24 cells, with traced boots and negative controls; the text only."""
    return render(AXES, tmp_path_factory.mktemp("axes"), figures=False)


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Four arms, four regimes and one failed boot; the text only."""
    return render(FOUR, tmp_path_factory.mktemp("four"), figures=False)


@pytest.fixture
def assets() -> Path:
    """The repository's ``report/`` folder."""
    return ASSETS
