# SPDX-License-Identifier: GPL-2.0-only
"""Blocks as the analysis keeps them: read, judged slice by slice, and turned into columns.

A slice as it is read takes ten times the memory that its row of samples.csv does, and most of the
time. Both are spent on one block after another, by all CPUs, and what is left of a block are
columns, and what its slices broke.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kdelta.analysis.boots import BootKey, RawBoot, Slices
from kdelta.analysis.forked import on_all_cpus
from kdelta.analysis.inference import Floats
from kdelta.analysis.latency import Latencies, Numbers, log_quantiles, over_rounds
from kdelta.analysis.raw import Place, arm_files, find_blocks, read_block
from kdelta.analysis.records import Cell
from kdelta.analysis.rules import HostShares, host_shares
from kdelta.analysis.samples import boots_in_order, samples_frame, slice_columns
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import machine_of, relative_speeds
from kdelta.analysis.tables import Columns
from kdelta.analysis.validity import (
    Violation,
    in_order,
    own_violations,
    slow_violations,
)

PART_BYTES = 8 * 2**20
"""Of raw files, that are read at once. Fewer would cost more frames, more would cost memory."""


@dataclass
class Blocks:
    """Some blocks, one after another in display order.

    Attributes:
        boots: as they were read, without their slices.
        rows: how many slices each boot has run; of boots in display order.
        slices: the slices' columns of samples.csv, in display order; `valid` says only what a boot
            itself tells, until `settle`. None are left once they are put together with the others'.
        cells: cell of each slice, numbered among those of these blocks.
        levels: of each numbered cell.
        wall_s: of each slice; NaN where it was not recorded.
        violations: what a boot itself tells.
        host: regime, block and arm -> the largest shares of CPU time that were taken from a boot.
        told: numbers of the slices that have a latency distribution.
        quantiles: of these, natural logarithms of microseconds, shape (told, quantiles): most of
            what a block takes, until it is known which slices are valid.
        latencies: then what is left of them, as `over_rounds` makes it.
    """

    boots: tuple[RawBoot, ...]
    rows: tuple[int, ...]
    slices: Columns
    cells: Numbers
    levels: tuple[Cell, ...]
    wall_s: Floats
    violations: tuple[Violation, ...]
    host: dict[BootKey, HostShares]
    told: Numbers
    quantiles: Floats
    latencies: Latencies = field(default_factory=dict)

    def settle(self, relative: Floats, settings: AnalysisSettings) -> None:
        """Keep of latencies what tables need, now that each slice is known to be valid or not.

        Args:
            relative: speed of each slice.
            settings: the limit of that.
        """
        self.slices["relative_speed"] = relative
        slow = relative < settings.limits.cpu_speed
        self.slices["valid"] = np.asarray(self.slices["valid"], dtype=bool) & ~slow
        ordered = boots_in_order(self.boots, settings)
        valid = np.asarray(self.slices["valid"], dtype=bool)[self.told]
        told = self.told[valid]
        boots = np.repeat(np.arange(len(ordered)), self.rows)[told]
        self.latencies = {}
        for boot, cell, mean in over_rounds(boots, self.cells[told], self.quantiles[valid]):
            place = ordered[boot].regime, ordered[boot].arm, self.levels[cell]
            self.latencies.setdefault(place, {})[ordered[boot].block] = mean
        self.told, self.quantiles = self.told[:0].copy(), self.quantiles[:0].copy()


def read_blocks(raw_dir: Path, settings: AnalysisSettings) -> tuple[list[Blocks], tuple[Path, ...]]:
    """Every block below `raw_dir`, and the folders of those that were begun and not finished.

    Raises:
        KdeltaError: as `raw.read_raw`.
    """
    found, unfinished = find_blocks(raw_dir, settings)
    parts: list[list[Place]] = [[]]
    size = 0
    for place in found:
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(place)
        size += sum(file.stat().st_size for file in arm_files(place[0]))
    read = on_all_cpus(_read, settings, parts, worth_it=len(parts) > 1)
    return list(read), unfinished


def _read(settings: AnalysisSettings, places: Sequence[Place]) -> Blocks:
    return judge([boot for place in places for boot in read_block(*place, settings)], settings)


def together(
    blocks: Sequence[Blocks], settings: AnalysisSettings
) -> tuple[pd.DataFrame, list[Violation]]:
    """samples.csv of all blocks, and every rule that any planned sample breaks, in display order.

    Args:
        blocks: all of them, in display order; at least one.
        settings: rules, names and order.
    """
    # Columns of blocks without a row have no type.
    there = [block for block in blocks if len(block.cells)] or [blocks[0]]
    boots = [boot for block in there for boot in boots_in_order(block.boots, settings)]
    rows = [number for block in there for number in block.rows]
    numbers: dict[object, int] = {}
    machines = [numbers.setdefault(machine_of(boot), len(numbers)) for boot in boots]
    checks = np.column_stack(
        [
            np.concatenate([np.asarray(block.slices[name], dtype=float) for block in there])
            for name in ("speed_before", "speed_after")
        ]
    )
    relative, full = relative_speeds(checks, np.repeat(machines, rows))
    ends = np.cumsum([len(block.cells) for block in there])
    for block, speeds in zip(there, np.split(relative, ends[:-1]), strict=True):
        block.settle(speeds, settings)
    _give_back()
    samples = samples_frame([block.slices for block in there], boots, rows, settings)
    _give_back()
    slow = slow_violations(samples, full, settings)
    own = (violation for block in blocks for violation in block.violations)
    return samples, in_order([*own, *slow], settings)


def _give_back() -> None:
    """Give back memory that is free: glibc keeps it, and what is needed next comes on top."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def judge(boots: Sequence[RawBoot], settings: AnalysisSettings) -> Blocks:
    """Blocks from their boots, whose slices are let go of.

    Args:
        boots: all that these blocks have.
        settings: rules, names and order.
    """
    broken = [found for boot in boots for found in own_violations(boot, settings)]
    lost: dict[BootKey, set[tuple[Cell, int]]] = {}
    for one in broken:
        lost.setdefault((one.regime, one.block, one.arm), set()).add((one.cell, one.round))
    ordered = boots_in_order(boots, settings)
    rows = tuple(len(boot.ran.records) for boot in ordered)
    told = {
        first + number: histogram
        for first, boot in zip(itertools.accumulate(rows, initial=0), ordered, strict=False)
        for number, histogram in sorted(boot.ran.histograms.items())
    }
    levels: dict[Cell, int] = {}
    cells = [levels.setdefault(c, len(levels)) for boot in ordered for c in boot.ran.cells]
    return Blocks(
        boots=tuple(replace(boot, ran=Slices()) for boot in boots),
        rows=rows,
        slices=slice_columns(ordered, lost, settings),
        cells=np.array(cells, dtype=np.int64),
        levels=tuple(levels),
        wall_s=np.concatenate([boot.ran.wall_s for boot in ordered]),
        violations=tuple(broken),
        host={boot.key: host_shares(boot) for boot in boots},
        told=np.array([*told], dtype=np.int64),
        quantiles=log_quantiles(list(told.values())),
    )
