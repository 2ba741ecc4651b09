# SPDX-License-Identifier: GPL-2.0-only
"""A results folder with everything that is rendered from it but the compiled PDF."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from report_facts import make_context
from report_synthetic import Plan, write_results

from kdelta.report import run as report
from kdelta.report.context import ReportContext
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


def render(plan: Plan, folder: Path, figures: bool | Path = True, **changes: object) -> Case:
    """Make a results folder and render it.

    Args:
        plan: what was measured.
        folder: the results folder.
        figures: False: the text alone, since figures take long; a folder: of figures of another
            run, for pages and papers whose text matters.
        changes: of the context.
    """
    write_results(plan, folder)
    frames = load_frames(folder)
    context = make_context(plan, **changes)
    text = report.write_text(frames, context, folder, ASSETS).read_text()
    html = tex = ""
    if figures:
        if isinstance(figures, Path):
            shutil.copytree(figures, folder / "figures")
        else:
            report.write_figures(frames, context, folder)
        html = report.write_html(frames, context, folder, ASSETS).read_text()
        tex = report.write_latex(frames, context, folder, ASSETS).read_text()
    return Case(folder, frames, context, text, html, tex)
