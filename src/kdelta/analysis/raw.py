# SPDX-License-Identifier: GPL-2.0-only
"""Reads `raw/<regime>/block-NNN/` into boots: the only part that reads its files."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from kdelta.analysis import console
from kdelta.analysis.boots import RawBoot, RawData, cell_key
from kdelta.analysis.records import (
    BootRecord,
    Cell,
    EndRecord,
    HostRecord,
    SampleRecord,
    Schedule,
    SelfCheck,
    parse_host,
    parse_records,
    parse_schedule,
)
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.slices import read_slices
from kdelta.errors import KdeltaError
from kdelta.workload.parameters import Level

Place = tuple[Path, str, int]
"""A block's folder, regime and number."""

_BLOCK = re.compile(r"block-(\d{3,})")


def read_raw(raw_dir: Path, settings: AnalysisSettings) -> RawData:
    """Every planned boot below `raw_dir`, by regime, block and boot order.

    A boot without its file or without its end record is kept, as incomplete. A block
    folder with neither schedule.json nor an arm's file is a block that was interrupted:
    measuring puts these in place only when every arm has run. Folders whose name is not
    block-NNN and hidden ones are not looked at.

    Raises:
        KdeltaError: there is nothing to read, a file is missing, cut short or
            malformed, or it speaks of a regime, arm or cell that is not the
            experiment's.
    """
    found, unfinished = find_blocks(raw_dir, settings)
    boots = [boot for place in found for boot in read_block(*place, settings)]
    return RawData(tuple(boots), unfinished)


def find_blocks(raw_dir: Path, settings: AnalysisSettings) -> tuple[list[Place], tuple[Path, ...]]:
    """Folder, regime and number of every block to read; and the folders of unfinished ones.

    Raises:
        KdeltaError: as `read_raw`.
    """
    if not raw_dir.is_dir():
        raise KdeltaError(f"{raw_dir}: no such folder; measure the experiment first")
    with _readable():
        found = sorted(p.name for p in raw_dir.iterdir() if p.is_dir() and p.name[0] != ".")
        known = {*settings.regimes, *settings.other_regimes}
        unknown = [name for name in found if name not in known]
        if unknown:
            raise KdeltaError(
                f"{raw_dir / unknown[0]}: the experiment has no regime {unknown[0]!r} (it has "
                f"{', '.join(settings.regimes)}); move the folder away if it is of an older run"
            )
        blocks = [
            (folder, regime, number)
            for regime in settings.regimes
            if regime in found
            for number, folder in _blocks(raw_dir / regime)
            if settings.blocks is None or number <= settings.blocks
        ]
        unfinished = tuple(folder for folder, _, _ in blocks if not _finished(folder))
    finished = [block for block in blocks if block[0] not in unfinished]
    if not finished:
        raise KdeltaError(
            f"{raw_dir}: holds no finished block-NNN folder of any regime "
            f"({', '.join(settings.regimes)}); measure the experiment first"
        )
    return finished, unfinished


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn what the file system refuses into one message."""
    try:
        yield
    except OSError as error:
        raise KdeltaError(
            f"{error.filename}: cannot be read: {error.strerror}; check the raw folder"
        ) from None


def _blocks(regime_dir: Path) -> list[tuple[int, Path]]:
    matches = ((_BLOCK.fullmatch(path.name), path) for path in regime_dir.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())


def arm_files(folder: Path) -> list[Path]:
    """An arm's records; what measuring keeps of a failed boot (*.partial.jsonl) is not data."""
    return sorted(p for p in folder.glob("*.jsonl") if not p.name.endswith(".partial.jsonl"))


def _finished(folder: Path) -> bool:
    return (folder / "schedule.json").exists() or bool(arm_files(folder))


def read_block(folder: Path, regime: str, number: int, settings: AnalysisSettings) -> list[RawBoot]:
    """The boots of one block, in boot order.

    Args:
        folder: as `find_blocks` gives it.
        regime: likewise.
        number: likewise.
        settings: the experiment's.

    Raises:
        KdeltaError: as `read_raw`.
    """
    with _readable():
        return _read_block(folder, regime, number, settings)


def _read_block(
    folder: Path, regime: str, number: int, settings: AnalysisSettings
) -> list[RawBoot]:
    if packed := next(folder.glob("*.jsonl.gz"), None):
        run = folder.parents[2]
        raise KdeltaError(
            f"{packed}: packed, as runs are shipped; unpack the run into a folder and name that: "
            f"`kdelta reference --unpack {run} --output FOLDER`"
        )
    path = folder / "schedule.json"
    if not path.is_file():
        raise KdeltaError(
            f"{path}: missing, so what the block was to run is unknown; "
            "move the block's folder away and measure the block again"
        )
    schedule = parse_schedule(path.read_bytes(), str(path))
    _require_same(str(path), "regime", schedule.regime, regime)
    _require_same(str(path), "block", schedule.block, number)
    arms = schedule.arms
    for arm in arms:
        if arm not in settings.arms or arms.count(arm) > 1:
            raise KdeltaError(
                f"{path}: key arms: {arm!r} is listed twice or not an arm of the experiment "
                f"({', '.join(settings.arms)}); the block is of another experiment"
            )
    stray = [p for p in arm_files(folder) if p.stem not in arms]
    if stray:
        raise KdeltaError(
            f"{stray[0]}: no such arm in the block's schedule.json "
            f"({', '.join(arms)}); move the file away"
        )
    names = schedule.workloads or (settings.workload_name,) * len(schedule.cells)
    if len(names) != len(schedule.cells):
        raise KdeltaError(
            f"{path}: key workloads: {len(names)} names for {len(schedule.cells)} cells; the file "
            "was edited: move its folder away and measure the block again"
        )
    planned = tuple(
        cell_of(cell, settings, f"{path}: key cells")
        for name, cell in zip(names, schedule.cells, strict=True)
        if name == settings.workload_name
    )
    if not planned:
        raise KdeltaError(
            f"{path}: key workloads: no cell of workload {settings.workload_name!r}, only of "
            f"{', '.join(dict.fromkeys(names))}; the block is of another experiment"
        )
    if len(set(planned)) != len(planned):
        raise KdeltaError(f"{path}: key cells: a cell is listed twice")
    host = _read_host(folder / "host.json", arms)
    return [
        _read_boot(folder, schedule, order, planned, host, settings)
        for order in range(1, len(arms) + 1)
    ]


def _read_host(path: Path, arms: list[str]) -> HostRecord | None:
    if not path.is_file():
        return None
    record = parse_host(path.read_bytes(), str(path))
    stranger = next((boot.arm for boot in record.boots if boot.arm not in arms), None)
    if stranger is not None:
        raise KdeltaError(
            f"{path}: key boots: arm {stranger!r} is not in the block's schedule.json "
            f"({', '.join(arms)}); was the file moved or copied?"
        )
    return record


def _read_boot(
    folder: Path,
    schedule: Schedule,
    order: int,
    planned: tuple[Cell, ...],
    host: HostRecord | None,
    settings: AnalysisSettings,
) -> RawBoot:
    arm = schedule.arms[order - 1]
    path = folder / f"{arm}.jsonl"
    boot: BootRecord | None = None
    end: EndRecord | None = None
    rounds = len(schedule.rounds)
    # By cell and round: where each slice that was planned has its place.
    cells = sorted(planned, key=cell_key)
    places = {cell: rounds * number for number, cell in enumerate(cells)}
    samples: list[SampleRecord | None] = [None] * (rounds * len(cells))
    lines: dict[int, int] = {}
    others = last_order = 0
    here = schedule.regime, schedule.block, arm, order
    first: dict[tuple[tuple[str, Level], ...], int] = {}
    for number, record in parse_records(path.read_bytes(), path) if path.is_file() else ():
        if end is not None:
            raise KdeltaError(
                f"{path}:{number}: a record after the end record; two boots in one file?"
            )
        if isinstance(record, EndRecord):
            end = record
            continue
        if (boot is None) != isinstance(record, BootRecord):
            raise KdeltaError(f"{path}:{number}: a file holds one boot record, and holds it first")
        if (record.regime, record.block, record.arm, record.boot_order) != here:
            for key, expected in zip(("regime", "block", "arm", "boot_order"), here, strict=True):
                _require_same(f"{path}:{number}", key, getattr(record, key), expected)
        if isinstance(record, SampleRecord):
            last_order = max(last_order, record.cell_order)
            if record.workload not in (None, settings.workload_name):
                others += 1
                continue
            levels = tuple(record.cell.items())
            if levels not in first:
                cell = cell_of(record.cell, settings, f"{path}:{number}: key cell")
                first[levels] = places.get(cell, len(samples))
            place = first[levels] + record.round - 1
            if record.round > rounds or place >= len(samples) or samples[place] is not None:
                raise KdeltaError(
                    f"{path}:{number}: key cell: {record.cell}, round {record.round}, was run "
                    "twice or is not in schedule.json"
                )
            samples[place] = record
            lines[place] = number
        elif isinstance(record, BootRecord):
            boot = _started(record, f"{path}:{number}", settings)
        else:
            if boot is None or boot.stressor or lines or others:
                raise KdeltaError(
                    f"{path}:{number}: a second stressor record, or one after a sample; a file "
                    "holds one, right after the boot record"
                )
            boot = msgspec.structs.replace(boot, stressor=record)
    found = sorted(lines)
    ran = read_slices(
        [cells[place // rounds] for place in found],
        [record for record in samples if record is not None],
        settings,
        lambda number: f"{path}:{lines[found[number]]}",
    )
    seconds = math.fsum(ran.wall_s[~np.isnan(ran.wall_s)])
    log = folder / f"{arm}.console.log"
    return RawBoot(
        regime=schedule.regime,
        block=schedule.block,
        arm=arm,
        boot_order=order,
        planned=planned,
        boot=boot,
        ran=ran,
        end=end,
        splats=console.scan(log.read_text("utf-8", "replace")) if log.is_file() else None,
        host=host,
        rounds=rounds,
        rates={
            name: sum(filter(None, column)) / seconds
            for name, column in ran.grown.items()
            if seconds > 0
        },
        others=others,
        last_order=last_order,
    )


def _started(record: BootRecord, where: str, settings: AnalysisSettings) -> BootRecord:
    """A boot's first record, with the self-check of the workload that counts."""
    if record.mechanism:
        raise KdeltaError(
            f"{where}: key mechanism: the boot was traced, so its times are none; "
            "move the file to the run's folder mechanism/"
        )
    if record.self_checks is None:
        return record
    # A workload that has none has nothing that can be wrong.
    check = record.self_checks.get(settings.workload_name, SelfCheck(ok=True))
    return msgspec.structs.replace(record, self_check=check)


def cell_of(cell: Mapping[str, Level], settings: AnalysisSettings, where: str) -> Cell:
    """The levels of a cell in the order of the factors.

    Raises:
        KdeltaError: other factors than the experiment's; the message begins with `where`.
    """
    if set(cell) != set(settings.factors):
        raise KdeltaError(
            f"{where}: factors {', '.join(cell)} are not those of the experiment "
            f"({', '.join(settings.factors)}); the block is of another experiment"
        )
    return tuple(cell[factor] for factor in settings.factors)


def _require_same(where: str, key: str, found: object, expected: object) -> None:
    if found != expected:
        raise KdeltaError(
            f"{where}: key {key}: found {found!r} where folder, file name and schedule.json "
            f"say {expected!r}; was the file moved or copied?"
        )
