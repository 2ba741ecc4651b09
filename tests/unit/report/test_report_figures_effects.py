# SPDX-License-Identifier: GPL-2.0-only
"""The forest plot and the drift figure: what they draw is what the tables say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Polygon
from report_cases import Case

from kdelta.report.context import Regime
from kdelta.report.figures.axes import percent_ticks, ratio_limits
from kdelta.report.figures.drift import after_baseline, drift_figures
from kdelta.report.figures.forest import all_cells, forest_figures
from kdelta.report.figures.style import PAGE_HEIGHT, figure_style
from kdelta.report.figures.svg import PAPER
from tests.workloads import THROUGHPUT

IDLE = Regime("idle", "No memory pressure")


def forest(case: Case, height: float | None = None) -> list[Figure]:
    with figure_style("test"):
        return forest_figures(case.run, height)


def drift(case: Case, height: float | None = None) -> list[Figure]:
    with figure_style("test"):
        return drift_figures(case.run, height)


def panel(figure: Figure, title: str) -> Axes:
    return next(a for a in figure.axes if a.get_title(loc="left").strip() == title)


def rows(frame: pd.DataFrame, regime: str = "idle") -> pd.DataFrame:
    return frame[(frame["regime"] == regime) & (frame["metric"] == THROUGHPUT.name)]


def signs(axis: Axes) -> list[str]:
    return [t.get_text() for t in axis.texts if not t.get_text().startswith("noise")]


def test_every_cell_has_its_marker_interval_and_sign(measured: Case) -> None:
    axis = panel(forest(measured)[0], "No memory pressure")
    table = rows(measured.frames.deltas)
    markers = [line for line in axis.lines if line.get_marker() in ("o", "D")]
    drawn = [float(np.asarray(line.get_xdata())[0]) for line in markers]
    assert sorted(drawn) == pytest.approx(sorted(table["ratio"]))
    ends = [s[:, 0] for c in axis.collections for s in c.get_segments()]
    wanted = table[["ratio_low", "ratio_high"]].to_numpy()
    assert sorted(map(tuple, np.round(ends, 9))) == sorted(map(tuple, np.round(wanted, 9)))
    verdicts = [*table["verdict"], *rows(measured.frames.overall)["verdict"]]
    meaning = {"faster": "+", "slower": "−", "equivalent": "=", "inconclusive": "~"}
    assert sorted(signs(axis)) == sorted(meaning[v] for v in verdicts)


def test_arms_of_a_cell_stand_under_each_other_in_their_order(measured: Case) -> None:
    axis = panel(forest(measured)[0], "No memory pressure")
    labels = [t.get_text() for t in axis.get_yticklabels()]
    assert labels[:2] + labels[-1:] == ["1 · 1", "1 · 5", "overall"]
    table = rows(measured.frames.deltas)
    for arm, marker in (("patched", "o"), ("control", "D")):
        lines = [line for line in axis.lines if line.get_marker() == marker]
        places = {float(line.get_xdata()[0]): float(line.get_ydata()[0]) for line in lines}
        ours = table[table["arm"] == arm]
        down = [places[min(places, key=lambda x: abs(x - ratio))] for ratio in ours["ratio"]]
        assert down == sorted(down)
        # Within half a cell of the label.
        step = axis.get_yticks()[1] - axis.get_yticks()[0]
        assert np.abs(np.array(down) - axis.get_yticks()[: len(down)]).max() < step / 2


def test_hollow_means_not_settled(measured: Case) -> None:
    axis = panel(forest(measured)[0], "No memory pressure")
    hollow = [
        float(np.asarray(line.get_xdata())[0])
        for line in axis.lines
        if line.get_marker() in ("o", "D") and line.get_markerfacecolor() == PAPER
    ]
    table = rows(measured.frames.deltas)
    open_cells = table[table["verdict"] == "inconclusive"]
    assert 0 < len(open_cells) < len(table)
    assert sorted(hollow) == pytest.approx(sorted(open_cells["ratio"]))


def test_diamonds_are_the_overall_effects(measured: Case) -> None:
    axis = panel(forest(measured)[0], "No memory pressure")
    # The bands are rectangles; a diamond has five points, the last closing it.
    diamonds = [p for p in axis.patches if type(p) is Polygon]
    found = [tuple(p.get_xy()[[0, 1, 2], 0]) for p in diamonds]
    wanted = rows(measured.frames.overall)[["ratio_low", "ratio", "ratio_high"]].to_numpy()
    assert found == [pytest.approx(tuple(row)) for row in wanted]


def test_every_block_is_a_stroke(emulated: Case) -> None:
    axis = panel(forest(emulated)[0], "No memory pressure")
    strokes = [p.get_path().vertices for p in axis.patches if type(p) is PathPatch]
    drawn = np.concatenate([v[::2, 0] for v in strokes])
    wanted = rows(emulated.frames.ratios)["ratio"]
    assert sorted(drawn) == pytest.approx(sorted(wanted))
    low, high = axis.get_xlim()
    assert low < wanted.min()
    assert high > wanted.max()


def bands(axis: Axes) -> list[tuple[float, float]]:
    found = []
    for patch in axis.patches:
        if type(patch) not in (PathPatch, Polygon):
            x0, x1 = patch.get_path().vertices[:, 0].min(), patch.get_path().vertices[:, 0].max()
            box = patch.get_patch_transform().transform([(x0, 0), (x1, 0)])
            found.append((float(box[0, 0]), float(box[1, 0])))
    return found


def test_bands_are_noise_floor_and_margin(measured: Case) -> None:
    axis = panel(forest(measured)[0], "No memory pressure")
    floor = float(rows(measured.frames.control)["noise_floor_percent"].iloc[0])
    noise, margin = bands(axis)
    assert noise == pytest.approx((1 / (1 + floor / 100), 1 + floor / 100))
    assert margin == pytest.approx((1 / 1.02, 1.02))
    assert f"noise floor {floor:.1f}%" in [t.get_text() for t in axis.texts]


def test_an_unknown_noise_floor_is_no_band(measured: Case) -> None:
    control = measured.frames.control.assign(noise_floor_percent=math.nan)
    axis = panel(forest(measured.changed(control=control))[0], "No memory pressure")
    assert len(bands(axis)) == 1
    assert "noise floor unknown" in [t.get_text() for t in axis.texts]


def test_without_control_arm_there_is_no_word_on_noise(measured: Case) -> None:
    arms = tuple(a for a in measured.run.arms if not a.is_control)
    case = replace(measured, run=replace(measured.run, arms=arms))
    (figure,) = forest(case)
    words = [t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    assert not any("noise" in text for text in words)
    assert "control" not in words


def test_invalid_and_missing_cells_are_marked_without_effect(emulated: Case) -> None:
    (figure,) = forest(emulated)
    idle, pressure = (
        panel(figure, title) for title in ("No memory pressure", "Under memory pressure")
    )
    assert signs(idle).count("✕") == 1
    assert signs(idle).count("n/a") == 1
    assert signs(pressure).count("✕") == 2 * 9 + 2
    assert not [line for line in pressure.lines if line.get_marker() in ("o", "D")]


def test_intervals_that_leave_the_panel_end_in_an_arrow(measured: Case) -> None:
    deltas = measured.frames.deltas.copy()
    first = rows(deltas).index[0]
    deltas.loc[first, "ratio_high"] = 50.0
    axis = panel(forest(measured.changed(deltas=deltas))[0], "No memory pressure")
    arrows = [line for line in axis.lines if line.get_marker() in ("<", ">")]
    assert [line.get_marker() for line in arrows] == [">"]
    assert axis.get_xlim()[1] < 3


def test_too_few_blocks_leave_markers_without_interval(measured: Case) -> None:
    nothing = {"ratio_low": math.nan, "ratio_high": math.nan, "verdict": "inconclusive"}
    case = measured.changed(
        deltas=measured.frames.deltas.assign(**nothing),
        overall=measured.frames.overall.assign(**nothing),
    )
    axis = panel(forest(case)[0], "No memory pressure")
    assert not axis.collections
    assert len([line for line in axis.lines if line.get_marker() in ("o", "D")]) == 2 * (9 + 1)


def test_many_cells_are_split_into_equal_pages(wide: Case) -> None:
    pages = forest(wide, PAGE_HEIGHT)
    assert len(pages) == 3
    assert all(page.get_figheight() <= PAGE_HEIGHT for page in pages)
    labels = [t.get_text() for page in pages for t in page.axes[0].get_yticklabels()]
    assert len(labels) == 36 + 1
    assert labels[0] == "1 · 1 · 1 B"
    assert labels[-1] == "overall"
    assert len({page.axes[0].get_xlim() for page in pages}) == 1
    (whole,) = forest(wide)
    assert len(whole.axes) == 3
    assert len(all_cells(wide.run)) == 36


def test_one_factor_and_one_block(measured: Case) -> None:
    tables = {
        name: table[table["readers"] == "5"].drop(columns="readers")
        for name, table in vars(measured.frames).items()
        if name != "factors" and "readers" in table
    }
    tables["ratios"] = tables["ratios"][tables["ratios"]["block"] == 1]
    case = measured.changed(**tables, factors=("writers",))
    factors = measured.run.factors[:1]
    case = replace(case, run=replace(case.run, factors=factors, column_factor=None, blocks=1))
    labels = [t.get_text() for t in forest(case)[0].axes[0].get_yticklabels()]
    assert labels == ["1", "2", "5", "overall"]
    (figure,) = drift(case)
    assert figure.axes[0].get_xlim() == (0.5, 1.5)


def test_drift_shows_every_cell_and_the_mean_over_them(measured: Case) -> None:
    (figure,) = drift(measured)
    assert len(figure.axes) == 2 * 2
    axis = figure.axes[0]
    assert axis.get_title() == "patched"
    table = rows(measured.frames.ratios)
    table = table[table["arm"] == "patched"]
    _, cells, mean, *_ = (np.asarray(line.get_ydata(), dtype=float) for line in axis.lines)
    assert sorted(cells[np.isfinite(cells)]) == pytest.approx(sorted(table["ratio"]))
    wanted = np.exp(np.log(table["ratio"]).groupby(table["block"]).mean())
    assert mean == pytest.approx(wanted.to_numpy())


def test_a_lost_block_is_a_gap(four: Case) -> None:
    figure = next(
        page for page in drift(four, PAGE_HEIGHT) if any(a.get_title() == "loop" for a in page.axes)
    )
    axis = figure.axes[3 * 3 + 1]
    assert axis.get_title() == "loop"
    mean = np.asarray(axis.lines[2].get_ydata(), dtype=float)
    assert np.isfinite(mean).tolist() == [True, False, True, True, True]


def test_marks_are_filled_where_the_baseline_was_booted_first(measured: Case) -> None:
    orders = measured.frames.samples.groupby(["regime", "block", "arm"])["boot_order"].first()
    wanted = {
        block
        for block in range(1, 5)
        if orders["idle", block, "patched"] > orders["idle", block, "baseline"]
    }
    assert 0 < len(wanted) < 4
    assert after_baseline(measured.frames, IDLE, "patched", "baseline") == wanted
    after, before = drift(measured)[0].axes[0].lines[3:5]
    assert set(after.get_xdata()) == wanted
    assert set(before.get_xdata()) == {1, 2, 3, 4} - wanted
    assert before.get_markerfacecolor() == PAPER != after.get_markerfacecolor()


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.9, 1.3, [-10, 0, 10, 20, 30]),
        (0.995, 1.012, [-0.5, 0, 0.5, 1.0]),
        (0.5, 4.2, [-50, -30, 0, 50, 200]),
        (0.02, 40, [-95, -75, 0, 200, 900]),
        (0.9999, 1.0001, [0]),
    ],
)
def test_ticks_are_round_and_apart(low: float, high: float, wanted: list[float]) -> None:
    found = percent_ticks(low, high, 7)
    assert found == wanted
    places = np.log1p(np.array(found) / 100)
    assert len(found) == 1 or np.diff(places).min() >= math.log(high / low) / 7


def test_limits_hold_the_ratios_and_not_the_widest_interval(measured: Case) -> None:
    deltas = measured.frames.deltas.copy()
    deltas["ratio_high"] = 1e6
    run = measured.run.with_tables(deltas=deltas)
    low, high = ratio_limits(run, THROUGHPUT)
    ratios = measured.frames.ratios
    ratios = ratios[ratios["metric"] == THROUGHPUT.name]["ratio"]
    assert low < min(1, ratios.min())
    assert ratios.max() < high < 2
    narrow = ratio_limits(run, THROUGHPUT, [IDLE])
    assert low <= narrow[0] < narrow[1] <= high
