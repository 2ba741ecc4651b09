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
from kdelta.commands.common import Verbs, add_arch
from kdelta.config import RunConfig, load_experiment
from kdelta.experiment import Experiment
from kdelta.guest.share import scratch_base
from kdelta.kernel.patches import PatchFile, order_warning
from kdelta.kernel.preflight import read_inputs, try_patches
from kdelta.kernel.ready import ready_kernel
from kdelta.kernel.source import SourceTree, cached_source
from kdelta.kernel.toolchain import require_programs
from kdelta.measure.budget import amount
from kdelta.workload.chosen import Chosen
from kdelta.workload.declaration import Workload
from kdelta.workload.guest_root import find_program
from kdelta.workload.tree import trees_arm
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
    add_arch(parser)
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
    experiment = load_experiment(args.root / args.experiment, args.root, args.arch)
    if experiment.claims:
        # Takes a second to load, and needs what the analysis needs.
        from kdelta.claims import read_claims

        read_claims(args.root / experiment.claims.file, experiment)
    require_programs(experiment.compilers, experiment.arch)
    print(f"{experiment.name}: {experiment.title}")
    cached = {
        arm: source
        for arm in experiment.built_arms
        if (source := cached_source(experiment.source_of(arm), cache_root()))
    }
    known = {arm: source.series for arm, source in cached.items()}
    patches = read_inputs(experiment, args.root, str(args.experiment), known)
    for name, arm in experiment.arms.items():
        if arm.image:
            key = f"{args.experiment}: arms.{name}.image"
            ready = ready_kernel(args.root / arm.image, experiment.arch, key)
            made_of = f"Linux {ready.release}, {ready.version}, ready"
        else:
            made_of = _built_of(experiment, name, cached.get(name), patches[name])
        print(f"  arm {name}: {arm.title} ({made_of})")
        for line in _patch_lines(patches.get(name, [])):
            print(f"    {line}")
        if arm.booting:
            print(f"    booted with {arm.booting_words}")
    try_patches(patches, cached)
    for title in dict.fromkeys(source.title for arm, source in cached.items() if patches[arm]):
        print(f"  patches apply to {title}")
    if any(files for arm, files in patches.items() if arm not in cached):
        print("  patches were not tried: the kernel's source is not in the cache yet")
    tree = cached.get(trees_arm(experiment) or "")
    for name, chosen in experiment.workloads.items():
        if reason := _why_not_tried(experiment, chosen, tree):
            print(f"  workload {name} was not tried: {reason}")
        else:
            _try_workload(name, chosen, args.root, tree)
    if not experiment.arch.native:
        print(f"  guests are {experiment.arch.title}: their programs are built when they are run")
    if experiment.disk_bytes:
        size = f"{experiment.disk_bytes / 2**20:,.0f} MiB"
        print(f"  each guest has a scratch disk of {size}, a sparse file in {scratch_base()}")
    for name in experiment.protocols:
        print(f"  protocol {name}: {amount(experiment, name)}")
    return 0


def _built_of(
    experiment: Experiment, name: str, cached: SourceTree | None, patches: Sequence[PatchFile]
) -> str:
    """From what an arm is built: its source, what is its own, and how many patches."""
    arm, source = experiment.arms[name], experiment.source_of(name)
    wanted = source.package if source.type == "debian" else f"{source.url} {source.commit[:12]}"
    words = [cached.title if cached else wanted]
    words += [f"base {arm.base}"] if arm.base else []
    words += [f"fragment {fragment}" for fragment in arm.fragments]
    words += [arm.compiler] if arm.compiler else []
    number = sum(len(file.commits) for file in patches)
    words += [f"{number} patch{'' if number == 1 else 'es'}"] if number else []
    return ", ".join(words)


def _why_not_tried(experiment: Experiment, chosen: Chosen, tree: SourceTree | None) -> str | None:
    """Why a workload cannot be run on this host now, if that is no mistake."""
    program = chosen.declaration.program
    if program.tree and tree is None:
        return "it is built from the kernel's source, which is not in the cache yet"
    if program.package and not experiment.arch.native and find_program(program.name, None) is None:
        return f"its package {program.package} is for {experiment.arch.title} guests, not for here"
    return None


def _try_workload(name: str, chosen: Chosen, root: Path, tree: SourceTree | None) -> None:
    """Run the first cell once on this host, and say what was understood of it."""
    with tempfile.TemporaryDirectory() as scratch:
        trial = try_on_host(
            chosen.declaration,
            chosen.folder(root),
            {**chosen.arguments, **chosen.cells()[0]},
            chosen.limits,
            cache_root(),
            Path(scratch, "log"),
            tree,
        )
    told = (
        f"{metric} {trial.values[metric]:.6g} {said.unit}".strip()
        for metric, said in chosen.declaration.metrics.items()
        if trial.values.get(metric) is not None
    )
    print(f"  workload {name} runs here and is understood: {', '.join(told)}")
    if not chosen.declaration.timed_by_protocol:
        print(
            f"    it ends by itself, here after {trial.elapsed_s:.2g} s, emulated after ten times "
            "that and more; the protocols' duration_s / rounds should say how long: times below "
            "rest on it"
        )
    for broken in trial.broken:
        print(f"    note: such a sample would be set aside: {broken}")


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
