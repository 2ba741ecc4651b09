# SPDX-License-Identifier: GPL-2.0-only
"""A figure's SVG as a part of the page: own ids, the page's colours, a name for screen readers.

The colours that the page replaces by its theme's are here, apart from what draws with them: the
page is made without a plotting library.
"""

from __future__ import annotations

import html
import re

# A figure must use each of these for its one purpose only: the page looks for the exact value.
INK = "#24292f"
RULE = "#c9d1d9"
PAPER = "#fefefe"

# With grey and the baseline's these stay apart under protanopia, deuteranopia and tritanopia
# (CIE 1976 distance 19 or more), each at 3:1 or better on white and on the dark page.
BASELINE_COLOUR = "#4a5056"
BLUE = "#0072b2"
GREY = "#7f7f7f"
ARM_COLOURS = (BLUE, "#c47900", "#2da569", "#d23c3c", "#a52dff", "#ff2de1")
CONTROL_COLOUR = GREY

# Purple belongs to no direction of the heat map; the sign carries it without colour.
INVALID_COLOUR = "#6b2a5e"
INVALID_FILL = "#ecd9e7"
INVALID_SIGN = "\N{MULTIPLICATION X}"

_THEME = {
    INK: "var(--fig-ink)",
    RULE: "var(--fig-rule)",
    PAPER: "var(--fig-paper)",
    BASELINE_COLOUR: "var(--fig-baseline)",
    BLUE: "var(--fig-blue)",
    GREY: "var(--fig-grey)",
}
# Whatever stands in a tag was written by matplotlib; users' words stand between tags.
_TAG = re.compile(r"<[^>]*>")
_FONT = re.compile(r" ?font-family: [^;\"]*;?")
_NO_ROTATION = re.compile(r" transform=\"rotate\(-?0 [^)]*\)\"")
_LONG_NUMBER = re.compile(r"(-?\d+\.\d\d)\d+")
_PATH = re.compile(r"(?<= d=\")[^\"]*")
_COMMAND = re.compile(r"\s*([A-Za-z])\s*")
_ID = re.compile(r" id=\"([^\"]*)\"")
_REFERENCE = re.compile(r"(?:url\(|href=\")#([^)\"]*)")
_NOTHING = re.compile(r"<g>\s*</g>|<g ?/>|<text[^>]*/>|<defs>\s*</defs>")


def inline_svg(text: str, prefix: str, label: str) -> str:
    """Turn a stand-alone SVG file into an element of an HTML page.

    Args:
        text: What matplotlib wrote.
        prefix: Put before every id and reference, so that several figures share a page.
        label: The text alternative, not escaped.

    Returns:
        The ``<svg>`` element, without namespaces, metadata, absolute size and what the page's
        style says anyway; its colours follow the custom properties ``--fig-*``.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    opening, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]*)"', opening)
    size = view_box[1] if view_box else "0 0 600 400"
    width = float(size.split()[2])
    rest = re.sub(r"<style.*?</style>\s*", "", rest, flags=re.S)
    rest = _shorten(rest)
    rest = _TAG.sub(lambda tag: _belongs_to(tag[0], prefix), rest)
    name = html.escape(label, quote=True)
    # A point is 4/3 of a pixel: 8 pt text stays readable on a phone, where the figure scrolls.
    return (
        f'<svg class="figure" viewBox="{size}" style="min-width: {width * 1.2:.0f}px; '
        f'max-width: {width * 1.9:.0f}px" role="img" aria-label="{name}">{rest.rstrip()}'
    )


def _shorten(text: str) -> str:
    """The same picture in about half the bytes."""
    referenced = set(_REFERENCE.findall(text))

    def shorten_tag(found: re.Match[str]) -> str:
        tag = _NO_ROTATION.sub("", _FONT.sub("", found[0]))
        tag = _ID.sub(lambda named: named[0] if named[1] in referenced else "", tag)
        tag = _PATH.sub(lambda path: _COMMAND.sub(r"\1", path[0]), tag)
        return _LONG_NUMBER.sub(r"\1", tag)

    text = re.sub(r">\s+<", "><", _TAG.sub(shorten_tag, text))
    while (less := _NOTHING.sub("", text)) != text:
        text = less
    return text


def _belongs_to(tag: str, prefix: str) -> str:
    tag = tag.replace(' id="', f' id="{prefix}-').replace("url(#", f"url(#{prefix}-")
    tag = re.sub(r" (?:xlink:)?href=\"#", f' href="#{prefix}-', tag)
    for colour, variable in _THEME.items():
        tag = tag.replace(colour, variable)
    return tag
