# SPDX-License-Identifier: GPL-2.0-only
"""The analysis stage: a raw folder in, CSV files out, or a line on a run still measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kdelta.analysis.blocks import Blocks, judge, read_blocks, together
from kdelta.analysis.boots import RawBoot, all_planned_cells, planned_cells, require_same_guests
from kdelta.analysis.claims import claims_frame, negative_controls_frame
from kdelta.analysis.control import control_frame
from kdelta.analysis.costs import costs_frame, symbols_frame
from kdelta.analysis.counters import counters_frame
from kdelta.analysis.deltas import deltas_frame, overall_frame, planned_pairs, ratios_frame
from kdelta.analysis.disturbance import disturbance_frame
from kdelta.analysis.latency import latency_frame
from kdelta.analysis.locks import locks_frame
from kdelta.analysis.mechanism import mechanism_frame, mechanism_notes
from kdelta.analysis.mechanism_records import MechanismArm, read_mechanism
from kdelta.analysis.nodes import compared, differing, nodes_frame, nodes_of
from kdelta.analysis.position import position_frame
from kdelta.analysis.pressure import expectations_frame, pressure_frame
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import csv_pieces, write_csv, write_pieces
from kdelta.analysis.validity import Violation, notes, set_aside_frame, validity_frame
from kdelta.schema import SAMPLES, TABLES


@dataclass(frozen=True)
class AnalysisResult:
    """The frames behind the files of the same names (columns: docs/contracts.md).

    Attributes:
        deltas_all: deltas with the samples that were set aside; no row if none was.
        overall_all: overall effects likewise.
        notes: whole sentences on what the data lacks, for a person to read.
    """

    samples: pd.DataFrame
    validity: pd.DataFrame
    deltas: pd.DataFrame
    overall: pd.DataFrame
    deltas_all: pd.DataFrame
    overall_all: pd.DataFrame
    set_aside: pd.DataFrame
    disturbance: pd.DataFrame
    control: pd.DataFrame
    position: pd.DataFrame
    nodes: pd.DataFrame
    pressure: pd.DataFrame
    counters: pd.DataFrame
    expectations: pd.DataFrame
    claims: pd.DataFrame
    negative_controls: pd.DataFrame
    mechanism: pd.DataFrame
    locks: pd.DataFrame
    ratios: pd.DataFrame
    latency: pd.DataFrame
    costs: pd.DataFrame
    symbols: pd.DataFrame
    notes: tuple[str, ...]

    def files(self) -> dict[str, pd.DataFrame]:
        """Path below the results folder -> frame."""
        return {table.path: getattr(self, Path(table.path).stem) for table in TABLES}


def analyse(
    raw_dir: Path,
    out_dir: Path,
    settings: AnalysisSettings,
    *,
    mechanism_dir: Path | None = None,
) -> AnalysisResult:
    """Analyses a raw folder and writes samples.csv, validity.csv and tables/*.csv.

    The same raw files and settings give the same bytes. Nothing is written unless
    everything could be read.

    Args:
        raw_dir: holds `<regime>/block-NNN/`.
        out_dir: gets the files; created if needed, older ones are replaced.
        settings: names, display order, limits, expectations, claims.
        mechanism_dir: holds `<regime>/<arm>.jsonl`; by default the folder `mechanism`
            beside `raw_dir`, if there is one.

    Raises:
        KdeltaError: a folder is missing, malformed or of another experiment, blocks of a regime
            were measured in different guests, or a file cannot be written.
    """
    blocks, unfinished = read_blocks(raw_dir, settings)
    require_same_guests([boot for block in blocks for boot in block.boots], raw_dir)
    beside = raw_dir.parent / "mechanism"
    if mechanism_dir is None and beside.is_dir():
        mechanism_dir = beside
    traced = read_mechanism(mechanism_dir, settings) if mechanism_dir is not None else ()
    samples, broken = together(blocks, settings)
    interrupted = tuple(
        f"{folder}: the block was begun and not finished; it is left out." for folder in unfinished
    )
    # Most of the text is that of the samples: it is made and written while tables are computed.
    with csv_pieces(samples) as text, ThreadPoolExecutor(1) as writer:
        computed: Future[None] = Future()
        writing = writer.submit(write_pieces, _until(computed, text), out_dir / SAMPLES.path)
        try:
            result = _tables(blocks, samples, broken, settings, traced)
        except BaseException as error:
            computed.set_exception(error)
            raise
        computed.set_result(None)
        writing.result()
    result = replace(result, notes=(*interrupted, *result.notes))
    for name, frame in result.files().items():
        if name != SAMPLES.path:
            write_csv(frame, out_dir / name)
    return result


def _until(computed: Future[None], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces; the end comes once something else has succeeded, and not where that fails."""
    for piece in pieces:
        if computed.done():  # with what failed, perhaps: then the rest need not be waited for
            computed.result()
        yield piece
    computed.result()


def analyse_boots(
    boots: Sequence[RawBoot],
    settings: AnalysisSettings,
    traced: Sequence[MechanismArm] = (),
) -> AnalysisResult:
    """The same without files: boots in, frames out.

    Args:
        boots: every planned boot.
        settings: as for `analyse`.
        traced: mechanism boots, in display order.
    """
    return analyse_blocks([judge(boots, settings)], settings, traced)


def analyse_blocks(
    blocks: Sequence[Blocks],
    settings: AnalysisSettings,
    traced: Sequence[MechanismArm] = (),
) -> AnalysisResult:
    """The same of blocks that were read and judged."""
    return _tables(blocks, *together(blocks, settings), settings, traced)


def _tables(
    blocks: Sequence[Blocks],
    samples: pd.DataFrame,
    broken: Sequence[Violation],
    settings: AnalysisSettings,
    traced: Sequence[MechanismArm],
) -> AnalysisResult:
    boots = [boot for block in blocks for boot in block.boots]
    wall_s = np.concatenate([block.wall_s for block in blocks])
    measured = planned_cells(boots)
    cells = all_planned_cells(measured, settings)
    planned = planned_pairs(boots, settings)
    ratios = ratios_frame(samples, settings)
    nodes = nodes_of(boots, settings)
    comparisons = compared(ratios, nodes, settings)
    apart = {place: nodes[place[0]] for place in differing(comparisons)}
    deltas = deltas_frame(ratios, cells, settings, planned=planned, apart=apart)
    overall = overall_frame(ratios, cells, settings, planned=planned, apart=apart)
    if broken:
        everything = ratios_frame(samples, settings, include_set_aside=True)
        deltas_all = deltas_frame(everything, cells, settings, planned=planned, apart=apart)
        overall_all = overall_frame(everything, cells, settings, planned=planned, apart=apart)
    else:
        everything = ratios
        deltas_all, overall_all = deltas.iloc[:0], overall.iloc[:0]
    return AnalysisResult(
        samples=samples,
        validity=validity_frame(broken, settings),
        deltas=deltas,
        overall=overall,
        deltas_all=deltas_all,
        overall_all=overall_all,
        set_aside=set_aside_frame(boots, broken, settings),
        disturbance=disturbance_frame(blocks, samples, broken, ratios, everything, settings),
        control=control_frame(ratios, deltas, overall, settings),
        position=position_frame(samples, settings),
        nodes=nodes_frame(boots, samples, comparisons, settings),
        pressure=pressure_frame(samples, wall_s, measured, settings),
        counters=counters_frame(boots, settings),
        expectations=expectations_frame(samples, settings),
        claims=claims_frame(deltas, settings),
        negative_controls=negative_controls_frame(deltas, settings),
        mechanism=mechanism_frame(traced, settings),
        locks=locks_frame(traced, settings),
        ratios=ratios,
        latency=latency_frame(blocks, measured, settings),
        costs=costs_frame(boots, settings),
        symbols=symbols_frame(settings),
        notes=(*notes(boots, broken, settings), *mechanism_notes(traced)),
    )


def so_far(raw: Path, regime: str, settings: AnalysisSettings) -> str:
    """Overall effects of the blocks that there are, in one line; it changes nothing measured.

    Args:
        raw: the run's raw folder.
        regime: the one that is being measured.
        settings: of the whole run; its number of blocks is what was planned.

    Raises:
        KdeltaError: the raw files cannot be read.
    """
    others = {*settings.other_regimes, *settings.regimes} - {regime}
    here = replace(
        settings,
        regimes=(regime,),
        other_regimes=tuple(sorted(others)),
        only=(settings.primary,),
        claims=(),
        expectations=(),
    )
    read, _ = read_blocks(raw, here)
    boots = [boot for block in read for boot in block.boots]
    samples, _ = together(read, here)
    measured = replace(here, blocks=None)
    table = overall_frame(
        ratios_frame(samples, here),
        all_planned_cells(planned_cells(boots), measured),
        measured,
        planned=planned_pairs(boots, measured),
    )
    words = ", ".join(
        _words(
            str(row["arm"]),
            float(row["delta_percent"]),
            row["delta_low_percent"],
            row["delta_high_percent"],
        )
        for row in table.to_dict("records")
    )
    blocks = len({boot.block for boot in boots})
    all_there = blocks == settings.blocks
    there = (
        f"all {blocks} blocks" if all_there else f"{blocks} of {settings.blocks} blocks, not final"
    )
    metric = settings.workload.metrics[settings.primary].in_sentence
    return f"{regime}: {metric} after {there}: {words}"


def _words(arm: str, delta: float, low: float, high: float) -> str:
    if math.isnan(delta):
        return f"{arm} n/a (a cell without a ratio)"
    interval = "[no interval yet]" if math.isnan(low) else f"[{low:+.1f}, {high:+.1f}]"
    return f"{arm} {delta:+.1f}% {interval}"
