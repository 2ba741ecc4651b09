# SPDX-License-Identifier: GPL-2.0-only
"""Results in the Go benchmark data format, which benchstat and its kin read.

Format: https://go.dev/design/14313-benchmark-format, and for the lines of unit metadata
golang.org/x/perf/benchfmt. benchstat puts results of different configuration (`key: value`
lines) into different tables, so the files of one run's arms have to have the same ones: what
tells arms apart stands in comments.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from kdelta.cache import write_atomically
from kdelta.errors import KdeltaError
from kdelta.export.run_folder import RunFolder

NAME = "BenchmarkPipe"
MIB = 2**20

# Column, unit, better. benchstat turns ns into sec; B/s it knows, with powers of 1024.
_VALUES = (
    ("latency_mean_ns", "ns/op", "lower"),
    ("throughput_mib_s", "B/s", "higher"),
    ("latency_p50_ns", "p50-latency-ns", "lower"),
    ("latency_p99_ns", "p99-latency-ns", "lower"),
)
# Of a name's part; a slash would begin another one, a space end the name.
_SAFE = ":.,+=@"


def go_files(run: RunFolder) -> dict[str, str]:
    """File name -> text: one file per arm.

    Raises:
        KdeltaError: samples.csv is missing or of another version.
    """
    samples = run.table("samples.csv")
    wanted = ["regime", "block", "arm", "valid", "vcpus", "writes", *run.factors]
    missing = [c for c in (*wanted, *(value[0] for value in _VALUES)) if c not in samples]
    if missing:
        raise KdeltaError(
            f"{run.path / 'samples.csv'}: column {missing[0]} is missing; "
            "the file is from another version: run the analysis again"
        )
    return {
        f"{arm}.txt": go_text(run, arm, samples[samples["arm"] == arm])
        for arm in run.experiment.arms()
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
        *(f"Unit {unit} better={better}" for _, unit, better in _VALUES),
        "",
        *(_result(row, run.factors) for _, row in _by_block(valid, run.factors).iterrows()),
    ]
    return "\n".join(lines) + "\n"


def arms_without_samples(run: RunFolder) -> list[str]:
    """The arms of the experiment whose files hold no result."""
    samples = run.table("samples.csv")
    found = set(samples.loc[samples["valid"] == "true", "arm"])
    return [arm for arm in run.experiment.arms() if arm not in found]


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


def _by_block(samples: pd.DataFrame, factors: tuple[str, ...]) -> pd.DataFrame:
    """One row per regime, cell and block, in the order in which they appear."""
    columns = [column for column, _, _ in _VALUES]
    numbers = samples.assign(
        **{column: np.log(samples[column].astype(float)) for column in columns},
        writes=samples["writes"].astype(int),
    )
    found = numbers.groupby(["regime", *factors, "block", "vcpus"], sort=False, as_index=False).agg(
        {**dict.fromkeys(columns, "mean"), "writes": "sum"}
    )
    found[columns] = np.exp(found[columns])
    return found


def _result(row: pd.Series, factors: tuple[str, ...]) -> str:
    parts = [NAME, f"regime={_part(row['regime'])}"]
    parts += [f"{factor}={_part(row[factor])}" for factor in factors]
    name = "/".join(parts) + (f"-{row['vcpus']}" if row["vcpus"] else "")
    values = (_value(row[column], unit) for column, unit, _ in _VALUES)
    return "\t".join([name, str(row["writes"]), *values])


def _value(value: float, unit: str) -> str:
    return f"{value * (MIB if unit == 'B/s' else 1):.10g} {unit}"


def _part(level: str) -> str:
    return quote(level, safe=_SAFE)
