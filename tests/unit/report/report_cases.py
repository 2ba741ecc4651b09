# SPDX-License-Identifier: GPL-2.0-only
"""A results folder with everything that is rendered from it but the compiled PDF."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from report_facts import make_context
from report_synthetic import Plan, write_results

from kdelta.report import run as report
from kdelta.report.frames import ReportFrames, load_frames
from kdelta.report.results import Results

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
    run: Results
    text: str
    html: str
    tex: str

    @property
    def frames(self) -> ReportFrames:
        return self.run.frames

    def changed(self, **tables: object) -> Case:
        """With some of its tables replaced; what was rendered stays."""
        return replace(self, run=self.run.with_tables(**tables))


def make_run(plan: Plan, folder: Path, **changes: object) -> Results:
    """Make a results folder and read it."""
    return Results.of(load_frames(write_results(plan, folder)), make_context(plan, **changes))


def render(plan: Plan, folder: Path, figures: bool | Path = True, **changes: object) -> Case:
    """Make a results folder and render it.

    Args:
        plan: what was measured.
        folder: the results folder.
        figures: False: the text alone, since figures take long; a folder: of figures of another
            run, for pages and papers whose text matters.
        changes: of the context.
    """
    run = make_run(plan, folder, **changes)
    text = report.write_text(run.frames, run, folder, ASSETS).read_text()
    html = tex = ""
    if figures:
        if isinstance(figures, Path):
            shutil.copytree(figures, folder / "figures")
        else:
            report.write_figures(run.frames, run, folder)
        html = report.write_html(run.frames, run, folder, ASSETS).read_text()
        tex = report.write_latex(run.frames, run, folder, ASSETS).read_text()
    return Case(folder, run, text, html, tex)
