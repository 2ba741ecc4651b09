# SPDX-License-Identifier: GPL-2.0-only
"""Reads `mechanism/<regime>/<arm>.jsonl`: boots that were traced and never timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from kdelta.analysis import console
from kdelta.analysis.raw import arm_files, cell_of
from kdelta.analysis.records import (
    Cell,
    Count,
    FiniteFloat,
    Gate,
    Seconds,
    StrictRecord,
    parse_lines,
)
from kdelta.analysis.settings import AnalysisSettings
from kdelta.errors import KdeltaError
from kdelta.workload.parameters import Level


class Allocation(StrictRecord, frozen=True, kw_only=True):
    """Where the writer got its pages, counted over `writes` calls."""

    writes: Count
    pages_before_lock: Count
    pages_under_lock: Count
    bulk_calls: Count
    bulk_pages_requested: Count
    bulk_pages: Count
    reclaims_before_lock: Count
    reclaims_under_lock: Count
    lost_events: Count = 0


class Contention(StrictRecord, frozen=True, kw_only=True):
    """Waits for pipe->mutex; no wait has no mean and no percentile."""

    writes: Count
    waits: Count
    wait_ns_total: Count
    wait_ns_mean: FiniteFloat | None = None
    wait_ns_p50: FiniteFloat | None = None
    wait_ns_p99: FiniteFloat | None = None
    wait_ns_max: FiniteFloat | None = None
    lost_events: Count = 0


class LockWaits(StrictRecord, frozen=True, kw_only=True):
    """Waits for one lock, as far as it can be told: its kind, and who wanted it."""

    lock: Annotated[str, Meta(pattern=r"^[a-z]+(-[a-z]+)?( \((read|write)\))?$", max_length=32)]
    caller: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_$]+$", max_length=128)]
    waits: Count
    wait_ns: Count
    wait_ns_max: Count


class Locks(StrictRecord, frozen=True, kw_only=True):
    """Waits of the workload's tasks for locks of the kernel, over `elapsed_s`."""

    elapsed_s: Seconds
    waits: tuple[LockWaits, ...]
    unfinished: Count = 0
    lost_events: Count = 0
    bench: dict[str, Any] = msgspec.field(default_factory=dict)


class MechanismBoot(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="boot"):
    mechanism: bool
    regime: str
    arm: str
    gate: Gate | None = None


class MechanismStressor(
    StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="stressor"
):
    """How the stressor settled; nothing is computed of it."""

    regime: str
    arm: str


class MechanismSample(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="mechanism"):
    """One cell, traced.

    Records of before there were several probes name none, and are of `pipe-allocation`.
    """

    regime: str
    arm: str
    workload: str | None = None
    cell: dict[str, Level]
    status: Literal["ok", "failed"]
    error: str | None = None
    probes: tuple[str, ...] = ("pipe-allocation",)
    failed: dict[str, str] | None = None
    allocation: Allocation | None = None
    contention: Contention | None = None
    locks: Locks | None = None

    def failure(self, probe: str) -> str | None:
        """Why a probe that was asked for gave nothing; None: it did."""
        if self.failed is not None:
            return self.failed.get(probe)
        return None if self.status == "ok" else self.error or "no reason was recorded"


class MechanismEnd(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="end"):
    """Last record; all there is of a boot that failed at once."""

    ok: bool
    error: str | None = None


@dataclass(frozen=True)
class MechanismArm:
    """One arm's traced boot in one regime.

    Attributes:
        samples: by cell, its levels in the order of the factors.
        end: None if the boot did not reach its end.
        splats: what the console showed; empty if nothing, None without a console log.
    """

    regime: str
    arm: str
    gate: Gate | None
    samples: dict[Cell, MechanismSample]
    end: MechanismEnd | None
    splats: tuple[console.Splat, ...] | None


_Record = MechanismBoot | MechanismStressor | MechanismSample | MechanismEnd
_RECORD: msgspec.json.Decoder[_Record] = msgspec.json.Decoder(_Record)


def read_mechanism(folder: Path, settings: AnalysisSettings) -> tuple[MechanismArm, ...]:
    """Every arm's traced boot below `folder`, by regime and arm in display order.

    Raises:
        KdeltaError: no such folder, a file is malformed, or it speaks of a regime, arm or
            factor that is not the experiment's.
    """
    if not folder.is_dir():
        raise KdeltaError(f"{folder}: no such folder; run the mechanism boots first")
    traced = settings.regimes if settings.traced_regimes is None else settings.traced_regimes
    others = {*settings.other_regimes, *settings.regimes} - {*traced}
    try:
        for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
            if path.name in others:
                continue
            _require(path, "regime", path.name, traced)
            for file in arm_files(path):
                _require(file, "arm", file.stem, settings.arms)
        return tuple(
            _read_arm(folder / regime / f"{arm}.jsonl", regime, arm, settings)
            for regime in traced
            for arm in settings.arms
            if (folder / regime / f"{arm}.jsonl").is_file()
        )
    except OSError as error:
        raise KdeltaError(
            f"{error.filename}: cannot be read: {error.strerror}; check the mechanism folder"
        ) from None


def _require(path: Path, what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise KdeltaError(
            f"{path}: the experiment has no {what} {name!r} (it has {', '.join(known)}); "
            "move it away if it is of an older run"
        )


def _read_arm(path: Path, regime: str, arm: str, settings: AnalysisSettings) -> MechanismArm:
    boot: MechanismBoot | None = None
    end: MechanismEnd | None = None
    samples: dict[Cell, MechanismSample] = {}
    for number, record in parse_lines(_RECORD, path.read_bytes(), path, "the mechanism boots"):
        where = f"{path}:{number}"
        if end is not None:
            raise KdeltaError(f"{where}: a record after the end record; two boots in one file?")
        if isinstance(record, MechanismEnd):
            end = record
            continue
        if (boot is None) != isinstance(record, MechanismBoot):
            raise KdeltaError(f"{where}: a file holds one boot record, and holds it first")
        if (record.regime, record.arm) != (regime, arm):
            raise KdeltaError(
                f"{where}: keys regime, arm: found {record.regime!r}, {record.arm!r} where the "
                f"path says {regime!r}, {arm!r}; was the file moved or copied?"
            )
        if isinstance(record, MechanismBoot):
            if not record.mechanism:
                raise KdeltaError(
                    f"{where}: key mechanism: found False: the boot was timed, and not traced; "
                    "move the file away"
                )
            boot = record
            continue
        if isinstance(record, MechanismStressor):
            continue
        if record.workload not in (None, settings.workload_name):
            continue
        cell = cell_of(record.cell, settings, f"{where}: key cell")
        if cell in samples:
            raise KdeltaError(f"{where}: key cell: {record.cell} was run twice")
        samples[cell] = record
    log = path.with_name(f"{arm}.console.log")
    return MechanismArm(
        regime=regime,
        arm=arm,
        gate=boot.gate if boot else None,
        samples=samples,
        end=end,
        splats=console.scan(log.read_text("utf-8", "replace")) if log.is_file() else None,
    )
