# SPDX-License-Identifier: GPL-2.0-only
"""tables/negative_controls.csv: cells in which there can be no effect, and what was found."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from kdelta.analysis.levels import level_value
from kdelta.analysis.settings import AnalysisSettings, NegativeControl
from kdelta.analysis.tables import frame_of
from kdelta.schema import BY_PATH

_TABLE = "tables/negative_controls.csv"
STATUS = {
    "equivalent": "held",
    "faster": "broken",
    "slower": "broken",
    "inconclusive": "not settled",
    "invalid": "invalid",
}


def negative_controls_frame(deltas: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """One row per regime, arm and such cell: columns of tables/negative_controls.csv.

    The primary metric only; the control arm has no effect anywhere, so it proves nothing here.

    Args:
        deltas: as `deltas_frame` makes it.
        settings: which cells, and why.
    """
    wanted = deltas[(deltas["metric"] == settings.primary) & (deltas["arm"] != settings.control)]
    rows = []
    for row in wanted.to_dict("records") if settings.negative_controls else ():
        reasons = [c.reason for c in settings.negative_controls if _covers(c, row)]
        if reasons:
            rows.append(
                {
                    **{str(name): value for name, value in row.items() if name in _taken(settings)},
                    "status": STATUS[row["verdict"]],
                    "reason": "; ".join(dict.fromkeys(reasons)),
                }
            )
    return frame_of(_TABLE, rows, settings.factors)


def _taken(settings: AnalysisSettings) -> set[str]:
    return {*BY_PATH[_TABLE].dtypes, *settings.factors}


def _covers(control: NegativeControl, row: Mapping[Hashable, Any]) -> bool:
    return all(
        level_value(row[factor]) in {level_value(level) for level in levels}
        for factor, levels in control.levels.items()
    )
