# SPDX-License-Identifier: GPL-2.0-only
"""Verbs for results that exist: export, compare."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kdelta.commands.analysis import add_run_folder, run_folder
from kdelta.commands.common import Verbs
from kdelta.errors import KdeltaError
from kdelta.host.lock import host_lock

if TYPE_CHECKING:
    from kdelta.export.run_folder import RunFolder

FORMATS = ("go", "samples", "datapackage")
MIN_WIDTH, PIPED_WIDTH = 80, 100


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser("export", help="write a run's samples for other tools")
    add_run_folder(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="go: Go benchmark format, one file per arm, for benchstat; samples: all samples in "
        "one CSV file; datapackage: datapackage.json, which describes every CSV file "
        "(default: all three)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="go: a folder (default: exports/go in the run's folder); samples: a file, compressed "
        "if it ends in .gz (default: exports/samples.csv.gz)",
    )
    parser.set_defaults(run=_export)

    parser = verbs.add_parser("compare", help="lay two runs, or two arms, side by side")
    parser.add_argument("run_a", metavar="A", type=Path, help="a run's folder")
    parser.add_argument("run_b", metavar="B", type=Path, help="another, or the same again")
    parser.add_argument("--arm-a", help="compare this arm of A (default: all that both have)")
    parser.add_argument("--arm-b", help="with this arm of B (default: the one of the same name)")
    parser.add_argument("--metric", help="compare this one (default: the primary one)")
    parser.set_defaults(run=_compare)


def _export(args: argparse.Namespace) -> int:
    from kdelta.export.run_folder import workload_runs

    if args.output is not None and args.format in (None, "datapackage"):
        raise KdeltaError(
            "--output: say with --format go or --format samples what to write there "
            "(datapackage.json always lies in the run's folder, which its paths are relative to)"
        )
    runs = workload_runs(run_folder(args))
    if args.output is not None and len(runs) > 1:
        raise KdeltaError(
            "--output: the run has several workloads, each with exports of its own; name the "
            f"folder of one: {', '.join(str(run.path) for run in runs)}"
        )
    with host_lock("exporting a run", exclusive=False):
        for run in runs:
            for name in (args.format,) if args.format else FORMATS:
                for path in _WRITERS[name](run, args.output):
                    print(path)
    return 0


def _go(run: RunFolder, output: Path | None) -> list[Path]:
    from kdelta.export.samples import arms_without_samples, write_go

    for arm in arms_without_samples(run):
        print(
            f"kdelta: note: arm {arm} has no valid sample, so that {arm}.txt has no result; "
            "benchstat takes the first file that has one as the base",
            file=sys.stderr,
        )
    return write_go(run, output or run.path / "exports" / "go")


def _samples(run: RunFolder, output: Path | None) -> list[Path]:
    from kdelta.export.samples import write_samples

    return [write_samples(run, output or run.path / "exports" / "samples.csv.gz")]


def _datapackage(run: RunFolder, _output: Path | None) -> list[Path]:
    from kdelta.export.dictionary import write_descriptor

    return [write_descriptor(run)]


_WRITERS: dict[str, Callable[[RunFolder, Path | None], list[Path]]] = {
    "go": _go,
    "samples": _samples,
    "datapackage": _datapackage,
}


def _compare(args: argparse.Namespace) -> int:
    from kdelta.export.compare import compare_runs
    from kdelta.export.compare_text import comparison_text
    from kdelta.export.run_folder import read_one_workload

    runs = [read_one_workload(args.run_a), read_one_workload(args.run_b)]
    for run in runs:
        if note := run.check_raw():
            print(f"kdelta: note: {note}", file=sys.stderr)
    found = compare_runs(
        *runs,
        arm_a=args.arm_a,
        arm_b=args.arm_b,
        metric=args.metric,
    )
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    print(comparison_text(found, max(columns, MIN_WIDTH)), end="")
    return 0
