# SPDX-License-Identifier: GPL-2.0-only
"""The paper's own font for its figures: Latin Modern, as TrueType that matplotlib can embed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, newTable
from fontTools.ttLib.tables._n_a_m_e import table__n_a_m_e
from matplotlib import font_manager

from kdelta.report.figures.style import FONT_FAMILY

TITLE = "Latin Modern"
DEBIAN_PACKAGE = "lmodern"

# The design sizes that the paper's \small and \footnotesize have.
_FACES = {
    ("normal", 400): "lmroman9-regular.otf",
    ("normal", 700): "lmroman9-bold.otf",
    ("italic", 400): "lmroman9-italic.otf",
}
_EPOCH = 2_082_844_800  # the start of 1970 in seconds since that of 1904
_TOLERANCE = 0.5  # of 1000 units in an em: far below what a printer resolves


def font_files() -> dict[tuple[str, int], Path] | None:
    """Style and weight -> OpenType file of the TeX installation; None where one is missing."""
    kpsewhich = shutil.which("kpsewhich")
    if kpsewhich is None:
        return None
    found = subprocess.run(
        [kpsewhich, *_FACES.values()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    paths = {Path(line).name: Path(line) for line in found.stdout.splitlines()}
    if set(paths) != set(_FACES.values()):
        return None
    return {face: paths[name] for face, name in _FACES.items()}


def font_note() -> str | None:
    """One sentence where the paper's font is not installed, else None."""
    if font_files() is not None:
        return None
    return (
        f"{TITLE} is not installed (Debian: {DEBIAN_PACKAGE}), so figures/*.pdf are in "
        f"{FONT_FAMILY}, not in the paper's font"
    )


@contextmanager
def document_font() -> Iterator[str | None]:
    """Make the paper's font known to matplotlib for a while.

    Yields:
        The name of its family, another one each time, or None where TeX or the font is not
        installed.
    """
    files = font_files()
    if files is None:
        yield None
        return
    known = font_manager.fontManager.ttflist
    with tempfile.TemporaryDirectory(prefix="kdelta-font-") as folder:
        # Not the font's own name: the system may offer that one too, in the form that is
        # embedded as Type 3, and matplotlib remembers where it once found a name.
        family = Path(folder).name
        entries = []
        for (style, weight), source in files.items():
            made = Path(folder) / f"{source.stem}.ttf"
            write_truetype(source, made)
            entries.append(
                font_manager.FontEntry(
                    fname=str(made), name=family, style=style, weight=weight, size="scalable"
                )
            )
        known.extend(entries)
        try:
            yield family
        finally:
            known[:] = [entry for entry in known if entry.name != family]


def write_truetype(source: Path, target: Path) -> None:
    """Convert an OpenType font with PostScript outlines.

    Matplotlib embeds those as Type 3 fonts only, which many publishers refuse. The bytes depend
    on outlines and metrics alone, not on the date or the release of the font.

    Args:
        source: An OpenType font with a table ``CFF``.
        target: The TrueType font to write.
    """
    font = TTFont(source, recalcTimestamp=False)
    glyphs = font.getGlyphSet()
    order = font.getGlyphOrder()
    outlines = {}
    for name in order:
        pen = TTGlyphPen(None)
        # PostScript outlines run the other way round.
        glyphs[name].draw(Cu2QuPen(pen, _TOLERANCE, reverse_direction=True))
        outlines[name] = pen.glyph()

    font["loca"] = newTable("loca")
    font["glyf"] = table = newTable("glyf")
    table.glyphOrder = order
    table.glyphs = outlines
    table.compile(font)  # computes the bounds that the metrics below are made of
    font["hmtx"].metrics = {
        name: (advance, getattr(outlines[name], "xMin", 0))
        for name, (advance, _) in font["hmtx"].metrics.items()
    }
    font["maxp"] = maxp = newTable("maxp")
    maxp.tableVersion = 0x00010000
    maxp.numGlyphs = len(order)
    for limit in (
        *("maxPoints", "maxContours", "maxCompositePoints", "maxCompositeContours"),
        *("maxTwilightPoints", "maxStorage", "maxFunctionDefs", "maxInstructionDefs"),
        *("maxStackElements", "maxSizeOfInstructions", "maxComponentElements"),
        "maxComponentDepth",
    ):
        setattr(maxp, limit, 0)
    maxp.maxZones = 1
    font["post"].formatType = 2.0
    font["post"].extraNames = []
    font["post"].mapping = {}
    font["head"].created = font["head"].modified = _EPOCH
    font["head"].fontRevision = 1.0
    font["head"].glyphDataFormat = 0
    _shorten_names(font["name"])
    # Without the rules for ligatures: a search for "office" finds no letter that is not there.
    for unused in ("CFF ", "GSUB", "DSIG", "VORG"):
        if unused in font:
            del font[unused]
    font.sfntVersion = "\000\001\000\000"
    font.save(target)


def _shorten_names(table: table__n_a_m_e) -> None:
    """Leave a family, style and PostScript name; the rest tells of the release."""
    kept = {name_id: table.getDebugName(name_id) for name_id in (1, 2, 4, 6)}
    table.names = []
    for name_id, text in kept.items():
        table.setName(text or "", name_id, 3, 1, 0x409)
