# SPDX-License-Identifier: GPL-2.0-only
"""What a probe is, and how one is run on a cell. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kdelta.probes import tracefs
from kdelta.probes.trace import ImplausibleTraceError, TraceError

Json = dict[str, Any]

ATTEMPTS = 5


class Needs(NamedTuple):
    """What a probe needs of the guest's kernel, besides tracefs.

    Attributes:
        events: trace events, as folders below tracefs' `events`.
        functions: kernel functions at which it sets kprobes, each by any of its names.
    """

    events: tuple[str, ...]
    functions: tuple[tuple[str, ...], ...] = ()


class Probe(NamedTuple):
    """One probe.

    Attributes:
        name: in the experiment file and in records.
        about: what it does, in a sentence for the report.
        needs: of the guest's kernel.
        needs_value: a value that the workload has to declare; "": any workload will do.
        runs: how often it runs a cell.
        records: keys of a cell's record that it writes.
        table: the result table that is made of them.
        prepare: sets it up in tracefs, once per boot.
        measure: runs a cell (argument vector, and what runs it) and gives its part of the record.
    """

    name: str
    about: str
    needs: Needs
    needs_value: str
    runs: int
    records: tuple[str, ...]
    table: str
    prepare: Callable[[], None]
    measure: Callable[[list[str], tracefs.RunBench], Json]


def plausible(attempt: Callable[[], Json]) -> Json:
    """The first plausible result, and which `attempts` it took.

    An emulated CPU may go on running a busy function's old code when a probe is set there or
    taken away (seen with QEMU 7.2 in three of twenty cells, beside a program that does nothing
    but take pipes' mutexes). The trace then lacks all events of one kind; setting the
    probe again mends it.

    Raises:
        TraceError: none was.
    """
    why = ""
    for number in range(1, ATTEMPTS + 1):
        try:
            return {**attempt(), "attempts": number}
        except ImplausibleTraceError as error:
            why = str(error)
            tracefs.set_kprobes_anew()
    raise TraceError(f"no plausible trace in {ATTEMPTS} attempts; of the last: {why}")
