# SPDX-License-Identifier: GPL-2.0-only
"""What kernel counters grew by over a slice, by names such as `vmstat.pgscan_direct`."""

from __future__ import annotations

from collections.abc import Mapping

from kdelta.analysis.records import SampleRecord

Growth = Mapping[str, int]

COLUMNS = {
    **{
        name: f"vmstat.{name}"
        for name in (
            *("pgscan_direct", "pgsteal_direct", "pgscan_kswapd", "oom_kill"),
            *("pswpin", "pswpout"),
        )
    },
    "psi_memory_some_us": "psi.memory.some",
    "psi_memory_full_us": "psi.memory.full",
    "psi_cpu_some_us": "psi.cpu.some",
    "steal_ticks": "stat.steal",
}
"""Column of samples.csv -> the counter that it holds."""

_STALLS = "vmstat.allocstall"


def growth_of(record: SampleRecord) -> Growth:
    """What the counters of a slice grew by; empty where that was not recorded.

    Earlier versions recorded some counters before and after.
    """
    if record.grown is not None:
        return record.grown
    if record.before is None or record.after is None:
        return {}
    first, last = (
        {
            **{f"vmstat.{name}": value for name, value in moment.vmstat.items()},
            **{f"stat.{name}": value for name, value in moment.stat.items()},
            **{f"psi.{r}.{k}": v for r, kinds in moment.psi.items() for k, v in kinds.items()},
        }
        for moment in (record.before, record.after)
    )
    return {name: value - first[name] for name, value in last.items() if name in first}


def sample_counters(grown: Growth) -> dict[str, int | None]:
    """The counters that samples.csv has; None is one that the kernel lacks."""
    found = {column: grown.get(name) for column, name in COLUMNS.items()}
    # One counter per zone; which zones exist depends on the kernel.
    stalls = [value for name, value in grown.items() if name.startswith(_STALLS)]
    return {**found, "allocstall": sum(stalls) if stalls else None}
