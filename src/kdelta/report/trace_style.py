# SPDX-License-Identifier: GPL-2.0-only
"""What the figures of the traced boots share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdelta.report.context import ReportContext
from kdelta.report.figures.style import legend_in_rows, settle_layout, title_suffix


def finish_trace(
    figure: Figure, context: ReportContext, title: str, handles: Sequence[Line2D | Patch]
) -> Figure:
    """Title, legend and layout of a figure."""
    figure.suptitle(f"{title}{title_suffix(context)}", x=0.01, ha="left", weight="bold")
    legend_in_rows(figure, handles, 6)
    return settle_layout(figure)
