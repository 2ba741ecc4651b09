# SPDX-License-Identifier: GPL-2.0-only
"""Verbs that compute and show: manifest, analyse, report, show."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kdelta.commands.common import Verbs, add_experiment, experiment_of, write_json
from kdelta.config import RunConfig, load_experiment, parse_model, read_yaml
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.provenance import build_manifest, read_json

FORMS = ("text", "figures", "html", "paper")
# Templates belong to the checkout, wherever the command is typed.
ASSETS = Path(__file__).resolve().parents[3] / "report"


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser("manifest", help="record what ran, on what, from which bytes")
    add_experiment(parser, protocol=True)
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, help="the run's folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.set_defaults(run=_manifest)

    parser = verbs.add_parser("analyse", help="raw files to samples and delta tables")
    add_experiment(parser)
    parser.add_argument("--protocol", help="take only the blocks that this protocol plans")
    parser.add_argument("--raw", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tables")
    parser.set_defaults(run=_analyse)

    parser = verbs.add_parser("report", help="write one form of the report")
    parser.add_argument("form", choices=FORMS)
    add_experiment(parser, protocol=True)
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, help="the run's folder")
    parser.set_defaults(run=_report)

    parser = verbs.add_parser("show", help="print the tables of a results folder")
    parser.add_argument(
        "run_dir",
        nargs="?",
        type=Path,
        help="a run's folder, results/<experiment>/<protocol> (default: the configured run)",
    )
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.set_defaults(run=_show)


def _manifest(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    write_json(args.output, build_manifest(experiment, args.protocol, args.run_dir, args.root))
    return 0


# pandas, scipy and matplotlib take a second to load: only the verbs that compute pay for it.


def _analyse(args: argparse.Namespace) -> int:
    from kdelta.analysis.run import analyse
    from kdelta.run_context import analysis_settings

    settings = analysis_settings(experiment_of(args), args.protocol, args.root)
    result = analyse(args.raw, args.output, settings)
    for note in result.notes:
        print(f"analysis: {note}", file=sys.stderr)
    return 0


def _report(args: argparse.Namespace) -> int:
    from kdelta.report import run as report
    from kdelta.run_context import report_context

    experiment = experiment_of(args)
    run: Path = args.run_dir
    context = report_context(experiment, args.protocol, read_json(run / "manifest.json"))
    frames = report.load_frames(run)
    match args.form:
        case "text":
            report.write_text(frames, context, run, ASSETS)
        case "figures":
            report.write_figures(frames, context, run)
        case "html":
            report.write_html(frames, context, run, ASSETS)
        case "paper":
            report.compile_pdf(
                report.write_latex(frames, context, run, ASSETS), run / "report" / "paper.pdf"
            )
    return 0


def _show(args: argparse.Namespace) -> int:
    run: Path = args.run_dir or _configured_run(args)
    tables = run / "report" / "tables.txt"
    if not tables.is_file():
        raise KdeltaError(
            f"{run}: no report here ({tables} does not exist); "
            "`snakemake --cores all` makes it, or name a folder results/<experiment>/<protocol>"
        )
    print(_for_terminal(run, tables.read_text(encoding="utf-8")))
    for name in ("index.html", "paper.pdf"):
        if (run / "report" / name).is_file():
            print(f"report: {(run / 'report' / name).resolve()}")
    return 0


def _for_terminal(run: Path, text: str) -> str:
    """The tables as they are, or laid out again for a terminal that is too narrow for them."""
    if not sys.stdout.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    manifest = run / "manifest.json"
    if max(map(len, text.splitlines())) <= columns or not manifest.is_file():
        return text
    from kdelta.report import run as report
    from kdelta.run_context import report_context

    record = read_json(manifest)
    experiment = Experiment.model_validate(record["experiment"])
    context = report_context(experiment, record["protocol"], record)
    return report.render_text(report.load_frames(run), context, ASSETS, width=columns)


def _configured_run(args: argparse.Namespace) -> Path:
    config = parse_model(RunConfig, read_yaml(args.root / args.config), args.config)
    experiment = load_experiment(args.root / config.experiment)
    return Path(args.root / config.results / experiment.name / config.protocol)
