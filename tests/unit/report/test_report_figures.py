# SPDX-License-Identifier: GPL-2.0-only
"""The figures: files, bytes, titles, sizes of type, and what they draw."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Case
from matplotlib.figure import Figure
from report_facts import make_context

from kdelta.report.blocks import blocks_figures, ratio_limits
from kdelta.report.figure_style import PAGE_HEIGHT, PAGE_WIDTH, arm_styles, figure_style
from kdelta.report.figures import write_figures
from kdelta.report.heatmap import colour_limit, heatmap_figures
from kdelta.report.latex import count_pages
from kdelta.report.metrics import LATENCY_MEAN, THROUGHPUT
from kdelta.report.palette import CONTROL_COLOUR
from kdelta.report.run import figure_files
from kdelta.report.trace_pages import pages_figures
from kdelta.report.trace_waits import wait_figures


def texts(figure: Figure) -> list[str]:
    """Every text that a figure shows."""
    return [t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))]


def test_the_promised_files_are_there(measured: Case) -> None:
    assert len(figure_files()) == 8
    assert len(figure_files(mechanism=True)) == 12
    for name in figure_files(mechanism=True):
        assert (measured.folder / name).stat().st_size > 2000, name


def test_same_input_same_bytes(measured: Case, tmp_path: Path) -> None:
    write_figures(measured.frames, measured.context, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (measured.folder / "figures" / path.name).read_bytes(), path


def test_no_dates_in_the_files(measured: Case) -> None:
    for name in figure_files(mechanism=True):
        data = (measured.folder / name).read_bytes()
        assert b"CreationDate" not in data
        assert b"dc:date" not in data


def test_titles_say_emulated(emulated: Case, measured: Case) -> None:
    for path in sorted((emulated.folder / "figures").glob("*.svg")):
        assert "— emulated (TCG)" in path.read_text(encoding="utf-8"), path
        assert "emulated" not in (measured.folder / "figures" / path.name).read_text()


@pytest.mark.parametrize(
    ("draw", "metric"),
    [
        (heatmap_figures, [THROUGHPUT]),
        (blocks_figures, [THROUGHPUT]),
        (pages_figures, []),
        (wait_figures, []),
    ],
)
def test_type_is_at_least_eight_points_and_fits_the_page(emulated: Case, draw, metric) -> None:  # type: ignore[no-untyped-def]
    with figure_style("test"):
        (figure,) = draw(emulated.frames, emulated.context, *metric, PAGE_HEIGHT)
    assert figure.get_figwidth() == pytest.approx(PAGE_WIDTH)
    assert figure.get_figheight() <= PAGE_HEIGHT
    shown = [t for t in figure.findobj(match=lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
    assert len(shown) > 20
    assert min(t.get_fontsize() for t in shown) >= 8


def test_heat_map_shows_deltas_intervals_control_and_gaps(emulated: Case) -> None:
    with figure_style("test"):
        (figure,) = heatmap_figures(emulated.frames, emulated.context, THROUGHPUT)
    shown = texts(figure)
    notes = [t for t in shown if re.match(r"[+−][\d.]+%\n\[", t)]
    # One invalid and one missing cell in idle, and nothing but invalid ones under pressure.
    assert len(notes) == 2 * 9 - 2
    assert shown.count("missing") == 1
    assert shown.count("✕ invalid") == 1 + 2 * 9
    titles = {" ".join(text.split()) for text in shown}
    assert "No memory pressure: control" in titles
    assert "Under memory pressure: patched" in titles
    assert "writers" in shown
    assert "readers" in shown


def test_heat_map_colours_are_one_scale_with_faster_in_blue(measured: Case) -> None:
    rows = measured.frames.deltas
    largest = rows[rows["metric"] == "throughput_mib_s"]["delta_percent"].abs().max()
    limit = colour_limit(measured.frames, THROUGHPUT, measured.context)
    assert largest <= limit < largest + 5
    for metric, faster in ((THROUGHPUT, 1), (LATENCY_MEAN, -1)):
        with figure_style("test"):
            (figure,) = heatmap_figures(measured.frames, measured.context, metric)
        meshes = [c for axis in figure.axes for c in axis.collections if c.get_array() is not None]
        cells = [m for m in meshes if m.get_array().size == 9]
        assert len(cells) == 4
        assert len({(m.norm.vmin, m.norm.vmax) for m in cells}) == 1
        red, _, blue, _ = cells[0].cmap(cells[0].norm(faster * cells[0].norm.vmax))
        assert blue > red


def test_wide_heat_map_is_split_into_pages_that_fit(wide: Case) -> None:
    with figure_style("test"):
        pages = heatmap_figures(wide.frames, wide.context, THROUGHPUT, PAGE_HEIGHT)
    assert len(pages) > 1
    assert all(p.get_figheight() <= PAGE_HEIGHT for p in pages)
    notes = [t for page in pages for t in texts(page) if re.match(r"[+−][\d.]+%\n", t)]
    assert len(notes) == 3 * 3 * 36


def test_every_ratio_is_a_point(emulated: Case) -> None:
    with figure_style("test"):
        (figure,) = blocks_figures(emulated.frames, emulated.context, THROUGHPUT)
    axes = [a for a in figure.axes if a.get_title().startswith("writers = ")]
    assert len(axes) == 2 * 3
    drawn = np.concatenate(
        [c.get_offsets()[:, 1] for a in axes for c in a.collections if len(c.get_offsets()) > 0]
    )
    ratios = emulated.frames.ratios
    wanted = ratios[ratios["metric"] == "throughput_mib_s"]["ratio"].to_numpy()
    assert set(np.round(wanted, 9)) <= set(np.round(np.asarray(drawn, dtype=float), 9))
    low, high = ratio_limits(emulated.frames, emulated.context, THROUGHPUT)
    assert low < min(wanted.min(), 1)
    assert high > max(wanted.max(), 1)


def test_arms_keep_their_colour_and_the_control_its_own(wide: Case) -> None:
    styles = arm_styles(wide.context)
    assert len({colour for colour, _ in styles.values()}) == 3
    assert len({marker for _, marker in styles.values()}) == 3
    assert styles["control"][0] == CONTROL_COLOUR


def test_pages_of_a_pdf_are_counted(measured: Case, tmp_path: Path) -> None:
    from kdelta.report.figure_style import new_figure, save_pdf

    assert count_pages(measured.folder / "figures" / "heatmap-throughput_mib_s.pdf") == 1
    save_pdf([new_figure(2, 2) for _ in range(3)], tmp_path / "three.pdf")
    assert count_pages(tmp_path / "three.pdf") == 3


def test_empty_tables_still_draw(measured: Case, tmp_path: Path) -> None:
    from dataclasses import replace

    from report_synthetic import FLAGSHIP

    frames = replace(
        measured.frames, deltas=measured.frames.deltas[:0], ratios=measured.frames.ratios[:0]
    )
    with figure_style("test"):
        (figure,) = heatmap_figures(frames, make_context(FLAGSHIP), THROUGHPUT)
        (points,) = blocks_figures(frames, make_context(FLAGSHIP), THROUGHPUT)
    assert texts(figure).count("missing") == 4 * 9
    assert "no change" in texts(points)


def test_invalid_cells_are_marked_in_the_blocks_figure(emulated: Case, measured: Case) -> None:
    for case, wanted in ((emulated, 1 + 2 * 9), (measured, 0)):
        with figure_style("test"):
            (figure,) = blocks_figures(case.frames, case.context, THROUGHPUT)
        shown = texts(figure)
        assert shown.count("✕") == wanted
        assert ("invalid" in shown) == bool(wanted)


def test_bars_of_pages_are_those_of_the_table(measured: Case) -> None:
    with figure_style("test"):
        (figure,) = pages_figures(measured.frames, measured.context)
    axis = next(a for a in figure.axes if a.get_title(loc="left") == "No memory pressure")
    heights = [(bar.get_height(), bar.get_hatch()) for bar in axis.patches]
    # baseline, patched, control: under the lock, then before it
    assert heights == [(16, None), (0, "////"), (8, None), (8, "////"), (16, None), (0, "////")]
    assert axis.get_ylabel() == "pages per write"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["baseline", "patched", "control"]


def test_pages_stand_by_write_size_where_it_is_a_factor(axes: Case) -> None:
    with figure_style("test"):
        (figure,) = pages_figures(axes.frames, axes.context, PAGE_HEIGHT)
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks == ["1 B", "4 KiB", "8 KiB", "32 KiB", "64 KiB", "128 KiB"]
    assert len(figure.axes[0].patches) == 6 * 4 * 2


def test_waits_are_those_of_the_table(axes: Case) -> None:
    with figure_style("test"):
        (figure,) = wait_figures(axes.frames, axes.context, PAGE_HEIGHT)
    idle = axes.frames.mechanism[axes.frames.mechanism["regime"] == "idle"]
    drawn = np.concatenate([np.asarray(line.get_xdata()) for line in figure.axes[0].lines])
    assert sorted(drawn) == pytest.approx(sorted(idle["wait_us_per_write"]))
    assert figure.axes[0].get_xlabel() == "wait for pipe->mutex in µs per write"
    assert len(figure.axes[0].get_yticks()) == 24


def test_waits_of_many_magnitudes_get_a_logarithmic_axis_that_shows_zero(axes: Case) -> None:
    from dataclasses import replace

    table = axes.frames.mechanism.copy()
    table.loc[table.index[:2], "wait_us_per_write"] = [0.0, 1e5]
    with figure_style("test"):
        (figure,) = wait_figures(replace(axes.frames, mechanism=table), axes.context)
    assert figure.axes[0].get_xscale() == "symlog"
    assert figure.axes[0].get_xlim()[0] < 0
    assert figure.axes[0].get_xlim()[1] > 1e5
