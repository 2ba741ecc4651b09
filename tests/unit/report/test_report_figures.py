# SPDX-License-Identifier: GPL-2.0-only
"""The figures: files, bytes, titles, heat maps and what the traced boots show."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from report_cases import ASSETS, Case

from kdelta.report.figures import draw, figure_parts, figure_stems
from kdelta.report.figures.draw import write_figures
from kdelta.report.figures.heatmap import colour_limit, heatmap_figures
from kdelta.report.figures.latency import latency_figures
from kdelta.report.figures.style import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    figure_style,
    legend_in_rows,
    new_figure,
    save_pdf,
    save_svg,
)
from kdelta.report.figures.trace_pages import pages_figures
from kdelta.report.figures.trace_waits import wait_figures
from kdelta.report.html import render_html
from kdelta.report.latex import count_pages
from tests.workloads import LATENCY_MEAN, PIPE_BENCH, THROUGHPUT

FILES = [
    f"figures/{stem}.{kind}"
    for stem in figure_stems(PIPE_BENCH, mechanism=True)
    for kind in ("svg", "pdf")
]


def texts(figure: Figure) -> list[str]:
    """Every text that a figure shows."""
    return [t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))]


def test_the_promised_files_are_there(measured: Case) -> None:
    assert len(figure_stems(PIPE_BENCH)) == 6
    assert len(figure_stems(PIPE_BENCH, mechanism=True)) == 8
    for name in FILES:
        assert (measured.folder / name).stat().st_size > 2000, name


def test_no_dates_in_the_files(measured: Case) -> None:
    for name in FILES:
        data = (measured.folder / name).read_bytes()
        assert b"CreationDate" not in data
        assert b"dc:date" not in data


def test_no_label_is_a_formula_in_source_form(emulated: Case, measured: Case) -> None:
    for path in (*measured.folder.glob("figures/*.svg"), *emulated.folder.glob("figures/*.svg")):
        assert "mathdefault" not in path.read_text(encoding="utf-8"), path


def test_titles_say_emulated(emulated: Case, measured: Case) -> None:
    for path in sorted((emulated.folder / "figures").glob("*.svg")):
        assert "— emulated (TCG)" in path.read_text(encoding="utf-8"), path
        assert "emulated" not in (measured.folder / "figures" / path.name).read_text()


def test_heat_map_shows_deltas_intervals_control_and_gaps(emulated: Case) -> None:
    with figure_style("test"):
        (figure,) = heatmap_figures(emulated.run, THROUGHPUT)
    shown = texts(figure)
    notes = [t for t in shown if re.match(r"[+−][\d.]+%\n\[", t)]
    # One invalid and one missing cell in idle, and nothing but invalid ones under pressure.
    assert len(notes) == 2 * 9 - 2
    assert shown.count("missing") == 1
    assert shown.count("✕ invalid") == 1 + 2 * 9
    titles = [" ".join(text.split()) for text in shown]
    assert [t for t in titles if "pressure" in t] == ["No memory pressure", "Under memory pressure"]
    assert titles.count("patched") == titles.count("control") == 2
    assert "writers" in shown
    assert "readers" in shown


def test_heat_map_colours_are_one_scale_with_faster_in_blue(measured: Case) -> None:
    rows = measured.frames.deltas
    largest = rows[rows["metric"] == "throughput_mib_s"]["delta_percent"].abs().max()
    limit = colour_limit(measured.run, THROUGHPUT)
    assert largest <= limit < largest + 5
    for metric, faster in ((THROUGHPUT, 1), (LATENCY_MEAN, -1)):
        with figure_style("test"):
            (figure,) = heatmap_figures(measured.run, metric)
        meshes = [c for axis in figure.axes for c in axis.collections if c.get_array() is not None]
        cells = [m for m in meshes if m.get_array().size == 9]
        assert len(cells) == 4
        assert len({(m.norm.vmin, m.norm.vmax) for m in cells}) == 1
        red, _, blue, _ = cells[0].cmap(cells[0].norm(faster * cells[0].norm.vmax))
        assert blue > red


def test_wide_heat_map_is_split_into_pages_that_fit(wide: Case) -> None:
    with figure_style("test"):
        pages = heatmap_figures(wide.run, THROUGHPUT, PAGE_HEIGHT)
    assert len(pages) > 1
    assert all(p.get_figheight() <= PAGE_HEIGHT for p in pages)
    notes = [t for page in pages for t in texts(page) if re.match(r"[+−][\d.]+%$", t)]
    assert len(notes) == 3 * 3 * 36


def test_pages_of_a_pdf_are_counted(measured: Case, tmp_path: Path) -> None:
    assert count_pages(measured.folder / "figures" / "heatmap-throughput_mib_s.pdf") == 1
    save_pdf([new_figure(2, 2) for _ in range(3)], tmp_path / "three.pdf")
    assert count_pages(tmp_path / "three.pdf") == 3


def test_pages_are_pictures_too(
    measured: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(measured.folder / "figures", tmp_path, dirs_exist_ok=True)
    # Two of them tell; the others stay as they are.
    some = {
        stem: how
        for stem, how in draw.drawings(measured.run).items()
        if stem in ("heatmap-throughput_mib_s", "latency")
    }
    monkeypatch.setattr(draw, "drawings", lambda *_: some)
    with monkeypatch.context() as small:
        small.setattr(draw, "PAGE_HEIGHT", 4.0)
        write_figures(measured.run, tmp_path)
    stems = [path.stem for path in tmp_path.glob("*.pdf")]
    pages = {stem: count_pages(tmp_path / f"{stem}.pdf") for stem in stems}
    parts = {stem: [path.name for path in figure_parts(tmp_path, stem)] for stem in stems}
    assert set(some) == {s for s in stems if pages[s] > 1}
    for stem, count in pages.items():
        expected = [f"{stem}-{n}.svg" for n in range(1, count + 1)] if count > 1 else []
        assert parts[stem] == expected
    html = render_html(measured.run, ASSETS, tmp_path)
    for number in range(1, pages["latency"] + 1):
        assert f' Part {number} of {pages["latency"]}."' in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    # The next run may need fewer pages.
    write_figures(measured.run, tmp_path)
    assert figure_parts(tmp_path, "heatmap-throughput_mib_s") == []


def test_bars_of_pages_are_those_of_the_table(measured: Case) -> None:
    with figure_style("test"):
        (figure,) = pages_figures(measured.run)
    axis = next(a for a in figure.axes if a.get_title(loc="left") == "No memory pressure")
    heights = [(bar.get_height(), bar.get_hatch()) for bar in axis.patches]
    # baseline, patched, control: under the lock, then before it
    assert heights == [(16, None), (0, "////"), (8, None), (8, "////"), (16, None), (0, "////")]
    assert axis.get_ylabel() == "allocated (pages/write)"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["baseline", "patched", "control"]


def test_pages_stand_by_write_size_where_it_is_a_factor(axes: Case) -> None:
    with figure_style("test"):
        (figure,) = pages_figures(axes.run, PAGE_HEIGHT)
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks == ["1 B", "4 KiB", "8 KiB", "32 KiB", "64 KiB", "128 KiB"]
    assert len(figure.axes[0].patches) == 6 * 4 * 2


def test_waits_are_those_of_the_table(axes: Case) -> None:
    with figure_style("test"):
        (figure,) = wait_figures(axes.run, PAGE_HEIGHT)
    idle = axes.frames.mechanism[axes.frames.mechanism["regime"] == "idle"]
    drawn = np.concatenate([np.asarray(line.get_xdata()) for line in figure.axes[0].lines])
    assert sorted(drawn) == pytest.approx(sorted(idle["wait_us_per_write"]))
    assert figure.axes[0].get_xlabel() == "wait for pipe->mutex (µs/write)"
    assert len(figure.axes[0].get_yticks()) == 24


def test_waits_of_many_magnitudes_get_a_logarithmic_axis_that_shows_zero(axes: Case) -> None:
    table = axes.frames.mechanism.copy()
    table.loc[table.index[:2], "wait_us_per_write"] = [0.0, 1e5]
    with figure_style("test"):
        (figure,) = wait_figures(axes.run.with_tables(mechanism=table))
    assert figure.axes[0].get_xscale() == "symlog"
    assert figure.axes[0].get_xlim()[0] < 0
    assert figure.axes[0].get_xlim()[1] > 1e5
    # Text is drawn as it is, so that matplotlib's own labels, which are formulas, would show.
    figure.draw_without_rendering()
    assert not [text for text in texts(figure) if "$" in text]
    assert "10\N{THIN SPACE}000" in texts(figure)


def test_paths_of_an_svg_are_rounded_and_its_text_is_not(tmp_path: Path) -> None:
    with figure_style("test"):
        figure = new_figure(3, 2)
        figure.subplots().plot([0, 1, 2], [1 / 3, 2 / 7, 0.123456])
        figure.text(0, 0, 'd="0.123456"')
        save_svg(figure, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    paths = re.findall(r' d="([^"]*)"', text)
    assert len(paths) > 3
    assert not any(re.search(r"\.\d{3}", path) for path in paths)
    assert "0.123456" in text


def test_layouts_are_on_a_grid(measured: Case) -> None:
    # The layout's last bits depend on the order of sums in its solver, which is not ours to set.
    with figure_style("test"):
        figures = [*wait_figures(measured.run)]
        figures += latency_figures(measured.run)
    assert figures[1].subfigs
    for figure in figures:
        boxes = [axis.get_position().bounds for axis in figure.axes]
        boxes += [part.bbox_relative.bounds for part in figure.subfigs]
        edges = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes])
        assert np.abs(edges - np.round(edges, 5)).max() < 1e-12


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 12])
def test_a_legend_is_read_line_by_line(count: int) -> None:
    names = [f"arm {i} of the experiment" for i in range(count)]
    with figure_style("test"):
        figure = new_figure(PAGE_WIDTH, 2)
        legend_in_rows(figure, [Line2D([], [], label=name) for name in names], 5)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    order = sorted(boxes, key=lambda name: (-round(boxes[name].y0), boxes[name].x0))
    assert order == names
    assert max(box.x1 for box in boxes.values()) <= figure.bbox.x1
