# SPDX-License-Identifier: GPL-2.0-only
"""The figures' colours that the page replaces by its theme's."""

from __future__ import annotations

# A figure must use each of these for its one purpose only: the page looks for the exact value.
INK = "#24292f"
RULE = "#c9d1d9"
PAPER = "#fefefe"

# Okabe and Ito's colours, which stay apart for colour-blind readers. Grey is the control's alone.
BASELINE_COLOUR = "#4a5056"
BLUE = "#0072b2"
GREY = "#7f7f7f"
ARM_COLOURS = (BLUE, "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
CONTROL_COLOUR = GREY

# Purple belongs to no direction of the heat map; the sign carries it without colour.
INVALID_COLOUR = "#6b2a5e"
INVALID_FILL = "#ecd9e7"
INVALID_SIGN = "\N{MULTIPLICATION X}"
