# SPDX-License-Identifier: GPL-2.0-only
"""Verbs that boot guests: probe, measure, mechanism."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from kdelta.cache import cache_root
from kdelta.commands.common import (
    Verbs,
    add_experiment,
    experiment_of,
    of_workload,
    write_json,
)
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.acceleration import choose
from kdelta.host.lock import host_lock
from kdelta.kernel.build import build, request_for
from kdelta.kernel.source import restore
from kdelta.measure.arm import GuestSource
from kdelta.measure.block import BlockRequest, measure_block
from kdelta.measure.mechanism import trace_regime
from kdelta.plain import printable
from kdelta.provenance import read_json


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser("probe", help="find out whether guests run with KVM here")
    add_experiment(parser)
    parser.add_argument(
        "--source", type=Path, help="record written by `fetch`; not if the baseline is an image"
    )
    parser.add_argument("--output", type=Path, required=True, help="record (JSON)")
    parser.add_argument(
        "--log", type=Path, help="receives the build's output, if a kernel has to be tried"
    )
    parser.set_defaults(run=_probe)

    parser = verbs.add_parser("measure", help="measure one block")
    add_experiment(parser, protocol=True)
    parser.add_argument("--regime", required=True)
    parser.add_argument("--block", type=int, required=True, help="number of the block, from 1")
    _add_guest(parser)
    parser.add_argument("--output", type=Path, required=True, help="the block's folder")
    parser.add_argument("--key", default="", help="identity of the regime's settings")
    parser.set_defaults(run=_measure)

    parser = verbs.add_parser("mechanism", help="boot every arm of a regime once under tracing")
    add_experiment(parser, protocol=True)
    parser.add_argument("--regime", required=True)
    _add_guest(parser)
    parser.add_argument("--output", type=Path, required=True, help="the regime's folder")
    parser.set_defaults(run=_mechanism)


def _add_guest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernels", type=Path, required=True, help="folder of built arms")
    parser.add_argument(
        "--programs", type=Path, required=True, help="folder of what runs in guests"
    )
    parser.add_argument("--acceleration", type=Path, required=True, help="record of `probe`")


def _probe(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    with tempfile.TemporaryDirectory(prefix="kdelta-kvm-") as folder:

        def kernel() -> Path:
            if image := experiment.arms[experiment.baseline].image:
                return Path(args.root / image)
            # The cache keeps it: if KVM works, the build that follows finds it there.
            name = experiment.baseline
            with host_lock(f"building {experiment.name}: {name}", exclusive=False):
                request = request_for(
                    experiment,
                    name,
                    args.root,
                    restore(read_json(args.source), cache_root()),
                    "kvm",
                    Path(folder),
                    log=args.log,
                )
                return build(request, cache_root()).kernel

        guest = experiment.guest
        acceleration = choose(experiment.arch, guest.acceleration, guest.cpu, kernel)
    write_json(args.output, acceleration.as_dict())
    print(f"acceleration: {acceleration.mode}: {printable(acceleration.reason)}", file=sys.stderr)
    if acceleration.mode == "tcg":
        print("acceleration: EMULATED numbers are not measurements of the kernel", file=sys.stderr)
    return 0


def _measure(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    source = _guest_source(args, experiment, experiment.protocol_regimes(args.protocol))
    planned = source.experiment.protocols[args.protocol].blocks
    if not 1 <= args.block <= planned:
        raise KdeltaError(
            f"--block: there is no block {args.block}; protocol {args.protocol} of "
            f"{args.experiment} has blocks 1 to {planned}"
        )
    measure_block(
        BlockRequest(
            source=source,
            regime=args.regime,
            block=args.block,
            key=args.key,
            out=args.output,
        )
    )
    _tell_so_far(source, args)
    return 0


def _tell_so_far(source: GuestSource, args: argparse.Namespace) -> None:
    """Show the answers so far; the report has them at the end, with what weakens them."""
    if source.experiment.protocols[args.protocol].blocks == 1:
        return
    # Whatever is wrong with other blocks is the analysis' to tell: this one is measured.
    with contextlib.suppress(KdeltaError, OSError):
        raw = args.output.resolve().parents[1]
        for line in lines_so_far(source.experiment, args.protocol, args.root, raw, args.regime):
            print(line, file=sys.stderr)


def lines_so_far(
    experiment: Experiment, protocol: str, root: Path, raw: Path, regime: str
) -> Iterator[str]:
    """The answers of the blocks that there are, a line for each workload.

    Raises:
        KdeltaError: the raw files cannot be read.
    """
    from kdelta.analysis.run import so_far
    from kdelta.run_context import analysis_settings

    for folder, one in experiment.each_workload():
        yield of_workload(folder) + so_far(raw, regime, analysis_settings(one, protocol, root))


def _mechanism(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    if experiment.mechanism is None:
        raise KdeltaError(
            f"{args.experiment}: mechanism: the experiment has no such key; name the regimes there"
        )
    source = _guest_source(args, experiment, experiment.regimes)
    trace_regime(source, args.regime, args.output)
    return 0


def _guest_source(
    args: argparse.Namespace, experiment: Experiment, regimes: Collection[str]
) -> GuestSource:
    if args.regime not in regimes:
        raise KdeltaError(
            f"{args.experiment}: regimes: there is no regime {args.regime!r} in protocol "
            f"{args.protocol}; it has {', '.join(regimes)}"
        )
    return GuestSource(
        experiment=experiment,
        protocol=args.protocol,
        kernels=args.kernels,
        programs=args.programs,
        acceleration=read_json(args.acceleration),
        root=args.root,
    )
