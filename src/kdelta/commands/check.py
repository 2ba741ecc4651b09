# SPDX-License-Identifier: GPL-2.0-only
"""Verbs about configuration: check, schema."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from kdelta.cache import cache_root
from kdelta.commands.common import Verbs
from kdelta.config import RunConfig, load_experiment
from kdelta.experiment import Experiment
from kdelta.kernel.patches import PatchFile, order_warning
from kdelta.kernel.preflight import read_inputs, try_patches
from kdelta.kernel.source import cached_source
from kdelta.measure.budget import amount
from kdelta.measure.schedule import cells
from kdelta.workload.declaration import Workload
from kdelta.workload.folder import workload_folder
from kdelta.workload.trial import try_on_host

SCHEMAS: dict[str, type[BaseModel]] = {
    "config.schema.json": RunConfig,
    "experiment.schema.json": Experiment,
    "workload.schema.json": Workload,
}


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser("check", help="check an experiment file and say what it amounts to")
    parser.add_argument("experiment", type=Path)
    parser.set_defaults(run=_check)

    parser = verbs.add_parser("schema", help="write the JSON schemas of the configuration files")
    parser.add_argument("folder", type=Path, help="for example workflow/schemas")
    parser.set_defaults(run=_schema)


def schema_text(name: str) -> str:
    """The JSON schema file of that name, generated from its model."""
    schema = SCHEMAS[name].model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _check(args: argparse.Namespace) -> int:
    experiment = load_experiment(args.root / args.experiment, args.root)
    if experiment.claims:
        # Takes a second to load, and needs what the analysis needs.
        from kdelta.claims import read_claims

        read_claims(args.root / experiment.claims.file, experiment)
    print(f"{experiment.name}: {experiment.title}")
    source = cached_source(experiment.kernel.source, cache_root())
    series = source.series if source else None
    patches = read_inputs(experiment, args.root, str(args.experiment), series)
    for name, arm in experiment.arms.items():
        number = sum(len(file.commits) for file in patches[name])
        print(f"  arm {name}: {arm.title} ({number} patch{'' if number == 1 else 'es'})")
        for line in _patch_lines(patches[name]):
            print(f"    {line}")
    if source is not None:
        try_patches(patches, source)
        print(f"  patches apply to {source.title}")
    elif any(patches.values()):
        print("  patches were not tried: the kernel's source is not in the cache yet")
    _try_workload(experiment, args.root)
    for name in experiment.protocols:
        print(f"  protocol {name}: {amount(experiment, name)}")
    return 0


def _try_workload(experiment: Experiment, root: Path) -> None:
    """Run the first cell once on this host, and say what was understood of it."""
    chosen = experiment.workload
    first = {**chosen.arguments, **cells(experiment)[0]}
    with tempfile.TemporaryDirectory() as scratch:
        trial = try_on_host(
            chosen.declaration,
            workload_folder(chosen.program, root),
            first,
            chosen.limits,
            cache_root(),
            Path(scratch, "log"),
        )
    told = (
        f"{name} {trial.values[name]:.6g} {metric.unit}".strip()
        for name, metric in chosen.declaration.metrics.items()
        if trial.values.get(name) is not None
    )
    print(f"  workload {chosen.program} runs here and is understood: {', '.join(told)}")
    for broken in trial.broken:
        print(f"    note: a check does not hold: {broken}")


def _patch_lines(files: Sequence[PatchFile]) -> list[str]:
    """What the patches are, in the order in which they apply."""
    lines = [f"cover letter: {subject} (kept)" for file in files for subject in file.covers]
    for file in files:
        for commit in file.commits:
            author = f", by {commit.author.name}" if commit.author else ""
            lines.append(f"{file.path.name}: {commit.subject}{author}")
    warning = order_warning(files)
    return [*lines, f"note: {warning}"] if warning else lines


def _schema(args: argparse.Namespace) -> int:
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        (args.folder / name).write_text(schema_text(name), encoding="utf-8")
    return 0
