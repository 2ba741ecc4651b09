# SPDX-License-Identifier: GPL-2.0-only
"""The figures of latencies and of memory pressure: what they draw is what the tables say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report_cases import ASSETS, Case

from kdelta.report.captions import Captions
from kdelta.report.context import Factor
from kdelta.report.figures.latency import latency_figures, line_styles
from kdelta.report.figures.pressure import COUNTERS, pressure_figures
from kdelta.report.figures.selection import (
    first_middle_last,
    fixed_level,
    selection_sentence,
    shown_cells,
)
from kdelta.report.figures.style import PAGE_HEIGHT, arm_styles, figure_style
from kdelta.report.results import Results
from kdelta.report.view import build_view


def latency(run: Results, height: float | None = None) -> list[Figure]:
    with figure_style("test"):
        return latency_figures(run, height)


def pressure(run: Results) -> Figure:
    with figure_style("test"):
        (figure,) = pressure_figures(run, PAGE_HEIGHT)
    return figure


def panel(figure: Figure, title: str) -> Axes:
    places = [a for a in figure.axes if title in (a.get_title(), a.get_title(loc="left"))]
    return places[0]


def test_lines_are_the_quantiles_of_the_table(measured: Case) -> None:
    (figure,) = latency(measured.run)
    assert len(figure.axes) == 2 * 9
    axis = panel(figure, "writers = 1, readers = 5")
    table = measured.frames.latency
    table = table[
        (table["regime"] == "idle") & (table["writers"] == "1") & (table["readers"] == "5")
    ]
    colours = {arm: colour for arm, (colour, _) in arm_styles(measured.run).items()}
    assert [line.get_color() for line in axis.lines] == [
        colours[arm] for arm in ("baseline", "patched", "control")
    ]
    for line, arm in zip(axis.lines, ("baseline", "patched", "control"), strict=True):
        ours = table[table["arm"] == arm].set_index("quantile")["latency_us"].dropna()
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert x == pytest.approx(ours[y].to_numpy())
        assert y[0] == 0.01
        assert y[-1] == (0.999 if arm == "patched" else 0.98)
        assert {0.01, 0.05, 0.1, 0.5, 0.9, 0.98} <= set(y)


def test_axes_hold_every_line_and_are_the_same_along_a_row(measured: Case) -> None:
    (figure,) = latency(measured.run)
    for axis in figure.axes:
        x = np.concatenate([np.asarray(line.get_xdata()) for line in axis.lines])
        assert axis.get_xscale() == "log"
        assert axis.get_xlim()[0] < x.min() < x.max() < axis.get_xlim()[1]
        assert axis.get_ylim()[1] > 0.999
    for start in range(0, 18, 3):
        assert len({axis.get_xlim() for axis in figure.axes[start : start + 3]}) == 1
        ticks = list(figure.axes[start].get_xticks())
        low, high = figure.axes[start].get_xlim()
        assert 2 <= sum(low <= tick <= high for tick in ticks) <= 6


def test_lines_of_arms_differ_in_dashes_too(wide: Case) -> None:
    styles = line_styles(wide.run)
    assert list(styles) == ["baseline", "bulk", "loop", "control"]
    assert len({str(style["linestyle"]) for style in styles.values()}) == 4


def test_a_cell_without_latencies_says_so(measured: Case) -> None:
    table = measured.frames.latency
    hole = (table["regime"] == "idle") & (table["writers"] == "2") & (table["readers"] == "5")
    (figure,) = latency(measured.run.with_tables(latency=table[~hole]))
    assert [t.get_text() for t in panel(figure, "writers = 2, readers = 5").texts] == [
        "no latencies"
    ]
    assert not panel(figure, "writers = 2, readers = 1").texts


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 2, 3]), (7, [0, 3, 6])],
)
def test_first_middle_and_last(count: int, wanted: list[int]) -> None:
    assert list(first_middle_last(range(count))) == wanted


def test_the_level_of_other_factors() -> None:
    assert fixed_level(["false", "true"]) == "false"
    assert fixed_level(["1", "4096", "65536", "131072"]) == "65536"
    assert fixed_level(["5"]) == "5"


def test_large_matrices_show_nine_cells_and_say_which(axes: Case) -> None:
    names = [f.name for f in axes.run.factors]
    levels = {name: sorted(set(axes.frames.latency[name]), key=str) for name in names}
    levels["write_size"] = sorted(levels["write_size"], key=int)
    grid = shown_cells(axes.run, levels)
    sizes = [row[0][0][1] for row in grid]
    assert sizes == ["1", "32768", "131072"]
    assert [cell[1][1] for cell in grid[0]] == ["false", "true"]
    (figure, *_) = latency(axes.run, PAGE_HEIGHT)
    titles = [a.get_title().replace("\n", " ") for a in figure.axes]
    assert titles[0] == "write size = 1 B, non-blocking writers = false"
    sentence = (
        "Drawn: the first, middle and last level of write size, of the cells with "
        "processes = false."
    )
    assert selection_sentence(axes.run, levels) == sentence


def test_a_matrix_of_one_factor_is_drawn_in_rows_of_three(measured: Case) -> None:
    context = replace(measured.run, factors=(Factor("writers", "writers"),), column_factor=None)
    grid = shown_cells(context, {"writers": [str(n) for n in range(1, 6)]})
    assert [[cell[0][1] for cell in row] for row in grid] == [["1", "2", "3"], ["4", "5"]]
    assert selection_sentence(context, {"writers": ["1", "2"]}) == ""
    many = shown_cells(context, {"writers": [str(n) for n in range(1, 13)]})
    assert [[cell[0][1] for cell in row] for row in many] == [["1", "7", "12"]]


def test_captions_name_n_acceleration_and_what_is_left_out(axes: Case, emulated: Case) -> None:
    for case, cut in ((axes, True), (emulated, False)):
        captions = Captions(ASSETS, build_view(case.run))
        by_stem = {entry.stem: entry for entry in captions.figures()}
        assert ("Drawn: the first, middle and last" in by_stem["latency"].caption) == cut
        for stem, entry in by_stem.items():
            label = "emulated (TCG)" if case.run.emulated else "KVM"
            assert f"acceleration: {label}" in entry.caption, stem
            assert ("Emulated" in entry.alternative) == case.run.emulated, stem
        assert "95% interval" in by_stem["forest"].caption
        assert f"at most {case.run.blocks} blocks" in by_stem["forest"].caption
        assert "noise floor" in by_stem["forest"].caption


def test_markers_are_means_over_cells_and_lines_their_range(measured: Case) -> None:
    figure = pressure(measured.run)
    axis = panel(figure, "pages scanned directly")
    table = measured.frames.pressure
    groups = table.groupby(["regime", "arm"])["pgscan_direct_per_s"]
    marked = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    drawn = [float(np.asarray(line.get_xdata())[0]) for line in marked]
    assert sorted(drawn) == pytest.approx(sorted(groups.mean()))
    ranges = [tuple(s[:, 0]) for c in axis.collections for s in c.get_segments()]
    wanted = zip(groups.min(), groups.max(), strict=True)
    assert sorted(ranges) == [pytest.approx(pair) for pair in sorted(wanted)]
    assert axis.get_xlim()[0] == 0
    assert axis.get_xlim()[1] > table["pgscan_direct_per_s"].max()


def test_regimes_without_a_counter_are_told_from_zero(measured: Case) -> None:
    axis = panel(pressure(measured.run), "pages swapped in")
    assert [t.get_text() for t in axis.texts] == ["n/a"]
    assert not panel(pressure(measured.run), "allocation stalls").texts


def test_rates_of_many_magnitudes_have_plain_numbers(emulated: Case) -> None:
    table = emulated.frames.pressure.copy()
    for column in table.columns[table.dtypes == "float64"]:
        table[column] = np.geomspace(0.2, 20_000, len(table))
    figure = pressure(emulated.run.with_tables(pressure=table))
    figure.draw_without_rendering()
    assert "symlog" in {axis.get_xscale() for axis in figure.axes}
    shown = [t.get_text() for a in figure.axes for t in a.get_xticklabels()]
    assert "1" in shown
    assert not [text for text in shown if "$" in text]


def test_no_pressure_anywhere_is_said(emulated: Case) -> None:
    figure = pressure(emulated.run)
    for counter in COUNTERS:
        axis = panel(figure, counter.title)
        assert [t.get_text() for t in axis.texts] == ["0 everywhere"], counter
        assert not axis.lines


def test_a_counter_that_no_kernel_has_is_said(measured: Case) -> None:
    table = measured.frames.pressure.assign(pswpout_per_s=np.nan)
    axis = panel(pressure(measured.run.with_tables(pressure=table)), "pages swapped out")
    assert [t.get_text() for t in axis.texts] == ["no such counter"]


def with_rates(case: Case, rates: list[float]) -> Axes:
    table = case.frames.pressure.copy()
    values = np.resize(np.array(rates), len(table))
    table["allocstall_per_s"] = pd.Series(values, index=table.index)
    return panel(pressure(case.run.with_tables(pressure=table)), "allocation stalls")


def test_rates_of_many_magnitudes_get_a_logarithmic_axis_that_shows_zero(measured: Case) -> None:
    axis = with_rates(measured, [0, 3, 40000])
    assert axis.get_xscale() == "symlog"
    assert axis.get_xlim()[0] == 0
    ticks = [t for t in axis.get_xticks() if t <= axis.get_xlim()[1]]
    assert ticks[0] == 0
    assert 3 <= len(ticks) <= 5


def test_next_to_nothing_looks_like_it(measured: Case) -> None:
    axis = with_rates(measured, [0, 0.002])
    assert axis.get_xscale() == "linear"
    assert axis.get_xlim()[1] >= 1
