# SPDX-License-Identifier: GPL-2.0-only
"""From a cell to its blocks: the samples' own numbers, what was set aside, and where the log is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import ASSETS, Case, make_run
from report_synthetic import FLAGSHIP, WIDE, Plan

from kdelta.report.context import Factor
from kdelta.report.drilldown import CellBlocks, Drilldown, drilldown
from kdelta.report.figures import figure_stems
from kdelta.report.figures.answers import answer_scale
from kdelta.report.frames import number
from kdelta.report.html import render_html
from kdelta.report.run_files import Consoles, run_files
from kdelta.report.tables import choose_precision
from kdelta.report.view import build_view
from tests.workloads import PIPE_BENCH


def blocks_of(case: Case, folder: Path = Path("nowhere"), **tables: object) -> Drilldown:
    run = case.run.with_tables(**tables)
    return drilldown(run, choose_precision(run), Consoles(folder))


def cell_of(found: Drilldown, regime: str, arm: str, *levels: str) -> CellBlocks:
    key = found.keys[regime, arm, levels]
    return next(c for c in found.cells[regime, arm] if c.key == key)


def test_every_cell_of_every_table_has_its_blocks(wide: Case) -> None:
    found = blocks_of(wide)
    keys = []
    for table in build_view(wide.run).main_tables:
        for cell in table.cells:
            key = found.key(table, cell)
            blocks = next(c for c in found.of(table.regime, table.arm) if c.key == key)
            assert f"writers = {cell.row}, readers = {cell.column}, " in blocks.title
            assert blocks.title.endswith(table.extra_label)
            assert [row.block for row in blocks.rows] == list(range(1, 11))
            keys.append(key)
    assert len(set(keys)) == 3 * 2 * 36
    assert len(keys) == 2 * len(set(keys)), "throughput and latency share them"


def test_a_row_holds_both_samples_and_the_ratio(measured: Case) -> None:
    cell = cell_of(blocks_of(measured), "idle", "patched", "2", "5")
    row = next(r for r in cell.rows if r.block == 3)
    samples = measured.frames.samples
    at = samples[(samples["regime"] == "idle") & (samples["block"] == 3)]
    at = at[(at["writers"] == "2") & (at["readers"] == "5")].set_index("arm")
    base, value = (at.loc[arm, "throughput_mib_s"] for arm in ("baseline", "patched"))
    assert row.values[:3] == (f"{base:.0f}", f"{value:.0f}", f"{value / base:.3f}")
    assert len(row.values) == 3 * 4
    assert row.notes == ()


def test_lost_broken_and_unmeasured_samples_say_so(emulated: Case) -> None:
    found = blocks_of(emulated)
    first = cell_of(found, "idle", "patched", "1", "1").rows
    assert first[0].notes == (
        "patched: oom-kill: made up",
        "patched: closed-loop-identity: made up",
    )
    assert first[0].values[2] == "–", "a sample that was set aside has no ratio"
    assert first[0].values[1] != "–", "but it keeps its number"
    assert first[1].notes == ("patched: boot-failed: no driver within 120 s",)
    never = cell_of(found, "idle", "patched", "5", "10")
    assert all("patched: not run" in row.notes for row in never.rows)
    assert never.result == ""


def test_counters_that_grew_are_shown_and_the_others_named(measured: Case) -> None:
    samples = measured.frames.samples
    pressed = samples["regime"] == "memory-pressure"
    patched = samples["arm"] == "patched"
    counters = {
        "pgscan_direct": (pressed * (1000 + patched)).astype("Int64"),
        "oom_kill": (pressed * 0).astype("Int64"),
        "pswpin": pressed.map(lambda _: float("nan")),
    }
    found = blocks_of(measured, samples=samples.assign(**counters))
    idle = cell_of(found, "idle", "patched", "1", "1")
    assert idle.counters == ()
    assert idle.unmoved == (
        "0 in every sample: pages scanned directly and OOM kills. Not counted by this kernel: "
        "pages reclaimed directly, pages scanned by kswapd, allocation stalls, pages swapped in, "
        "pages swapped out, PSI memory some, PSI memory full and PSI CPU some."
    )
    reclaim = cell_of(found, "memory-pressure", "patched", "1", "1")
    assert [(c.title, c.unit) for c in reclaim.counters] == [("pages scanned directly", "pages")]
    assert {row.counters for row in reclaim.rows} == {("1000", "1001")}


def test_consoles_and_files_are_linked_where_they_are(measured: Case, tmp_path: Path) -> None:
    log = tmp_path / "raw/idle/block-002/patched.console.log"
    log.parent.mkdir(parents=True)
    log.touch()
    (tmp_path / "manifest.json").touch()
    html = render_html(measured.run, ASSETS, measured.folder / "figures", tmp_path)
    address = "../raw/idle/block-002/patched.console.log"
    assert html.count(f'<a href="{address}">log</a>') == 9, "once for each cell"
    assert (tmp_path / "report" / address).resolve() == log.resolve()
    names = [file.name for file in run_files(tmp_path, measured.run)]
    assert names == ["manifest.json", "raw/idle/"]
    for name in names:
        assert f'<a href="../{name}">{name}</a>' in html


def test_odd_names_make_valid_addresses(tmp_path: Path) -> None:
    log = tmp_path / "raw/a b/block-001/50%.console.log"
    log.parent.mkdir(parents=True)
    log.touch()
    assert Consoles(tmp_path)("a b", 1, "50%") == "../raw/a%20b/block-001/50%25.console.log"


def test_answers_lie_on_one_scale(measured: Case, emulated: Case) -> None:
    scale = answer_scale(measured.run)
    assert scale is not None
    idle, pressed = (scale.mark(r, measured.run.treatments[0]) for r in measured.run.regimes)
    assert idle is not None
    assert pressed is not None
    zero = next(tick.at for tick in scale.ticks if tick.label == "0%")
    assert scale.margin[0] < zero < scale.margin[1]
    assert 0 < pressed.low < pressed.at < idle.at < idle.high < 100
    row = measured.frames.overall_of("idle", "patched", "throughput_mib_s")
    ten = next(tick.at for tick in scale.ticks if tick.label == "+10%")
    assert row is not None
    place = zero + (ten - zero) * number(row["delta_percent"]) / 10
    assert idle.at == pytest.approx(place, abs=0.05)
    # An invalid answer has no place on the scale.
    lost = answer_scale(emulated.run)
    assert lost is not None
    assert lost.mark(emulated.run.regimes[1], emulated.run.treatments[0]) is None


def big_plan() -> Plan:
    """Just over 10,000 samples: 4 arms, 3 regimes, 36 cells."""
    return replace(WIDE, blocks=24)


def test_ten_thousand_samples_make_a_light_page(tmp_path: Path) -> None:
    plan = big_plan()
    run = make_run(plan, tmp_path)
    (tmp_path / "figures").mkdir()
    for stem in figure_stems(PIPE_BENCH):
        (tmp_path / "figures" / f"{stem}.svg").write_text('<svg viewBox="0 0 9 9"></svg>')
    for regime in plan.regimes:
        for block in range(1, plan.blocks + 1):
            folder = tmp_path / f"raw/{regime}/block-{block:03d}"
            folder.mkdir(parents=True)
            for arm in plan.arms:
                (folder / f"{arm}.console.log").touch()
    html = render_html(run, ASSETS, tmp_path / "figures")
    assert len(run.frames.samples) > 10_000
    assert len(re.findall(r'<tr><th scope="row">\d+</th>', html)) >= 3 * 2 * 36 * 24
    assert len(html.encode()) < 4_000_000


def test_a_plan_of_one_factor_has_blocks_too(tmp_path: Path) -> None:
    plan = replace(FLAGSHIP, matrix={"writers": (1, 2)}, traced=(), claimed=False)
    factors = (Factor("writers", "writers"),)
    run = make_run(plan, tmp_path, factors=factors, column_factor=None)
    found = drilldown(run, choose_precision(run), Consoles(tmp_path))
    assert [c.title for c in found.cells["idle", "patched"]] == ["writers = 1", "writers = 2"]
    for table in build_view(run).main_tables:
        for cell in table.cells:
            assert found.key(table, cell).startswith("cell-")
