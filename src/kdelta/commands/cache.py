# SPDX-License-Identifier: GPL-2.0-only
"""The verb that looks after the cache: cache."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from kdelta.cache import cache_root, discard
from kdelta.commands.common import Verbs
from kdelta.errors import KdeltaError
from kdelta.plain import plural
from kdelta.pruning import COMPILER, Entry, choose, entries
from kdelta.units import parse_age_s, parse_size_bytes


def add_verbs(verbs: Verbs) -> None:
    """Register this module's verb."""
    parser = verbs.add_parser(
        "cache", help="list what is kept in the cache, how large and for whom, and prune it"
    )
    parser.add_argument(
        "--older-than",
        type=_read(parse_age_s),
        metavar="AGE",
        help="what was not used for so long may go: 30d, 12h, 2w",
    )
    parser.add_argument(
        "--max-size",
        type=_read(parse_size_bytes),
        metavar="SIZE",
        help="what was used least recently may go until no more is left: 20G",
    )
    parser.add_argument(
        "--prune", action="store_true", help="let it go; without this only say what would"
    )
    parser.set_defaults(run=_cache)


def _read(parse: Callable[[str], int]) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _cache(args: argparse.Namespace) -> int:
    asked = args.older_than is not None or args.max_size is not None
    if args.prune and not asked:
        raise KdeltaError("cache --prune: say what may go: --older-than 30d, --max-size 20G")
    root = cache_root()
    kept = entries(root)
    before = None if args.older_than is None else time.time_ns() - args.older_than * 10**9
    going = choose(kept, before_ns=before, most_bytes=args.max_size) if asked else []
    print(f"{root}: {_told(kept)}")
    if not args.prune:
        for entry in kept:
            print(_line(entry, root, "would go" if entry in going else entry.kept))
        if asked:
            print(f"would go: {_told(going)}; --prune lets it go")
        return 0
    gone = [entry for entry in going if _discarded(entry, root)]
    print(f"freed: {_told(gone)}")
    if args.older_than is not None and (root / COMPILER).is_dir():
        _evict(root / COMPILER, args.older_than)
    left = sum(entry.size for entry in kept) - sum(entry.size for entry in gone)
    if args.max_size is not None and left > args.max_size:
        print(
            f"{_size(left)} are left: what is in use stays, and {root / COMPILER} is ccache's "
            f"(CCACHE_DIR={root / COMPILER} ccache --max-size SIZE --cleanup)",
            file=sys.stderr,
        )
    return 0


def _discarded(entry: Entry, root: Path) -> bool:
    """Whether an entry could be pruned; what became of it is told."""
    try:
        gone = discard(entry.path, entry.used_ns)
        outcome = "freed" if gone else "stays: in use again"
    except PermissionError:
        gone, outcome = False, "stays: another user's"
    print(_line(entry, root, outcome), flush=True)
    return gone


def _evict(folder: Path, older_than_s: int) -> None:
    if shutil.which("ccache") is None:
        return
    subprocess.run(
        ["ccache", "--evict-older-than", f"{older_than_s}s"],
        env={**os.environ, "CCACHE_DIR": str(folder)},
        stdout=subprocess.DEVNULL,
        check=False,
    )


def _told(found: Sequence[Entry]) -> str:
    return f"{plural(len(found), 'folder')}, {_size(sum(entry.size for entry in found))}"


def _line(entry: Entry, root: Path, note: str) -> str:
    used = datetime.fromtimestamp(entry.used_ns / 1e9).strftime("%Y-%m-%d %H:%M")
    name = f"{entry.path.parent.name}/{entry.path.name[:12]}"
    if entry.path.parent == root:
        name = entry.path.name
    told = "; ".join(filter(None, (entry.what, entry.whose and f"for {entry.whose}")))
    return f"  {used} {_size(entry.size):>10}  {name:<24} {told}" + (f" [{note}]" if note else "")


def _size(size: int) -> str:
    """In the unit that people read sizes of disks in: ``1.7 GiB``, ``312 KiB``."""
    amount, unit = size / 2**10, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount >= 1024:
            amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if unit != "KiB" else f"{amount:.0f} {unit}"
