# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while a block is measured: one calm line per boot."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdelta.experiment import Experiment
from kdelta.measure.schedule import cells
from kdelta.progress import duration_text

Json = dict[str, Any]


def blocks_left(experiment: Experiment, protocol: str, raw: Path, current: Path) -> dict[str, int]:
    """Blocks still to be measured after the current one, by regime.

    A block counts as measured when its `host.json` exists: the workflow deletes
    it before it measures a block anew.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        raw: the run's raw folder.
        current: folder of the block being measured.
    """
    planned = experiment.protocols[protocol].blocks
    left = {}
    for regime in experiment.protocol_regimes(protocol):
        folders = [raw / regime / f"block-{number:03d}" for number in range(1, planned + 1)]
        left[regime] = sum(
            not (folder / "host.json").exists() for folder in folders if folder != current
        )
    return left


def cell_seconds(experiment: Experiment, protocol: str, regime: str) -> float:
    """Seconds that the cells of one boot take by themselves."""
    chosen = experiment.protocols[protocol]
    return len(cells(experiment)) * (chosen.duration_s[regime] + chosen.warmup_s)


def remaining_s(
    experiment: Experiment,
    protocol: str,
    regime: str,
    boots_left: int,
    blocks_after: Mapping[str, int],
    overhead_s: float,
) -> float:
    """Estimated seconds until all blocks are measured.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        regime: the regime being measured.
        boots_left: boots left in the current block.
        blocks_after: blocks to be measured after it, by regime.
        overhead_s: seconds a boot takes besides its cells.
    """
    arms = len(experiment.arms())

    def boot(name: str) -> float:
        return overhead_s + cell_seconds(experiment, protocol, name)

    later = sum(count * arms * boot(name) for name, count in blocks_after.items())
    return boots_left * boot(regime) + later


class BlockProgress:
    """Prints the progress of one block to standard error."""

    def __init__(
        self,
        experiment: Experiment,
        protocol: str,
        regime: str,
        block: int,
        blocks_after: Mapping[str, int],
    ) -> None:
        self._experiment = experiment
        self._protocol = protocol
        self._regime = regime
        self._blocks_after = blocks_after
        self._prefix = f"{regime}, block {block} of {experiment.protocols[protocol].blocks}"
        self._arms = len(experiment.arms())
        self._boots_done = 0
        self._live = sys.stderr.isatty()

    def sample_done(self, samples: int) -> None:
        """Show that the current boot has finished `samples` cells; on a terminal only."""
        if self._live:
            text = f"{self._prefix}: boot {self._boots_done + 1} of {self._arms}, {samples} cells"
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def arm_done(self, arm: str, boot: Json) -> None:
        """Say that an arm's boot is over, and how long the rest will take."""
        self._boots_done += 1
        overhead = boot["wall_s"] - cell_seconds(self._experiment, self._protocol, self._regime)
        left = remaining_s(
            self._experiment,
            self._protocol,
            self._regime,
            self._arms - self._boots_done,
            self._blocks_after,
            max(0.0, overhead),
        )
        start = "\r\033[K" if self._live else ""
        rest = f"; about {duration_text(left)} of measuring left" if left > 0 else ""
        how = "measured" if boot["status"] == "ok" else "FAILED"
        why = f"; {boot['reason']}" if boot["reason"] else ""
        print(
            f"{start}{self._prefix}: {arm} {how} in {boot['wall_s']:.0f} s "
            f"({self._boots_done} of {self._arms}){rest}{why}",
            file=sys.stderr,
            flush=True,
        )
