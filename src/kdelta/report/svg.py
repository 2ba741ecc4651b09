# SPDX-License-Identifier: GPL-2.0-only
"""Make a figure's SVG part of a page: own ids, the page's colours, a name for screen readers."""

from __future__ import annotations

import html
import re

from kdelta.report.palette import BASELINE_COLOUR, BLUE, GREY, INK, PAPER, RULE

_THEME = {
    INK: "var(--fig-ink)",
    RULE: "var(--fig-rule)",
    PAPER: "var(--fig-paper)",
    BASELINE_COLOUR: "var(--fig-baseline)",
    BLUE: "var(--fig-blue)",
    GREY: "var(--fig-grey)",
}
_FALLBACK_FONTS = "'DejaVu Sans', Verdana, Geneva, sans-serif"


def inline_svg(text: str, prefix: str, label: str) -> str:
    """Turn a stand-alone SVG file into an element of an HTML page.

    Args:
        text: What matplotlib wrote.
        prefix: Put before every id and reference, so that several figures share a page.
        label: The text alternative, not escaped.

    Returns:
        The ``<svg>`` element, without namespaces, metadata or absolute size; its colours follow
        the custom properties ``--fig-*``.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    opening, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]*)"', opening)
    size = view_box[1] if view_box else "0 0 600 400"
    width = float(size.split()[2])
    rest = re.sub(r'\bid="', f'id="{prefix}-', rest)
    rest = rest.replace("url(#", f"url(#{prefix}-")
    rest = re.sub(r'\b(?:xlink:)?href="#', f'href="#{prefix}-', rest)
    rest = re.sub(r"'DejaVu Sans'", _FALLBACK_FONTS, rest)
    for colour, variable in _THEME.items():
        rest = rest.replace(colour, variable)
    name = html.escape(label, quote=True)
    # A point is 4/3 of a pixel: 8 pt text stays readable on a phone, where the figure scrolls.
    return (
        f'<svg class="figure" viewBox="{size}" style="min-width: {width * 1.2:.0f}px; '
        f'max-width: {width * 1.9:.0f}px" role="img" aria-label="{name}">{rest.rstrip()}'
    )
