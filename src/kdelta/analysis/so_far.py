# SPDX-License-Identifier: GPL-2.0-only
"""The answers of a regime while it is still measured; they change nothing that is measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from kdelta.analysis.boots import all_planned_cells, planned_cells
from kdelta.analysis.deltas import overall_frame, planned_pairs, ratios_frame
from kdelta.analysis.raw import read_raw
from kdelta.analysis.samples import samples_frame
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.validity import broken_samples, violations


def so_far(raw: Path, regime: str, settings: AnalysisSettings) -> str:
    """Overall effects of the blocks that there are, in one line.

    Args:
        raw: the run's raw folder.
        regime: the one that is being measured.
        settings: of the whole run; its number of blocks is what was planned.

    Raises:
        KdeltaError: the raw files cannot be read.
    """
    others = {*settings.other_regimes, *settings.regimes} - {regime}
    here = replace(
        settings,
        regimes=(regime,),
        other_regimes=tuple(sorted(others)),
        only=(settings.primary,),
        claims=(),
        expectations=(),
    )
    boots = read_raw(raw, here).boots
    samples = samples_frame(boots, broken_samples(violations(boots, here)), here)
    measured = replace(here, blocks=None)
    table = overall_frame(
        ratios_frame(samples, here),
        all_planned_cells(planned_cells(boots), measured),
        measured,
        planned=planned_pairs(boots, measured),
    )
    words = ", ".join(
        _words(
            str(row["arm"]),
            float(row["delta_percent"]),
            row["delta_low_percent"],
            row["delta_high_percent"],
        )
        for row in table.to_dict("records")
    )
    blocks = len({boot.block for boot in boots})
    return f"{regime}: after {blocks} of {settings.blocks} blocks, not final: {words}"


def _words(arm: str, delta: float, low: float, high: float) -> str:
    if math.isnan(delta):
        return f"{arm} n/a"
    interval = "[no interval yet]" if math.isnan(low) else f"[{low:+.1f}, {high:+.1f}]"
    return f"{arm} {delta:+.1f}% {interval}"
