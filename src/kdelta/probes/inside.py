# SPDX-License-Identifier: GPL-2.0-only
"""What the driver calls in a traced boot: all probes there are, set up once, run cell by cell.

Standard library only. A probe that a kernel cannot bear does not cost the boot the others: each
cell's record says why it is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdelta.probes import lock_contention, pipe_allocation, tracefs
from kdelta.probes.probe import Json
from kdelta.probes.trace import TraceError

PROBES = {probe.name: probe for probe in (pipe_allocation.PROBE, lock_contention.PROBE)}
"""Every probe by its name, in the order in which they run and are told."""


def prepare(names: Sequence[str]) -> dict[str, str]:
    """Set probes up: once per boot, before any memory pressure.

    Args:
        names: of the probes.

    Returns:
        Those that this kernel cannot have, and why.
    """
    refused = {}
    ready = False
    for name in names:
        probe = PROBES[name]
        missing = tracefs.missing(probe.needs.events, probe.needs.functions)
        if missing:
            refused[name] = f"the kernel cannot be traced: it has no {'; no '.join(missing)}"
            continue
        try:
            if not ready:
                tracefs.prepare()
                ready = True
            probe.prepare()
        except (TraceError, OSError) as error:
            refused[name] = str(error)
    return refused


def measure(
    names: Sequence[str],
    refused: Mapping[str, str],
    argv: list[str],
    run_bench: tracefs.RunBench,
) -> Json:
    """Run one cell under each probe.

    Args:
        names: of the probes.
        refused: what `prepare` gave.
        argv: the workload's command line; short (0.3 s) and without warm-up.
        run_bench: runs it to its end.

    Returns:
        `probes`, `status`, `error`, `failed` and each probe's own part of the record, see
        docs/contracts.md, "Mechanism boots".
    """
    failed = dict(refused)
    record: Json = {}
    for name in names:
        probe = PROBES[name]
        record |= dict.fromkeys(probe.records)
        if name in failed:
            continue
        try:
            record |= probe.measure(argv, run_bench)
        except (TraceError, OSError) as error:
            failed[name] = str(error)
    return {
        "probes": list(names),
        "status": "failed" if failed else "ok",
        "error": "; ".join(f"{name}: {why}" for name, why in failed.items()) or None,
        "failed": failed,
        **record,
    }
