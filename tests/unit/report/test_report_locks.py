# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for locks on the page and in the paper; the text is in probes/test_seam.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from report_cases import Case

from kdelta.report import run as report
from kdelta.report.latex import LatexReport
from kdelta.report.locks import lock_contention


def waiting(case: Case) -> Case:
    """The case with waits for `pipe->mutex` and, in one cell, a failed trace."""
    cells = case.frames.samples[["writers", "readers"]].drop_duplicates()
    table = cells.merge(pd.DataFrame({"arm": [a.name for a in case.run.arms]}), how="cross")
    table = table.assign(regime="idle", status="ok", lock="mutex", caller="pipe_write", reason="")
    table = table.assign(waits=50, waits_per_s=500.0, wait_us_per_operation=7.5, wait_share=0.25)
    table.loc[0, ["status", "reason"]] = ("failed", "it has no trace event <b>x_y</b>")
    missing = [name for name in case.frames.locks if name not in table]
    locks = table.reindex(columns=[*table, *missing])
    return case.changed(locks=locks)


def test_the_page_and_the_paper_show_the_heaviest_locks(measured: Case, assets: Path) -> None:
    case = waiting(measured)
    assert 'id="locks"' not in measured.html
    page = report.write_html(case.frames, case.run, case.folder, assets).read_text()
    report.write_html(measured.frames, measured.run, case.folder, assets)  # as it was
    assert '<section id="locks"' in page
    assert '<a href="#locks">' in page
    assert '<th scope="row">pipe_write</th><th scope="row">mutex</th><td>500</td>' in page
    assert "no trace event &lt;b&gt;x_y&lt;/b&gt;." in page
    sources = LatexReport(case.run, assets)
    piece = sources.pieces()["lock-contention.tex"]
    assert r"pipe\_write" in piece
    paper = sources.paper(case.folder / "figures")
    assert r"\section*{Waiting for locks}" in paper
    assert r"x\_y" in paper


def test_the_methods_say_what_was_traced(measured: Case) -> None:
    assert "which locks of the kernel" not in measured.html
    assert "page allocations and direct reclaims of its writers were counted" in measured.html


def test_without_a_trace_there_is_nothing_to_tell(measured: Case) -> None:
    assert lock_contention(measured.run) is None
