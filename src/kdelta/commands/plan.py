# SPDX-License-Identifier: GPL-2.0-only
"""The verb `plan`: what a wanted effect needs, and what effect a protocol would see."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdelta.commands.block_time import block_times, protocol_block_times
from kdelta.commands.common import (
    Verbs,
    add_configured,
    add_experiment,
    configured_run,
    experiment_of,
)
from kdelta.config import RunConfig, load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.measure.schedule import cells
from kdelta.provenance import MANIFEST, read_json

if TYPE_CHECKING:
    from kdelta.analysis.planning import RegimeSpread, Split

ROUNDS = (1, 2, 3, 5, 8)
"""Of a block, that a plan compares."""


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verb."""
    parser = verbs.add_parser(
        "plan",
        help="say how many blocks, boots and hours a wanted effect needs",
        description="From a pilot's raw data, or a spread that is known or assumed: how many "
        "blocks an effect of a given size needs to be called faster or slower (or equivalent, if "
        "it lies within the experiment's margin), and what they cost. Without --effect: what "
        "effect a protocol would see as it is, by the latest run of the experiment.",
    )
    add_experiment(parser, required=False)
    parser.add_argument(
        "--protocol", help="plan for its regimes and durations (default: those of the pilot)"
    )
    add_configured(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--pilot",
        type=Path,
        metavar="FOLDER",
        help="a run's folder, results/<experiment>/<protocol>, with its raw/",
    )
    source.add_argument(
        "--spread",
        type=float,
        metavar="PERCENT",
        help="standard deviation of a cell's ratios over blocks, taken as exact",
    )
    parser.add_argument("--effect", type=float, metavar="PERCENT", help="true effect, such as 5")
    parser.add_argument(
        "--power", type=float, default=0.8, help="wanted probability of the verdict (default 0.8)"
    )
    parser.add_argument("--workload", help="of several, the one to plan for (default: the first)")
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    # scipy and pandas take a second to load: only verbs that compute pay for it.
    from kdelta.analysis.planning import needs, with_rounds
    from kdelta.analysis.power import Design
    from kdelta.commands.plan_text import RoundsChoice, Wish, plan_text, primary_of

    if not 0.5 <= args.power < 1:
        raise KdeltaError(f"--power {args.power:g}: must be at least 0.5 and below 1, such as 0.8")
    config = RunConfig()
    configured = args.experiment is None
    if configured:
        config, args.protocol = configured_run(args, args.protocol)
        args.experiment = config.experiment
    elif args.budget is not None:
        raise KdeltaError(
            "--budget: is of the configured run; with --experiment, name the protocol with its "
            f"time: --protocol NAME-{args.budget}"
        )
    # All of it takes the time; one workload's cells are the family that has to be settled.
    whole = experiment_of(args)
    if configured and args.pilot is not None:
        _require_run_of(whole.name, args)
    experiment = _of_workload(whole, args)
    if args.effect is None:
        return _tell_foreseen(experiment, args, args.root / config.results)
    if args.pilot is None and args.spread is None:
        raise KdeltaError("--effect: give --pilot or --spread too, or nothing can be planned from")
    effect = _log_ratio(args.effect)
    splits: dict[str, Split] = {}
    if args.pilot is not None:
        run = args.root / args.pilot
        wanted = experiment.protocol_regimes(args.protocol) if args.protocol is not None else None
        pilot = _read_pilot(run, args, wanted)
        spreads, splits = pilot.spreads, pilot.splits
        times = block_times(whole, run / "raw", list(spreads), args.protocol)
        if args.protocol is not None and splits:
            rounds = experiment.protocols[args.protocol].rounds
            spreads = {r: with_rounds(s, splits[r], rounds) for r, s in spreads.items()}
    else:
        protocol = _one_protocol(experiment, args)
        spreads = _assumed_spreads(experiment, protocol, args.spread)
        times = protocol_block_times(whole, protocol)
    design = Design(
        blocks=2,
        cells=len(cells(experiment)) * len(spreads),
        confidence=experiment.statistics.confidence,
        margin=experiment.statistics.equivalence_margin,
    )
    found = needs(effect, spreads, design, args.power)
    wish = Wish(args.effect, primary_of(experiment), effect, args.power)
    choices = [
        RoundsChoice(
            rounds,
            needs(
                effect,
                {r: with_rounds(s, splits[r], rounds) for r, s in spreads.items()},
                design,
                args.power,
            ),
            {r: time.with_rounds(rounds) for r, time in times.items()},
        )
        for rounds in (ROUNDS if splits else ())
    ]
    print(plan_text(wish, found, design, times, list(experiment.booted_arms()), splits, choices))
    return 0


def _require_run_of(name: str, args: argparse.Namespace) -> None:
    """Refuse a pilot of another experiment, where that is configured and not named."""
    manifest = args.root / args.pilot / MANIFEST
    if not manifest.is_file():  # of a run that is not finished
        return
    found = read_json(manifest).get("experiment", {}).get("name")
    if found not in (None, name):
        raise KdeltaError(
            f"--pilot {args.pilot}: is a run of {found}, but {args.config} is set to {name}; give "
            "the pilot's own file by --experiment (and its architecture by --arch, where it has "
            "another than the host's)"
        )


def _of_workload(experiment: Experiment, args: argparse.Namespace) -> Experiment:
    name = experiment.named(args.workload)
    if name not in experiment.workloads:
        raise KdeltaError(
            f"--workload: there is no workload {name!r}; {args.experiment} has "
            f"{', '.join(experiment.workloads)}"
        )
    return experiment.of_workload(name)


def _tell_foreseen(experiment: Experiment, args: argparse.Namespace, results: Path) -> int:
    """Say what effect a protocol would see, regime by regime.

    Args:
        experiment: as the protocol runs it.
        args: of the command line.
        results: where runs write.
    """
    from kdelta.analysis.planning import assumed_slices, with_rounds
    from kdelta.commands.plan_text import foreseen_text

    protocol = _one_protocol(experiment, args)
    chosen = experiment.protocols[protocol]
    if args.spread is not None:
        spreads = _assumed_spreads(experiment, protocol, args.spread)
    else:
        known = (
            _latest_run(results / experiment.name, args)
            if args.pilot is None
            else _read_pilot(args.root / args.pilot, args, None)
        )
        rounds = chosen.rounds
        spreads = dict.fromkeys(
            experiment.protocol_regimes(protocol), assumed_slices(rounds, len(cells(experiment)))
        )
        for regime in spreads.keys() & known.spreads.keys():
            spread, split = known.spreads[regime], known.splits.get(regime)
            spreads[regime] = with_rounds(spread, split, rounds) if split else spread
    print(foreseen_text(experiment, protocol, spreads, args.power))
    return 0


def _latest_run(folder: Path, args: argparse.Namespace) -> _Pilot:
    """What the run of the experiment says that was finished last, if there is one of use."""
    newest = max(
        folder.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, default=None
    )
    if newest is None:
        return _Pilot({}, {})
    try:
        return _read_pilot(newest.parent, args, None)
    except KdeltaError as error:
        print(f"plan: {newest.parent} is of no use here: {error}", file=sys.stderr)
        return _Pilot({}, {})


def _log_ratio(percent: float) -> float:
    if not math.isfinite(percent) or percent <= -100:
        raise KdeltaError(
            f"--effect {percent:g}: must be a number of per cent above -100, such as 5 or -5"
        )
    # As large as its mirror image: a loss of 50 % and a gain of 100 % are the same distance.
    return abs(math.log1p(percent / 100))


@dataclass(frozen=True)
class _Pilot:
    """What a pilot says of every regime that is planned for."""

    spreads: dict[str, RegimeSpread]
    splits: dict[str, Split]


def _read_pilot(run: Path, args: argparse.Namespace, wanted: Collection[str] | None) -> _Pilot:
    """What a pilot says.

    Args:
        run: its folder.
        args: of the command line.
        wanted: the regimes that it has to have; None: those that it has.
    """
    from kdelta.analysis.blocks import read_blocks
    from kdelta.analysis.deltas import slice_ratios
    from kdelta.analysis.planning import pilot_split, pilot_spread
    from kdelta.analysis.run import analyse_blocks
    from kdelta.run_context import analysis_settings

    if not (run / "raw").is_dir():
        raise KdeltaError(
            f"--pilot {args.pilot or run}: has no folder raw/; give the folder of a run that was "
            "measured, results/<experiment>/<protocol>"
        )
    # The pilot may have more arms than the protocol that is planned for.
    experiment = _of_workload(
        load_experiment(args.root / args.experiment, args.root, args.arch), args
    )
    # Only the ratios of the primary metric are wanted.
    settings = replace(
        analysis_settings(experiment, root=args.root),
        only=(experiment.workload.declaration.primary,),
        claims=(),
        negative_controls=(),
    )
    blocks, _ = read_blocks(run / "raw", settings)
    measured = {boot.regime for block in blocks for boot in block.boots}
    regimes = [regime for regime in experiment.regimes if regime in measured]
    if wanted is not None:
        regimes = list(wanted)
    missing = [regime for regime in regimes if regime not in measured]
    if missing:
        raise KdeltaError(
            f"--pilot {args.pilot}: has no block of regime {missing[0]}, which protocol "
            f"{args.protocol} runs; measure it, or plan without --protocol for what the pilot has"
        )
    found = analyse_blocks(blocks, settings)
    slices = slice_ratios(found.samples, settings)
    spreads = {regime: pilot_spread(found.ratios, regime, settings) for regime in regimes}
    splits = {regime: pilot_split(slices, regime, settings) for regime in regimes}
    # Where every cell was run once in a block, nobody can tell what rounds would bring.
    known = all(math.isfinite(split.of_cell(1)) for split in splits.values())
    return _Pilot(spreads, splits if known else {})


def _assumed_spreads(
    experiment: Experiment, protocol: str, percent: float
) -> dict[str, RegimeSpread]:
    from kdelta.analysis.planning import RegimeSpread
    from kdelta.analysis.power import Spread

    if not (math.isfinite(percent) and percent > 0):
        raise KdeltaError(f"--spread {percent:g}: must be a positive number of per cent, such as 8")
    spread = Spread(math.log1p(percent / 100))
    # How much of it the cells of a boot share is unknown; that all of it is is the safe side.
    source = "as given, also of the overall effect, as if the cells of a boot shared all of it"
    return {
        regime: RegimeSpread(spread, spread, source)
        for regime in experiment.protocol_regimes(protocol)
    }


def _one_protocol(experiment: Experiment, args: argparse.Namespace) -> str:
    if args.protocol is not None:
        return str(args.protocol)
    if len(experiment.protocols) > 1:
        raise KdeltaError(
            "regimes and durations are a protocol's; name a protocol with --protocol "
            f"({', '.join(experiment.protocols)})"
        )
    return next(iter(experiment.protocols))
