# SPDX-License-Identifier: GPL-2.0-only
"""A run's samples for other tools: in the Go benchmark data format, and as one CSV file.

benchstat and its kin read the former: https://go.dev/design/14313-benchmark-format, and for the
lines of unit metadata golang.org/x/perf/benchfmt. benchstat puts results of different
configuration (`key: value` lines) into different tables, so the files of one run's arms have to
have the same ones: what tells arms apart stands in comments.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd

from kdelta.analysis.tables import csv_text
from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.export.run_folder import RunFolder
from kdelta.report.context import metrics_of

# benchstat turns ns into sec; B/s it knows, with powers of 1024.
_UNITS = {"MiB/s": ("B/s", 2**20)}
# Of a name's part; a slash would begin another one, a space end the name.
_SAFE = ":.,+=@"


class _Value(NamedTuple):
    """A metric in benchstat's words: its values are `factor` times those of the column."""

    column: str
    unit: str
    factor: float
    better: str


def _values(run: RunFolder) -> list[_Value]:
    found = []
    for metric in metrics_of(run.workload):
        unit, factor = _UNITS.get(metric.unit, (f"{metric.slug}-{metric.unit or 'value'}", 1))
        better = "higher" if metric.higher_is_better else "lower"
        found.append(_Value(metric.name, unit.replace(" ", "-"), factor, better))
    return found


def go_files(run: RunFolder) -> dict[str, str]:
    """File name -> text: one file per arm.

    Raises:
        KdeltaError: samples.csv is missing or of another version.
    """
    samples = run.table("samples.csv")
    wanted = ["regime", "block", "arm", "valid", "vcpus", *run.factors]
    missing = [c for c in (*wanted, *(v.column for v in _values(run))) if c not in samples]
    if missing:
        raise KdeltaError(
            f"{run.path / 'samples.csv'}: column {missing[0]} is missing; "
            "the file is from another version: run the analysis again"
        )
    return {
        f"{arm}.txt": go_text(run, arm, samples[samples["arm"] == arm])
        for arm in run.experiment.booted_arms()
    }


def go_text(run: RunFolder, arm: str, samples: pd.DataFrame) -> str:
    """One arm's results: a line per block and cell, all its blocks under one name.

    What the rounds of a block gave are not independent results, and benchstat would take them
    for such: they become one, their geometric mean.

    Args:
        run: the run.
        arm: the arm's name.
        samples: its rows of samples.csv, as text.
    """
    valid = samples[samples["valid"] == "true"]
    lines = [
        *(f"# {line}" for line in _comments(run, arm, len(samples) - len(valid))),
        *(f"{key}: {' '.join(value.split())}" for key, value in configuration(run) if value),
        *(f"Unit {value.unit} better={value.better}" for value in _values(run)),
        "",
        *(_result(row, run) for _, row in _by_block(valid, run).iterrows()),
    ]
    return "\n".join(lines) + "\n"


def arms_without_samples(run: RunFolder) -> list[str]:
    """The arms of the experiment whose files hold no result."""
    samples = run.table("samples.csv")
    found = set(samples.loc[samples["valid"] == "true", "arm"])
    return [arm for arm in run.experiment.booted_arms() if arm not in found]


def configuration(run: RunFolder) -> list[tuple[str, str]]:
    """The configuration lines: what is the same for all arms of a run."""
    hosts = run.manifest["hosts"]
    kernels = run.manifest.get("kernels", {})

    def distinct(values: list[object]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values if value is not None))

    return [
        ("experiment", run.experiment.name),
        ("protocol", run.protocol),
        ("acceleration", "kvm" if not run.emulated else f"{run.acceleration} (emulated)"),
        ("kernel", distinct([image.get("kernel_release") for image in kernels.values()])),
        ("cpu", distinct([record["host"].get("cpu_model") for record in hosts])),
        ("guest-memory-mib", distinct([record.get("memory_mib") for record in hosts])),
    ]


def write_go(run: RunFolder, folder: Path) -> list[Path]:
    """Writes one file per arm; returns them, the baseline first."""
    written = []
    for name, text in go_files(run).items():
        write_atomically(folder / name, text.encode())
        written.append(folder / name)
    return written


def _comments(run: RunFolder, arm: str, left_out: int) -> list[str]:
    lines = [
        f"{arm}: {run.arm_title(arm)}",
        f"{run.experiment.name}: {run.experiment.title} (run {run.run_id})",
    ]
    if run.emulated:
        lines.append(
            f"EMULATED ({run.acceleration.upper()}): not a measurement of kernel performance."
        )
    lines += [
        "A line is a cell in one block, the geometric mean of its rounds; the blocks have the same",
        "name. benchstat knows neither that blocks pair nor how many cells are compared, so that",
        "its verdicts differ from kdelta's tables in both directions: go by those.",
    ]
    if left_out:
        lines.append(f"{left_out} samples were set aside and are not in here: see validity.csv.")
    return [" ".join(line.split()) for line in lines]


def _by_block(samples: pd.DataFrame, run: RunFolder) -> pd.DataFrame:
    """One row per regime, cell and block, in the order in which they appear."""
    columns = [value.column for value in _values(run)]
    done = run.workload.operations
    numbers = samples.assign(
        **{column: np.log(samples[column].astype(float)) for column in columns},
        iterations=samples[done].astype(int) if done in samples else 1,
    )
    place = ["regime", *run.factors, "block", "vcpus"]
    found = numbers.groupby(place, sort=False, as_index=False).agg(
        {**dict.fromkeys(columns, "mean"), "iterations": "sum"}
    )
    found[columns] = np.exp(found[columns])
    return found


def _result(row: pd.Series, run: RunFolder) -> str:
    program = run.experiment.workload.program
    benchmark = "Benchmark" + "".join(w.capitalize() for w in re.split(r"[-_.]", program))
    parts = [benchmark, f"regime={_part(row['regime'])}"]
    parts += [f"{factor}={_part(row[factor])}" for factor in run.factors]
    name = "/".join(parts) + (f"-{row['vcpus']}" if row["vcpus"] else "")
    values = (f"{row[v.column] * v.factor:.10g} {v.unit}" for v in _values(run))
    return "\t".join([name, str(row["iterations"]), *values])


def _part(level: str) -> str:
    return quote(level, safe=_SAFE)


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
