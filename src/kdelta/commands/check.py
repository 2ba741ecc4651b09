# SPDX-License-Identifier: GPL-2.0-only
"""Verbs about configuration: check, schema."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pydantic import BaseModel

from kdelta.commands.common import Verbs
from kdelta.config import RunConfig, load_experiment
from kdelta.experiment import Experiment, patch_files
from kdelta.measure.schedule import cells

SCHEMAS: dict[str, type[BaseModel]] = {
    "config.schema.json": RunConfig,
    "experiment.schema.json": Experiment,
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
    count = len(cells(experiment))
    print(f"{experiment.name}: {experiment.title}")
    for name, variant in experiment.variants.items():
        patches = len(patch_files(variant, args.root, experiment.kernel.source.series))
        print(f"  variant {name}: {variant.title} ({patches} patches)")
    for name, protocol in experiment.protocols.items():
        boots = protocol.blocks * len(experiment.arms()) * len(protocol.duration_s)
        seconds = sum(
            protocol.blocks * len(experiment.arms()) * count * (protocol.warmup_s + duration)
            for duration in protocol.duration_s.values()
        )
        print(
            f"  protocol {name}: {protocol.blocks} blocks, {boots} boots of {count} cells, "
            f"{seconds / 60:.0f} min of cells besides the boots themselves"
        )
    return 0


def _schema(args: argparse.Namespace) -> int:
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        (args.folder / name).write_text(schema_text(name), encoding="utf-8")
    return 0
