# SPDX-License-Identifier: GPL-2.0-only
"""The records of a raw folder as types: what `docs/contracts.md` promises, checked.

Unknown keys are let through: a later measuring stage may record more than this
analysis reads. Of host.json every key may be absent: an older one recorded less, and a rule whose
facts were not recorded is not broken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from kdelta.errors import KdeltaError
from kdelta.workload.parameters import Level

Cell = tuple[Level, ...]
"""One point of the matrix, its levels in the order of `AnalysisSettings.factors`."""

T = TypeVar("T")
Count = Annotated[int, Field(ge=0)]
_Nanoseconds = Annotated[int, Field(gt=0)]


class StrictRecord(BaseModel):
    """Base of everything read from a raw file."""

    # Strict: a number that arrives as text is a broken file, not a number.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Counters(StrictRecord):
    """Kernel counters at one moment; a key the kernel does not have is absent."""

    vmstat: dict[str, int] = {}
    psi: dict[str, dict[str, int]] = {}
    stat: dict[str, int] = {}


class Gate(StrictRecord):
    """What the boot gate saw, and whether it was what was asked for."""

    vcpus: int | None = None
    memory_total_kib: int | None = None
    memory_used_kib: int | None = None
    memory_cgroups: int | None = None
    memcg: bool | None = None
    acceleration: str | None = None
    ok: bool
    failures: tuple[str, ...] = ()


class SelfCheck(StrictRecord):
    ok: bool
    payload_errors: int | None = None
    error: str | None = None


class StressorStart(StrictRecord):
    name: str
    settled: bool
    settle_s: FiniteFloat | None = None
    error: str | None = None


class BootRecord(StrictRecord):
    """First record of a boot.

    Attributes:
        self_checks: by the workload's name, of those that have one. Earlier versions have
            `self_check`, of the one workload that there was.
    """

    record: Literal["boot"]
    schema_version: Literal[1] = Field(alias="schema")
    regime: str
    block: int
    arm: str
    boot_order: int
    mechanism: bool = False
    gate: Gate
    self_check: SelfCheck | None = None
    self_checks: dict[str, SelfCheck] | None = None
    stressor: StressorStart | None = None


class SpeedTimes(StrictRecord):
    """What one run of the speed check took, one value per vCPU, all of them at work at once."""

    wall_ns: tuple[_Nanoseconds, ...] = Field(min_length=1)
    cpu_ns: tuple[_Nanoseconds, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_cpus(self) -> Self:
        if len(self.wall_ns) != len(self.cpu_ns):
            raise ValueError(f"{len(self.wall_ns)} vCPUs in wall_ns, {len(self.cpu_ns)} in cpu_ns")
        return self


class SpeedCheck(StrictRecord):
    """A fixed amount of arithmetic on every vCPU directly before and directly after a sample.

    Attributes:
        work: the amount, in steps of the generator; times of different work do not compare.
        before: None if that run of the check failed.
        after: likewise.
        reason: why a run failed.
    """

    work: Annotated[int, Field(gt=0)]
    before: SpeedTimes | None = None
    after: SpeedTimes | None = None
    reason: str | None = None


# Steal and idle time of /proc/stat can go back by a tick, and getrusage is finer than both: a
# difference may be slightly negative. It is what it is, and breaks no limit.
Difference = FiniteFloat


class HostCpu(StrictRecord):
    """CPU seconds of the host over one slice, or boot; own: those of kdelta and its guest."""

    cpus: Annotated[int, Field(ge=1)] | None = None
    elapsed_s: Annotated[FiniteFloat, Field(ge=0)] | None = None
    busy_s: Difference | None = None
    own_s: Difference | None = None
    steal_s: Difference | None = None


class StressorRecord(StressorStart):
    """The stressor has settled, or not: after the boot record, in regimes that have one.

    Earlier versions wrote the boot record only then, with this in its `stressor`.
    """

    record: Literal["stressor"]
    regime: str
    block: int
    arm: str
    boot_order: int


class SampleRecord(StrictRecord):
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

    record: Literal["sample"]
    regime: str
    block: int
    arm: str
    boot_order: int
    cell_order: int
    round: Annotated[int, Field(ge=1)] = 1
    slot: Annotated[int, Field(ge=1)] | None = None
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

    @property
    def wall_s(self) -> float | None:
        """Seconds from start to end by the monotonic clock; None if not recorded."""
        if self.monotonic_start_ns is None or self.monotonic_end_ns is None:
            return None
        return (self.monotonic_end_ns - self.monotonic_start_ns) / 1e9


class EndRecord(StrictRecord):
    """Last record of a boot that finished."""

    record: Literal["end"]
    samples: Count
    ok: bool
    error: str | None = None
    stressor_alive: bool | None = None


class Turn(StrictRecord):
    """A cell in one round: its number in the schedule's cells, and the order of the arms."""

    cell: Count
    arms: tuple[str, ...]


def _arm_name(entry: Any) -> Any:
    """An arm's name; earlier versions wrote its kernel's beside it."""
    return entry.get("arm") if isinstance(entry, dict) else entry


class Schedule(StrictRecord):
    """A block as it was planned: arms in boot order, the matrix, and the rounds.

    Blocks of before there were rounds have one, and before there were workloads one of them.

    Attributes:
        workloads: the workload of each cell.
    """

    schema_version: Literal[1] = Field(alias="schema")
    regime: str
    block: int
    arms: tuple[Annotated[str, BeforeValidator(_arm_name)], ...]
    cells: tuple[dict[str, Level], ...]
    workloads: tuple[str, ...] | None = None
    rounds: tuple[tuple[Turn, ...], ...] = Field(default=((),), min_length=1)


Record = BootRecord | StressorRecord | SampleRecord | EndRecord
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="record")])
_TAGS = ("boot", "stressor", "sample", "end", "mechanism")


_SCHEDULE = TypeAdapter(Schedule)


def parse_record(line: bytes, where: str) -> Record:
    """One line of an arm's file.

    Raises:
        KdeltaError: not a record; the message begins with `where`.
    """
    return parse(_RECORD, line, where)


def parse_schedule(text: bytes, where: str) -> Schedule:
    """The content of schedule.json.

    Raises:
        KdeltaError: not a schedule; the message begins with `where`.
    """
    return parse(_SCHEDULE, text, where)


def parse(model: TypeAdapter[T], text: bytes, where: str, what: str = "the block") -> T:
    """JSON as a record.

    Args:
        model: what it has to be.
        text: the JSON.
        where: the file, and the line if it has lines.
        what: is to be measured again if it is anything else.

    Raises:
        KdeltaError: it is; the message begins with `where`.
    """
    try:
        return model.validate_json(text)
    except ValidationError as error:
        raise KdeltaError(_explain(error, where, what)) from None


def _explain(error: ValidationError, where: str, what: str) -> str:
    """One line on the first thing that is wrong with a raw file."""
    first = error.errors(include_url=False)[0]
    path = list(first["loc"])
    if path and path[0] in _TAGS:
        path = path[1:]  # the union's tag is no key of the file
    key = ".".join(str(part) for part in path)
    got = repr(first["input"])
    got = got if len(got) <= 80 else got[:77] + "..."
    return (
        f"{where}: {f'key {key}: ' if key else ''}{first['msg']} (found {got}); the file was cut "
        f"short or edited: move its folder away and measure {what} again"
    )


class HostFacts(StrictRecord):
    """The machine."""

    cpu_model: str | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None


class HostBoot(StrictRecord):
    """One boot as the host saw it."""

    arm: str
    status: Literal["ok", "failed"] = "ok"
    reason: str | None = None
    load_before: FiniteFloat | None = None
    host_cpu: HostCpu | None = None


class EarlierAttempt(StrictRecord):
    """A try of the block that ended without data."""

    at: str | None = None
    reason: str | None = None


class HostQuiet(StrictRecord):
    """Whether other programs left the host alone when the block began, and how long it waited."""

    waited_s: Annotated[FiniteFloat, Field(ge=0)]
    share: Difference
    quiet: bool


class HostAcceleration(StrictRecord):
    """What executed the guests."""

    mode: str | None = None
    cpu: str | None = None


class HostRecord(StrictRecord):
    """One block's host.json: what the host was and did while the block was measured."""

    schema_version: Literal[1] | None = Field(default=None, alias="schema")
    node: str | None = None
    host: HostFacts = HostFacts()
    vcpus: Count | None = None
    quiet: HostQuiet | None = None
    memory_mib: Count | None = None
    acceleration: HostAcceleration | None = None
    earlier_attempts: Annotated[tuple[EarlierAttempt, ...], Field(strict=False)] = ()
    boots: Annotated[tuple[HostBoot, ...], Field(strict=False)] = ()
    key: str | None = None


def parse_host(text: bytes, where: str) -> HostRecord:
    """The content of host.json.

    Raises:
        KdeltaError: malformed, or it lists an arm twice; the message begins with `where`.
    """
    record = parse(TypeAdapter(HostRecord), text, where)
    arms = [boot.arm for boot in record.boots]
    twice = next((arm for arm in arms if arms.count(arm) > 1), None)
    if twice is not None:
        raise KdeltaError(
            f"{where}: key boots: arm {twice!r} is listed twice; the file was edited: "
            "move the block's folder away and measure the block again"
        )
    return record
