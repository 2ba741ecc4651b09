# SPDX-License-Identifier: GPL-2.0-only
"""validity.csv: which samples break which rule, and why.

Rules of the boot taint each of its planned samples, those that were never run
too: a table must be able to say why a block is missing from a cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from kdelta.analysis.raw import RawBoot, RawSample, cell_key
from kdelta.analysis.records import Bench, Cell, SampleRecord
from kdelta.analysis.samples import SampleKey, counter_difference, identity_error
from kdelta.analysis.settings import AnalysisSettings


@dataclass(frozen=True)
class Breach:
    """A rule broken: what was found, what was allowed (None: no number to give), in words."""

    rule: str
    value: float | None
    limit: float | None
    detail: str


@dataclass(frozen=True)
class Violation:
    """A breach and the sample it sets aside."""

    regime: str
    block: int
    arm: str
    cell: Cell
    breach: Breach

    @property
    def key(self) -> SampleKey:
        """What identifies the sample."""
        return (self.regime, self.block, self.arm, self.cell)


def violations(boots: Iterable[RawBoot], settings: AnalysisSettings) -> list[Violation]:
    """Every rule that any planned sample breaks, in display order."""
    found: list[Violation] = []
    for boot in boots:
        ran = {sample.cell: sample for sample in boot.samples}
        whole = list(_boot_breaches(boot))
        last = max(ran.values(), key=lambda s: s.record.cell_order, default=None)
        for cell in boot.planned:
            breaches = list(whole)
            if cell in ran:
                breaches += _sample_breaches(boot, ran[cell], ran[cell] is last, settings)
            elif not any(breach.rule == "incomplete-boot" for breach in whole):
                breaches.append(
                    Breach("incomplete-boot", len(ran), len(boot.planned), "the cell was not run")
                )
            found += [Violation(boot.regime, boot.block, boot.arm, cell, b) for b in breaches]
    return sorted(
        found,
        key=lambda v: (
            settings.regimes.index(v.regime),
            v.block,
            settings.arms.index(v.arm),
            cell_key(v.cell),
            v.breach.rule,
        ),
    )


def broken_samples(found: Iterable[Violation]) -> frozenset[SampleKey]:
    """The samples that are set aside."""
    return frozenset(violation.key for violation in found)


def validity_frame(found: Iterable[Violation], settings: AnalysisSettings) -> pd.DataFrame:
    """One row per sample and rule broken, in the order given."""
    columns = ["regime", "block", "arm", *settings.factors, "rule", "value", "limit", "detail"]
    rows = [
        (v.regime, v.block, v.arm, *v.cell, b.rule, b.value, b.limit, b.detail)
        for v in found
        for b in (v.breach,)
    ]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(
        {
            "regime": "str",
            "block": "int64",
            "arm": "str",
            "rule": "str",
            "value": "float64",
            "limit": "float64",
            "detail": "str",
        }
    )


def _boot_breaches(boot: RawBoot) -> Iterator[Breach]:
    done, planned = len(boot.samples), len(boot.planned)
    if boot.boot is None:
        yield Breach("incomplete-boot", done, planned, "the guest left no boot record")
    elif boot.end is None:
        yield Breach(
            "incomplete-boot", done, planned, f"no end record; {done} of {planned} cells were run"
        )
    elif boot.end.samples != done:
        yield Breach(
            "incomplete-boot",
            done,
            boot.end.samples,
            f"the end record counts {boot.end.samples} samples, the file holds {done}",
        )
    if boot.boot is not None:
        yield from _start_breaches(boot)
    if boot.splats:
        first = boot.splats[0]
        yield Breach(
            "kernel-splat",
            len(boot.splats),
            0,
            f"console line {first.line_number}: {first.pattern}: {first.text}",
        )


def _start_breaches(boot: RawBoot) -> Iterator[Breach]:
    assert boot.boot is not None
    gate, check, stressor = boot.boot.gate, boot.boot.self_check, boot.boot.stressor
    if not gate.ok:
        yield Breach("gate", len(gate.failures), 0, _one_line("; ".join(gate.failures)))
    if check is None:
        if gate.ok:  # a driver that stops at the gate has no self-check to show
            yield Breach("self-check", None, None, "the self-check was not run")
    elif not check.ok or check.payload_errors:
        yield Breach("self-check", check.payload_errors, 0, "the self-check found payload errors")
    if stressor is not None and not stressor.settled:
        yield Breach(
            "stressor-not-settled",
            stressor.settle_s,
            None,
            f"{stressor.name} did not settle before the sweep",
        )


def _sample_breaches(
    boot: RawBoot, sample: RawSample, is_last: bool, settings: AnalysisSettings
) -> Iterator[Breach]:
    record = sample.record
    if record.status != "ok" or record.exit_status not in (0, None) or record.bench is None:
        why = record.error or "no result was recorded"
        yield Breach("failed", record.exit_status, 0, _one_line(why))
    if record.bench is not None:
        yield from _bench_breaches(record.bench, record, settings)
    yield from _stressor_breaches(boot, record, is_last)
    kills = counter_difference(record.before, record.after, "oom_kill")
    if kills:
        yield Breach("oom-kill", kills, 0, "the OOM killer ran during the sample")


def _bench_breaches(
    bench: Bench, record: SampleRecord, settings: AnalysisSettings
) -> Iterator[Breach]:
    for factor, asked in record.cell.items():
        used = vars(bench).get(factor, asked)
        if used is not None and str(used) != str(asked):
            yield Breach("cell", None, None, f"{factor}: asked {asked}, the workload used {used}")
            break
    lost = bench.bytes_written_total - bench.bytes_read_total
    uncounted = bench.bytes_written - bench.writes * bench.write_size
    if bench.writes == 0:
        yield Breach("bytes", 0, 1, "no write was measured")
    elif lost:
        yield Breach("bytes", lost, 0, "bytes written and never read, over the pipe's life")
    elif uncounted and not bench.short_writes:
        yield Breach("bytes", uncounted, 0, "bytes written differ from writes x write size")
    elif bench.payload_errors:
        yield Breach("bytes", bench.payload_errors, 0, "payload errors")
    error = identity_error(bench)
    if math.isnan(error):
        yield Breach(
            "closed-loop-identity",
            None,
            settings.identity_limit,
            "throughput or mean latency is not positive",
        )
    elif abs(error) > settings.identity_limit:
        yield Breach(
            "closed-loop-identity",
            error,
            settings.identity_limit,
            "writers x write size / mean latency disagrees with the throughput",
        )


def _stressor_breaches(boot: RawBoot, record: SampleRecord, is_last: bool) -> Iterator[Breach]:
    stressor = boot.boot.stressor if boot.boot else None
    if record.stressor_alive is False:
        yield Breach("stressor-dead", None, None, "the stressor was dead at the sample's end")
    elif stressor is None:
        return
    elif record.stressor_alive is None:
        yield Breach("stressor-dead", None, None, "nothing shows that the stressor was alive")
    elif is_last and boot.end is not None and boot.end.stressor_alive is False:
        # It died between its last check and the end: only the last sample is in doubt.
        yield Breach("stressor-dead", None, None, "the stressor was dead at the boot's end")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
