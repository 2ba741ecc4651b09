# SPDX-License-Identifier: GPL-2.0-only
"""The records of a raw folder as types: what `docs/contracts.md` promises, checked.

Unknown keys are let through: a later measuring stage may record more than this
analysis reads. Of host.json every key may be absent: an older one recorded less, and a rule whose
facts were not recorded is not broken.

A run has a million of them: msgspec reads one in a quarter of the time that pydantic takes.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from kdelta.errors import KdeltaError
from kdelta.workload.parameters import Level

Cell = tuple[Level, ...]
"""One point of the matrix, its levels in the order of `AnalysisSettings.factors`."""

T = TypeVar("T")
Count = Annotated[int, Meta(ge=0)]
_Number = Annotated[int, Meta(ge=1)]
FiniteFloat = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Seconds = Annotated[float, Meta(ge=0, le=sys.float_info.max)]


class StrictRecord(Struct, frozen=True, gc=False):
    """Base of everything read from a raw file.

    Types are strict: a number that arrives as text is a broken file, not a number. None of them
    is ever part of a cycle, so that the garbage collector need not look at them.
    """


class Counters(StrictRecord, frozen=True, kw_only=True):
    """Kernel counters at one moment; a key the kernel does not have is absent."""

    vmstat: dict[str, int] = {}
    psi: dict[str, dict[str, int]] = {}
    stat: dict[str, int] = {}


class Gate(StrictRecord, frozen=True, kw_only=True):
    """What the boot gate saw, and whether it was what was asked for."""

    vcpus: int | None = None
    memory_total_kib: int | None = None
    memory_used_kib: int | None = None
    memory_cgroups: int | None = None
    memcg: bool | None = None
    acceleration: str | None = None
    ok: bool
    failures: tuple[str, ...] = ()


class SelfCheck(StrictRecord, frozen=True, kw_only=True):
    ok: bool
    payload_errors: int | None = None
    error: str | None = None


class StressorStart(StrictRecord, frozen=True, kw_only=True):
    name: str
    settled: bool
    settle_s: FiniteFloat | None = None
    error: str | None = None


class BootRecord(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="boot"):
    """First record of a boot.

    Attributes:
        self_checks: by the workload's name, of those that have one. Earlier versions have
            `self_check`, of the one workload that there was.
    """

    schema_version: Literal[1] = msgspec.field(name="schema")
    regime: str
    block: int
    arm: str
    boot_order: int
    mechanism: bool = False
    gate: Gate
    self_check: SelfCheck | None = None
    self_checks: dict[str, SelfCheck] | None = None
    stressor: StressorStart | None = None


class SpeedTimes(StrictRecord, frozen=True, kw_only=True):
    """What one run of the speed check took, one value per vCPU, all of them at work at once."""

    wall_ns: Annotated[tuple[_Number, ...], Meta(min_length=1)]
    cpu_ns: Annotated[tuple[_Number, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        if len(self.wall_ns) != len(self.cpu_ns):
            raise ValueError(f"{len(self.wall_ns)} vCPUs in wall_ns, {len(self.cpu_ns)} in cpu_ns")


class SpeedCheck(StrictRecord, frozen=True, kw_only=True):
    """A fixed amount of arithmetic on every vCPU directly before and directly after a sample.

    Attributes:
        work: the amount, in steps of the generator; times of different work do not compare.
        before: None if that run of the check failed.
        after: likewise.
        reason: why a run failed.
    """

    work: _Number
    before: SpeedTimes | None = None
    after: SpeedTimes | None = None
    reason: str | None = None


# Steal and idle time of /proc/stat can go back by a tick, and getrusage is finer than both: a
# difference may be slightly negative. It is what it is, and breaks no limit.
Difference = FiniteFloat


class HostCpu(StrictRecord, frozen=True, kw_only=True):
    """CPU seconds of the host over one slice, or boot; own: those of kdelta and its guest."""

    cpus: _Number | None = None
    elapsed_s: Seconds | None = None
    busy_s: Difference | None = None
    own_s: Difference | None = None
    steal_s: Difference | None = None


class StressorRecord(StressorStart, frozen=True, kw_only=True, tag_field="record", tag="stressor"):
    """The stressor has settled, or not: after the boot record, in regimes that have one.

    Earlier versions wrote the boot record only then, with this in its `stressor`.
    """

    regime: str
    block: int
    arm: str
    boot_order: int


class SampleRecord(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="sample"):
    """One slice: one cell, run once by one arm in one round.

    Attributes:
        cell_order: which of its boot's slices it was, from 1.
        slot: at which place of its cell the arm ran in the round, from 1.
        bench: what the workload printed, if that is JSON.
        output: what it printed else.
        workload: its name in the experiment; earlier versions had one.
        grown: what kernel counters grew by, by name. Earlier versions have `before` and `after`.
        host_cpu: of the host meanwhile.
    """

    regime: str
    block: int
    arm: str
    boot_order: int
    cell_order: int
    round: _Number = 1
    slot: _Number | None = None
    cell: dict[str, Level]
    status: Literal["ok", "failed"]
    error: str | None = None
    exit_status: int | None = None
    realtime_start_ns: int | None = None
    monotonic_start_ns: int | None = None
    monotonic_end_ns: int | None = None
    realtime_end_ns: int | None = None
    bench: Any = None
    output: str | None = None
    workload: str | None = None
    grown: dict[str, int] | None = None
    before: Counters | None = None
    after: Counters | None = None
    stressor_alive: bool | None = None
    speed: SpeedCheck | None = None
    host_cpu: HostCpu | None = None


class EndRecord(StrictRecord, frozen=True, kw_only=True, tag_field="record", tag="end"):
    """Last record of a boot that finished."""

    samples: Count
    ok: bool
    error: str | None = None
    stressor_alive: bool | None = None


class Turn(StrictRecord, frozen=True, kw_only=True):
    """A cell in one round: its number in the schedule's cells, and the order of the arms."""

    cell: Count
    arms: tuple[str, ...]


class EarlierArm(StrictRecord, frozen=True, kw_only=True):
    """An arm as earlier versions wrote it, with its kernel's name beside it."""

    arm: str


class Schedule(StrictRecord, frozen=True, kw_only=True):
    """A block as it was planned: arms in boot order, the matrix, and the rounds.

    Blocks of before there were rounds have one, and before there were workloads one of them.

    Attributes:
        written_arms: as the file has them.
        workloads: the workload of each cell.
    """

    schema_version: Literal[1] = msgspec.field(name="schema")
    regime: str
    block: int
    written_arms: tuple[str | EarlierArm, ...] = msgspec.field(name="arms")
    cells: tuple[dict[str, Level], ...]
    workloads: tuple[str, ...] | None = None
    rounds: Annotated[tuple[tuple[Turn, ...], ...], Meta(min_length=1)] = ((),)

    @property
    def arms(self) -> list[str]:
        """Their names."""
        return [arm if isinstance(arm, str) else arm.arm for arm in self.written_arms]


Record = BootRecord | StressorRecord | SampleRecord | EndRecord
_RECORD: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_SCHEDULE = msgspec.json.Decoder(Schedule)


def parse_records(text: bytes, path: object) -> list[tuple[int, Record]]:
    """An arm's file: its records, each with the number of its line.

    Raises:
        KdeltaError: a line is no record; the message begins with `path` and the line's number.
    """
    return parse_lines(_RECORD, text, path)


def parse_schedule(text: bytes, where: str) -> Schedule:
    """The content of schedule.json.

    Raises:
        KdeltaError: not a schedule; the message begins with `where`.
    """
    return parse(_SCHEDULE, text, where)


def parse_lines(
    decoder: msgspec.json.Decoder[T], text: bytes, path: object, what: str = "the block"
) -> list[tuple[int, T]]:
    """Lines of JSON as records, each with the number of its line; empty ones are left out.

    Args:
        decoder: of what each has to be.
        text: the lines.
        path: of their file.
        what: as for `parse`.

    Raises:
        KdeltaError: a line is anything else; the message begins with `path` and its number.
    """
    found: list[tuple[int, T]] = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            found.append((number, decoder.decode(line)))
        except ValueError:
            found.append((number, parse(decoder, line, f"{path}:{number}", what)))
    return found


def parse(decoder: msgspec.json.Decoder[T], text: bytes, where: str, what: str = "the block") -> T:
    """JSON as a record.

    Args:
        decoder: of what it has to be.
        text: the JSON.
        where: the file, and the line if it has lines.
        what: is to be measured again if it is anything else.

    Raises:
        KdeltaError: it is; the message begins with `where`.
    """
    try:
        return decoder.decode(text)
    except ValueError as error:
        wrong = error
    # What a workload printed is taken as Python reads it: that knows NaN and infinity, too.
    try:
        document = json.loads(text)
        return msgspec.convert(document, decoder.type)
    except msgspec.ValidationError as error:
        message = _explain(str(error), document)
    except ValueError:
        message = f"Invalid JSON: {wrong}"
    raise KdeltaError(
        f"{where}: {message}; the file was cut short or edited: move its folder away and measure "
        f"{what} again"
    )


def _explain(wrong: str, document: Any) -> str:
    """What msgspec says, with the key in front and what was found there behind."""
    said, _, path = wrong.partition(" - at `$")
    keys = re.findall(r"[^.\[\]`]+|\.\.\.", path)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", said):
        keys, said = [*keys, missing[1]], "it is missing"
    found = document
    for key in keys:
        try:
            found = found[int(key) if isinstance(found, list) else key]
        except (LookupError, TypeError, ValueError):
            break
    got = repr(found)
    got = got if len(got) <= 80 else got[:77] + "..."
    key = f"key {'.'.join(keys)}: " if keys else ""
    return f"{key}{said} (found {got})"


class HostFacts(StrictRecord, frozen=True, kw_only=True):
    """The machine."""

    cpu_model: str | None = None
    cpus: _Number | None = None


class HostBoot(StrictRecord, frozen=True, kw_only=True):
    """One boot as the host saw it."""

    arm: str
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    load_before: FiniteFloat | None = None
    host_cpu: HostCpu | None = None


class EarlierAttempt(StrictRecord, frozen=True, kw_only=True):
    """A try of the block that ended without data."""

    at: str | None = None
    reason: str | None = None


class HostQuiet(StrictRecord, frozen=True, kw_only=True):
    """Whether other programs left the host alone when the block began, and how long it waited."""

    waited_s: Seconds
    share: Difference
    quiet: bool


class HostAcceleration(StrictRecord, frozen=True, kw_only=True):
    """What executed the guests."""

    mode: str | None = None
    cpu: str | None = None


class HostRecord(StrictRecord, frozen=True, kw_only=True):
    """One block's host.json: what the host was and did while the block was measured."""

    schema_version: Literal[1] | None = msgspec.field(default=None, name="schema")
    node: str | None = None
    host: HostFacts = HostFacts()
    vcpus: Count | None = None
    quiet: HostQuiet | None = None
    memory_mib: Count | None = None
    acceleration: HostAcceleration | None = None
    earlier_attempts: tuple[EarlierAttempt, ...] = ()
    boots: tuple[HostBoot, ...] = ()
    key: str | None = None


_HOST = msgspec.json.Decoder(HostRecord)


def parse_host(text: bytes, where: str) -> HostRecord:
    """The content of host.json.

    Raises:
        KdeltaError: malformed, or it lists an arm twice; the message begins with `where`.
    """
    record = parse(_HOST, text, where)
    arms = [boot.arm for boot in record.boots]
    twice = next((arm for arm in arms if arms.count(arm) > 1), None)
    if twice is not None:
        raise KdeltaError(
            f"{where}: key boots: arm {twice!r} is listed twice; the file was edited: "
            "move the block's folder away and measure the block again"
        )
    return record
