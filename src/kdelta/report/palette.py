# SPDX-License-Identifier: GPL-2.0-only
"""The figures' colours that the page replaces by its theme's."""

from __future__ import annotations

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
