# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta VERB`: what the workflow's rules call and what a person types.

Every verb is a thin adapter: read the files it names, call the package, say
what happened. Mistakes of the user end in one message and status 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from kdelta import __version__
from kdelta.commands import analysis as analysis_commands
from kdelta.commands import check as check_commands
from kdelta.commands import doctor as doctor_commands
from kdelta.commands import export as export_commands
from kdelta.commands import kernel as kernel_commands
from kdelta.commands import mail as mail_commands
from kdelta.commands import measure as measure_commands
from kdelta.commands import new as new_commands
from kdelta.commands import plan as plan_commands
from kdelta.commands import reference as reference_commands
from kdelta.errors import KdeltaError
from kdelta.plain import printable

INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The command line of kdelta."""
    parser = argparse.ArgumentParser(
        prog="kdelta",
        description="Is a kernel patch faster, by how much, under which conditions, how sure "
        "are we. Usually called by the workflow: `snakemake --cores all`.",
    )
    parser.add_argument("--version", action="version", version=f"kdelta {__version__}")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(os.environ.get("KDELTA_ROOT", ".")),
        help="the folder that paths in experiment files are relative to (default: here)",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for commands in (
        kernel_commands,
        measure_commands,
        analysis_commands,
        export_commands,
        check_commands,
        new_commands,
        doctor_commands,
        plan_commands,
        mail_commands,
        reference_commands,
    ):
        commands.add_verbs(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the process's exit status."""
    # A terminated job must end like an interrupted one: guests killed, locks freed.
    signal.signal(signal.SIGTERM, _terminate)
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except KdeltaError as error:
        # A message may quote a guest's console or a program's output.
        print(f"kdelta: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kdelta: interrupted; a new start continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`kdelta show | head`): not an error of anybody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Disk full, no permission: the user's to mend. The path says where.
        where = f": {error.filename}" if error.filename else ""
        print(f"kdelta: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    return status


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
