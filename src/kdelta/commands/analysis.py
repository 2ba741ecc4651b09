# SPDX-License-Identifier: GPL-2.0-only
"""Verbs that compute and show: manifest, analyse, report, show."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdelta.commands.common import (
    Verbs,
    add_arch,
    add_configured,
    add_experiment,
    configured_run,
    experiment_of,
    of_workload,
    write_json,
)
from kdelta.config import load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.export.run_folder import (
    how_to_analyse,
    other_runs,
    read_one_workload,
    read_run,
    require_folder,
)
from kdelta.host.lock import host_lock
from kdelta.plain import printable
from kdelta.provenance import MANIFEST, build_manifest, check_raw, read_json

if TYPE_CHECKING:
    from kdelta.report.context import ReportContext
    from kdelta.report.frames import ReportFrames

# latex: the sources; pdf: the paper of these; paper: both.
FORMS = ("text", "figures", "html", "latex", "pdf", "paper")
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
    add_experiment(parser, required=False)
    parser.add_argument("--protocol", help="take only the blocks that this protocol plans")
    parser.add_argument("--raw", type=Path, help="folder of raw files")
    parser.add_argument("--output", type=Path, help="folder for the tables")
    parser.add_argument(
        "--run", dest="run_dir", type=Path, help="a run's folder, instead of all the others"
    )
    parser.set_defaults(run=_analyse)

    parser = verbs.add_parser("report", help="write one form of the report")
    parser.add_argument("form", choices=FORMS)
    add_experiment(parser, protocol=True, required=False)
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, help="the run's folder")
    parser.set_defaults(run=_report)

    parser = verbs.add_parser("show", help="print the tables of a results folder")
    add_run_folder(parser)
    parser.add_argument(
        "--brief",
        action="store_true",
        help="at most 40 lines: what was compared, the answers, what weakens them",
    )
    parser.set_defaults(run=_show)


def add_run_folder(parser: argparse.ArgumentParser) -> None:
    """The argument that names a run's folder; `run_folder` reads it."""
    parser.add_argument(
        "run_dir",
        metavar="RUN",
        nargs="?",
        type=Path,
        help="a run's folder, results/<experiment>/<protocol> (default: the configured run)",
    )
    add_configured(parser)
    add_arch(parser)


def run_folder(args: argparse.Namespace) -> Path:
    """The run's folder that the arguments name, or the one of the configuration."""
    if args.run_dir is not None:
        return Path(args.run_dir)
    asked = {"budget": args.budget, "arch": args.arch}
    config, protocol = configured_run(args)
    experiment = load_experiment(args.root / config.experiment, arch=args.arch)
    folder = Path(args.root / config.results / experiment.name / protocol)
    if not folder.is_dir():
        chosen = " ".join(f"{key}={value}" for key, value in asked.items() if value)
        command = f"snakemake --cores all{f' --config {chosen}' if chosen else ''}"
        raise KdeltaError(
            f"{folder}: the configured run is not there yet; `{command}` makes it, or "
            "name another folder results/<experiment>/<protocol>"
        )
    return folder


def _manifest(args: argparse.Namespace) -> int:
    experiment = experiment_of(args)
    manifest = build_manifest(
        experiment, args.protocol, args.run_dir, args.root, str(args.experiment)
    )
    write_json(args.output, manifest)
    return 0


# pandas, scipy and matplotlib take a second to load: only the verbs that compute pay for it.


def _analyse(args: argparse.Namespace) -> int:
    from kdelta.analysis.run import analyse
    from kdelta.run_context import analysis_settings

    files = (args.experiment, args.raw, args.output)
    if args.run_dir is None and None in files:
        raise KdeltaError("analyse: give --experiment, --raw and --output, or --run alone")
    if args.run_dir is not None and (*files, args.protocol) != (None,) * 4:
        raise KdeltaError("analyse: --run stands for all the other options; give it alone")
    experiment, protocol = _experiment_of_run(args)
    raw, output = (args.raw, args.output) if args.raw else (args.run_dir / "raw", args.run_dir)
    kernels = None
    if (raw.parent / MANIFEST).is_file() and raw.name == "raw" and raw.is_dir():
        manifest = read_json(raw.parent / MANIFEST)
        kernels = manifest.get("kernels")
        if note := check_raw(raw.parent, manifest):
            print(f"analysis: {note}", file=sys.stderr)
    with host_lock(f"analysing {experiment.name}", exclusive=False):
        for folder, one in experiment.each_workload():
            settings = analysis_settings(one, protocol, args.root, kernels)
            result = analyse(raw, output / folder, settings)
            for note in result.notes:
                print(f"analysis: {of_workload(folder)}{printable(note)}", file=sys.stderr)
    return 0


def _experiment_of_run(args: argparse.Namespace) -> tuple[Experiment, str]:
    """The experiment and protocol that the arguments name; else those of the run's manifest."""
    if args.experiment is not None:
        return experiment_of(args), args.protocol
    found = read_run(args.run_dir)
    return found.experiment, found.protocol


def _report(args: argparse.Namespace) -> int:
    from kdelta.report import run as report
    from kdelta.run_context import report_context

    if (args.experiment is None) != (args.protocol is None):
        raise KdeltaError(
            "report: give both --experiment and --protocol, or neither, for those of the run itself"
        )
    experiment, protocol = _experiment_of_run(args)
    manifest = read_json(args.run_dir / MANIFEST)
    with host_lock(f"writing the report of {experiment.name}", exclusive=False):
        for folder, one in experiment.each_workload():
            run: Path = args.run_dir / folder
            context = report_context(one, protocol, manifest)
            frames = report.load_frames(run)
            match args.form:
                case "text":
                    report.write_text(frames, context, run, ASSETS)
                case "figures":
                    _write_figures(frames, context, run)
                case "html":
                    report.write_html(frames, context, run, ASSETS)
                case "latex" | "paper":
                    report.write_latex(frames, context, run, ASSETS)
            if args.form in ("pdf", "paper"):
                report.compile_pdf(run / report.PAPER_SOURCE, run / report.PAPER)
    return 0


def _write_figures(frames: ReportFrames, context: ReportContext, run: Path) -> None:
    # Both load matplotlib.
    from kdelta.report.figures.font import font_note
    from kdelta.report.run import write_figures

    write_figures(frames, context, run)
    if note := font_note():
        print(f"kdelta: note: {note}", file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    run = run_folder(args)
    texts = [_shown(folder, args) for folder in _shown_folders(run)]
    # On a terminal the answer, which comes first, has scrolled away by now.
    lines = sum(len(text.splitlines()) for text in texts)
    if not args.brief and sys.stdout.isatty() and lines > shutil.get_terminal_size().lines:
        print(f"{lines} lines, the answer first: add `--brief` for that alone, or `| less`")
    return 0


def _shown_folders(run: Path) -> list[Path]:
    """The folders of tables of a run, one for each workload; else the folder itself."""
    if (run / MANIFEST).is_file():
        with contextlib.suppress(
            KdeltaError
        ):  # of another version: its tables are text all the same
            return [run / folder for folder, _ in read_run(run).experiment.each_workload()]
    return [run]


def _shown(run: Path, args: argparse.Namespace) -> str:
    text = _laid_out(run, _columns(), brief=True) if args.brief else _tables(run)
    print(printable(text))
    for name in ("index.html", "paper.pdf"):
        if (run / "report" / name).is_file():
            print(f"report: {(run / 'report' / name).resolve()}")
    return text


def _columns() -> int | None:
    """Of the terminal; None: the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _tables(run: Path) -> str:
    """The tables as they were written; laid out now if there are none or the terminal is narrow."""
    require_folder(run)
    file = run / "report" / "tables.txt"
    saved = file.read_text(encoding="utf-8") if file.is_file() else None
    columns = _columns()
    if saved is not None:
        if columns is None or max(map(len, saved.splitlines()), default=0) <= columns:
            return saved
        with contextlib.suppress(KdeltaError):  # of another version: better too wide than none
            return _laid_out(run, columns)
        return saved
    if not any((folder / MANIFEST).is_file() for folder in (run, run.absolute().parent)):
        raise KdeltaError(
            f"{run}: no run here (neither report/tables.txt nor manifest.json exists)"
            + (
                other_runs(run)
                or "; `snakemake --cores all` makes one, or name a folder "
                "results/<experiment>/<protocol>"
            )
        )
    return _laid_out(run, columns)


def _laid_out(run: Path, columns: int | None, *, brief: bool = False) -> str:
    """The tables from the CSV files, the manifest and this installation's templates."""
    from kdelta.report import run as report
    from kdelta.report.results import Results
    from kdelta.run_context import report_context

    if not (ASSETS / "templates").is_dir():
        raise KdeltaError(
            f"{ASSETS}: the templates of the report are not here; install kdelta from a checkout "
            "(`make setup`) and call that one"
        )
    found = read_one_workload(run)
    if not (run / "samples.csv").is_file():
        raise KdeltaError(f"{run}: no tables here; {how_to_analyse(run)}")
    try:
        context = report_context(found.experiment, found.protocol, found.manifest)
    except KeyError as key:
        # Runs outlive versions: an older manifest lacks what later ones record.
        raise KdeltaError(
            f"{found.run / MANIFEST}: {key} is missing; it is of another version of kdelta"
        ) from None
    width = {} if columns is None else {"width": columns}
    render = report.render_brief if brief else report.render_text
    return render(Results.of(report.load_frames(run), context), ASSETS, **width)
