# SPDX-License-Identifier: GPL-2.0-only
"""What the figures of the traced boots share."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdelta.report.context import Regime, ReportContext
from kdelta.report.figure_style import arm_styles, settle_layout, title_suffix
from kdelta.report.frames import ReportFrames
from kdelta.report.mechanism import mechanism_rows
from kdelta.report.palette import BASELINE_COLOUR


def traced_regimes(frames: ReportFrames, context: ReportContext) -> list[Regime]:
    """The regimes with traced boots."""
    return [r for r in context.regimes if not mechanism_rows(frames, r).empty]


def trace_styles(context: ReportContext) -> dict[str, tuple[str, str]]:
    """Colour and marker by arm, the baseline included."""
    return {context.baseline: (BASELINE_COLOUR, "*")} | arm_styles(context)


def finish_trace(
    figure: Figure, context: ReportContext, title: str, handles: Sequence[Line2D | Patch]
) -> Figure:
    """Title, legend and layout of a figure."""
    figure.suptitle(f"{title}{title_suffix(context)}", x=0.01, ha="left", weight="bold")
    # Six columns of long labels would leave the figure.
    words = max(len(str(handle.get_label())) for handle in handles)
    figure.legend(handles=handles, loc="outside lower left", ncols=6 if words < 16 else 3)
    return settle_layout(figure)
