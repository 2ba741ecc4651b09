# SPDX-License-Identifier: GPL-2.0-only
"""The verb that makes the mails for a list: series."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kdelta.cache import cache_root
from kdelta.commands.analysis import ASSETS
from kdelta.commands.common import Verbs, add_experiment, experiment_of
from kdelta.errors import KdeltaError
from kdelta.provenance import read_json

if TYPE_CHECKING:
    from kdelta.mail.series import Series


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verbs."""
    parser = verbs.add_parser(
        "series",
        help="write the patches and their cover letter as mails for git send-email, and check them",
    )
    add_experiment(parser, protocol=True)
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, help="the run's folder")
    parser.add_argument("--arm", help="whose patches (default: the experiment's mail.arm)")
    parser.add_argument(
        "--output", type=Path, help="folder of the mails (default: report/series in the run's)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write no mails: check those in the folder, after they were edited by hand",
    )
    parser.add_argument(
        "--no-checkpatch-errors",
        action="store_true",
        help="exit with status 0 although checkpatch.pl has errors",
    )
    parser.set_defaults(run=_series)


def _series(args: argparse.Namespace) -> int:
    # Loaded late: pandas takes a second, and other verbs do without.
    from kdelta.host.lock import host_lock
    from kdelta.kernel.source import restore
    from kdelta.mail import choice
    from kdelta.mail.cover import Letter, render_cover
    from kdelta.mail.series import CHECKPATCH_FILE, SeriesMaker
    from kdelta.mail.trees import TreeStore
    from kdelta.report.frames import load_frames
    from kdelta.report.results import Results
    from kdelta.run_context import report_context

    experiment = experiment_of(args)
    run: Path = args.run_dir
    folder: Path = args.output or run / "report" / "series"
    # What can be wrong is looked for before a minute goes into hashing.
    mail = choice.chosen_mail(experiment, args.arm, args.experiment)
    sender = choice.sender_of(args.root)
    prose = choice.prose_of(experiment, args.root)
    manifest = read_json(run / "manifest.json")
    choice.require_measured(experiment, manifest)
    # Of several workloads, the first is the one that the series is about.
    folder_of_tables, told = next(experiment.each_workload())
    context = report_context(told, args.protocol, manifest)
    results = Results.of(load_frames(run / folder_of_tables), context)
    # Hashing and unpacking keep a CPU busy: never beside a measurement.
    with host_lock(f"making the mails of {experiment.name}", exclusive=False):
        source = restore(
            read_json(run.parent / "kernels" / experiment.source_record(mail.arm)), cache_root()
        )
        patches = choice.measured_patches(experiment, mail.arm, args.root, source, manifest)
        store = TreeStore(source, cache_root())
        letter = Letter(
            prose=prose,
            arm=mail.arm,
            kernel=source.title,
            commit=store.commit,
            tree=store.base_tree,
            sign_off=str(sender),
            tables=mail.tables,
        )
        maker = SeriesMaker(
            title=experiment.title,
            body=render_cover(results, letter, ASSETS / "mail"),
            mail=mail,
            sender=sender,
            date=datetime.fromisoformat(manifest["written_at"]),
            patches=patches,
            store=store,
        )
        made = maker.check(folder) if args.check else maker.write(folder)
    _tell(made, emulated=context.emulated)
    if made.checkpatch.errors and not args.no_checkpatch_errors:
        raise KdeltaError(
            f"checkpatch.pl finds errors in this series: see "
            f"{folder.parent / CHECKPATCH_FILE}. The mails are kept; mend the patches and "
            "measure again, or go on with --no-checkpatch-errors"
        )
    return 0


def _tell(made: Series, *, emulated: bool) -> None:
    """What was made and found, on standard error: the files are the output."""
    from kdelta.mail.series import CHECKPATCH_FILE

    checked = made.checkpatch
    lines = [*(str(mail) for mail in made.mails), f"tree: {made.tree}, as measured"]
    told = checked.text if checked.errors or checked.remarks else checked.summary
    lines += told.splitlines()
    lines.append(f"checkpatch in full: {made.folder.parent / CHECKPATCH_FILE}")
    if emulated:
        lines.append("The numbers are EMULATED, as the cover letter says: no case for a patch.")
    where = shlex.quote(str(made.folder))
    lines.append(
        f"Look: less {where}/*  Try: git send-email --dry-run --to=ADDRESS {where}/*.patch"
    )
    print("\n".join(lines), file=sys.stderr)
