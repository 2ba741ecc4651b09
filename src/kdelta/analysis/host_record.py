# SPDX-License-Identifier: GPL-2.0-only
"""`host.json` as types: what the host was and did while a block was measured.

Every key may be absent: an older measuring stage recorded less, and a rule whose
facts were not recorded is not broken.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, ValidationError

from kdelta.analysis.records import Count, Difference, HostCpu, StrictRecord, explain
from kdelta.errors import KdeltaError


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
    """One block's host.json."""

    schema_version: Literal[1] | None = Field(default=None, alias="schema")
    host: HostFacts = HostFacts()
    vcpus: Count | None = None
    quiet: HostQuiet | None = None
    memory_mib: Count | None = None
    acceleration: HostAcceleration | None = None
    earlier_attempts: Annotated[tuple[EarlierAttempt, ...], Field(strict=False)] = ()
    boots: Annotated[tuple[HostBoot, ...], Field(strict=False)] = ()


def parse_host(text: bytes, where: str) -> HostRecord:
    """The content of host.json.

    Raises:
        KdeltaError: malformed, or it lists an arm twice; the message begins with `where`.
    """
    try:
        record = HostRecord.model_validate_json(text)
    except ValidationError as error:
        raise KdeltaError(explain(error, where)) from None
    arms = [boot.arm for boot in record.boots]
    twice = next((arm for arm in arms if arms.count(arm) > 1), None)
    if twice is not None:
        raise KdeltaError(
            f"{where}: key boots: arm {twice!r} is listed twice; the file was edited: "
            "move the block's folder away and measure the block again"
        )
    return record
