# SPDX-License-Identifier: GPL-2.0-only
"""How long a block takes: as a pilot measured it, or from a protocol's durations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kdelta.experiment import Experiment
from kdelta.measure.progress import BOOT_S, block_seconds
from kdelta.measure.schedule import cells
from kdelta.provenance import read_json


@dataclass(frozen=True)
class BlockTime:
    """Wall time of one block of a regime, and where that is from.

    Attributes:
        seconds: of the whole block.
        source: in words.
        boots_s: of it, until its guests are ready, about.
        rounds: of the block.
    """

    seconds: float
    source: str
    boots_s: float = 0.0
    rounds: int = 1

    def with_rounds(self, rounds: int) -> BlockTime:
        """What a block of so many rounds would take."""
        each = (self.seconds - self.boots_s) / self.rounds
        return replace(self, seconds=self.boots_s + rounds * each, rounds=rounds)


def protocol_block_times(experiment: Experiment, protocol: str) -> dict[str, BlockTime]:
    """Regime -> block time from the protocol's durations."""
    source = f"from durations of protocol {protocol}, not measured"
    boots_s, rounds = len(experiment.booted_arms()) * BOOT_S, experiment.protocols[protocol].rounds
    return {
        regime: BlockTime(block_seconds(experiment, protocol, regime), source, boots_s, rounds)
        for regime in experiment.protocol_regimes(protocol)
    }


def block_times(
    experiment: Experiment, raw: Path, regimes: Sequence[str], protocol: str | None
) -> dict[str, BlockTime]:
    """Regime -> block time from a pilot's raw folder.

    Args:
        experiment: the experiment.
        raw: the pilot's raw folder, with host.json and schedule.json in each block.
        regimes: which regimes; each has a block.
        protocol: the protocol that is planned for; where its slices take another time than
            the pilot's did, the difference is added. None: as the pilot's.

    Raises:
        KdeltaError: a file cannot be read.
    """
    return {regime: _block_time(experiment, raw / regime, regime, protocol) for regime in regimes}


def _block_time(
    experiment: Experiment, folder: Path, regime: str, protocol: str | None
) -> BlockTime:
    blocks = sorted(path.parent for path in folder.glob("block-*/schedule.json"))
    slices_s = statistics.fmean(map(_slice_seconds, blocks))
    measured = [s for block in blocks if (s := _wall_seconds(block)) is not None]
    boots_s = len(experiment.booted_arms()) * BOOT_S
    if protocol is None:
        wanted, rounds = slices_s, _rounds(blocks[0])
    else:
        chosen = experiment.protocols[protocol]
        rounds = chosen.rounds
        each = rounds * (chosen.warmup_s + chosen.slice_s(regime))
        wanted = len(experiment.booted_arms()) * len(cells(experiment)) * each
    if not measured:
        source = "from durations alone, the pilot recorded no times"
        return BlockTime(wanted, source, 0.0, rounds)
    pilot = statistics.fmean(measured)
    if math.isclose(wanted, slices_s):
        return BlockTime(pilot, "as the pilot measured", min(boots_s, pilot / 2), rounds)
    source = f"{pilot:.1f} s in the pilot, with the durations of protocol {protocol}"
    seconds = pilot - slices_s + wanted
    return BlockTime(seconds, source, min(boots_s, seconds / 2), rounds)


def _rounds(block: Path) -> int:
    return max(1, len(read_json(block / "schedule.json").get("rounds", [])))


def _slice_seconds(block: Path) -> float:
    """Seconds that the slices of a block take by themselves."""
    schedule = read_json(block / "schedule.json")
    each = float(schedule.get("slice_s", 0)) + float(schedule.get("warmup_s", 0))
    turns = sum(len(turns) for turns in schedule.get("rounds", []))
    return len(schedule["arms"]) * turns * each


def _wall_seconds(block: Path) -> float | None:
    path = block / "host.json"
    seconds = read_json(path).get("wall_s") if path.is_file() else None
    return None if seconds is None else float(seconds)
