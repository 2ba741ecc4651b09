# SPDX-License-Identifier: GPL-2.0-only
"""What a raw folder holds, as the analysis sees it: boots, their samples, their host.

Blocks of a regime are pooled: their guests have to be alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from kdelta.analysis.console import Splat
from kdelta.analysis.records import (
    BootRecord,
    Cell,
    EndRecord,
    HostBoot,
    HostCpu,
    HostRecord,
    SampleRecord,
)
from kdelta.analysis.settings import AnalysisSettings
from kdelta.errors import KdeltaError
from kdelta.plain import one_line
from kdelta.workload.parameters import Level

Floats = NDArray[np.float64]

Column = Sequence[Any]
"""One value per slice of a boot; None where there is none."""

BootKey = tuple[str, int, str]
"""Regime, block, arm: what identifies a boot."""

Facts = tuple[tuple[str, object], ...]

MOST_WRITES = 2**40
"""Of one sample; those of many are added up in 64 bits."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Buckets `[lower, upper, count]`, kept as bytes: 10,000 samples as lists fill the memory.

    Attributes:
        data: 64-bit integers, three per bucket.
    """

    data: bytes

    BUCKET_BYTES: ClassVar[int] = 24

    @classmethod
    def of(cls, buckets: Any) -> Self:
        """From a list of `[lower_ns, upper_ns, count]`, all of them whole.

        Raises:
            ValueError: it is none, the buckets are not ascending, or one is empty.
        """
        try:
            table = np.array(buckets)
            if table.size == 0:
                table = table.reshape(0, 3).astype(np.int64)
            if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != 3:
                raise ValueError("buckets are [lower, upper, count], in whole numbers of 64 bits")
        except OverflowError:
            raise ValueError("a bucket's bound or count does not fit 64 bits") from None
        lower, upper, count = table.T
        if (
            (lower < 0).any()
            or (lower >= upper).any()
            or (upper[:-1] > lower[1:]).any()
            or (count < 1).any()
        ):
            raise ValueError("buckets must ascend and hold at least one write each")
        if count.sum(dtype=float) > MOST_WRITES:
            raise ValueError(f"more than {MOST_WRITES} writes are more than a sample can hold")
        return cls(table.tobytes())

    @classmethod
    def of_all(cls, tables: Sequence[Any]) -> list[Self]:
        """`of` each, in a tenth of its time.

        Raises:
            ValueError: one of them is none.
        """
        try:
            rows = [*itertools.chain.from_iterable(tables)]
            whole = np.array([*itertools.chain.from_iterable(rows)], dtype=None if rows else int)
            if whole.dtype != np.int64 or {*map(len, rows)} - {3}:
                raise ValueError
            lower, upper, count = whole.reshape(-1, 3).T
            ends = np.cumsum([len(table) for table in tables], dtype=int)
            last = np.zeros(len(rows), dtype=bool)
            last[ends[ends > 0] - 1] = True
            ascending = (lower >= 0) & (lower < upper)
            ascending[:-1] &= last[:-1] | (upper[:-1] <= lower[1:])
            if not ascending.all() or (count < 1).any() or count.sum(dtype=float) > MOST_WRITES:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            return [cls.of(table) for table in tables]  # which says what is wrong, if anything is
        data = whole.tobytes()
        size = cls.BUCKET_BYTES
        return [
            cls(data[size * (end - len(table)) : size * end])
            for end, table in zip(ends.tolist(), tables, strict=True)
        ]

    @property
    def buckets(self) -> NDArray[np.int64]:
        """Lower bound (included) and upper bound (excluded) in ns, and count: shape (n, 3)."""
        return np.frombuffer(self.data, dtype=np.int64).reshape(-1, 3)


@dataclass(frozen=True)
class Slices:
    """The slices of one boot as columns, by cell and round; a slice's number is its place in them.

    Attributes:
        records: what the guest wrote.
        wall_s: seconds from start to end by the monotonic clock; NaN where that was not recorded.
        cells: the levels of their cells, in the order of the factors.
        given: parameters that were set: those of the experiment, and the cell's.
        values: what the workload's output says, by name; None where it lacks it.
        misread: why an output was not understood, or that there was none.
        strange: which parameter the workload used another value of than the cell's, in words.
        histograms: of the distributions, of those that have one.
        grown: what each counter of the kernel grew by; None where it was not recorded.
        counters: the same of those that samples.csv has, by their names there.
    """

    records: tuple[SampleRecord, ...] = ()
    wall_s: Floats = field(default_factory=lambda: np.empty(0))
    cells: tuple[Cell, ...] = ()
    given: tuple[Mapping[str, Level], ...] = ()
    values: Mapping[str, Column] = field(default_factory=dict)
    misread: Mapping[int, str] = field(default_factory=dict)
    strange: Mapping[int, str] = field(default_factory=dict)
    histograms: Mapping[int, Histogram] = field(default_factory=dict)
    grown: Mapping[str, Column] = field(default_factory=dict)
    counters: Mapping[str, Column] = field(default_factory=dict)

    @property
    def places(self) -> list[tuple[Cell, int]]:
        """Cell and round of each: what tells it from the others of its boot."""
        return [(cell, one.round) for cell, one in zip(self.cells, self.records, strict=True)]


@dataclass(frozen=True)
class RawBoot:
    """One planned boot and whatever it left behind, which may be nothing.

    Attributes:
        planned: the cells the boot was to run in each round.
        rounds: how many rounds there were to be.
        boot: None if the guest never got as far as its first record.
        ran: the slices that it ran.
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
    ran: Slices
    end: EndRecord | None
    splats: tuple[Splat, ...] | None
    host: HostRecord | None = None
    rounds: int = 1
    rates: Mapping[str, float] = field(default_factory=dict)
    others: int = 0
    last_order: int = 0

    @property
    def key(self) -> BootKey:
        """What identifies the boot."""
        return (self.regime, self.block, self.arm)

    @property
    def places(self) -> list[tuple[Cell, int]]:
        """Cell and round of every slice that it was to run."""
        return [(cell, number) for number in range(1, self.rounds + 1) for cell in self.planned]

    @property
    def slices(self) -> int:
        """How many those are."""
        return self.rounds * len(self.planned)

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
    def node(self) -> str:
        """Who measured the block: the node's name, or its processor in runs that lack names."""
        host = self.host
        return (host and (host.node or host.host.cpu_model)) or "unknown"

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


@lru_cache(maxsize=4096)
def cell_key(cell: Cell) -> tuple[tuple[bool, str, float], ...]:
    """Sort key: numbers by value, then texts by letter, factor by factor."""
    return tuple(
        (True, level, 0.0) if isinstance(level, str) else (False, "", float(level))
        for level in cell
    )


def require_same_guests(boots: Sequence[RawBoot], raw_dir: Path) -> None:
    """Check that all blocks of a regime were measured in guests of one kind.

    vCPUs, memory, acceleration and CPU model as host.json has them, else as the guest saw them;
    what was not recorded is taken to be alike. Other hosts are no reason: ratios are taken within
    blocks, and whether those differ between nodes is tested.

    Raises:
        KdeltaError: they were not.
    """
    for regime in dict.fromkeys(boot.regime for boot in boots):
        blocks: dict[int, dict[str, object]] = {}
        for boot in boots:
            if boot.regime == regime:
                facts = blocks.setdefault(boot.block, {})
                facts.update({k: v for k, v in _facts(boot).items() if v is not None})
        names = dict.fromkeys(name for facts in blocks.values() for name in facts)
        differing = [name for name in names if len(_values(blocks, name)) > 1]
        if differing:
            groups: dict[Facts, list[int]] = {}
            for number, facts in blocks.items():
                key = tuple((name, facts.get(name, "unknown")) for name in differing)
                groups.setdefault(key, []).append(number)
            told = "; ".join(
                f"block{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: "
                + ", ".join(f"{name} {value}" for name, value in key)
                for key, numbers in groups.items()
            )
            what, cure = (
                (
                    "with other settings or kernels",
                    "if they are being measured anew, let that come to its end; else delete the "
                    "folders of the older ones (measured_at in host.json) and run snakemake again",
                )
                if "settings" in differing
                else (
                    "in different guests",
                    "move the folders of the fewer away and measure these blocks again where the "
                    "others were measured",
                )
            )
            raise KdeltaError(
                f"{raw_dir / regime}: its blocks were measured {what}, which cannot be pooled "
                f"({told}); {cure}"
            )


def _facts(boot: RawBoot) -> dict[str, object]:
    gate = boot.boot.gate if boot.boot else None
    host = boot.host
    mode = host.acceleration.mode if host and host.acceleration else None
    return {
        "vCPUs": host.vcpus if host and host.vcpus is not None else gate and gate.vcpus,
        "memory in MiB": host.memory_mib if host else None,
        "acceleration": mode or (gate and gate.acceleration),
        "CPU model": host.acceleration.cpu or "by default" if host and host.acceleration else None,
        # Snakemake sees to it, but for blocks that ended while it was dead: of these it keeps no
        # record, and would not notice that an experiment or a kernel has changed since.
        "settings": (host and host.key) or None,
    }


def _values(blocks: dict[int, dict[str, object]], name: str) -> set[object]:
    return {facts[name] for facts in blocks.values() if name in facts}
