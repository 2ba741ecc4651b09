# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while guests run: one calm line per block, and the time left."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kdelta.experiment import Experiment
from kdelta.measure.schedule import cells, traced_cells
from kdelta.probes.inside import PROBES
from kdelta.progress import duration_text

if TYPE_CHECKING:
    from kdelta.measure.arm import ArmBoot

Json = dict[str, Any]

BOOT_S = 5.0
"""Seconds until a guest is ready, about: of each, where nobody has measured it."""

SLICE_OVERHEAD_S = 0.2
"""Seconds of a slice besides what the workload runs: its start, the speed checks, the record."""

# Before each run of a traced cell probes are set: seconds of that under emulation.
_PROBES_S = 0.5
_ERASE_LINE = "\r\033[K"
_REDRAW_EVERY_S = 0.2
CHANGED = "the guest did not stay as it was asked for"


@dataclass(frozen=True)
class Pending:
    """What is still to be done besides the job that asks.

    Attributes:
        blocks: blocks to be measured, by regime.
        traces: regimes whose mechanism is still to be traced.
        known: mean seconds of a block, by regime, of those that are measured.
    """

    blocks: Mapping[str, int] = field(default_factory=dict)
    traces: Sequence[str] = ()
    known: Mapping[str, float] = field(default_factory=dict)


def pending(experiment: Experiment, protocol: str, run: Path, current: Path) -> Pending:
    """What is left of a run, from what is on the disk.

    Args:
        experiment: the experiment.
        protocol: name of the protocol.
        run: the run's folder.
        current: folder of the job that asks: of a block, or of a regime's mechanism boots.
    """
    return Pending(
        blocks=blocks_left(experiment, protocol, run / "raw", current),
        traces=[
            regime
            for regime in experiment.mechanism_regimes(protocol)
            if (folder := run / "mechanism" / regime) != current
            and not all((folder / f"{arm}.jsonl").exists() for arm in experiment.booted_arms())
        ],
        known=_known_seconds(experiment, protocol, run / "raw"),
    )


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


def _known_seconds(experiment: Experiment, protocol: str, raw: Path) -> dict[str, float]:
    """Mean seconds of a block by regime."""
    known = {}
    for regime in experiment.protocol_regimes(protocol):
        files = sorted((raw / regime).glob("block-*/host.json"))
        seconds = [wall_s for file in files if (wall_s := _wall_s(file)) is not None]
        if seconds:
            known[regime] = fmean(seconds)
    return known


def _wall_s(file: Path) -> float | None:
    # An estimate is no reason to stop: what cannot be read says nothing.
    try:
        return float(json.loads(file.read_text())["wall_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def block_seconds(experiment: Experiment, protocol: str, regime: str) -> float:
    """Seconds that a block takes, about, where none has been measured."""
    chosen, arms = experiment.protocols[protocol], len(experiment.booted_arms())
    each = chosen.slice_s(regime) + chosen.warmup_s + SLICE_OVERHEAD_S
    return arms * (BOOT_S + len(cells(experiment)) * chosen.rounds * each)


def trace_seconds(experiment: Experiment) -> float:
    """Seconds that a regime's mechanism boots take, about."""
    if experiment.mechanism is None:
        return 0.0
    runs = sum(PROBES[name].runs for name in experiment.probes)
    cell_s = runs * (experiment.mechanism.duration_s + _PROBES_S)
    return len(experiment.booted_arms()) * (BOOT_S + len(traced_cells(experiment)) * cell_s)


class BlockProgress:
    """Tells the progress of one block on standard error; use it as a context manager.

    On a terminal a line follows what is being done; elsewhere there is one line for each block.
    """

    def __init__(
        self,
        experiment: Experiment,
        protocol: str,
        regime: str,
        block: int | None,
        others: Pending | None = None,
    ) -> None:
        """Begin a job.

        Args:
            experiment: the experiment.
            protocol: name of the protocol.
            regime: the regime whose guests are booted.
            block: number of the block, from 1; None for mechanism boots.
            others: what is left of the run beside this job.
        """
        self._experiment = experiment
        self._protocol = protocol
        self._traced = block is None
        self._others = others or Pending()
        chosen = experiment.protocols[protocol]
        self._prefix = f"{regime}, " + (
            "mechanism" if block is None else f"block {block} of {chosen.blocks}"
        )
        traced = len(traced_cells(experiment))
        each = traced if self._traced else len(cells(experiment)) * chosen.rounds
        self._slices = len(experiment.booted_arms()) * each
        self._guess_s = trace_seconds(experiment) if self._traced else self._block_s(regime)
        self._failed = 0
        self._live = sys.stderr.isatty()
        self._begun = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:  # the message of an error must not land behind half a line
            print(_ERASE_LINE, end="", file=sys.stderr, flush=True)

    def note(self, what: str, slices: int) -> None:
        """Show what is being done, and how many slices are; on a terminal only."""
        now = time.monotonic()
        if not self._live or now - self._shown < _REDRAW_EVERY_S:
            return
        self._shown = now
        done = f", {slices} of {self._slices} slices" if slices else ""
        left = max(0.0, self._guess_s - (now - self._begun)) + self._later_s()
        text = f"{self._prefix}: {what}{done}; about {duration_text(left)} left"
        # A line that the terminal wraps is not erased as a whole.
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or len(text) + 1
        print(f"{_ERASE_LINE}{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def arm_done(self, boot: ArmBoot) -> None:
        """Say why an arm's guest did not come to its end, if it did not."""
        why = boot.entry["reason"]
        if boot.changed:
            why = f"its samples are set aside: {CHANGED}: {boot.changed}"
        if why is not None:
            self._failed += 1
            self._print(f"{self._prefix}: {boot.entry['arm']} FAILED; {why}")

    def block_done(self) -> None:
        """Say that all guests of the job are over, and how long the rest will take."""
        took = duration_text(time.monotonic() - self._begun)
        arms = len(self._experiment.booted_arms())
        whole = f"{arms - self._failed} of {arms} guests " if self._failed else ""
        self._print(
            f"{self._prefix}: {whole}{'traced' if self._traced else 'measured'} in {took}"
            f"{self._rest()}"
        )

    def blocks_left(self) -> tuple[int, int]:
        """Jobs of guests that are still to be done after this one, and jobs planned."""
        left = sum(self._others.blocks.values()) + len(self._others.traces)
        traces = len(self._experiment.mechanism_regimes(self._protocol))
        blocks = self._experiment.protocols[self._protocol].blocks
        return left, blocks * len(self._experiment.protocol_regimes(self._protocol)) + traces

    def _print(self, text: str) -> None:
        print(f"{_ERASE_LINE if self._live else ''}{text}", file=sys.stderr, flush=True)

    def _rest(self) -> str:
        left, planned = self.blocks_left()
        if not left:
            return f"; all {planned} blocks of the run done"
        return (
            f"; {planned - left} of {planned} blocks done, about "
            f"{duration_text(self._later_s())} left"
        )

    def _later_s(self) -> float:
        later = sum(count * self._block_s(name) for name, count in self._others.blocks.items())
        return later + len(self._others.traces) * trace_seconds(self._experiment)

    def _block_s(self, regime: str) -> float:
        """Seconds of a block: as in this run, else as far off as the guess was elsewhere."""
        known = self._others.known
        if regime in known:
            return known[regime]
        guess = {
            name: block_seconds(self._experiment, self._protocol, name) for name in {regime, *known}
        }
        off = fmean(seconds / guess[name] for name, seconds in known.items()) if known else 1.0
        return off * guess[regime]
