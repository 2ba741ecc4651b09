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

from kdelta.analysis.boots import RawBoot, Slices
from kdelta.analysis.forked import on_all_cpus
from kdelta.analysis.inference import Floats
from kdelta.analysis.latency import Latencies, log_quantiles, over_rounds
from kdelta.analysis.raw import Place, arm_files, find_blocks, read_block
from kdelta.analysis.rules import HostShares, host_shares
from kdelta.analysis.samples import boots_in_order, samples_of
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.speed import machine_of, relative_speeds
from kdelta.analysis.validity import (
    Violation,
    broken_samples,
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
        samples: rows of samples.csv, in display order. `relative_speed` is missing, and `valid`
            says only what a boot itself tells: both wait for all the others. None are left once
            they are put together with the others'.
        wall_s: of each row; NaN where it was not recorded.
        violations: what a boot itself tells.
        host: regime, block and arm -> the largest shares of CPU time that were taken from a boot.
        told: which rows have a latency distribution.
        quantiles: of these, natural logarithms of microseconds, shape (told, quantiles): most of
            what a block takes, until it is known which rows are valid.
        latencies: then what is left of them, as `over_rounds` makes it.
    """

    boots: tuple[RawBoot, ...]
    samples: pd.DataFrame
    wall_s: Floats
    violations: tuple[Violation, ...]
    host: dict[tuple[str, int, str], HostShares]
    told: tuple[int, ...]
    quantiles: Floats
    latencies: Latencies = field(default_factory=dict)

    def settle(self, settings: AnalysisSettings) -> None:
        """Keep of latencies what tables need, now that each row is known to be valid or not."""
        rows = self.samples.iloc[list(self.told)]
        self.latencies = over_rounds(rows, self.quantiles, settings.factors)
        self.told, self.quantiles = (), self.quantiles[:0].copy()


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
    there = [block for block in blocks if len(block.samples)] or [blocks[0]]
    machines = {
        (boot.regime, boot.block, boot.arm): machine_of(boot)
        for block in blocks
        for boot in block.boots
    }
    numbers = {machine: number for number, machine in enumerate(dict.fromkeys(machines.values()))}
    of_boots = {place: numbers[machine] for place, machine in machines.items()}
    place = ["regime", "block", "arm"]
    relative, full = relative_speeds(
        np.concatenate([b.samples[["speed_before", "speed_after"]].to_numpy(float) for b in there]),
        np.array(
            [
                of_boots[boot]
                for block in there
                for boot in zip(*(block.samples[name] for name in place), strict=True)
            ],
            dtype=np.int64,
        ),
    )
    ends = np.cumsum([len(block.samples) for block in there])
    for block, speeds in zip(there, np.split(relative, ends[:-1]), strict=True):
        block.samples["relative_speed"] = speeds
        block.samples["valid"] &= ~(speeds < settings.limits.cpu_speed)
        block.settle(settings)
    _give_back()
    samples = pd.concat([block.samples for block in there], ignore_index=True)
    for block in there:  # a million of them are kept once
        block.samples = samples.iloc[:0]
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
    ordered = boots_in_order(boots, settings)
    first = itertools.accumulate((len(boot.ran.records) for boot in ordered), initial=0)
    told = {
        row + number: histogram
        for row, boot in zip(first, ordered, strict=False)
        for number, histogram in sorted(boot.ran.histograms.items())
    }
    walls = [one.wall_s for boot in ordered for one in boot.ran.records]
    return Blocks(
        boots=tuple(replace(boot, ran=Slices()) for boot in boots),
        samples=samples_of(ordered, broken_samples(broken), settings),
        wall_s=np.array([wall if wall else np.nan for wall in walls], dtype=float),
        violations=tuple(broken),
        host={(boot.regime, boot.block, boot.arm): host_shares(boot) for boot in boots},
        told=tuple(told),
        quantiles=log_quantiles(list(told.values())),
    )
