# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter of made-up runs: what comes first, what is never left out, how wide it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import make_run
from report_facts import make_context
from report_synthetic import AXES, FLAGSHIP, FOUR, GAPS, WIDE, Plan

from kdelta.errors import KdeltaError
from kdelta.mail.choice import read_prose
from kdelta.mail.cover import Letter, render_cover
from kdelta.report.frames import load_frames
from kdelta.report.mechanism import mechanism
from kdelta.report.pressure import expectations

TEMPLATES = Path(__file__).resolve().parents[3] / "report" / "mail"
KERNEL = "Linux 6.12.117 (linux-source-6.12 6.12.117-1)"
TREE = "23481b65e33b461f4934938716acfba8fe6d61dd"
PROSE = "Dear all,\n\n    an indented line, {{ braces }} and {% tags %}\n<script>alert(1)</script>"
EMULATED = {"acceleration": "tcg", "acceleration_reason": "no /dev/kvm", "vcpus": 4}


def letter(arm: str = "patched", commit: str | None = None) -> Letter:
    return Letter(
        prose=PROSE,
        arm=arm,
        kernel=KERNEL,
        commit=commit,
        tree=TREE,
        sign_off="Zoë Sender <zoe@example.org>",
    )


def cover(plan: Plan, folder: Path, said: Letter | None = None, **changes: object) -> str:
    return render_cover(make_run(plan, folder, **changes), said or letter(), TEMPLATES)


def test_the_authors_prose_comes_first_and_as_it_is(tmp_path: Path) -> None:
    assert cover(FLAGSHIP, tmp_path).startswith(f"{PROSE}\n\n== Results ==\n")


def test_an_emulated_run_says_so_right_after_the_prose(tmp_path: Path) -> None:
    text = cover(FLAGSHIP, tmp_path, **EMULATED)
    rest = text.removeprefix(f"{PROSE}\n\n")
    assert rest.startswith("== EMULATED (TCG): not a measurement of kernel performance ==\n")
    # Git drops lines that begin with this where a cover letter becomes a merge's message.
    assert not re.search(r"^#", text, re.MULTILINE)
    assert "The numbers are emulated" in text


@pytest.mark.parametrize("plan", [FLAGSHIP, GAPS, AXES, FOUR, WIDE], ids=str)
def test_lines_fit_a_mail(plan: Plan, tmp_path: Path) -> None:
    arm = plan.arms[1]
    text = cover(plan, tmp_path, letter(arm), **EMULATED)
    assert max(map(len, text.split("\n"))) <= 75
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


def test_it_has_every_throughput_delta_with_its_interval(tmp_path: Path) -> None:
    text = cover(FLAGSHIP, tmp_path)
    frames = load_frames(tmp_path)
    cells = len(FLAGSHIP.cells)
    assert text.count(" -> ") == 2 * cells + 2  # regimes; and the headings
    row = frames.deltas_of("idle", "patched", "throughput_mib_s").iloc[0]
    assert re.search(rf"{row['baseline']:.0f} -> +{row['value']:.0f}", text)
    assert f"[{row['delta_low_percent']:+.1f}, {row['delta_high_percent']:+.1f}]" in text
    for words in ("4 blocks", "Marks: + faster", "its true effect is zero", "no second finding"):
        assert words in " ".join(text.split())


def test_a_metric_without_a_table_has_its_line(tmp_path: Path) -> None:
    """In a closed loop latency repeats throughput: a line tells it, unless a table is asked for."""
    text = cover(FLAGSHIP, tmp_path)
    row = load_frames(tmp_path).overall_of("idle", "patched", "latency_mean_ns")
    assert row is not None
    said = (
        f"Mean write latency overall {row['delta_percent']:+.1f}% "
        f"[{row['delta_low_percent']:+.1f}, {row['delta_high_percent']:+.1f}]: {row['verdict']}."
    )
    assert said in " ".join(text.split())
    both = replace(letter(), tables=("throughput_mib_s", "latency_mean_ns", "latency_p99_ns"))
    text = cover(FLAGSHIP, tmp_path / "both", both)
    assert text.count(" -> ") == 3 * (2 * len(FLAGSHIP.cells) + 2)
    assert "99th percentile of write latency in ns (baseline -> patched" in text
    assert text.count("\nCells (throughput): ") == 2


def test_nothing_is_told_twice(tmp_path: Path) -> None:
    """A list's readers skim: the noise floor is explained once and told once a regime."""
    words = " ".join(cover(GAPS, tmp_path).split())
    run = make_run(GAPS, tmp_path)
    assert words.count("Noise floor:") == 1
    answered = [
        regime
        for regime in run.regimes
        if f"{regime.title}: patched against baseline: invalid" not in words
    ]
    assert words.count("noise floor ") == len(answered) == 1
    for regime in run.regimes:
        for expectation in expectations(run, regime):
            assert words.count(expectation.sentence) == (not expectation.met)


def test_expectations_that_were_met_are_told_shortly(tmp_path: Path) -> None:
    text = " ".join(cover(FLAGSHIP, tmp_path).split())
    rows = load_frames(tmp_path).expectations
    assert rows["met"].all()
    assert text.count("As meant, in every arm: ") == rows["regime"].nunique()
    for counter in rows["counter"].unique():
        assert counter in text


def test_the_mechanism_is_one_table(tmp_path: Path) -> None:
    """Of each arm the share of pages before the lock and the wait, as the report has them."""
    text = cover(FLAGSHIP, tmp_path)
    part = mechanism(make_run(FLAGSHIP, tmp_path))
    assert part is not None
    rows = [(p[0], p[1], w[-1]) for p, w in zip(part.pages.rows, part.waits.rows, strict=True)]
    assert rows[1][0] == "patched"
    assert rows[1][1].endswith("%")
    table = text.partition("== Mechanism")[2]
    for row in rows:
        assert re.search(rf"^ +{' +'.join(map(re.escape, row))}$", table, re.MULTILINE)


def test_weak_cells_are_counted_over_all_regimes(tmp_path: Path) -> None:
    weak = " ".join(cover(GAPS, tmp_path).partition("== What weakens this ==")[2].split())
    rows = load_frames(tmp_path).deltas
    rows = rows[(rows["arm"] == "patched") & (rows["metric"] == "throughput_mib_s")]
    cells = len(GAPS.cells) * len(GAPS.regimes)
    empty = cells - int((rows["blocks"] > 0).sum())
    assert empty
    assert f"Of patched's {cells} cells (throughput), " in weak
    assert f"{empty} without a single valid pair of samples" in weak


def test_the_flagships_letter_is_short(tmp_path: Path) -> None:
    """Two regimes with a table each: a reader need not page for long."""
    text = cover(FLAGSHIP, tmp_path, **EMULATED)
    assert len(text.splitlines()) < 130


def test_it_tells_what_weakens_it(tmp_path: Path) -> None:
    text = cover(GAPS, tmp_path)
    weak = " ".join(
        text.partition("== What weakens this ==")[2].partition("== Set-up ==")[0].split()
    )
    assert "Boots failed" in weak
    assert "expectation of the regime not met" in weak
    aside = load_frames(tmp_path).set_aside
    assert f"{aside['set_aside'].sum()} of {aside['samples'].sum()} planned samples set" in weak
    assert "With all of them taken in:" in weak
    # The report's words for what the mail has elsewhere.
    assert "are below" not in weak


def test_tables_are_of_the_mailed_arm_alone(tmp_path: Path) -> None:
    text = cover(FOUR, tmp_path, letter("bulk"))
    assert "baseline -> bulk" in text
    assert "baseline -> loop" not in text
    others = text.partition("== Other arms, measured in the same blocks ==")[2]
    assert "loop" in others.partition("==")[0]
    assert "bulk" not in others.partition("==")[0]
    # A boot of the other arm failed: no matter of this series.
    assert "Boots failed" not in text


def test_with_one_arm_there_are_no_others(tmp_path: Path) -> None:
    assert "Other arms" not in cover(FLAGSHIP, tmp_path)


def test_a_commit_to_base_on(tmp_path: Path) -> None:
    commit = "e98d21c170b01ddef366f023bbfcf6b31509fa83"
    text = cover(FLAGSHIP, tmp_path, letter(commit=commit))
    assert text.endswith(
        f"\nSigned-off-by: Zoë Sender <zoe@example.org>\n---\nbase-commit: {commit}"
    )


def test_no_commit_is_made_up_where_there_is_none(tmp_path: Path) -> None:
    text = cover(FLAGSHIP, tmp_path)
    assert "base-commit:" not in text
    assert f"Based on {KERNEL}" in " ".join(text.split())
    assert text.endswith(f"\n  {TREE}")


def test_nothing_is_read_as_a_template(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script> & 100% _x_ {{ 7 * 7 }} µs"
    plan = replace(FLAGSHIP)
    context = make_context(plan)
    regime = context.regimes[0]._replace(title=nasty, description=nasty)
    text = cover(plan, tmp_path, regimes=(regime, *context.regimes[1:]))
    assert f"== {nasty} (0.6 s per cell, 4 blocks) ==" in text
    assert text.count("{{ 7 * 7 }}") >= 3


def test_blanks_at_line_ends_of_prose_go(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_bytes(b"\n\nDear all,  \r\n\n  this\t\n\n\n")
    assert read_prose(path, "prose.txt") == "Dear all,\n\n  this"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file.*as plain text"), (b" \n", "is empty"), (b"\xff", "is not UTF-8")],
)
def test_prose_that_cannot_be_taken(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "prose.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KdeltaError, match=f"mail.prose: config/prose.txt .*{said}"):
        read_prose(path, "config/prose.txt")
