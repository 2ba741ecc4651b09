# SPDX-License-Identifier: GPL-2.0-only
"""Macros and pieces for a paper of one's own: names, numbers, and that they compile."""

from __future__ import annotations

import re
import subprocess
from itertools import combinations, product
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import ASSETS, Case

from kdelta.report.latex import LatexReport
from kdelta.report.macros import Names, macros, plain, spell
from kdelta.report.pdf import compile_pdf
from tests.workloads import METRICS

# Words that a macro's name is made of, and characters that are spelled out as such words.
WORDS = ("overall", "word", "throughput", "latency", "dash", "dot", "one", "nine", "bulk", "x")
NAMES = st.text("ab19-._", min_size=1, max_size=6) | st.lists(
    st.sampled_from([*WORDS, "-", ".", "_", "1"]), min_size=1, max_size=5
).map("".join)
NAMED = Names(METRICS)
WHAT = ("", "Low", "High", "Verdict", "Blocks", "Cells")
DEFINITION = re.compile(r"^\\newcommand\{\\(\w+)\}\{(.*)\}$", re.M)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("bulk", "Bulk"),
        ("memory-pressure", "MemoryPressure"),
        ("6.12", "SixDotOneTwo"),
        ("loop-2", "LoopDashTwo"),
        ("a_b", "AUnderscoreB"),
        ("overall-one", "OverallWordOneWord"),
        ("a--b", "ADashDashB"),
    ],
)
def test_names_are_spelled(name: str, spelled: str) -> None:
    assert spell(name) == spelled


def test_other_characters_have_no_spelling() -> None:
    with pytest.raises(ValueError, match="'é' has no spelling"):
        spell("caf\N{LATIN SMALL LETTER E WITH ACUTE}")


@given(NAMES, NAMES)
def test_two_names_are_never_spelled_alike(one: str, other: str) -> None:
    assert spell(one).isalpha()
    assert spell(one).isascii()
    assert (spell(one) == spell(other)) == (one == other)


@given(st.sets(NAMES, min_size=1, max_size=3), st.sets(NAMES, min_size=1, max_size=3))
def test_no_two_macros_share_a_name(arms: set[str], regimes: set[str]) -> None:
    metrics = [metric.name for metric in METRICS]
    found = [NAMED.overall(*parts) for parts in product([*arms, ""], regimes, metrics, WHAT)]
    found += [NAMED.noise_floor(*parts) for parts in product(regimes, metrics)]
    found += [NAMED.claims(*parts) for parts in product(metrics, ("", "reproduced", "not settled"))]
    found += [plain(what) for what in ("Blocks", "Cells", "Acceleration", "EmulatedMark")]
    assert all(re.fullmatch("kd[A-Za-z]+", name) for name in found)
    assert len(found) == len(set(found))


def definitions(case: Case) -> dict[str, str]:
    """The macros of a run as its file defines them."""
    text = (case.folder / "report" / "macros.tex").read_text()
    found = DEFINITION.findall(text)
    assert len(found) == len(dict(found)) == text.count(r"\newcommand")
    return dict(found)


def number(body: str) -> float:
    """A per cent number as LaTeX."""
    match = re.match(r"(\+|\\ensuremath\{-\})([\d.]+)\\%", body)
    assert match, body
    return float(match[2]) * (-1 if "-" in match[1] else 1)


def test_every_headline_number_is_there(emulated: Case, measured: Case) -> None:
    for case in (emulated, measured):
        found = definitions(case)
        table = pd.read_csv(case.folder / "tables" / "overall.csv", keep_default_na=False)
        checked = 0
        for row in table.to_dict("records"):
            name = NAMED.overall(row["arm"], row["regime"], row["metric"])
            if row["verdict"] == "invalid" or row["ratio"] == "":
                assert found[name] == "no result"
                continue
            assert found[f"{name}Verdict"] == row["verdict"]
            assert found[f"{name}Blocks"] == str(row["blocks"])
            assert number(found[name]) == pytest.approx(float(row["delta_percent"]), abs=0.051)
            if row["delta_low_percent"] != "":
                low, high = (float(row[f"delta_{end}_percent"]) for end in ("low", "high"))
                assert number(found[f"{name}Low"]) == pytest.approx(low, abs=0.051)
                assert number(found[f"{name}High"]) == pytest.approx(high, abs=0.051)
            checked += 1
        assert checked >= 4
        floors = pd.read_csv(case.folder / "tables" / "control.csv")
        for row in floors.to_dict("records"):
            if row["noise_floor_percent"] == row["noise_floor_percent"] < 100:
                text = found[NAMED.noise_floor(row["regime"], row["metric"])]
                assert float(text.removesuffix(r"\%")) == pytest.approx(
                    row["noise_floor_percent"], abs=0.051
                )


def test_a_number_of_an_emulated_run_says_so(emulated: Case, measured: Case) -> None:
    for case, mark in ((emulated, "~(emulated)"), (measured, "")):
        found = definitions(case)
        assert found["kdEmulatedMark"] == mark
        values = [
            body
            for name, body in found.items()
            if "Overall" in name and name.endswith(("Throughput", "LatencyMean"))
        ]
        marked = [b.endswith(r"\kdEmulatedMark{}") for b in values if b[0] in "+\\" and "%" in b]
        assert marked
        assert all(marked)


def test_the_short_form_is_the_claimed_arm(measured: Case) -> None:
    claimed = measured.frames.claims["arm"]
    first = str(claimed.iloc[0]) if len(claimed) else measured.run.treatments[0].name
    found = {macro.name: macro.body for macro in macros(measured.run)}
    regime = measured.run.regimes[0].name
    short = NAMED.overall("", regime, "throughput_mib_s")
    assert found[short] == "\\" + NAMED.overall(first, regime, "throughput_mib_s")


def test_the_paper_takes_its_answer_from_the_macros(measured: Case) -> None:
    answer = measured.tex[measured.tex.index(r"\section*{Answer}") :].split(r"\section*")[1]
    regimes = [regime.name for regime in measured.run.regimes]
    for regime in regimes:
        assert NAMED.overall("", regime, "throughput_mib_s") + "{}" in answer
    sentences = re.findall(r"throughput (.*?) \(", answer)
    assert sentences
    assert not any(re.search(r"\d", sentence) for sentence in sentences), "typed by hand"


def own_paper(case: Case, folder: Path, files: list[Path], packages: set[str]) -> str:
    """A minimal document of somebody else that takes files in; returns the text of its PDF."""
    uses = "".join(rf"\usepackage{{{name}}}" for name in sorted(packages))
    tables = "\n".join(rf"\begin{{center}}\input{{{file}}}\end{{center}}" for file in files)
    macro_file = case.folder / "report" / "macros.tex"
    names = "\n\n".join(rf"{name}: \{name}" for name in definitions(case))
    source = folder / "own.tex"
    source.write_text(
        rf"""\documentclass{{article}}\usepackage[T1]{{fontenc}}\usepackage{{lmodern}}{uses}
\usepackage[paperwidth=60cm,paperheight=200cm,margin=1cm]{{geometry}}
\input{{{macro_file}}}\begin{{document}}{tables} {names}\end{{document}}""",
        encoding="utf-8",
    )
    compile_pdf(source, folder / "own.pdf")
    text = subprocess.run(
        ["pdftotext", "-layout", folder / "own.pdf", "-"], capture_output=True, check=True
    )
    return " ".join(text.stdout.decode().split())


def test_pieces_compile_with_what_they_name(emulated: Case, tmp_path: Path) -> None:
    files = sorted((emulated.folder / "report" / "tables").glob("*.tex"))
    kinds = {file.name.split("-")[0].removesuffix(".tex") for file in files}
    assert {"delta", "overall", "pressure", "set", "claims", "mechanism"} <= kinds
    needed: set[str] = set()
    for file in files:
        (line,) = re.findall(r"^% Needs: (.*)$", file.read_text(), re.M)
        named = set(re.findall(r"\\usepackage(?:\[\w+\])?\{(\w+)\}", line))
        assert "booktabs" in named
        assert named <= {"booktabs", "array", "fontenc"}
        needed |= named - {"fontenc"}
    words = own_paper(emulated, tmp_path, files, needed)
    assert words.count("cceleration: emulated (TCG)") >= len(files)
    assert words.count("n = ") == len([f for f in files if f.name.startswith("delta-")])
    found = definitions(emulated)
    assert f"kdAcceleration: {found['kdAcceleration']}" in words


def test_a_piece_per_table_each_with_its_numbers(measured: Case) -> None:
    folder = measured.folder / "report" / "tables"
    deltas = measured.frames.deltas
    treatments = [arm.name for arm in measured.run.treatments]
    keys = deltas[deltas["arm"].isin(treatments)].groupby(["regime", "metric", "arm"])
    assert len(list(folder.glob("delta-*.tex"))) == len(keys)
    regime = measured.run.regimes[0].name
    text = (folder / f"delta-{regime}-throughput-{treatments[0]}.tex").read_text()
    rows = keys.get_group((regime, "throughput_mib_s", treatments[0]))
    for row in rows.to_dict("records"):
        baseline, value = (f"{float(row[c]):.0f}" for c in ("baseline", "value"))
        assert re.search(rf"{baseline}\S* \\ensuremath{{\\rightarrow}} {value}", text)


def test_several_tables_of_one_metric_have_names_of_their_own(axes: Case) -> None:
    pieces = LatexReport(axes.run, ASSETS).pieces()
    extra = [name for name in pieces if re.match(r"delta-.*throughput-.*-2\.tex", name)]
    assert extra
    captions = [
        re.findall(r"^% (.*change \[.*)$", pieces[name], re.M)[0]
        for name in pieces
        if "delta-" in name
    ]
    assert all(one != other for one, other in combinations(captions, 2))


def test_tables_of_an_earlier_report_are_removed(measured: Case) -> None:
    from kdelta.report.run import write_latex

    old = measured.folder / "report" / "tables" / "delta-gone-throughput-bulk.tex"
    old.write_text("old")
    write_latex(measured.frames, measured.run, measured.folder, ASSETS)
    assert not old.exists()
