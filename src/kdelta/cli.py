# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta VERB`: what the workflow's rules call and what a person types.

Every verb is a thin adapter: read the files it names, call the package, say
what happened. Mistakes of the user end in one message and status 1.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from types import FrameType
from typing import TextIO

from kdelta import __version__
from kdelta.commands import analysis as analysis_commands
from kdelta.commands import cache as cache_commands
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
from kdelta.parent import signalled_with
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
    parser.add_argument(
        "--messages",
        type=Path,
        metavar="FILE",
        help="receives what is said on standard error too (a log of the workflow's)",
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
        cache_commands,
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
    # Snakemake signals its jobs when it is interrupted, not when it is killed: a guest would go on
    # using the host, and a report would be written, behind the back of the next run.
    if "KDELTA_ARGV" in os.environ and not signalled_with(os.getppid(), signal.SIGTERM):
        return INTERRUPTED
    if args.messages is None:
        return _run(args)
    args.messages.parent.mkdir(parents=True, exist_ok=True)
    with args.messages.open("w", buffering=1) as file, redirect_stderr(_Copied(sys.stderr, file)):
        try:
            return _run(args)
        except Exception:
            traceback.print_exc(file=file)  # Python shows it only when the file is closed
            raise


class _Copied(io.TextIOBase):
    """What is written to one stream, and each line of it, as it stands at its end, to another.

    A terminal stays a terminal: progress that is rewritten in place is seen as before, and of such
    a line the file gets what was last in it.
    """

    def __init__(self, shown: TextIO, file: TextIO) -> None:
        self._shown, self._file, self._line = shown, file, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._file.write(printable(line.rpartition("\r")[2]) + "\n")
        return self._shown.write(text)

    def flush(self) -> None:
        self._shown.flush()

    def isatty(self) -> bool:
        return self._shown.isatty()

    def fileno(self) -> int:
        return self._shown.fileno()


def _run(args: argparse.Namespace) -> int:
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
