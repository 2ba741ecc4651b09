# SPDX-License-Identifier: GPL-2.0-only
"""What a person sees while guests are booted: one calm line per boot, and the time left."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from kdelta.experiment import Experiment
from kdelta.measure.schedule import cells
from kdelta.progress import duration_text

Json = dict[str, Any]

# A traced cell is run twice, and before each run probes are set: seconds of that under emulation.
_TRACED_RUNS, _PROBES_S = 2, 0.5
_ERASE_LINE = "\r\033[K"


@dataclass(frozen=True)
class Pending:
    """What is still to be booted besides the job that asks.

    Attributes:
        blocks: blocks to be measured, by regime.
        traces: regimes whose mechanism is still to be traced.
        known: mean seconds of one boot, by regime, from blocks that are measured.
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
            and not all((folder / f"{arm}.jsonl").exists() for arm in experiment.arms())
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
    """Mean seconds of one boot by regime, of the boots that measured something."""
    known = {}
    for regime in experiment.protocol_regimes(protocol):
        seconds = [
            boot["wall_s"]
            for file in sorted((raw / regime).glob("block-*/host.json"))
            for boot in _boots(file)
            if boot["status"] == "ok"
        ]
        if seconds:
            known[regime] = fmean(seconds)
    return known


def _boots(file: Path) -> list[Json]:
    # An estimate is no reason to stop: what cannot be read says nothing.
    try:
        boots: list[Json] = json.loads(file.read_text())["boots"]
        return [{"wall_s": boot["wall_s"], "status": boot["status"]} for boot in boots]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def cell_seconds(experiment: Experiment, protocol: str, regime: str) -> float:
    """Seconds that the cells of one boot take by themselves."""
    chosen = experiment.protocols[protocol]
    return len(cells(experiment)) * (chosen.duration_s[regime] + chosen.warmup_s)


def trace_seconds(experiment: Experiment) -> float:
    """Seconds that the cells of one mechanism boot take by themselves, about."""
    if experiment.mechanism is None:
        return 0.0
    return len(cells(experiment)) * _TRACED_RUNS * (experiment.mechanism.duration_s + _PROBES_S)


CHANGED = "the guest did not stay as it was asked for"


class BootProgress:
    """Tells the progress of one job of boots on standard error; use it as a context manager.

    On a terminal a line follows the boot that runs; elsewhere there is one line for each boot.
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
        self._regime = regime
        self._traced = block is None
        self._others = others or Pending()
        blocks = experiment.protocols[protocol].blocks
        self._prefix = f"{regime}, " + (
            "mechanism" if block is None else f"block {block} of {blocks}"
        )
        self._cells = len(cells(experiment))
        self._arms = len(experiment.arms())
        self._boots_done = 0
        self._overhead_s: float | None = None
        self._live = sys.stderr.isatty()

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

    def sample_done(self, samples: int) -> None:
        """Show that the current boot has finished `samples` cells; on a terminal only."""
        if self._live:
            text = (
                f"{self._prefix}: boot {self._boots_done + 1} of {self._arms}, "
                f"{samples} of {self._cells} cells{self._time_left()}"
            )
            # A line that the terminal wraps is not erased as a whole.
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or len(text) + 1
            print(f"{_ERASE_LINE}{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def arm_done(self, arm: str, boot: Json, changed: str | None = None) -> None:
        """Say that an arm's boot is over, and how long the rest will take.

        Args:
            arm: the arm.
            boot: its `wall_s`, `status` and `reason`, as in host.json.
            changed: how the guest did not stay as it was asked for.
        """
        self._boots_done += 1
        if boot["status"] == "ok" or self._overhead_s is None:
            self._overhead_s = max(0.0, boot["wall_s"] - self._own_cells_s())
        how = ("traced" if self._traced else "measured") if boot["status"] == "ok" else "FAILED"
        why = f"; {boot['reason']}" if boot["reason"] else ""
        if changed:
            why = f"; its samples are set aside: {CHANGED}: {changed}"
        print(
            f"{_ERASE_LINE if self._live else ''}{self._prefix}: {arm} {how} in "
            f"{boot['wall_s']:.0f} s ({self._boots_done} of {self._arms}){self._rest()}{why}",
            file=sys.stderr,
            flush=True,
        )

    def boots_left(self) -> tuple[int, int]:
        """Boots that are still to be done, in the whole run, and boots planned."""
        jobs = sum(self._others.blocks.values()) + len(self._others.traces)
        traces = len(self._experiment.mechanism_regimes(self._protocol))
        blocks = self._experiment.protocols[self._protocol].blocks
        planned = blocks * len(self._experiment.protocol_regimes(self._protocol)) + traces
        return (jobs + 1) * self._arms - self._boots_done, planned * self._arms

    def remaining_s(self) -> float | None:
        """Estimated seconds until all boots are done; None before anything is known."""
        if self._overhead_s is None and not self._others.known:
            return None
        own = self._trace_s(self._regime) if self._traced else self._boot_s(self._regime)
        later = sum(count * self._boot_s(name) for name, count in self._others.blocks.items())
        traces = sum(self._trace_s(name) for name in self._others.traces)
        return (self._arms - self._boots_done) * own + self._arms * (later + traces)

    def _rest(self) -> str:
        left, planned = self.boots_left()
        if not left:
            return f"; all {planned} boots of the run done"
        return f"; {planned - left} of {planned} boots of the run done{self._time_left(', ')}"

    def _time_left(self, before: str = "; ") -> str:
        seconds = self.remaining_s()
        return "" if seconds is None else f"{before}about {duration_text(seconds)} left"

    def _own_cells_s(self) -> float:
        if self._traced:
            return trace_seconds(self._experiment)
        return cell_seconds(self._experiment, self._protocol, self._regime)

    def _boot_s(self, regime: str) -> float:
        """Seconds of one measuring boot: as it was in this run, else as this job's boots are."""
        known = self._others.known.get(regime)
        if known is not None:
            return known
        return self._overhead(regime) + cell_seconds(self._experiment, self._protocol, regime)

    def _trace_s(self, regime: str) -> float:
        return self._overhead(regime) + trace_seconds(self._experiment)

    def _overhead(self, regime: str) -> float:
        """Seconds of a boot besides its cells: this job's, the regime's, or the run's mean."""
        known = {
            name: max(0.0, seconds - cell_seconds(self._experiment, self._protocol, name))
            for name, seconds in self._others.known.items()
        }
        if self._overhead_s is not None and regime == self._regime:
            return self._overhead_s
        if regime in known:
            return known[regime]
        return self._overhead_s if self._overhead_s is not None else fmean(known.values())
