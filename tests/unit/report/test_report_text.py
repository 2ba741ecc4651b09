# SPDX-License-Identifier: GPL-2.0-only
"""Plain text: the cover letter's form, loud when emulated, ASCII, within its width."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import ASSETS, NASTY, Case, make_run
from report_synthetic import FLAGSHIP

from kdelta.errors import KdeltaError
from kdelta.report.text import fold_command, render_text

PERCENT = r"[+-]\d+(?:\.\d)?"
CELL = rf"\d+ -> +\d+ \({PERCENT}% \[{PERCENT}, {PERCENT}\]\) *[+=~-]"


def table_lines(text: str, heading: str) -> list[str]:
    """The lines of the first table under a heading."""
    lines = text[text.index(heading) :].splitlines()[1:]
    return lines[: lines.index("")]


def test_form_of_the_cover_letter(measured: Case) -> None:
    assert "== No memory pressure (0.6 s per cell, 4 blocks) ==" in measured.text
    heading = "  Throughput in MiB/s (baseline -> patched, delta [95% interval]):"
    lines = table_lines(measured.text, heading)
    assert re.fullmatch(r"    writers  readers=1 +readers=5 +readers=10", lines[0])
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "5"]
    for line in lines[1:]:
        assert len(re.findall(CELL, line)) == 3, line
    starts = {tuple(m.start() for m in re.finditer("->", line)) for line in lines[1:]}
    assert len(starts) == 1, "columns are not aligned"


def test_both_metrics_and_regimes_are_there_with_overall_and_control(measured: Case) -> None:
    assert measured.text.count("Throughput in MiB/s (") == 2
    assert measured.text.count("Mean write latency in ns (") == 2
    overall = rf"  Overall: throughput {PERCENT}% \[{PERCENT}, {PERCENT}\] over 9 cells"
    assert len(re.findall(overall, measured.text)) == 2
    assert measured.text.count("Control arm (true effect zero): overall") == 4
    assert measured.text.count("Noise floor ") == 4
    assert "No sample was set aside: all 216 planned samples passed" in measured.text
    assert "WARNINGS" not in measured.text


def test_what_a_regime_did_is_told_where_something_was_expected(measured: Case) -> None:
    """Under its heading; the other regime's counters stand by themselves."""
    expected = set(measured.frames.expectations["regime"])
    assert len(expected) < len(measured.run.regimes)
    after = measured.text.split("What the regime did:\n")[1:]
    assert len(after) == len(expected) > 0
    for text in after:
        assert re.match(r"  (Met|Not met): ", text)
    assert measured.text.count("Kernel counters in ") == len(measured.run.regimes)
    assert "\n\n\n  " not in measured.text


def test_emulation_is_the_first_thing_said(measured: Case, emulated: Case) -> None:
    first = emulated.text.splitlines()[:6]
    assert first[0] == "#" * 78
    assert "EMULATED (TCG): not a measurement" in first[1]
    box = " ".join(line.strip("# ") for line in emulated.text.splitlines()[:9])
    assert "Reason: /dev/kvm exists, but the built kernel did not boot with it." in box
    assert "EMULATED" not in measured.text


def test_missing_cells_and_intervals_are_said(emulated: Case) -> None:
    text = render_text(emulated.run, ASSETS, width=300)
    lines = table_lines(text, "  Throughput in MiB/s (")
    assert lines[3].endswith("missing")
    assert re.search(r"\( *-\d+% \[n/a\]\) +x\*", lines[1])
    assert "[n/a] too few blocks for an interval" in " ".join(text.split())
    assert "* fewer than the 4 planned blocks" in " ".join(text.split())
    assert "x invalid (too many samples set aside)" in " ".join(text.split())
    assert "29 of 216 planned samples set aside." in text


def test_hostile_title_is_plain_text(emulated: Case) -> None:
    assert " ".join(NASTY.split()) in " ".join(emulated.text.split())


def test_own_words_are_ascii(measured: Case, wide: Case, axes: Case, four: Case) -> None:
    for case in (measured, wide, axes, four):
        assert case.text.isascii()


@pytest.mark.parametrize("width", [60, 78, 100, 160])
def test_tables_keep_to_the_width(
    emulated: Case, wide: Case, axes: Case, four: Case, width: int
) -> None:
    for case in (emulated, wide, axes, four):
        text = render_text(case.run, ASSETS, width=width)
        too_long = [
            line
            for line in text.splitlines()
            if len(line) > max(width, 78) and not line.startswith("Reproduce")
        ]
        assert too_long == []


def test_prose_fits_a_narrow_terminal(emulated: Case) -> None:
    """The box too: a terminal that wraps it shows no box."""
    text = render_text(emulated.run, ASSETS, width=60)
    box = text.splitlines()[: text.splitlines().index("")]
    assert {len(line) for line in box} == {60}
    prose = [line for line in text.splitlines() if not line.startswith(("==", "    "))]
    assert max(map(len, prose)) <= 60


def test_a_level_and_its_unit_stay_in_one_line(wide: Case) -> None:
    """A heading that ends in `write size = 4` and goes on with `KiB` is misread."""
    for width in (40, 60, 78):
        text = render_text(wide.run, ASSETS, width=width)
        assert not re.search(r"= \d+$", text, re.MULTILINE)


def test_narrow_text_holds_the_same_cells(measured: Case) -> None:
    narrow = render_text(measured.run, ASSETS, width=60)
    pairs = re.compile(r"\d+ +-> +\d+")
    effects = re.compile(rf"{PERCENT}% \[{PERCENT}, {PERCENT}\]")

    def found(text: str) -> set[str]:
        words = " ".join(text.split())  # prose is folded elsewhere
        found = pairs.findall(words) + effects.findall(words)
        return {" ".join(cell.split()) for cell in found}

    assert found(narrow) == found(measured.text)
    assert len(found(narrow)) >= 36


def test_one_table_per_arm_and_extra_level(wide: Case) -> None:
    for arm in ("bulk", "loop"):
        assert wide.text.count(f"Throughput in MiB/s (baseline -> {arm}, ") == 3 * 4
    assert "(baseline -> control" not in wide.text
    assert wide.text.count("write size = 4 KiB:") == 3 * 2 * 2


def test_two_blocks_give_no_interval(tmp_path: Path) -> None:
    text = render_text(make_run(replace(FLAGSHIP, blocks=2), tmp_path), ASSETS)
    tables = [line for line in text.splitlines() if "->" in line and line.startswith("      ")]
    assert len(tables) == 12
    assert all(line.count("[n/a]") == 3 for line in tables)
    answer = text.partition("Answer:")[2].partition("What weakens it:")[0]
    assert answer.count("[n/a]") == 4  # of the arm and of the control, in two regimes


def test_same_input_same_text(measured: Case) -> None:
    assert render_text(measured.run, ASSETS) == measured.text


def test_wrong_assets_folder_is_named(measured: Case) -> None:
    with pytest.raises(KdeltaError, match="templates: no such folder"):
        render_text(measured.run, ASSETS / "style")


@pytest.mark.parametrize("width", [20, 40, 60, 200])
@pytest.mark.parametrize("words", [["snakemake", "--config", "experiment=my own/a.yaml", "b=c"]])
def test_a_folded_command_is_the_same_command(words: list[str], width: int) -> None:
    folded = fold_command(f"run {shlex.join(words)}", "Reproduce: ", "  ", width)
    command = folded.removeprefix("Reproduce: ")
    done = subprocess.run(
        ["bash", "-c", f"run() {{ printf '%s\\n' \"$@\"; }}\n{command}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == words
    longest = max(len(shlex.quote(word)) for word in words)
    assert max(map(len, folded.splitlines())) <= max(width, longest + 4)
