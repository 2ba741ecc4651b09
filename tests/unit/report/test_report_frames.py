# SPDX-License-Identifier: GPL-2.0-only
"""Reading a results folder: what is missing or strange is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from report_synthetic import FLAGSHIP, WIDE, write_results

from kdelta.errors import KdeltaError
from kdelta.report.frames import load_frames


def test_factors_come_from_the_table(tmp_path: Path) -> None:
    assert load_frames(write_results(WIDE, tmp_path)).factors == (
        "writers",
        "readers",
        "write_bytes",
    )


def test_levels_are_text_and_validity_is_boolean(tmp_path: Path) -> None:
    frames = load_frames(write_results(FLAGSHIP, tmp_path))
    assert set(frames.levels("readers")) == {"1", "5", "10"}
    assert frames.samples["valid"].all()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "overall",
            "position",
            "nodes",
            "deltas_all",
            "overall_all",
            "set_aside",
            "pressure",
            "expectations",
        ),
        *("claims", "negative_controls", "mechanism", "latency"),
    ],
)
def test_missing_table_is_named(tmp_path: Path, name: str) -> None:
    write_results(FLAGSHIP, tmp_path)
    (tmp_path / "tables" / f"{name}.csv").unlink()
    with pytest.raises(KdeltaError, match=rf"tables/{name}\.csv: no such table; run the analysis"):
        load_frames(tmp_path)


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    frames = load_frames(write_results(FLAGSHIP, tmp_path))
    assert frames.deltas_all.empty
    assert frames.negative_controls.empty
    assert frames.rules == ()


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = write_results(FLAGSHIP, tmp_path) / "tables" / "deltas.csv"
    pd.read_csv(path).drop(columns=["ratio_low", "verdict"]).to_csv(path, index=False)
    with pytest.raises(KdeltaError, match=r"deltas\.csv: column ratio_low, verdict is missing"):
        load_frames(tmp_path)


def test_empty_file_is_named(tmp_path: Path) -> None:
    (write_results(FLAGSHIP, tmp_path) / "samples.csv").write_text("")
    with pytest.raises(KdeltaError, match=r"samples\.csv: not readable as CSV"):
        load_frames(tmp_path)


def test_a_level_called_none_is_not_a_missing_value(tmp_path: Path) -> None:
    path = write_results(FLAGSHIP, tmp_path) / "tables" / "deltas.csv"
    frame = pd.read_csv(path)
    frame["readers"] = "None"
    frame.to_csv(path, index=False)
    assert set(load_frames(tmp_path).deltas["readers"]) == {"None"}
