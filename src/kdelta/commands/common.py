# SPDX-License-Identifier: GPL-2.0-only
"""What several verbs share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdelta.architecture import architectures
from kdelta.cache import say_who_uses, write_atomically
from kdelta.config import RunConfig, load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.measure.budget import protocol_name, with_protocol
from kdelta.plain import one_line
from kdelta.yaml_file import parse_model, read_yaml

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = object  # the real one is not subscriptable at run time


def add_experiment(
    parser: argparse.ArgumentParser, *, protocol: bool = False, required: bool = True
) -> None:
    """The arguments that name an experiment and, if wanted, one of its protocols."""
    parser.add_argument("--experiment", required=required, help="the experiment file")
    add_arch(parser)
    if protocol:
        parser.add_argument(
            "--protocol", required=required, help="one of the experiment's protocols"
        )


def add_arch(parser: argparse.ArgumentParser) -> None:
    """The argument that asks for guests of another architecture."""
    parser.add_argument(
        "--arch",
        choices=sorted(architectures()),
        help="another architecture of the guests than the experiment's",
    )


def experiment_of(args: argparse.Namespace) -> Experiment:
    """The experiment that the arguments name, checked; as the protocol runs it, if one is named."""
    experiment = load_experiment(args.root / args.experiment, args.root, args.arch)
    arm = getattr(args, "arm", None)
    whose = f"{experiment.name}, arm {arm}" if arm else experiment.name
    say_who_uses(one_line(f"{whose}, in {args.root.resolve()}"))
    protocol = getattr(args, "protocol", None)
    if protocol is None:
        return experiment
    try:
        return with_protocol(experiment, protocol)
    except ValueError as error:
        raise KdeltaError(f"{args.experiment}: protocols: {error}") from None


def add_configured(parser: argparse.ArgumentParser) -> None:
    """The arguments that name the configured run; `configured_run` reads them."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("config/config.yaml"),
        help="where the configured run is described (default %(default)s)",
    )
    parser.add_argument("--budget", help="of the configured run, for example 30m")


def configured_run(args: argparse.Namespace, protocol: str | None = None) -> tuple[RunConfig, str]:
    """The settings of the configured run, and its protocol, or the one given, with its budget."""
    config = parse_model(RunConfig, read_yaml(args.root / args.config), args.config)
    if args.arch is None:  # the experiment is read with it
        args.arch = config.arch
    return config, protocol_name(protocol or config.protocol, args.budget or config.budget)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def of_workload(workload: str) -> str:
    """What lines about one of several workloads begin with."""
    return f"{workload}: " if workload else ""
