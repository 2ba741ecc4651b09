# SPDX-License-Identifier: GPL-2.0-only
"""Results folders, made once per test run; each holds every output but the compiled PDF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from report_facts import make_context
from report_synthetic import AXES, FLAGSHIP, FOUR, GAPS, WIDE, Plan, write_results

from kdelta.report import run as report
from kdelta.report.context import EarlierAttempt, ReportContext
from kdelta.report.frames import ReportFrames, load_frames

ASSETS = Path(__file__).resolve().parents[3] / "report"
EMULATED = {
    "acceleration": "tcg",
    "acceleration_reason": "/dev/kvm exists, but the built kernel did not boot with it",
    "vcpus": 4,
}
NASTY = "<script>alert(1)</script> & 100% _x_ # $y$ ~ ^ \\ {} -- µs × → “q” 'a' Erdős"


@dataclass(frozen=True)
class Case:
    """A results folder and what was rendered from it."""

    folder: Path
    frames: ReportFrames
    context: ReportContext
    text: str
    html: str
    tex: str


def render(plan: Plan, folder: Path, figures: bool = True, **changes: object) -> Case:
    """Make a results folder and render it; page and paper only with figures."""
    write_results(plan, folder)
    frames = load_frames(folder)
    context = make_context(plan, **changes)
    text = report.write_text(frames, context, folder, ASSETS).read_text()
    html = tex = ""
    if figures:
        report.write_figures(frames, context, folder)
        html = report.write_html(frames, context, folder, ASSETS).read_text()
        tex = report.write_latex(frames, context, folder, ASSETS).read_text()
    return Case(folder, frames, context, text, html, tex)


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
