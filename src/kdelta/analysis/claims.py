# SPDX-License-Identifier: GPL-2.0-only
"""What is claimed of cells beside what was found in them.

tables/claims.csv has published deltas, and what became of each; tables/negative_controls.csv the
cells in which there can be no effect.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import pandas as pd

from kdelta.analysis.boots import cell_key
from kdelta.analysis.records import Cell
from kdelta.analysis.settings import AnalysisSettings, Claim, NegativeControl
from kdelta.analysis.tables import frame_of
from kdelta.schema import BY_PATH
from kdelta.units import cell_value, level_value

Status = Literal["reproduced", "same direction", "not settled", "contradicted", "not measured"]

_ROUNDING_PERCENT = 0.5
_MEASURED = ("blocks", "delta_percent", "delta_low_percent", "delta_high_percent", "verdict")


_NEGATIVE_CONTROLS = "tables/negative_controls.csv"
STATUS = {
    "equivalent": "held",
    "faster": "broken",
    "slower": "broken",
    "inconclusive": "not settled",
    "invalid": "invalid",
}


def claims_frame(deltas: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """One row per claim, in display order: columns of tables/claims.csv.

    A claim is of one cell: it has to give a level of every factor, compared by value.

    Args:
        deltas: as `deltas_frame` makes it.
        settings: claims, margin of equivalence and display order.
    """
    found: dict[object, Mapping[str, object]] = {}
    if settings.claims:
        for row in deltas.to_dict("records"):
            cell = tuple(row[factor] for factor in settings.factors)
            key = (row["regime"], row["arm"], row["metric"], cell_value(cell))
            found[key] = {str(name): value for name, value in row.items()}
    units = {metric.name: metric.unit for metric in settings.metrics}
    return frame_of(
        "tables/claims.csv",
        (
            _row(claim, units.get(claim.metric, ""), found.get(_key(claim, settings)), settings)
            for claim in sorted(settings.claims, key=lambda claim: _place(claim, settings))
        ),
        settings.factors,
    )


def claim_status(
    claimed_percent: float, low: float, high: float, *, invalid: bool, margin: float
) -> Status:
    """What an interval makes of a claim.

    Args:
        claimed_percent: the published delta. A whole number stands for half a per cent
            either way, as it was rounded.
        low: lower end of our interval in per cent; NaN if there is none.
        high: its upper end.
        invalid: the cell has lost so many pairs that its interval settles nothing.
        margin: of equivalence, as a fraction.
    """
    if invalid or math.isnan(low) or math.isnan(high):
        return "not settled"
    rounding = _ROUNDING_PERCENT if claimed_percent == round(claimed_percent) else 0.0
    overlaps = low <= claimed_percent + rounding and high >= claimed_percent - rounding
    least, most = 100 * (1 / (1 + margin) - 1), 100 * margin
    equivalent = least <= low and high <= most
    if claimed_percent == 0:  # it has no side: what it says is that there is no effect
        if equivalent:
            return "reproduced" if overlaps else "same direction"
        return "contradicted" if low > 0 or high < 0 else "not settled"
    same_side = low > 0 if claimed_percent > 0 else high < 0
    other_side = high < 0 if claimed_percent > 0 else low > 0
    if same_side and overlaps:
        return "reproduced"
    if other_side or (equivalent and not least <= claimed_percent <= most):
        return "contradicted"
    return "same direction" if same_side else "not settled"


def _row(
    claim: Claim, unit: str, ours: Mapping[str, object] | None, settings: AnalysisSettings
) -> dict[str, object]:
    status: Status = "not measured"
    if ours is not None:
        status = claim_status(
            claim.delta_percent,
            float(str(ours["delta_low_percent"])),
            float(str(ours["delta_high_percent"])),
            invalid=ours["verdict"] == "invalid",
            margin=settings.equivalence_margin,
        )
    return {
        "regime": claim.regime,
        "arm": claim.arm,
        "metric": claim.metric,
        "unit": unit,
        **{factor: claim.levels.get(factor) for factor in settings.factors},
        "claimed_baseline": claim.baseline,
        "claimed_value": claim.value,
        "claimed_delta_percent": claim.delta_percent,
        **({"blocks": 0} if ours is None else {name: ours[name] for name in _MEASURED}),
        "status": status,
    }


def _key(claim: Claim, settings: AnalysisSettings) -> object:
    if set(claim.levels) != set(settings.factors):
        return None
    return (claim.regime, claim.arm, claim.metric, cell_value(_cell(claim, settings)))


def _place(claim: Claim, settings: AnalysisSettings) -> tuple[object, ...]:
    metrics = [metric.name for metric in settings.metrics]
    return (
        _index(settings.regimes, claim.regime),
        _index(settings.arms, claim.arm),
        _index(tuple(metrics), claim.metric),
        cell_key(_cell(claim, settings)),
    )


def _cell(claim: Claim, settings: AnalysisSettings) -> Cell:
    return tuple(claim.levels.get(factor, "") for factor in settings.factors)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else len(names)


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
    return frame_of(_NEGATIVE_CONTROLS, rows, settings.factors)


def _taken(settings: AnalysisSettings) -> set[str]:
    return {*BY_PATH[_NEGATIVE_CONTROLS].dtypes, *settings.factors}


def _covers(control: NegativeControl, row: Mapping[Hashable, Any]) -> bool:
    return all(
        level_value(row[factor]) in {level_value(level) for level in levels}
        for factor, levels in control.levels.items()
    )
