# SPDX-License-Identifier: GPL-2.0-only
"""The paper's font in its figures: which, in which form, and where it is not installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fontTools.pens.boundsPen import BoundsPen
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from report_cases import Case

from kdelta.report.figures import draw
from kdelta.report.figures.font import document_font, font_files, write_truetype

REGULAR = ("normal", 400)


@pytest.fixture(scope="module")
def source() -> Path:
    files = font_files()
    assert files is not None, "Latin Modern is one of the packages in setup/packages-run.txt"
    return files[REGULAR]


def fonts(pdf: Path) -> set[str]:
    return {
        name.decode() for name in re.findall(rb"/BaseFont /[A-Z]{6}\+([\w-]+)", pdf.read_bytes())
    }


def test_figures_of_the_paper_are_in_its_font(measured: Case) -> None:
    for path in (measured.folder / "figures").glob("*.pdf"):
        assert {"LMRoman9-Regular", "LMRoman9-Bold"} <= fonts(path), path
        # Signs that Latin Modern lacks come from DejaVu Sans.
        assert fonts(path) <= {
            *("LMRoman9-Regular", "LMRoman9-Bold", "LMRoman9-Italic"),
            *("DejaVuSans", "DejaVuSans-Bold"),
        }
        assert b"/Subtype /Type3" not in path.read_bytes(), path


def test_the_page_keeps_a_font_that_browsers_have(measured: Case) -> None:
    for path in (measured.folder / "figures").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "DejaVu Sans" in text
        assert "kdelta-font" not in text


def test_without_the_font_figures_are_drawn_all_the_same(
    measured: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert font_files() is None
    # How one is drawn, all of them are.
    forest = draw.drawings(measured.run)["forest"]
    monkeypatch.setattr(draw, "drawings", lambda *_: {"forest": forest})
    written = draw.write_figures(measured.run, tmp_path / "figures")
    assert [path.name for path in written] == ["forest.svg", "forest.pdf"]
    for path in (tmp_path / "figures").glob("*.pdf"):
        assert fonts(path) <= {"DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"}
    for path in (tmp_path / "figures").glob("*.svg"):
        assert path.read_bytes() == (measured.folder / "figures" / path.name).read_bytes()


def test_a_tex_without_the_font_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "kpsewhich"
    fake.write_text("#!/bin/sh\necho /fonts/lmroman9-regular.otf\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert font_files() is None


def test_matplotlib_forgets_the_font() -> None:
    before = list(font_manager.fontManager.ttflist)
    with document_font() as family:
        assert family is not None
        found = Path(
            font_manager.findfont(
                font_manager.FontProperties(family=[family]), fallback_to_default=False
            )
        )
        assert found.name == "lmroman9-regular.ttf"
    assert font_manager.fontManager.ttflist == before
    assert not found.exists()


def test_outlines_and_widths_stay(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.ttf"
    write_truetype(source, made)
    old, new = TTFont(source), TTFont(made)
    assert old.getBestCmap() == new.getBestCmap()
    for name in old.getGlyphOrder():
        assert old["hmtx"][name][0] == new["hmtx"][name][0]
        bounds = []
        for font in (old, new):
            pen = BoundsPen(font.getGlyphSet())
            font.getGlyphSet()[name].draw(pen)
            bounds.append(pen.bounds or (0, 0, 0, 0))
        assert bounds[1] == pytest.approx(bounds[0], abs=1.5), name
        assert new["hmtx"][name][1] == getattr(new["glyf"][name], "xMin", 0)


def test_bytes_depend_on_outlines_alone(source: Path, tmp_path: Path) -> None:
    write_truetype(source, tmp_path / "a.ttf")
    other = TTFont(source)
    other["head"].fontRevision = 2.005
    other["head"].created = 3_333_333_333
    other["name"].setName("Version 2.005 of another day", 5, 3, 1, 0x409)
    other.save(tmp_path / "other.otf")
    write_truetype(tmp_path / "other.otf", tmp_path / "b.ttf")
    assert (tmp_path / "a.ttf").read_bytes() == (tmp_path / "b.ttf").read_bytes()
