# SPDX-License-Identifier: GPL-2.0-only
"""All samples of a run as one CSV file that stands alone, compressed if its name says so."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pandas as pd

from kdelta.analysis.tables import csv_text
from kdelta.cache import write_atomically
from kdelta.export.run_folder import RunFolder


def flat_samples(run: RunFolder) -> pd.DataFrame:
    """samples.csv as text, digit for digit, with what tells runs, regimes and arms apart."""
    samples = run.table("samples.csv")
    titles = {arm: run.arm_title(arm) for arm in run.experiment.booted_arms()}
    ours = {
        "run_id": run.run_id,
        "experiment": run.experiment.name,
        "protocol": run.protocol,
        "regime_title": samples["regime"].map(run.regimes),
        "arm_title": samples["arm"].map(titles),
    }
    return pd.concat([pd.DataFrame(ours, index=samples.index), samples], axis=1)


def write_samples(run: RunFolder, path: Path) -> Path:
    """Writes the file; a name that ends in .gz gives a compressed one, the same bytes each time."""
    data = csv_text(flat_samples(run)).encode()
    if path.suffix == ".gz":
        packed = io.BytesIO()
        # Neither the time nor the name of the file: the same samples give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    write_atomically(path, data)
    return path
