# SPDX-License-Identifier: GPL-2.0-only
"""The analysis stage: a raw folder in, CSV files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kdelta.analysis.control import control_frame
from kdelta.analysis.deltas import deltas_frame, overall_frame, ratios_frame
from kdelta.analysis.raw import RawBoot, planned_cells, read_raw
from kdelta.analysis.samples import samples_frame
from kdelta.analysis.settings import AnalysisSettings
from kdelta.analysis.tables import write_csv
from kdelta.analysis.validity import broken_samples, validity_frame, violations


@dataclass(frozen=True)
class AnalysisResult:
    """The frames behind the files of the same names (columns: docs/contracts.md).

    Attributes:
        notes: whole sentences on what the data lacks, for a person to read.
    """

    samples: pd.DataFrame
    validity: pd.DataFrame
    deltas: pd.DataFrame
    overall: pd.DataFrame
    control: pd.DataFrame
    ratios: pd.DataFrame
    notes: tuple[str, ...]

    def files(self) -> dict[str, pd.DataFrame]:
        """Path below the results folder -> frame."""
        return {
            "samples.csv": self.samples,
            "validity.csv": self.validity,
            "tables/deltas.csv": self.deltas,
            "tables/overall.csv": self.overall,
            "tables/control.csv": self.control,
            "tables/ratios.csv": self.ratios,
        }


def analyse(raw_dir: Path, out_dir: Path, settings: AnalysisSettings) -> AnalysisResult:
    """Analyses a raw folder and writes samples.csv, validity.csv and tables/*.csv.

    The same raw files and settings give the same bytes. Nothing is written unless
    everything could be read.

    Args:
        raw_dir: holds `<regime>/block-NNN/`.
        out_dir: gets the files; created if needed, older ones are replaced.
        settings: names, display order, limits.

    Raises:
        KdeltaError: the raw folder is missing, malformed or of another experiment,
            or a file cannot be written.
    """
    raw = read_raw(raw_dir, settings)
    result = analyse_boots(raw.boots, settings)
    interrupted = tuple(
        f"{folder}: the block was begun and not finished; it is left out."
        for folder in raw.unfinished
    )
    result = replace(result, notes=(*interrupted, *result.notes))
    for name, frame in result.files().items():
        write_csv(frame, out_dir / name)
    return result


def analyse_boots(boots: Sequence[RawBoot], settings: AnalysisSettings) -> AnalysisResult:
    """The same without files: boots in, frames out."""
    broken = violations(boots, settings)
    samples = samples_frame(boots, broken_samples(broken), settings)
    cells = planned_cells(boots)
    ratios = ratios_frame(samples, settings)
    deltas = deltas_frame(ratios, cells, settings)
    return AnalysisResult(
        samples=samples,
        validity=validity_frame(broken, settings),
        deltas=deltas,
        overall=overall_frame(ratios, cells, settings),
        control=control_frame(deltas, settings),
        ratios=ratios,
        notes=_notes(boots, settings),
    )


def _notes(boots: Sequence[RawBoot], settings: AnalysisSettings) -> tuple[str, ...]:
    measured = {boot.regime for boot in boots}
    notes = [
        f"Regime {regime} has no block yet; the tables leave it out."
        for regime in settings.regimes
        if regime not in measured
    ]
    arms = {(boot.regime, boot.arm) for boot in boots}
    notes += [
        f"Regime {regime}: no block has the arm {arm}."
        for regime in settings.regimes
        for arm in settings.arms
        if regime in measured and (regime, arm) not in arms
    ]
    notes += [
        f"{boot.regime}, block {boot.block}, arm {boot.arm}: no console log, "
        "so kernel splats could not be looked for."
        for boot in boots
        if boot.boot is not None and boot.splats is None
    ]
    return tuple(notes)
