# SPDX-License-Identifier: GPL-2.0-only
"""Any text as LaTeX that pdflatex with T1 fonts prints as it was, and never executes."""

from __future__ import annotations

import re
import unicodedata


class Tex(str):
    """LaTeX source that is already safe; ``escape`` leaves it alone."""

    __slots__ = ()


_SPECIALS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{THIN SPACE}": r"\,",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{PLUS-MINUS SIGN}": r"\ensuremath{\pm}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{MIDDLE DOT}": r"\textperiodcentered{}",
    "\N{RIGHTWARDS ARROW}": r"\ensuremath{\rightarrow}",
    "\N{LEFTWARDS ARROW}": r"\ensuremath{\leftarrow}",
    "\N{LEFT RIGHT ARROW}": r"\ensuremath{\leftrightarrow}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\leq}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\geq}",
    "\N{ALMOST EQUAL TO}": r"\ensuremath{\approx}",
    "\N{NOT EQUAL TO}": r"\ensuremath{\neq}",
    "\N{INFINITY}": r"\ensuremath{\infty}",
    "\N{MICRO SIGN}": r"\textmu{}",
    "\N{GREEK SMALL LETTER MU}": r"\textmu{}",
    "\N{DEGREE SIGN}": r"\textdegree{}",
    "\N{COPYRIGHT SIGN}": r"\textcopyright{}",
    "\N{REGISTERED SIGN}": r"\textregistered{}",
    "\N{TRADE MARK SIGN}": r"\texttrademark{}",
    "\N{SECTION SIGN}": r"\S{}",
    "\N{SUPERSCRIPT TWO}": r"\ensuremath{^2}",
    "\N{SUPERSCRIPT THREE}": r"\ensuremath{^3}",
    "\N{EURO SIGN}": r"\texteuro{}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{LEFT SINGLE QUOTATION MARK}": r"\textquoteleft{}",
    "\N{RIGHT SINGLE QUOTATION MARK}": r"\textquoteright{}",
    "\N{LEFT DOUBLE QUOTATION MARK}": r"\textquotedblleft{}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": r"\textquotedblright{}",
}

# The letters that LaTeX's own t1enc.dfu declares, so that inputenc knows them.
_T1_RANGES = (
    *((0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0xFF), (0x100, 0x125), (0x128, 0x137)),
    *((0x139, 0x13E), (0x141, 0x148), (0x14A, 0x165), (0x168, 0x17E), (0x218, 0x21B)),
)
# Doubled, these are ligatures of T1 fonts and would print as another character.
_LIGATURES = re.compile(r"([-,])(?=\1)")
# An apostrophe inside a word may curl; a quote of a command line may not.
_STRAIGHT_QUOTE = re.compile(r"(?<![A-Za-z])'|'(?![A-Za-z])")
_LONG_TOKEN = 24
_BREAK_EVERY = 8


def escape(value: object) -> Tex:
    """LaTeX source that prints ``value``; line breaks become spaces.

    Characters without a glyph in T1 fonts lose their accents, and become ``U+XXXX`` where
    nothing is left of them.
    """
    if isinstance(value, Tex):
        return value
    return Tex(_keep_signs("".join(_escape_character(c) for c in str(value))))


def escape_breakable(value: object) -> Tex:
    """Like ``escape``, for hashes, paths and command lines: long words can break anywhere."""
    words = re.split(r"(\s+)", str(value))
    return Tex("".join(_breakable(w) if len(w) > _LONG_TOKEN else escape(w) for w in words))


def _breakable(word: str) -> str:
    parts = []
    for index, character in enumerate(word, 1):
        parts.append(_escape_character(character))
        if index % _BREAK_EVERY == 0 or character in "/._-=:":
            parts.append(r"\allowbreak{}")
    return _keep_signs("".join(parts))


def _keep_signs(text: str) -> str:
    return _STRAIGHT_QUOTE.sub(r"\\textquotesingle{}", _LIGATURES.sub(r"\1{}", text))


def _escape_character(character: str) -> str:
    known = _SPECIALS.get(character)
    if known is not None:
        return known
    code = ord(character)
    if character.isspace():
        return " "
    if 0x20 < code < 0x7F or any(low <= code <= high for low, high in _T1_RANGES):
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Mn"):
        return ""
    plain = unicodedata.normalize("NFKD", character)
    if plain != character:
        rest = "".join(_escape_character(c) for c in plain if not unicodedata.combining(c))
        if rest:
            return rest
    return rf"\texttt{{U+{code:04X}}}"


def pdf_string(text: str) -> str:
    """A PDF string object in UTF-16, which needs no escaping, for the document's information."""
    printable = text.encode("utf-16-be", "replace").hex().upper()
    return f"<FEFF{printable}>"


def one_line(text: object) -> str:
    """Text for a comment: one line, of printable characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
