# SPDX-License-Identifier: GPL-2.0-only
"""What the regimes did, the mechanism, claims and negative controls: numbers into sentences."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from report_cases import Case

from kdelta.report.mechanism import share_before, wait_ratios
from kdelta.report.pressure import expectations
from kdelta.report.sentences import acceleration_label, magnitude
from kdelta.report.view import View, build_view


def view_of(case: Case, **tables: pd.DataFrame) -> View:
    """The view of a case with some of its tables replaced."""
    return build_view(case.run.with_tables(**tables))


def test_met_expectation_counts_every_arm_at_once_where_they_are_alike(measured: Case) -> None:
    first, second = expectations(measured.run, measured.run.regimes[1])
    assert first.met
    assert first.sentence == (
        "Met: direct reclaim (pgscan_direct at least 1 in 95% of samples): 36 of 36 samples in "
        "each of baseline, patched and control."
    )
    assert second.sentence.startswith("Met: OOM kills (oom_kill at most 0 in every sample): ")
    assert expectations(measured.run, measured.run.regimes[0]) == ()


def test_unmet_expectation_says_what_was_measured_instead_and_where_it_was_met(
    measured: Case,
) -> None:
    table = measured.frames.expectations.copy()
    one = (table["arm"] == "patched") & (table["counter"] == "pgscan_direct")
    table.loc[one, ["samples_met", "met", "median", "lowest", "highest"]] = [3, False, 0, 0, 41]
    run = measured.run.with_tables(expectations=table)
    first, _ = expectations(run, run.regimes[1])
    assert not first.met
    assert first.sentence == (
        "Not met: direct reclaim (pgscan_direct at least 1 in 95% of samples) was seen in 3 of 36 "
        "samples of patched; measured: median 0, lowest 0, highest 41. Met in 36 of 36 samples in "
        "each of baseline and control."
    )


def test_a_counter_that_the_kernel_lacks_is_said(measured: Case) -> None:
    table = measured.frames.expectations.copy()
    table = table.assign(median=float("nan"), lowest=float("nan"), highest=float("nan"), met=False)
    run = measured.run.with_tables(expectations=table)
    first, _ = expectations(run, run.regimes[1])
    assert "measured: nothing (no sample has this counter)." in first.sentence


def test_counters_are_means_over_cells_and_oom_kills_a_sum(measured: Case) -> None:
    table = measured.frames.pressure.copy()
    patched = (table["regime"] == "memory-pressure") & (table["arm"] == "patched")
    table.loc[patched, "oom_kill"] = range(9)
    panel = view_of(measured, pressure=table).sections[1].pressure
    row = dict(zip(panel.arms.head, panel.arms.rows[1], strict=True))
    assert row["arm"] == "patched"
    assert row["samples"] == "36"
    assert row["OOM kills"] == "36"
    scans = pd.to_numeric(table.loc[patched, "pgscan_direct_per_s"]).mean()
    assert row["pages scanned directly/s"] == f"{scans:.0f}"
    assert [group.heading for group in panel.cells.groups] == ["baseline", "patched", "control"]
    assert [row[-1] for row in panel.cells.groups[1].rows] == [str(n) for n in range(9)]


def test_a_missing_counter_is_not_zero(measured: Case) -> None:
    panel = view_of(measured).sections[0].pressure
    row = dict(zip(panel.arms.head, panel.arms.rows[0], strict=True))
    assert (row["pages swapped in/s"], row["allocation stalls/s"]) == ("n/a", "0")


def test_share_of_pages_weighs_cells_by_their_writes() -> None:
    rows = pd.DataFrame(
        {
            "writes": [100, 300],
            "pages_before_lock_per_write": [16.0, 0.0],
            "pages_under_lock_per_write": [0.0, 16.0],
        }
    )
    assert share_before(rows) == pytest.approx(0.25)
    assert share_before(rows.iloc[:0]) != share_before(rows.iloc[:0]), "no page, no share"


def test_wait_ratios_are_by_cell_and_leave_out_cells_without_wait() -> None:
    base = pd.DataFrame({"writers": ["1", "2", "5"], "wait_us_per_write": [10.0, 0.0, 40.0]})
    arm = pd.DataFrame({"writers": ["5", "2", "1"], "wait_us_per_write": [10.0, 3.0, 20.0]})
    assert sorted(wait_ratios(arm, base, ["writers"])) == [0.25, 2.0]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (16.0, "patched: allocation left the critical section."),
        (0.0, "patched: allocation did not leave the critical section."),
        (4.0, "left the critical section in part, 75% of the pages are under it."),
    ],
)
def test_the_story_follows_the_pages(measured: Case, before: float, words: str) -> None:
    table = measured.frames.mechanism.copy()
    patched = table["arm"] == "patched"
    table.loc[patched, "pages_before_lock_per_write"] = before
    table.loc[patched, "pages_under_lock_per_write"] = 16 - before
    part = view_of(measured, mechanism=table).mechanism
    assert part is not None
    regime, sentences = part.sentences[0]
    assert regime.name == "idle"
    assert any(sentence.endswith(words) for sentence in sentences)


def test_waits_are_ratios_without_interval_and_say_so(measured: Case) -> None:
    part = view_of(measured).mechanism
    assert part is not None
    waits = part.sentences[0][1][-1]
    assert "patched 0.5" in waits
    assert "below 1 in 9 of 9 cells; control" in waits
    assert waits.endswith("(one traced boot per arm, no interval, not a measurement of speed).")


def test_pages_are_told_by_write_size_where_it_is_a_factor(axes: Case) -> None:
    part = view_of(axes).mechanism
    assert part is not None
    _, sentences = part.sentences[1]
    assert sentences[1].endswith(
        "before the lock by write size: 1 B 0%, 4 KiB 0%, 8 KiB 50%, 32 KiB 12%, 64 KiB 6%, "
        "128 KiB 3%."
    )


def test_lost_events_and_failed_traces_are_said(measured: Case) -> None:
    table = measured.frames.mechanism.copy()
    table.loc[table.index[:2], "lost_events"] = [5, 7]
    table.loc[table.index[9:10], "status"] = "failed"
    part = view_of(measured, mechanism=table).mechanism
    assert part is not None
    assert part.problems == (
        "No memory pressure, baseline: the trace buffer lost 12 events in 2 of 9 cells: these "
        "counts are too low.",
        "No memory pressure, patched: the trace failed in 1 of 9 cells.",
    )


def test_no_mechanism_without_traced_boots(measured: Case, wide: Case) -> None:
    assert view_of(measured, mechanism=measured.frames.mechanism.iloc[:0]).mechanism is None
    assert "== Mechanism ==" in measured.text
    assert "== Mechanism ==" not in wide.text


def test_claims_are_counted_per_metric_and_shown_per_cell(measured: Case) -> None:
    table = measured.frames.claims.copy()
    throughput = table["metric"] == "throughput_mib_s"
    statuses = ["reproduced"] * 9 + ["same direction"] * 4 + ["not settled"] * 3
    table.loc[throughput, "status"] = [*statuses, "contradicted", "not measured"]
    check = view_of(measured, claims=table).claims
    assert check is not None
    assert check.sentences[0] == (
        "Throughput: of 18 published cells, 9 reproduced, 4 same direction, 3 not settled, "
        "1 contradicted, 1 not measured."
    )
    assert check.sentences[1].endswith("it repeats the throughput and is no second finding.")
    assert [group.heading for group in check.cells.groups][:2] == [
        "No memory pressure, throughput in MiB/s",
        "Under memory pressure, throughput in MiB/s",
    ]
    first = table.iloc[0]
    row = check.cells.rows[0]
    assert row[:5] == ("1", "1", "patched", "1119 -> 1287", "+15%")
    assert row[5].startswith(f"{first['delta_percent']:+.1f}% [")
    assert row[6] == "reproduced"
    assert check.source == "the cover letter of the series"
    assert ("vCPUs", "16", "2") in check.setup.rows


def test_claims_checked_under_emulation_say_so(measured: Case) -> None:
    context = replace(measured.run, acceleration="tcg")
    check = build_view(context).claims
    assert check is not None
    assert check.sentences[0].startswith("Throughput, under emulation: of 18 published cells, ")
    assert check.cells.caption.startswith(
        "Published deltas and this run's [95% interval over at most 4 blocks]; acceleration: "
        "emulated (TCG). "
    )


def test_every_grid_of_numbers_says_how_they_came_about(emulated: Case, axes: Case) -> None:
    for case in (emulated, axes):
        view = view_of(case)
        grids = [g for s in view.sections for g in (s.pressure.arms, s.pressure.cells)]
        grids += [view.set_aside.overall] if view.set_aside.any else []
        assert view.mechanism is not None
        grids += [view.mechanism.pages, view.mechanism.waits, *view.mechanism.cells]
        grids += [*view.negative_controls.grids] if view.negative_controls else []
        label = acceleration_label(case.run)
        assert len(grids) > 6
        assert all(f"acceleration: {label}" in grid.caption for grid in grids)


def test_a_claim_in_a_regime_that_was_not_run_still_shows(measured: Case) -> None:
    table = measured.frames.claims.iloc[:1].assign(
        regime="elsewhere", status="not measured", delta_percent=float("nan")
    )
    check = view_of(measured, claims=table).claims
    assert check is not None
    assert check.cells.groups[0].heading.startswith("elsewhere, ")
    assert check.cells.rows[0][-2:] == ("n/a", "not measured")


def test_the_boot_order_has_a_row_per_regime_and_says_whether_it_matters(axes: Case) -> None:
    part = view_of(axes).boot_order
    assert [row[0] for row in part.grid.rows] == [r.title for r in axes.run.regimes]
    assert {row[1:4] for row in part.grid.rows} == {("+0.4% [-0.7, +1.5]", "0.840", "0.1%")}
    regimes = len(part.grid.rows)
    noun = "regime" if regimes == 1 else "regimes"
    assert part.sentence.endswith(
        f"It is more than noise in 0 of {regimes} {noun} with an interval."
    )
    unknown = axes.frames.position.assign(p_holm=math.nan, position_low_percent=math.nan)
    part = view_of(axes, position=unknown).boot_order
    assert part.sentence.endswith("No regime has blocks enough to tell it from noise.")


def test_negative_controls_are_counted_with_their_reason(axes: Case) -> None:
    part = view_of(axes).negative_controls
    assert part is not None
    counts = axes.frames.negative_controls["status"].value_counts()
    assert f"32 in all regimes and arms together: {counts.get('held', 0)} held, " in part.sentence
    assert f"{counts.get('broken', 0)} broken" in part.sentence
    (grid,) = part.grids
    assert "one page or less is allocated either way." in grid.caption
    assert len(grid.rows) == 32
    assert grid.rows[0][:3] == ("1 B", "false", "false")


def test_parts_without_rows_are_left_out(wide: Case) -> None:
    view = view_of(wide)
    assert (view.claims, view.negative_controls, view.mechanism) == (None, None, None)
    for heading in ("Claim check", "Negative controls", "Mechanism"):
        assert f"== {heading} ==" not in wide.text


def test_environment_lists_what_was_set_and_what_could_not_be(measured: Case) -> None:
    for case_text in (measured.text, measured.html, measured.tex):
        words = " ".join(case_text.split())
        assert "governor of CPU 0 and 1" in words
        assert "performance" in words
        assert "the host has 1 physical core, the guest 2 vCPUs" in words
    bare = replace(measured.run, environment_set=(), environment_not_set=())
    assert build_view(bare).environment == ()


def test_a_hopeless_noise_floor_is_no_exact_number() -> None:
    assert magnitude(746603.2) == ">1000%"
    assert magnitude(1000) == "1000%"
    assert magnitude(-43.26) == "43.3%"
    assert magnitude(math.nan) == "unknown"
