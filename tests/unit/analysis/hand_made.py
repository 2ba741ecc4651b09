# SPDX-License-Identifier: GPL-2.0-only
"""Boots made by hand, in memory: clean ones, to be spoilt in one place by a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from synthetic import ARMS, SETTINGS, boot_records

from kdelta.analysis import console
from kdelta.analysis.blocks import judge, together
from kdelta.analysis.boots import RawBoot, cell_key
from kdelta.analysis.records import BootRecord, EndRecord, SampleRecord, parse_host, parse_records
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.slices import read_slices
from kdelta.analysis.validity import Violation

Json = dict[str, Any]
CELLS = ({"writers": 1, "readers": 1}, {"writers": 2, "readers": 5})
SECOND_NS = 10**9


def records_of(
    regime: str = "idle", block: int = 1, arm: str = "baseline", cells: Iterable[Json] = CELLS
) -> list[Json]:
    """A clean boot's records, with the clocks of each sample: two seconds of wall time."""
    order = list(cells)
    records = boot_records(
        regime, block, arm, 1 + list(ARMS).index(arm), order, [1000.0] * len(order)
    )
    for place, sample in enumerate(records[1:-1]):
        start = 10 * place * SECOND_NS
        sample.update(
            realtime_start_ns=1795419502 * SECOND_NS + start,
            monotonic_start_ns=start,
            monotonic_end_ns=start + 2 * SECOND_NS,
            realtime_end_ns=1795419502 * SECOND_NS + start + 2 * SECOND_NS,
        )
    return records


def boot_of(
    records: list[Json],
    *,
    host: Mapping[str, Any] | None = None,
    log: str | None = "",
    cells: Iterable[Json] = CELLS,
    settings: AnalysisSettings = SETTINGS,
    arm: str = "baseline",
) -> RawBoot:
    """The boot as it would be read from a file of these records.

    `host` is host.json, or None without one; `arm` matters only if there is no record.
    """
    text = "".join(json.dumps(record) + "\n" for record in records)
    parsed = [record for _, record in parse_records(text.encode(), "here")]
    samples = {
        (tuple(r.cell[name] for name in settings.factors), r.round): r
        for r in parsed
        if isinstance(r, SampleRecord)
    }
    ran = sorted(samples, key=lambda place: (cell_key(place[0]), place[1]))
    first = records[0] if records else {"regime": "idle", "block": 1, "arm": arm}
    return RawBoot(
        regime=first["regime"],
        block=first["block"],
        arm=first["arm"],
        boot_order=1 + list(ARMS).index(first["arm"]),
        planned=tuple(tuple(cell[name] for name in settings.factors) for cell in cells),
        boot=next((r for r in parsed if isinstance(r, BootRecord)), None),
        ran=read_slices(
            [cell for cell, _ in ran], [samples[p] for p in ran], settings, lambda number: "here"
        ),
        end=next((r for r in parsed if isinstance(r, EndRecord)), None),
        splats=None if log is None else console.scan(log),
        host=None if host is None else parse_host(json.dumps(host).encode(), "host.json"),
    )


def violations(boots: Sequence[RawBoot], settings: AnalysisSettings) -> list[Violation]:
    """Every rule that any planned sample breaks, in display order."""
    return together([judge(boots, settings)], settings)[1]


def run_of(
    *,
    regimes: Iterable[str] = ("idle",),
    blocks: int = 3,
    change: Callable[[list[Json]], object] = lambda records: None,
) -> list[RawBoot]:
    """Every boot of a run; `change` spoils the records of each in place."""
    boots = []
    for regime in regimes:
        for block in range(1, blocks + 1):
            for arm in ARMS:
                records = records_of(regime, block, arm)
                change(records)
                boots.append(boot_of(records, arm=arm))
    return boots


def host_json(**boot: Any) -> Json:
    """A host.json whose one boot is of the baseline."""
    return {
        "schema": 1,
        "host": {"cpus": 4},
        "vcpus": 2,
        "boots": [{"arm": "baseline", "order": 1, "status": "ok", **boot}],
    }
