# SPDX-License-Identifier: GPL-2.0-only
"""Warnings at the top, the verdict ``invalid`` everywhere, and both analyses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from report_cases import ASSETS, Case, render
from report_synthetic import FLAGSHIP, Plan

from kdelta.report.caveats import Notice, notices, weaknesses
from kdelta.report.context import EarlierAttempt
from kdelta.report.text import render_text
from kdelta.report.view import build_view


def splat_plan() -> Plan:
    """Every sample of patched in the idle regime is from a boot with a kernel splat."""
    cells = itertools.product(*FLAGSHIP.matrix.values())
    broken = [
        ("idle", block, "patched", cell, "kernel-splat")
        for cell, block in itertools.product(cells, range(1, 5))
    ]
    return replace(FLAGSHIP, broken=tuple(broken))


@pytest.fixture(scope="module")
def splat(measured: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return render(splat_plan(), tmp_path_factory.mktemp("splat"), measured.folder / "figures")


def found(case: Case, **frames: object) -> tuple[Notice, ...]:
    """The warnings of a case with some of its tables replaced."""
    return notices(case.run.with_tables(**frames))


def test_a_clean_run_has_no_warnings(measured: Case) -> None:
    assert notices(measured.run) == ()
    assert "WARNINGS" not in measured.text
    assert 'id="warnings"' not in measured.html
    assert r"\section*{Warnings}" not in measured.tex


def test_an_invalid_arm_is_named_with_rule_count_and_first_line(splat: Case) -> None:
    first = notices(splat.run)[0]
    assert first.headline == "patched: invalid in No memory pressure (overall and 9 of 9 cells)"
    assert first.details == (
        "No memory pressure, patched: 36 of 36 samples set aside: kernel-splat 36; first: "
        "block 1: made up.",
    )


def test_warnings_stand_before_the_answer_in_every_output(splat: Case) -> None:
    for text, answer in (
        (splat.text, " Answer: "),
        (splat.html, '<h2 id="answer">'),
        (splat.tex, r"\section*{Answer}"),
    ):
        words = " ".join(text.split())
        assert words.index("36 of 36 samples set aside: kernel-splat 36") < words.index(answer)


def test_cells_without_a_pair_are_invalid_and_not_missing(splat: Case) -> None:
    assert splat.text.count("x invalid") == 2 * 9 + 1  # two tables and the legend
    assert "missing" not in splat.text.split("== No memory pressure")[1].split("Marks:")[0]
    assert splat.html.count('<td class="invalid"><span>') == 4 * 9
    assert splat.html.count("4 of 4 pairs set aside") == 4 * 9
    assert splat.tex.count(r"\textcolor{invalid}{\textbf{\ensuremath{\times} invalid}}") == 2 * 9


def test_an_invalid_overall_result_is_no_claim(splat: Case) -> None:
    answer = build_view(splat.run).sections[0].answers[0]
    assert (answer.verdict, answer.mark, answer.delta) == ("invalid", "x", "no result")
    assert answer.sentence == (
        "patched against baseline: invalid, no claim: 36 of 36 pairs of samples set aside or "
        "missing. 9 of 9 cells have fewer than two pairs left."
    )
    assert "Overall: no valid pair of samples: invalid (36 of 36 pairs set aside)." in splat.text
    assert "Cells: 9 invalid." in splat.text


def test_baselines_loss_is_told_once_though_it_concerns_every_arm(emulated: Case) -> None:
    lines = [d for n in notices(emulated.run)[:2] for d in n.details]
    assert sum("pressure, baseline: 19 of 36 samples set aside" in line for line in lines) == 1


def test_failed_boots_are_counted_per_arm(emulated: Case) -> None:
    notice = next(n for n in notices(emulated.run) if "Boots" in n.headline)
    assert notice.headline == "Boots failed: 2 of 8 of baseline and 1 of 8 of patched"
    assert notice.details[0] == (
        "Under memory pressure, baseline: 2 of 4 boots; first: block 1: no driver within 120 s."
    )


def without_block(case: Case, regime: str, block: int) -> dict[str, object]:
    """The tables of a run in which nothing of a block was ever written."""
    tables = {}
    for name in ("samples", "validity"):
        table = getattr(case.frames, name)
        tables[name] = table[(table["regime"] != regime) | (table["block"] != block)]
    return tables


def test_blocks_that_left_nothing_are_named(measured: Case) -> None:
    tables = without_block(measured, "memory-pressure", 2)
    (notice,) = found(measured, **tables)
    assert notice == Notice(
        "Blocks missing: 1 of 4 in Under memory pressure",
        (
            "Under memory pressure: block 2 was planned and left no data.",
            "No count of planned samples or boots in this report includes them.",
        ),
    )
    view = build_view(measured.run.with_tables(**tables))
    assert [s.subtitle for s in view.sections] == [
        "0.6 s per cell, 4 blocks",
        "0.6 s per cell, 3 of 4 blocks",
    ]


def test_a_block_whose_boots_all_failed_is_not_missing(measured: Case) -> None:
    tables = without_block(measured, "idle", 1)
    failed = {"regime": "idle", "block": 1, "arm": "patched", "rule": "boot-failed", "detail": ""}
    tables["validity"] = pd.DataFrame([failed])
    assert found(measured, **tables) == ()


def test_weak_cells_are_told_in_one_sentence_per_regime(four: Case) -> None:
    deltas = four.frames.deltas.copy()
    primary = deltas["metric"] == "throughput_mib_s"
    idle = primary & (deltas["regime"] == "idle")
    deltas.loc[primary, ["verdict", "blocks"]] = ["faster", four.run.blocks]
    bulk, loop = (deltas.index[idle & (deltas["arm"] == arm)] for arm in ("bulk", "loop"))
    deltas.loc[[*bulk, *loop[:2]], "verdict"] = "inconclusive"
    deltas.loc[[*bulk[:3], *loop[:3]], "blocks"] = 3
    lines = weaknesses(four.run.with_tables(deltas=deltas))
    planned = four.run.blocks
    assert [line for line in lines if " cells of " in line] == [
        "No memory pressure: inconclusive in all 9 cells of bulk and 2 of 9 cells of loop; fewer "
        f"than the {planned} planned blocks (fewest: 3) in 3 of 9 cells of every arm."
    ]


def test_a_control_that_differs_is_named_with_place_and_size(measured: Case) -> None:
    first = measured.frames.control["metric"] == "throughput_mib_s"
    first &= measured.frames.control["regime"] == "idle"
    control = measured.frames.control.assign(differs=first, false_verdicts=2)
    overall = measured.frames.overall.copy()
    overall.loc[overall["arm"] == "control", "verdict"] = "slower"
    (notice,) = found(measured, control=control, overall=overall)
    assert notice.headline == "The control arm, whose true effect is zero, came out different"
    (detail,) = notice.details
    assert detail.startswith("No memory pressure: throughput (overall ")
    assert detail.endswith("] slower and 2 of 9 cells).")


def test_a_broken_negative_control_is_named_with_its_cell(emulated: Case) -> None:
    table = emulated.frames.negative_controls.copy()
    table.loc[table.index[1], ["status", "verdict"]] = ["broken", "faster"]
    headlines = {n.headline: n.details for n in found(emulated, negative_controls=table)}
    details = headlines[
        "Negative control broken: an effect where there can be none, in 1 of 4 cells"
    ]
    assert details[0].startswith(
        "No memory pressure, patched, writers = 1, readers = 5: throughput"
    )
    assert details[0].endswith("] faster.")


def test_a_trend_over_the_arms_of_a_cell_is_named_with_its_size(measured: Case) -> None:
    assert not any("order of arms" in n.headline for n in found(measured))
    here = measured.frames.position["regime"] == "idle"
    assert here.sum() == 1
    size = {"position": 2.04, "position_low": 1.0, "position_high": 3.1, "largest_bias": 0.66}
    table = measured.frames.position.assign(differs=here)
    for name, percent in size.items():
        table.loc[here, f"{name}_percent"] = percent
    (notice,) = (n for n in found(measured, position=table) if "order of arms" in n.headline)
    assert notice == Notice(
        "The order of arms matters: throughput changes from one that runs a cell to the next by "
        "+2.0% (No memory pressure)",
        (
            "No memory pressure: +2.0% [+1.0, +3.1] per place. The orders "
            "measured leave at most 0.7% of that in any cell's delta.",
        ),
    )


def test_hosts_that_differ_are_told_and_named(splat: Case) -> None:
    told = ("cpus: host 1: 8; host 2: 16.", "Host 2 measured blocks idle 3.")
    case = replace(splat, run=replace(splat.run, host_differences=told))
    notice = Notice("Blocks were measured on hosts that differ", told)
    assert notice in found(case)
    assert notice not in found(splat)


def test_earlier_attempts_come_last(emulated: Case) -> None:
    assert notices(emulated.run)[-1] == Notice(
        "1 earlier attempt ended without data",
        ("No memory pressure, block 3, 2026-05-15 11:02: the host was shut down.",),
    )


def test_an_arm_that_was_compiled_to_the_baseline_s_code(measured: Case) -> None:
    """A patch of something that this configuration leaves out."""
    baseline, patched = measured.run.images
    for changed, expected in ((None, 0), (1, 0), (0, 1)):
        images = (baseline, patched._replace(objects_changed=changed))
        context = replace(measured.run, images=images)
        told = notices(context)
        assert len(told) == expected
    assert told[0].headline == "patched: compiled to the same code as the baseline"
    assert told[0].details == (
        "No object file of its kernel differs from the baseline's, but for the image's name "
        "and addresses. Is what its patches change part of this configuration?",
    )


def test_the_same_code_booted_otherwise_is_a_comparison(measured: Case) -> None:
    baseline, patched = measured.run.images
    arms = tuple(
        arm._replace(booting="mitigations=off") if arm.name == "patched" else arm
        for arm in measured.run.arms
    )
    images = (baseline, patched._replace(objects_changed=0))
    context = replace(measured.run, images=images, arms=arms)
    assert notices(context) == notices(measured.run)
    text = render_text(context, ASSETS)
    assert "booted with mitigations=off" in " ".join(text.split())


def test_a_guest_of_another_size_is_not_told_to_be_as_the_others(measured: Case) -> None:
    words = "MiB of memory where an arm does not say otherwise"
    assert words not in " ".join(render_text(measured.run, ASSETS).split())
    arms = tuple(
        arm._replace(booting="1 vCPU", resized=True) if arm.name == "patched" else arm
        for arm in measured.run.arms
    )
    told = render_text(replace(measured.run, arms=arms), ASSETS)
    assert words in " ".join(told.split())


def test_the_gravest_comes_first(emulated: Case) -> None:
    context = replace(
        emulated.run, earlier_attempts=(EarlierAttempt("idle", 1, "now", "no reason"),)
    )
    order = [n.headline for n in notices(context)]
    ranks = [
        next(i for i, line in enumerate(order) if word in line)
        for word in ("invalid in", "Boots failed", "control arm", "expectation", "earlier attempt")
    ]
    assert ranks == sorted(ranks)


def test_hostile_details_are_escaped(splat: Case) -> None:
    validity = splat.frames.validity.assign(detail="BUG: <b>&amp; 100% _x_")
    run = splat.run.with_tables(validity=validity)
    from kdelta.report.html import render_html
    from kdelta.report.latex import LatexReport

    html = render_html(run, ASSETS, splat.folder / "figures")
    assert "first: block 1: BUG: &lt;b&gt;&amp;amp; 100% _x_." in html
    tex = LatexReport(run, ASSETS).paper(splat.folder / "figures")
    assert r"BUG: \textless{}b\textgreater{}\&amp; 100\% \_x\_." in tex
    assert "first: block 1: BUG: <b>&amp; 100% _x_." in " ".join(render_text(run, ASSETS).split())


def test_set_aside_is_counted_per_regime_arm_and_rule(emulated: Case) -> None:
    part = build_view(emulated.run).set_aside
    assert (part.total, part.samples) == (29, 216)
    idle, pressure = part.counts.groups
    assert part.counts.head[5:] == emulated.frames.rules
    assert emulated.frames.rules == (
        *("boot-failed", "closed-loop-identity", "oom-kill", "stressor-dead"),
    )
    # One sample of patched broke two rules: it is one sample.
    assert idle.rows[1] == ("patched", "4", "1", "36", "9", "8", "1", "1", "0")
    assert pressure.rows[0] == ("baseline", "4", "2", "36", "19", "18", "0", "0", "1")


def test_both_analyses_are_shown_where_samples_were_set_aside(splat: Case) -> None:
    part = build_view(splat.run).set_aside
    arm, without, verdict, every, verdict_all = part.overall.rows[0]
    row = splat.frames.overall_all.iloc[0]
    assert (arm, without, verdict) == ("patched", "n/a", "invalid")
    assert every.startswith(f"{row['delta_percent']:+.1f}% [")
    assert verdict_all == row["verdict"]
    assert part.changed_sentence == (
        "The overall verdict differs in 1 of 4 results: patched, No memory pressure (invalid "
        f"without, {row['verdict']} with them). The verdict on the throughput of 9 of 36 cells "
        "differs between the two analyses."
    )
    counts = [(row[3], row[4]) for row in part.changed.rows]
    assert sum(int(count.split()[0]) for count, _ in counts) == 9
    assert splat.html.count('<table class="deltas">') == 12
    assert "All tables with the samples that were set aside taken in" in splat.html


@pytest.mark.parametrize(
    ("without", "every", "told"),
    [("faster", "inconclusive", True), ("faster", "faster", False), ("invalid", "slower", False)],
)
def test_an_answer_that_rests_on_what_was_set_aside_is_told(
    without: str, every: str, told: bool, emulated: Case
) -> None:
    def verdict(table: pd.DataFrame, word: str) -> pd.DataFrame:
        here = table["regime"] == emulated.run.regimes[0].name
        return table.assign(verdict=here.map({True: word, False: "equivalent"}))

    frames = emulated.frames
    run = emulated.run.with_tables(
        overall=verdict(frames.overall, without), overall_all=verdict(frames.overall_all, every)
    )
    headline = (
        "The samples set aside decide the verdict: patched in No memory pressure (faster without "
        "them, inconclusive with all)"
    )
    assert (headline in [notice.headline for notice in notices(run)]) == told


def test_cells_that_change_are_listed_unless_all_of_an_arm_do(emulated: Case) -> None:
    part = build_view(emulated.run).set_aside
    rows = [(g.heading, *row) for g in part.changed.groups for row in g.rows]
    assert ("No memory pressure", "patched", "invalid", "inconclusive", "1 of 9", "1/1") in rows
    assert (
        *("Under memory pressure", "control", "invalid", "inconclusive", "9 of 9", "all cells"),
    ) in rows


def test_one_analysis_where_nothing_was_set_aside(measured: Case, tmp_path: Path) -> None:
    view = build_view(measured.run)
    assert not view.set_aside.any
    assert not view.set_aside.overall
    assert all(section.with_all == () for section in view.sections)
    assert "Both analyses" not in measured.html
