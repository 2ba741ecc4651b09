# SPDX-License-Identifier: GPL-2.0-only
"""What was set on the host for the time of a block, and what could not be."""

from __future__ import annotations

from kdelta.report.context import ReportContext
from kdelta.report.grid import Grid, Group


def environment_grids(context: ReportContext) -> tuple[Grid, ...]:
    """The tables that have rows: settings made, settings that could not be made."""
    grids = (
        Grid(
            "Set on the host for the time of a block, and restored after it.",
            ("what", "before", "during the block"),
            (Group("", context.environment_set),),
            prose=frozenset({1, 2}),
        ),
        Grid(
            "Could not be set on the host.",
            ("what", "why"),
            (Group("", context.environment_not_set),),
            prose=frozenset({1}),
        ),
    )
    return tuple(grid for grid in grids if grid)
