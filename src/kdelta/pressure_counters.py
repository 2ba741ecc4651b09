# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's counters of memory and CPU pressure that tables, regimes and report know by name.

Each stands here once: columns of samples.csv and tables/pressure.csv, what a regime may expect,
tables, figures and sentences are made from it. All other counters of the kernel are in
tables/counters.csv without being named anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PressureCounter:
    """One counter, for the whole guest.

    Attributes:
        name: its column in samples.csv: what it grew by over a slice.
        read: the raw counters whose growths add up to it: a name such as `vmstat.pswpin`, or with
            a `*` at its end all that begin so.
        unit: of the growth; `us`: time, of which tables give the share.
        meaning: for the data dictionary, without the unit.
        title: as tables and figures head it.
        phrase: in the sentence that says what a regime was expected to do.
        rare: hardly ever: tables give the sum in place of a rate.
        shown: in the report's table of what regimes did, or in its figure too; empty: only among
            a cell's blocks, as all of them.
    """

    name: str
    read: str
    unit: str
    meaning: str
    title: str
    phrase: str
    rare: bool = False
    shown: Literal["", "table", "figure"] = "figure"

    @property
    def column(self) -> str:
        """Its column in tables/pressure.csv."""
        if self.rare:
            return self.name
        return self.name.removesuffix("_us") + ("_percent" if self.unit == "us" else "_per_s")

    @property
    def rate_unit(self) -> str:
        """Of that column."""
        if self.rare:
            return self.unit
        return "%" if self.unit == "us" else f"{self.unit or 1}/s"

    @property
    def rate_title(self) -> str:
        """As that column is headed."""
        if self.rare:
            return self.title
        return self.title + (" %" if self.unit == "us" else "/s")


PRESSURE_COUNTERS = (
    PressureCounter(
        name="pgscan_direct",
        read="vmstat.pgscan_direct",
        unit="pages",
        meaning="scanned in direct reclaim",
        title="pages scanned directly",
        phrase="direct reclaim",
    ),
    PressureCounter(
        name="pgsteal_direct",
        read="vmstat.pgsteal_direct",
        unit="pages",
        meaning="reclaimed in direct reclaim",
        title="pages reclaimed directly",
        phrase="pages freed by direct reclaim",
        shown="",
    ),
    PressureCounter(
        name="pgscan_kswapd",
        read="vmstat.pgscan_kswapd",
        unit="pages",
        meaning="scanned by kswapd",
        title="pages scanned by kswapd",
        phrase="background reclaim",
        shown="",
    ),
    PressureCounter(
        name="allocstall",
        read="vmstat.allocstall*",  # one for each zone
        unit="",
        meaning="entries into direct reclaim, all zones",
        title="allocation stalls",
        phrase="allocation stalls",
    ),
    PressureCounter(
        name="oom_kill",
        read="vmstat.oom_kill",
        unit="",
        meaning="processes that the OOM killer ended",
        title="OOM kills",
        phrase="OOM kills",
        rare=True,
        shown="table",
    ),
    PressureCounter(
        name="pswpin",
        read="vmstat.pswpin",
        unit="pages",
        meaning="swapped in",
        title="pages swapped in",
        phrase="pages swapped in",
    ),
    PressureCounter(
        name="pswpout",
        read="vmstat.pswpout",
        unit="pages",
        meaning="swapped out",
        title="pages swapped out",
        phrase="pages swapped out",
    ),
    PressureCounter(
        name="psi_memory_some_us",
        read="psi.memory.some",
        unit="us",
        meaning="some task waited for memory",
        title="PSI memory some",
        phrase="waiting for memory (PSI some)",
    ),
    PressureCounter(
        name="psi_memory_full_us",
        read="psi.memory.full",
        unit="us",
        meaning="all tasks waited for memory",
        title="PSI memory full",
        phrase="waiting for memory (PSI full)",
    ),
    PressureCounter(
        name="psi_cpu_some_us",
        read="psi.cpu.some",
        unit="us",
        meaning="some task waited for a CPU",
        title="PSI CPU some",
        phrase="waiting for a CPU (PSI some)",
        shown="table",
    ),
)

BY_COLUMN = sorted(PRESSURE_COUNTERS, key=lambda counter: counter.rare)
"""As tables/pressure.csv has them: rates before sums."""
