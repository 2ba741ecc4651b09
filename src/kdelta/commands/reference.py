# SPDX-License-Identifier: GPL-2.0-only
"""Verb for runs that ship with the project: pack one, lay one out again, check what it gives."""

from __future__ import annotations

import argparse
import getpass
import platform
import tempfile
from pathlib import Path

from kdelta.cache import write_atomically
from kdelta.commands.common import Verbs
from kdelta.errors import KdeltaError
from kdelta.export.run_folder import read_run
from kdelta.host.lock import host_lock
from kdelta.reference.pack import pack, unpack
from kdelta.reference.scrub import Scrubber
from kdelta.reference.sums import (
    SUMS,
    differences,
    in_short,
    read_sums,
    result_sums,
    without_pdf,
    write_sums,
)
from kdelta.schema import RESULT_FILES


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verb."""
    parser = verbs.add_parser(
        "reference", help="pack a finished run so that it ships with the project, and read it back"
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--run", dest="run_dir", type=Path, help="pack this finished run")
    task.add_argument("--unpack", type=Path, metavar="REFERENCE", help="lay this packed run out")
    task.add_argument(
        "--check", type=Path, metavar="REFERENCE", help="compare tables and figures with its sums"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the folder to make; with --check the one whose tables and figures are checked",
    )
    parser.add_argument(
        "--private",
        action="append",
        default=[],
        metavar="WORD",
        help="with --run: a word to remove, besides this host's and this user's names",
    )
    parser.add_argument(
        "--update", action="store_true", help="with --check: take the sums as they now are"
    )
    parser.set_defaults(run=_reference)


def _reference(args: argparse.Namespace) -> int:
    with host_lock("packing, unpacking or checking a reference run", exclusive=False):
        return _task(args)


def _task(args: argparse.Namespace) -> int:
    if args.run_dir is not None:
        return _pack(args)
    if args.unpack is not None:
        unpack(args.unpack, args.output)
        return 0
    return _check(args.check, args.output, update=args.update)


def _pack(args: argparse.Namespace) -> int:
    blocks = read_run(args.run_dir).manifest["blocks"]
    # Also those on which blocks were tried in vain.
    tries = [entry for block in blocks for entry in (block, *block["earlier_attempts"])]
    nodes = list(dict.fromkeys(entry["node"] for entry in tries if "node" in entry))
    scrubber = Scrubber([*_own_names(), *args.private], nodes)
    packed = pack(args.run_dir, args.output, args.root, scrubber)
    _write_sums(args.output, args.run_dir, scrubber)
    replaced = ", ".join(f"{count} x {kind}" for kind, count in sorted(packed.replaced.items()))
    print(
        f"{args.output}: {packed.files} files, {packed.size / 2**20:.1f} MiB; "
        f"replaced: {replaced or 'nothing'}"
    )
    return 0


def _own_names() -> list[str]:
    """The names of this host, with and without its domain, and of this user."""
    host = platform.node()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = ""
    return [host, host.partition(".")[0], user]


def _write_sums(reference: Path, run: Path, scrubber: Scrubber) -> None:
    """Make tables and figures of the packed run, for their sums; the tables must be the run's.

    Those may name what is private: the node that measured a block.

    Raises:
        KdeltaError: they are not.
    """
    # pandas and matplotlib take seconds to load.
    from kdelta.analysis.run import analyse
    from kdelta.report.figures.font import font_note
    from kdelta.report.run import load_frames, write_figures
    from kdelta.run_context import analysis_settings, report_context

    if note := font_note():
        raise KdeltaError(f"{reference}: no sums without the paper's font: {note}")

    with tempfile.TemporaryDirectory(prefix="kdelta-reference-") as name:
        made = Path(name)
        unpack(reference, made)
        found = read_run(made)
        settings = analysis_settings(
            found.experiment, found.protocol, made, found.manifest.get("kernels")
        )
        analyse(made / "raw", made, settings)
        differing = [
            table
            for table in RESULT_FILES
            if (run / table).is_file()
            and scrubber.log_file((run / table).read_bytes()) != (made / table).read_bytes()
        ]
        if differing:
            raise KdeltaError(
                f"{run}: the packed run gives other tables than this folder has: "
                f"{in_short(differing)}; analyse the run again with this version, then pack it"
            )
        context = report_context(found.experiment, found.protocol, found.manifest)
        write_figures(load_frames(made), context, made)
        write_atomically(reference / SUMS, write_sums(result_sums(made)).encode())


def _check(reference: Path, run: Path, *, update: bool) -> int:
    from kdelta.report.figures.font import font_note

    found = result_sums(run)
    note = font_note()
    if update:
        if note:
            raise KdeltaError(f"{reference}: no sums without the paper's font: {note}")
        write_atomically(reference / SUMS, write_sums(found).encode())
    expected = read_sums(reference / SUMS)
    if note:
        expected, found = without_pdf(expected), without_pdf(found)
        print(f"figures/*.pdf are not compared: {note}")
    differing = differences(expected, found)
    if differing:
        raise KdeltaError(
            f"{run}: not what {reference / SUMS} says: {in_short(differing)}. Are the packages "
            "those of requirements.lock (`make setup`)? After a change of the code that is meant "
            f"to show: `kdelta reference --check {reference} --output {run} --update`"
        )
    # The same text: what was found is what was expected.
    write_atomically(run / SUMS, write_sums(found).encode())
    print(f"{run}: {len(found)} tables and figures, byte for byte those of {reference}")
    return 0
