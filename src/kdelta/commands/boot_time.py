# SPDX-License-Identifier: GPL-2.0-only
"""How long a boot takes: as a pilot measured it, or from a protocol's durations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.experiment import Experiment
from kdelta.measure.schedule import cells
from kdelta.provenance import read_json

SECONDS_PER_BOOT = 10.0
"""Of a boot besides its cells, where nobody has measured it."""


@dataclass(frozen=True)
class BootTime:
    """Wall time of one boot of a regime, and where that is from."""

    seconds: float
    source: str


def protocol_boot_times(experiment: Experiment, protocol: str) -> dict[str, BootTime]:
    """Regime -> boot time from the protocol's durations, plus `SECONDS_PER_BOOT`."""
    source = f"from durations of protocol {protocol} plus {SECONDS_PER_BOOT:g} s, not measured"
    return {
        regime: BootTime(SECONDS_PER_BOOT + _cell_seconds(experiment, protocol, regime), source)
        for regime in experiment.protocol_regimes(protocol)
    }


def boot_times(
    experiment: Experiment, raw: Path, regimes: Sequence[str], protocol: str | None
) -> dict[str, BootTime]:
    """Regime -> boot time from a pilot's raw folder.

    Args:
        experiment: the experiment.
        raw: the pilot's raw folder, with host.json and schedule.json in each block.
        regimes: which regimes; each has a block.
        protocol: the protocol that is planned for; where its cells take another time than
            the pilot's did, the difference is added. None: as the pilot's.

    Raises:
        KdeltaError: a file cannot be read.
    """
    return {regime: _boot_time(experiment, raw / regime, regime, protocol) for regime in regimes}


def _boot_time(experiment: Experiment, folder: Path, regime: str, protocol: str | None) -> BootTime:
    blocks = sorted(path.parent for path in folder.glob("block-*/schedule.json"))
    of_cells = statistics.fmean(_pilot_cell_seconds(block) for block in blocks)
    measured = [seconds for block in blocks for seconds in _wall_seconds(block)]
    wanted = of_cells if protocol is None else _cell_seconds(experiment, protocol, regime)
    if not measured:
        source = f"from durations plus {SECONDS_PER_BOOT:g} s, the pilot recorded no times"
        return BootTime(SECONDS_PER_BOOT + wanted, source)
    pilot = statistics.fmean(measured)
    if math.isclose(wanted, of_cells):
        return BootTime(pilot, "as the pilot measured")
    source = f"{pilot:.1f} s in the pilot, with the durations of protocol {protocol}"
    return BootTime(pilot - of_cells + wanted, source)


def _cell_seconds(experiment: Experiment, protocol: str, regime: str) -> float:
    chosen = experiment.protocols[protocol]
    return len(cells(experiment)) * (chosen.warmup_s + chosen.duration_s[regime])


def _pilot_cell_seconds(block: Path) -> float:
    schedule = read_json(block / "schedule.json")
    each = float(schedule.get("duration_s", 0)) + float(schedule.get("warmup_s", 0))
    return len(schedule["cells"]) * each


def _wall_seconds(block: Path) -> list[float]:
    path = block / "host.json"
    boots: list[dict[str, Any]] = read_json(path).get("boots", []) if path.is_file() else []
    # A boot that failed ended early or at a deadline: it says nothing of one that runs.
    return [
        float(boot["wall_s"]) for boot in boots if boot.get("status") == "ok" and boot.get("wall_s")
    ]
