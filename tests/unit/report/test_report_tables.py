# SPDX-License-Identifier: GPL-2.0-only
"""The table model and the sentences, against the CSV files they come from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import Case, make_run
from report_synthetic import FLAGSHIP

from kdelta.report.context import Factor
from kdelta.report.tables import Precision, choose_precision, delta_tables
from kdelta.report.view import build_view
from tests.workloads import THROUGHPUT

WHOLE = Precision(0, {"throughput_mib_s": 0})


def test_every_cell_is_the_row_of_the_csv(measured: Case) -> None:
    regime, arm = measured.run.regimes[0], measured.run.treatments[0]
    (table,) = delta_tables(measured.run, regime, arm, THROUGHPUT, WHOLE)
    rows = measured.frames.deltas_of("idle", "patched", "throughput_mib_s")
    found = {(row["writers"], row["readers"]): row for row in rows.to_dict("records")}
    assert [c.row for c in table.cells] == [w for w in ("1", "2", "5") for _ in range(3)]
    assert table.columns == ("1", "5", "10")
    for cell in table.cells:
        row = found[(cell.row, cell.column)]
        assert cell.baseline == f"{row['baseline']:.0f}"
        assert cell.value == f"{row['value']:.0f}"
        assert cell.delta == f"{row['delta_percent']:+.0f}%"
        ends = (row["delta_low_percent"], row["delta_high_percent"])
        assert cell.interval == f"[{ends[0]:+.0f}, {ends[1]:+.0f}]"
        assert cell.verdict == row["verdict"]
        assert cell.blocks == 4
        assert not cell.short_of_blocks


def test_extra_factors_make_a_table_each(wide: Case) -> None:
    regime, arm = wide.run.regimes[0], wide.run.treatments[1]
    tables = delta_tables(wide.run, regime, arm, THROUGHPUT, WHOLE)
    assert [t.extra_label for t in tables] == [
        f"write size = {size}" for size in ("1 B", "4 KiB", "64 KiB", "128 KiB")
    ]
    assert all(len(t.cells) == 9 and all(c.measured for c in t.cells) for t in tables)


def test_lost_cell_is_missing_and_lost_boot_shortens_the_rest(emulated: Case) -> None:
    regime, arm = emulated.run.regimes[0], emulated.run.treatments[0]
    (table,) = delta_tables(emulated.run, regime, arm, THROUGHPUT, WHOLE)
    missing = [(c.row, c.column) for c in table.cells if not c.measured]
    assert missing == [("5", "10")]
    assert all(c.short_of_blocks for c in table.cells if c.measured)
    poor = next(c for c in table.cells if (c.row, c.column) == ("1", "1"))
    assert (poor.blocks, poor.interval, poor.verdict) == (2, "[n/a]", "invalid")
    assert (poor.mark, poor.set_aside_note) == ("x", "2 of 4 pairs set aside")


def test_a_planned_level_without_any_sample_is_missing(measured: Case) -> None:
    context = replace(
        measured.run,
        factors=(Factor("writers", "writers", "", ("1", "2", "5", "9")), Factor("readers", "r")),
    )
    regime, arm = context.regimes[0], context.treatments[0]
    (table,) = delta_tables(context, regime, arm, THROUGHPUT, WHOLE)
    assert [c.measured for c in table.rows[-1]] == [False, False, False]
    assert "no valid pair of samples in 3 of 12 cells of patched" in " ".join(
        build_view(context).weaknesses
    )


def test_one_factor_makes_one_column(tmp_path: Path) -> None:
    plan = replace(FLAGSHIP, matrix={"writers": (1, 2), "readers": (1,)})
    factors = (Factor("writers", "writers"),)
    context = make_run(plan, tmp_path, factors=factors, column_factor=None)
    regime, arm = context.regimes[0], context.treatments[0]
    (table,) = delta_tables(context, regime, arm, THROUGHPUT, WHOLE)
    assert table.columns == ("",)
    assert [c.measured for c in table.cells] == [True, True]


def test_answer_names_effect_interval_and_counts(measured: Case) -> None:
    view = build_view(measured.run)
    row = measured.frames.overall_of("idle", "patched", "throughput_mib_s")
    control = measured.frames.control_of("idle", "throughput_mib_s")
    assert row is not None
    assert control is not None
    assert view.sections[0].answers[0].sentence == (
        f"patched is faster than baseline: throughput {row['delta_percent']:+.1f}% "
        f"[{row['delta_low_percent']:+.1f}, {row['delta_high_percent']:+.1f}], "
        f"noise floor of a cell {control['noise_floor_percent']:.1f}% "
        "(95% interval, 9 cells, 4 blocks)."
    )


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("slower", "patched is slower than baseline"),
        ("equivalent", "patched equals baseline within 2%"),
        ("inconclusive", "patched against baseline: not settled"),
    ],
)
def test_answer_follows_the_verdict(measured: Case, verdict: str, words: str) -> None:
    overall = measured.frames.overall.assign(verdict=verdict, blocks_to_settle=17)
    view = build_view(measured.run.with_tables(overall=overall))
    sentence = view.sections[0].answers[0].sentence
    assert sentence.startswith(words)
    assert sentence.endswith("With this effect and spread about 17 blocks would settle it.")


def test_no_claim_without_an_interval(tmp_path: Path) -> None:
    plan = replace(FLAGSHIP, blocks=2)
    view = build_view(make_run(plan, tmp_path))
    sentence = view.sections[1].answers[0].sentence
    assert "no claim, too few blocks for an interval" in sentence
    assert "faster" not in sentence
    assert "slower" not in sentence


def test_emulation_comes_first_among_the_weaknesses(emulated: Case) -> None:
    weak = build_view(emulated.run).weaknesses
    assert weak[0].startswith("The numbers are emulated")
    assert "4 vCPUs on a host with 2 CPUs" in weak[1]
    table = emulated.frames.set_aside
    counts = {rule: int(table[rule].sum()) for rule in emulated.frames.rules}
    ordered = sorted(counts, key=lambda rule: -counts[rule])
    told, _, rest = weak[-1].removeprefix("29 of 216 planned samples set aside (").partition("): ")
    assert re.split(", | and ", told) == [f"{rule} {counts[rule]}" for rule in ordered]
    assert rest == (
        "19 of 72 of baseline, 9 of 72 of patched and 1 of 72 "
        "of control; the arms are not alike in this. The report has both analyses, with and "
        "without them."
    )


def test_a_run_without_control_says_so(measured: Case) -> None:
    arms = tuple(a for a in measured.run.arms if not a.is_control)
    view = build_view(replace(measured.run, arms=arms))
    assert "No control arm was run: the noise floor is unknown." in view.weaknesses
    assert all(group.control == "" for group in view.sections[0].main)


def test_precision_is_one_for_the_whole_report(measured: Case) -> None:
    precision = choose_precision(measured.run)
    assert precision.percent == 1
    assert precision.values["throughput_mib_s"] == 0
