# SPDX-License-Identifier: GPL-2.0-only
"""Verbs that make kernels and the workload: fetch, build, take, programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kdelta.cache import cache_root
from kdelta.commands.common import (
    Verbs,
    add_experiment,
    experiment_of,
    write_json,
)
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.host.facts import host_cpus
from kdelta.host.lock import host_lock
from kdelta.kernel.build import build, request_for
from kdelta.kernel.preflight import read_inputs, try_patches
from kdelta.kernel.ready import take
from kdelta.kernel.source import fetch, restore
from kdelta.provenance import read_json
from kdelta.workload.build import Target, build_programs
from kdelta.workload.guest_root import needs_root, wanted_packages
from kdelta.workload.tree import in_tree, of_the_tree, trees_arm


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser("fetch", help="fetch and unpack the kernel source")
    add_experiment(parser)
    parser.add_argument("--arm", help="whose source (default: the baseline's)")
    parser.add_argument("--output", type=Path, required=True, help="record of the source (JSON)")
    parser.set_defaults(run=_fetch)

    parser = verbs.add_parser("build", help="build one arm's kernel")
    add_experiment(parser)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--source", type=Path, required=True, help="record written by `fetch`")
    parser.add_argument(
        "--acceleration", type=Path, required=True, help="record of `probe`: kernels differ by it"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the image")
    parser.add_argument("--log", type=Path, required=True, help="receives the build's output")
    parser.add_argument(
        "--baseline", type=Path, help="the baseline's output folder: objects are compared with it"
    )
    parser.add_argument("--jobs", type=int, default=host_cpus(), help="parallel compilations")
    parser.set_defaults(run=_build)

    parser = verbs.add_parser("take", help="take a kernel that was built elsewhere as it is")
    add_experiment(parser)
    parser.add_argument("--arm", required=True, help="whose image")
    parser.add_argument("--output", type=Path, required=True, help="folder for the image")
    parser.set_defaults(run=_take)

    parser = verbs.add_parser("programs", help="build what runs in guests")
    add_experiment(parser)
    parser.add_argument(
        "--source", type=Path, help="record written by `fetch`: where programs are of its tree"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the programs")
    parser.add_argument("--log", type=Path, required=True, help="receives the compiler's output")
    parser.set_defaults(run=_programs)


def _fetch(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    arm = args.arm or experiment.baseline
    _require_arm(args, experiment, experiment.built_arms, "is built")
    # Which arms are built from this source, and so have to take their patches.
    record = experiment.source_record(arm)
    arms = [name for name in experiment.built_arms if experiment.source_record(name) == record]
    patches = read_inputs(experiment, args.root, str(args.experiment))
    # All of it: git unpacks while it downloads, and xz keeps a CPU busy for half a minute.
    with host_lock(f"fetching the source of {experiment.name}", exclusive=False):
        tree = fetch(experiment.source_of(arm), cache_root())
        if experiment.series_of(arm) is None:  # which patches belong to it is known now
            known = dict.fromkeys(arms, tree.series)
            patches = read_inputs(experiment, args.root, str(args.experiment), known)
        # Before the first kernel is built: the baseline alone takes minutes.
        try_patches(patches, dict.fromkeys(arms, tree))
        if trees_arm(experiment) in arms:
            for chosen in of_the_tree(experiment):
                in_tree(chosen.program, chosen.declaration, tree)
    write_json(args.output, tree.record())
    print(f"source: {tree.title}", file=sys.stderr)
    return 0


def _require_arm(
    args: argparse.Namespace, experiment: Experiment, known: Sequence[str], what: str
) -> None:
    if (args.arm or experiment.baseline) not in known:
        raise KdeltaError(
            f"{args.experiment}: arms: there is no arm {args.arm or experiment.baseline!r} that "
            f"{what}; these are {', '.join(known) or '(none)'}"
        )


def _build(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    _require_arm(args, experiment, experiment.built_arms, "is built")
    with host_lock(f"building {experiment.name}: {args.arm}", exclusive=False):
        request = request_for(
            experiment,
            args.arm,
            args.root,
            restore(read_json(args.source), cache_root()),
            read_json(args.acceleration)["mode"],
            args.output,
            log=args.log,
            baseline=args.baseline,
        )
        # Snakemake may be told of more cores than there are: compilers would only take turns.
        build(request, cache_root(), jobs=min(args.jobs, host_cpus()))
    return 0


def _take(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    ready = [name for name, arm in experiment.arms.items() if arm.image]
    _require_arm(args, experiment, ready, "has an image")
    key, image = f"{args.experiment}: arms.{args.arm}.image", experiment.arms[args.arm].image
    found = take(args.root / str(image), experiment.arch, args.arm, args.output, key)
    print(f"{args.arm}: Linux {found.release}, {found.version}, ready", file=sys.stderr)
    return 0


def _programs(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    chosen = experiment.workloads.values()
    workloads = {one.program: (one.declaration, one.folder(args.root)) for one in chosen}
    with host_lock("building what runs in guests", exclusive=False):
        tree = restore(read_json(args.source), cache_root()) if args.source else None
        build_programs(
            workloads,
            args.output,
            args.log,
            cache_root(),
            Target(experiment.arch),
            tree,
            wanted_packages(experiment) if needs_root(experiment) else (),
        )
    return 0
