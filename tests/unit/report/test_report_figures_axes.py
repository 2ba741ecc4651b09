# SPDX-License-Identifier: GPL-2.0-only
"""What holds of every figure: units, sizes, colours of the arms, names that users choose."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from report_cases import NASTY, Case
from report_synthetic import FLAGSHIP

from kdelta.report.context import Arm, Factor, Regime, ReportContext
from kdelta.report.figures import figure_stems
from kdelta.report.figures.axes import ARM, BLOCK, REGIME, cells_name, factor_name, squeeze
from kdelta.report.figures.draw import drawings
from kdelta.report.figures.style import PAGE_HEIGHT, PAGE_WIDTH, arm_styles, figure_style
from kdelta.report.figures.svg import ARM_COLOURS, BASELINE_COLOUR, CONTROL_COLOUR, PAPER
from kdelta.report.results import Results
from tests.workloads import PIPE_BENCH

STEMS = figure_stems(PIPE_BENCH, mechanism=True)
DARK_PAGE = "#181d23"


def draw(run: Results, stem: str, height: float | None = None) -> list[Figure]:
    """A figure's pages."""
    with figure_style(stem):
        return drawings(run)[stem](height)


def texts(figure: Figure) -> list[str]:
    """Every text that a figure shows."""
    found = [t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    return [text for text in found if text.strip()]


def assert_labelled(figure: Figure, context: ReportContext) -> None:
    """Every axis with tick labels, or the axis that shares them, has a name with its unit."""
    categories = {ARM, BLOCK, REGIME, cells_name(context)}
    categories |= {factor_name(factor) for factor in context.factors}
    shown = [axis for axis in figure.axes if axis.axison]
    assert shown
    for which in ("x", "y"):
        labels = {getattr(axis, f"get_{which}label")() for axis in shown} - {""}
        assert labels, which
        for label in labels:
            parts = label.split(" · ")
            in_brackets = re.search(r"\([^()]*(%|s|µs|write)\)$", label) or "(%)" in label
            assert label in categories or set(parts) <= categories or in_brackets, label
    # A panel in the first column or last row is never without.
    for axis in shown:
        ticks = [t.get_text() for t in axis.get_yticklabels() if t.get_visible()]
        if any(ticks) and axis.yaxis.get_tick_params().get("labelleft", True):
            assert axis.get_ylabel(), axis.get_title()


@pytest.mark.parametrize("stem", STEMS)
def test_every_axis_has_a_unit_or_is_one_of_categories(emulated: Case, stem: str) -> None:
    (figure,) = draw(emulated.run, stem)
    assert_labelled(figure, emulated.run)


@pytest.mark.parametrize("stem", STEMS)
def test_type_is_at_least_eight_points_and_fits_the_page(emulated: Case, stem: str) -> None:
    (figure,) = draw(emulated.run, stem, PAGE_HEIGHT)
    assert figure.get_figwidth() == pytest.approx(PAGE_WIDTH)
    assert figure.get_figheight() <= PAGE_HEIGHT
    shown = [t for t in figure.findobj(match=lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
    assert len(shown) > 15
    assert min(t.get_fontsize() for t in shown) >= 8


@pytest.mark.parametrize("stem", figure_stems(PIPE_BENCH))
def test_pages_of_four_regimes_fit(four: Case, stem: str) -> None:
    pages = draw(four.run, stem, PAGE_HEIGHT)
    assert all(page.get_figheight() <= PAGE_HEIGHT for page in pages)
    for page in pages:
        assert_labelled(page, four.run)


def assert_inside(figure: Figure) -> None:
    """Nothing that is drawn leaves the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    axes = [axis for axis in figure.axes if axis.axison]
    # Those of ticks beyond an axis are not drawn.
    labels = {t for a in axes for which in (a.xaxis, a.yaxis) for t in which.get_ticklabels()}
    boxes = {
        text.get_text(): text.get_window_extent()
        for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        if text.get_text().strip() and text not in labels
        if text.axes is None or text.axes.axison
    }
    boxes |= {f"panel {a.get_title()}": a.get_tightbbox() for a in axes}
    for what, box in boxes.items():
        assert box.x0 >= -1, what
        assert box.x1 <= width + 1, what
        assert box.y0 >= -1, what
        assert box.y1 <= height + 1, what


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_leaves_the_figure(four: Case, stem: str) -> None:
    (figure,) = draw(four.run, stem)
    assert_inside(figure)


@pytest.mark.parametrize("stem", [s for s in STEMS if not s.startswith("heatmap")])
def test_an_arm_has_one_colour_in_every_figure(four: Case, stem: str) -> None:
    (figure,) = draw(four.run, stem)
    used = set()
    for artist in figure.findobj(match=lambda a: hasattr(a, "get_color")):
        if not isinstance(artist.get_color(), (np.ndarray, list)):
            used.add(to_hex(artist.get_color()))
    for artist in figure.findobj(match=lambda a: hasattr(a, "get_facecolor")):
        used |= {to_hex(colour) for colour in np.atleast_2d(artist.get_facecolor())}
    wanted = {arm: colour for arm, (colour, _) in arm_styles(four.run).items()}
    shown = ["bulk", "loop", "control"]
    if stem in ("latency", "pressure", "mechanism-pages", "mechanism-wait"):
        shown.append("baseline")
    assert {wanted[arm] for arm in shown} <= used
    others = {*ARM_COLOURS, CONTROL_COLOUR} - set(wanted.values())
    assert not others & used


def test_arms_differ_in_colour_and_marker(wide: Case) -> None:
    styles = arm_styles(wide.run)
    assert list(styles) == ["baseline", "bulk", "loop", "control"]
    assert len({colour for colour, _ in styles.values()}) == 4
    assert len({marker for _, marker in styles.values()}) == 4
    assert styles["control"][0] == CONTROL_COLOUR
    assert styles["baseline"][0] == BASELINE_COLOUR


def linear(colour: str) -> np.ndarray:
    """Linear light of an sRGB colour."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour: str, sight: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as somebody sees it."""
    seen = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    x, y, z = np.array(TO_XYZ) @ seen / np.array([0.9505, 1, 1.089])
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio."""
    low, high = sorted(float(np.array(TO_XYZ[1]) @ linear(c)) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_arms_can_be_told_apart(sight: str) -> None:
    for one, other in itertools.combinations((*ARM_COLOURS, CONTROL_COLOUR, BASELINE_COLOUR), 2):
        assert np.linalg.norm(lab(one, sight) - lab(other, sight)) >= 19, (one, other)


def test_colours_of_arms_stand_out_on_both_pages() -> None:
    for colour in (*ARM_COLOURS, CONTROL_COLOUR):
        assert contrast(colour, PAPER) >= 3, colour
        assert contrast(colour, DARK_PAGE) >= 3, colour
    assert contrast(BASELINE_COLOUR, PAPER) >= 3  # the dark page has its own


@pytest.mark.parametrize("stem", STEMS)
def test_text_of_users_is_text(measured: Case, stem: str) -> None:
    names = {"patched": "bulk-" + "x" * 50 + "-v2", "control": "control"}
    arms = tuple(
        Arm(names.get(arm.name, arm.name), arm.title, arm.is_control) for arm in measured.run.arms
    )
    regimes = tuple(Regime(r.name, f"{NASTY} {r.title}") for r in measured.run.regimes)
    factors = tuple(Factor(f.name, f"$\\{f.name}_x$ & <b>") for f in measured.run.factors)
    context = replace(
        measured.run, arms=arms, regimes=regimes, traced_regimes=regimes, factors=factors
    )
    changed = {
        name: frame.assign(arm=frame["arm"].replace(names))
        for name, frame in vars(measured.frames).items()
        if name != "factors" and "arm" in frame
    }
    (figure,) = draw(context.with_tables(**changed), stem)
    shown = " ".join(texts(figure))
    assert "<script>" in shown
    assert re.search(r"bulk-x+…x*-v2|bulk-x+-v2", shown)
    assert_inside(figure)


@pytest.mark.parametrize("stem", figure_stems(PIPE_BENCH))
def test_empty_tables_still_draw(measured: Case, stem: str) -> None:
    # Nothing at all but the plan: what was to be run is known from the experiment.
    planned = tuple(
        factor._replace(levels=tuple(map(str, FLAGSHIP.matrix[factor.name])))
        for factor in measured.run.factors
    )
    frames = vars(measured.frames)
    empty = {name: frame.iloc[:0] for name, frame in frames.items() if name != "factors"}
    (figure,) = draw(replace(measured.run, factors=planned).with_tables(**empty), stem)
    shown = texts(figure)
    if stem.startswith("heatmap"):
        assert shown.count("missing") == 4 * 9
    if stem == "forest":
        assert shown.count("n/a") == 4 * (9 + 1)
    if stem == "latency":
        assert shown.count("no latencies") == 2 * 9
    if stem == "pressure":
        assert shown.count("no such counter") == 6


def test_long_names_keep_both_ends() -> None:
    assert squeeze("short", 10) == "short"
    assert squeeze("preallocate-v1-bulk", 11) == "preal…-bulk"
    assert len(squeeze("x" * 64, 30)) == 30


def test_units_of_factors() -> None:
    assert factor_name(Factor("write_size", "write size", "bytes")) == "write size"
    assert factor_name(Factor("load", "load", "%")) == "load (%)"
    assert factor_name(Factor("writers", "writers")) == "writers"
    assert math.isfinite(contrast("#000000", "#ffffff"))
