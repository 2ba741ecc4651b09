# SPDX-License-Identifier: GPL-2.0-only
"""The records of a raw folder as types: what `docs/contracts.md` promises, checked.

Unknown keys are let through: a later measuring stage may record more than this
analysis reads.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from kdelta.errors import KdeltaError

Level = bool | int | float | str
"""The value of one factor in one cell."""

Cell = tuple[Level, ...]
"""One point of the matrix, its levels in the order of `AnalysisSettings.factors`."""

Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    # Strict: a number that arrives as text is a broken file, not a number.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Latency(_Record):
    """Nanoseconds per write."""

    mean: FiniteFloat
    p50: FiniteFloat
    p90: FiniteFloat
    p99: FiniteFloat
    p99_9: FiniteFloat = Field(alias="p99.9")
    max: FiniteFloat


class ContextSwitches(_Record):
    voluntary: Count
    involuntary: Count


class CpuSeconds(_Record):
    user: FiniteFloat
    system: FiniteFloat


class Bench(_Record):
    """What pipe_bench printed of one cell."""

    writers: Count
    readers: Count
    write_size: Count
    read_size: Count | None = None
    pipe_size: Count
    mode: str
    nonblock: bool
    pin: str | None = None
    duration_requested_s: FiniteFloat
    elapsed_s: FiniteFloat
    writes: Count
    bytes_written: Count
    bytes_written_total: Count
    bytes_read_total: Count
    throughput_mib_s: FiniteFloat
    write_latency_ns: Latency
    context_switches: ContextSwitches
    cpu_s: CpuSeconds
    eagain: Count
    short_writes: Count
    payload_errors: Count


class Counters(_Record):
    """Kernel counters at one moment; a key the kernel does not have is absent."""

    vmstat: dict[str, int] = {}
    psi: dict[str, dict[str, int]] = {}
    stat: dict[str, int] = {}


class Gate(_Record):
    """What the boot gate saw, and whether it was what was asked for."""

    vcpus: int | None = None
    memory_total_kib: int | None = None
    acceleration: str | None = None
    ok: bool
    failures: tuple[str, ...] = ()


class SelfCheck(_Record):
    ok: bool
    payload_errors: int | None = None


class StressorStart(_Record):
    name: str
    settled: bool
    settle_s: FiniteFloat | None = None


class BootRecord(_Record):
    """First record of a boot."""

    record: Literal["boot"]
    schema_version: Literal[1] = Field(alias="schema")
    regime: str
    block: int
    arm: str
    variant: str
    boot_order: int
    gate: Gate
    self_check: SelfCheck | None = None
    stressor: StressorStart | None = None


class SampleRecord(_Record):
    """One cell, run once."""

    record: Literal["sample"]
    regime: str
    block: int
    arm: str
    variant: str
    boot_order: int
    cell_order: int
    cell: dict[str, Level]
    status: Literal["ok", "failed"]
    error: str | None = None
    exit_status: int | None = None
    bench: Bench | None = None
    before: Counters | None = None
    after: Counters | None = None
    stressor_alive: bool | None = None


class EndRecord(_Record):
    """Last record of a boot that finished."""

    record: Literal["end"]
    samples: Count
    ok: bool
    stressor_alive: bool | None = None


class ArmEntry(_Record):
    arm: str
    variant: str


class Schedule(_Record):
    """A block as it was planned: arms in boot order, cells in run order."""

    schema_version: Literal[1] = Field(alias="schema")
    regime: str
    block: int
    arms: tuple[ArmEntry, ...]
    cells: tuple[dict[str, Level], ...]


Record = BootRecord | SampleRecord | EndRecord
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])
_TAGS = ("boot", "sample", "end")


def parse_record(line: bytes, where: str) -> Record:
    """One line of an arm's file.

    Raises:
        KdeltaError: not a record; the message begins with `where`.
    """
    try:
        return _RECORD.validate_json(line)
    except ValidationError as error:
        raise KdeltaError(_explain(error, where)) from None


def parse_schedule(text: bytes, where: str) -> Schedule:
    """The content of schedule.json.

    Raises:
        KdeltaError: not a schedule; the message begins with `where`.
    """
    try:
        return Schedule.model_validate_json(text)
    except ValidationError as error:
        raise KdeltaError(_explain(error, where)) from None


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    path = list(first["loc"])
    if path and path[0] in _TAGS:
        path = path[1:]  # the union's tag is no key of the file
    key = ".".join(str(part) for part in path)
    got = repr(first["input"])
    got = got if len(got) <= 80 else got[:77] + "..."
    return (
        f"{where}: {f'key {key}: ' if key else ''}{first['msg']} (found {got}); the file was cut "
        "short or edited: move the block's folder away and measure the block again"
    )
