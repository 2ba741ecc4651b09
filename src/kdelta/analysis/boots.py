# SPDX-License-Identifier: GPL-2.0-only
"""What a raw folder holds, as the analysis sees it: boots, their samples, their host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdelta.analysis.console import Splat
from kdelta.analysis.histogram import Histogram
from kdelta.analysis.host_record import HostBoot, HostRecord
from kdelta.analysis.records import BootRecord, Cell, EndRecord, HostCpu, SampleRecord
from kdelta.analysis.settings import AnalysisSettings
from kdelta.plain import one_line


@dataclass(frozen=True)
class RawSample:
    """One slice.

    Attributes:
        cell: the levels of its cell, in the order of the factors.
        record: what the guest wrote, without what the workload printed.
        values: what that says; empty where it was not understood.
        misread: why it was not.
        strange: which parameter the workload used another value of than the cell's, in words.
        histogram: of its distribution, if the workload gives one.
        counters: kernel counters that samples.csv has; None is one that was not recorded.
    """

    cell: Cell
    record: SampleRecord
    values: Mapping[str, Any] = field(default_factory=dict)
    misread: str | None = None
    strange: str | None = None
    histogram: Histogram | None = None
    counters: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def place(self) -> tuple[Cell, int]:
        """Its cell and its round: what tells it from the others of its boot."""
        return self.cell, self.record.round


@dataclass(frozen=True)
class RawBoot:
    """One planned boot and whatever it left behind, which may be nothing.

    Attributes:
        planned: the cells the boot was to run in each round.
        rounds: how many rounds there were to be.
        boot: None if the guest never got as far as its first record.
        end: None if the boot did not finish.
        splats: what the console showed; empty if nothing, None without a console log.
        host: the block's host.json; None without that file.
        rates: growth per second of every kernel counter over all of its slices.
        others: how many slices of other workloads it ran.
        last_order: the highest number of any slice that it ran.
    """

    regime: str
    block: int
    arm: str
    boot_order: int
    planned: tuple[Cell, ...]
    boot: BootRecord | None
    samples: tuple[RawSample, ...]
    end: EndRecord | None
    splats: tuple[Splat, ...] | None
    host: HostRecord | None = None
    rounds: int = 1
    rates: Mapping[str, float] = field(default_factory=dict)
    others: int = 0
    last_order: int = 0

    @property
    def places(self) -> list[tuple[Cell, int]]:
        """Cell and round of every slice that it was to run."""
        return [(cell, number) for number in range(1, self.rounds + 1) for cell in self.planned]

    @property
    def host_boot(self) -> HostBoot | None:
        """What host.json says of this boot, if anything."""
        boots = self.host.boots if self.host else ()
        return next((boot for boot in boots if boot.arm == self.arm), None)

    @property
    def host_cpu(self) -> HostCpu | None:
        """CPU seconds of the host over this boot, if recorded."""
        return self.host_boot.host_cpu if self.host_boot else None

    @property
    def failed(self) -> bool:
        """Whether host.json says that the boot failed."""
        return self.host_boot is not None and self.host_boot.status == "failed"

    @property
    def failure(self) -> str | None:
        """Why the boot failed, on one line and without the boot's name; None if it did not."""
        if self.host_boot is None or not self.failed:
            return None
        told = one_line(self.host_boot.reason or "no reason was recorded")
        return told.removeprefix(f"{self.name}: ")

    @property
    def name(self) -> str:
        """Regime, block and arm, for a person."""
        return f"{self.regime}, block {self.block}, arm {self.arm}"

    @property
    def vcpus(self) -> int | None:
        """CPUs of the guest, as it saw them or else as it was given them; None if unknown."""
        seen = self.boot.gate.vcpus if self.boot else None
        return seen if seen is not None or self.host is None else self.host.vcpus

    @property
    def host_cpus(self) -> int | None:
        """CPUs of the host; None if not recorded."""
        cpu = self.host_cpu
        if cpu is not None and cpu.cpus is not None:
            return cpu.cpus
        return self.host.host.cpus if self.host else None


@dataclass(frozen=True)
class RawData:
    """A raw folder: its boots, and the blocks that were begun and not finished."""

    boots: tuple[RawBoot, ...]
    unfinished: tuple[Path, ...]


def planned_cells(boots: Iterable[RawBoot]) -> dict[str, tuple[Cell, ...]]:
    """Regime -> every cell that any of its blocks planned, sorted."""
    cells: dict[str, set[Cell]] = {}
    for boot in boots:
        cells.setdefault(boot.regime, set()).update(boot.planned)
    return {regime: tuple(sorted(found, key=cell_key)) for regime, found in cells.items()}


def all_planned_cells(
    measured: Mapping[str, Sequence[Cell]], settings: AnalysisSettings
) -> dict[str, tuple[Cell, ...]]:
    """Regime -> every cell of it that was planned, also where nothing was measured; sorted.

    Args:
        measured: as `planned_cells` makes it.
        settings: the matrix, and the regimes if a protocol is known (`blocks` is given).
    """
    regimes = [r for r in settings.regimes if r in measured or settings.blocks is not None]
    every = {r: {*measured.get(r, ()), *(settings.cells or ())} for r in regimes}
    return {regime: tuple(sorted(cells, key=cell_key)) for regime, cells in every.items() if cells}


def cell_key(cell: Cell) -> tuple[tuple[bool, str, float], ...]:
    """Sort key: numbers by value, then texts by letter, factor by factor."""
    return tuple(
        (True, level, 0.0) if isinstance(level, str) else (False, "", float(level))
        for level in cell
    )
