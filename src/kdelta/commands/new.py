# SPDX-License-Identifier: GPL-2.0-only
"""The verb that begins something: new."""

from __future__ import annotations

import argparse

from kdelta.commands.common import Verbs
from kdelta.workload.skeleton import new_workload


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verb."""
    parser = verbs.add_parser("new", help="begin a workload: a folder with what it needs")
    parser.add_argument("what", choices=("workload",))
    parser.add_argument("name", help="lower-case letters, digits and dashes")
    parser.set_defaults(run=_new)


def _new(args: argparse.Namespace) -> int:
    files = new_workload(args.name, args.root)
    for file in files:
        print(file)
    print(f"docs/workloads.md says what to write; try it with `python -m pytest {files[0].parent}`")
    return 0
