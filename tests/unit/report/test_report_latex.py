# SPDX-License-Identifier: GPL-2.0-only
"""LaTeX: escaping, content, and a real compilation read back."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_cases import ASSETS, NASTY, Case

from kdelta.errors import KdeltaError
from kdelta.report.context import Image
from kdelta.report.latex import LatexReport
from kdelta.report.pdf import compile_pdf, first_error
from kdelta.report.tex_escape import Tex, escape, escape_breakable, pdf_string

COMMAND = re.compile(r"\\(?:[a-zA-Z]+(?:\{[^{}]*\})?|[{}$&#%_,])")
PREAMBLE = (
    r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}"
    r"\usepackage{lmodern}\begin{document}"
)


def pdf_words(pdf: Path) -> str:
    """The text of a PDF file with white space folded."""
    result = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, check=True)
    return " ".join(result.stdout.decode().split())


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("100% _x_ & # $", r"100\% \_x\_ \& \# \$"),
        ("~^\\{}", r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}"),
        ("a->b --vm", r"a-\textgreater{}b -{}-vm"),
        ("+21% [−3, +4]", r"+21\% [\ensuremath{-}3, +4]"),
        ("8 µs → 2×4", r"8 \textmu{}s \ensuremath{\rightarrow} 2\ensuremath{\times}4"),
        ("cell's 'x'", r"cell's \textquotesingle{}x\textquotesingle{}"),
        ("漢", r"\texttt{U+6F22}"),
        ("ﬁne ½", r"fine 1\texttt{U+2044}2"),
    ],
)
def test_known_characters(text: str, source: str) -> None:
    assert escape(text) == source


@given(st.text())
def test_any_text_becomes_harmless_source(text: str) -> None:
    rest = COMMAND.sub("", escape(text)).replace("{}", "")
    assert not set(rest) & set("\\{}$&#%_^"), "a special character is left bare"
    assert all(c == " " or c.isprintable() for c in rest)
    assert all(ord(c) < 0x220 for c in rest), "inputenc declares nothing beyond"
    assert "--" not in escape(text), "two hyphens would print as a dash"


def test_safe_source_passes_and_escaping_twice_does_not_hurt() -> None:
    assert escape(Tex(r"\textbf{x}")) == r"\textbf{x}"
    assert escape(escape("50%")) == r"50\%"


def test_long_words_can_break() -> None:
    source = escape_breakable("sha256 " + "ab" * 32)
    assert source.startswith("sha256 ")
    assert source.count(r"\allowbreak{}") == 8
    assert source.replace(r"\allowbreak{}", "") == "sha256 " + "ab" * 32


def test_pdf_string_is_hexadecimal() -> None:
    assert pdf_string("(é)") == "<FEFF002800E90029>"


def test_source_says_emulated_at_its_top(emulated: Case, measured: Case) -> None:
    body = emulated.tex[emulated.tex.index(r"\begin{document}") :]
    banner = body.index("EMULATED (TCG): not a measurement of kernel performance")
    assert banner < body.index(r"\Large\bfseries")
    assert emulated.tex.index(r"\fancyhead") < emulated.tex.index(r"\begin{document}")
    assert "EMULATED" not in measured.tex
    assert r"\fancyhead" not in measured.tex


def test_every_table_has_its_caption_with_n_interval_and_acceleration(measured: Case) -> None:
    captions = re.findall(r"\\captionof\{table\}\{(.*)\}", measured.tex)
    assert len(captions) == 4 + 2 + 2 + 2 + 1 + 1 + 2 - 1
    captions = [caption for caption in captions if "change [" in caption]
    assert len(captions) == 4
    for caption in captions:
        assert r"[95\% interval]" in caption
        assert "n = 4 blocks per cell" in caption
        assert "acceleration: KVM" in caption
    cell = r"\\textbf\{(?:\\ensuremath\{-\}|\+)[\d.]+\\%\}\} \["
    assert len(re.findall(cell, measured.tex)) == 36


def test_gaps_are_shown(emulated: Case) -> None:
    assert emulated.tex.count(r"\textit{missing}") == 2
    assert "[n/a]" in emulated.tex
    assert "n = 2 to 3 blocks per cell" in emulated.tex


def test_compiled_paper_reads_well_and_is_reproducible(emulated: Case, tmp_path: Path) -> None:
    source = emulated.folder / "report" / "paper.tex"
    compile_pdf(source, tmp_path / "one.pdf")
    words = pdf_words(tmp_path / "one.pdf")
    assert words.startswith("EMULATED (TCG): not a measurement of kernel performance")
    title = NASTY.replace("“", '"').replace("”", '"')
    assert title in words.replace("“", '"').replace("”", '"')
    for part in ("Table 4:", "Figure 6:", "missing", "[n/a]", "1101 → 1022", "stressor-dead"):
        assert part in words, part
    for part in ("Warnings", "What weakens it", "× invalid", "Could not be set on the host"):
        assert part in words, part

    moved = tmp_path / "elsewhere" / "report"
    moved.mkdir(parents=True)
    shutil.copy(source, moved)
    shutil.copy(source.with_name("macros.tex"), moved)
    shutil.copytree(emulated.folder / "figures", moved.parent / "figures")
    compile_pdf(moved / "paper.tex", tmp_path / "two.pdf")
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()
    left = sorted(p.name for p in moved.iterdir())
    assert left == ["macros.tex", "paper.tex"], "auxiliary files were left"


def test_nothing_runs_over_the_margin(emulated: Case, tmp_path: Path) -> None:
    command = ["pdflatex", "-interaction=batchmode", f"-output-directory={tmp_path}", "paper.tex"]
    subprocess.run(command, cwd=emulated.folder / "report", capture_output=True, check=True)
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    wide = [float(points) for points in re.findall(r"Overfull .hbox .([0-9.]+)pt too wide", log)]
    assert all(points < 1 for points in wide), wide
    assert "too small" not in log, "the head is higher than its place"


def test_a_long_title_of_a_kernel_stays_within_the_margin(measured: Case) -> None:
    long = Image("patched", "a title as long as a sentence " * 4, ("fs/pipe: x",))
    context = replace(measured.run, images=(long,))
    tex = LatexReport(context, ASSETS).paper(measured.folder / "figures")
    assert r"\item[{Patches of patched}] fs/pipe: x" in tex
    assert "as long as a sentence" not in tex.split(r"\section*{Provenance}")[1]


def test_pdflatex_takes_every_escaped_character(tmp_path: Path) -> None:
    choose = random.Random(20260515)
    planes = [*range(0x20, 0x250), *range(0x370, 0x400), *range(0x2000, 0x2300)]
    exotic = choose.sample(range(0x2300, 0x1FFFF), 300)
    characters = [c for c in [*planes, *exotic] if not 0xD800 <= c <= 0xDFFF]
    words = [escape("".join(map(chr, characters[i : i + 6]))) for i in range(0, len(characters), 6)]
    words += [escape_breakable(NASTY * 3), escape("[x] *")]
    text = PREAMBLE + "\n\n".join(words) + r"\end{document}"
    source = tmp_path / "all.tex"
    source.write_text(text, encoding="utf-8")
    compile_pdf(source, tmp_path / "all.pdf")
    assert "Erdős" in pdf_words(tmp_path / "all.pdf")


def test_failed_compilation_names_the_error_and_keeps_the_log(tmp_path: Path) -> None:
    source = tmp_path / "bad.tex"
    source.write_text(PREAMBLE + r"\nosuchcommand \end{document}")
    with pytest.raises(KdeltaError, match=r"! .*Undefined control sequence\..*log: .*out\.log"):
        compile_pdf(source, tmp_path / "out.pdf")
    assert "nosuchcommand" in (tmp_path / "out.log").read_text()
    assert not (tmp_path / "out.pdf").exists()


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"paper\.tex: no such file"):
        compile_pdf(tmp_path / "paper.tex", tmp_path / "paper.pdf")


def test_missing_pdflatex_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "paper.tex").write_text("x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KdeltaError, match="texlive-latex-base texlive-latex-recommended lmodern"):
        compile_pdf(tmp_path / "paper.tex", tmp_path / "paper.pdf")


def test_first_error_is_found() -> None:
    assert first_error("x\n! Undefined.\n! Later.") == "! Undefined."
    assert first_error("(./a.tex\n./a.tex:3: Missing $ inserted.") == (
        "! ./a.tex:3: Missing $ inserted."
    )
