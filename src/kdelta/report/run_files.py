# SPDX-License-Identifier: GPL-2.0-only
"""Files of a run that the page links to, as addresses relative to ``report/index.html``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from kdelta.report.context import ReportContext

# What the page is made from. Files that are written beside or after it are left out: whether
# they exist by then would be chance, and the same run must give the same page.
_FILES = (
    ("tables/deltas.csv", "delta, interval, p-values and verdict of every cell"),
    ("tables/overall.csv", "the same over all cells of a regime"),
    ("tables/ratios.csv", "every block's ratio"),
    ("tables/control.csv", "noise floor by the control arm"),
    ("tables/disturbance.csv", "whether the host was quiet, and what disturbed it"),
    ("tables/position.csv", "whether it matters when in its block an arm is booted"),
    ("tables/nodes.csv", "what each node measured, and whether effects differ between nodes"),
    ("tables/pressure.csv", "kernel counters per second, by cell"),
    ("tables/expectations.csv", "what regimes had to do to the kernel, and whether they did"),
    ("tables/claims.csv", "published deltas beside this run's"),
    ("tables/negative_controls.csv", "cells that cannot have an effect"),
    ("tables/mechanism.csv", "traced boots: page allocations and waits for the lock"),
    ("tables/locks.csv", "traced boots: waits for every lock of the kernel"),
    ("tables/costs.csv", "what arms cost: size of the kernel, memory in use after boot"),
    ("tables/symbols.csv", "symbols and stack frames of another size than the baseline's"),
    ("tables/set_aside.csv", "samples set aside, counted by rule"),
    ("tables/deltas_all.csv", "deltas with the samples that were set aside taken in"),
    ("tables/overall_all.csv", "overall effects with these samples taken in"),
    ("samples.csv", "one row per sample, kernel counters included"),
    ("validity.csv", "every sample and rule broken"),
    ("manifest.json", "what ran, on what, from which bytes; the hash of every raw file"),
)


class RunFile(NamedTuple):
    """A file or folder: its name within the run's folder, its address, and what is in it."""

    name: str
    href: str
    what: str


def run_files(results_dir: Path, context: ReportContext) -> tuple[RunFile, ...]:
    """The tables, then the folders of raw files, in so far as they are there."""
    titles = {regime.name: regime.title for regime in context.regimes}
    files = _FILES
    folders = [
        (f"{kind}/{name}/", what.format(title))
        for kind, what in (
            ("raw", "raw files by block, {}: samples, schedule, host, console"),
            ("mechanism", "raw files of the traced boots, {}"),
        )
        for name, title in titles.items()
    ]
    return tuple(
        RunFile(found, href(found), what)
        for name, what in (*files, *folders)
        if (found := _found(results_dir, name)) is not None
    )


def _found(results_dir: Path, name: str) -> str | None:
    """Where a file of a run lies, from its tables: beside them, or above a workload's folder."""
    return next((n for n in (name, f"../{name}") if (results_dir / n).exists()), None)


def href(name: str) -> str:
    """The address of a file of the run's folder, seen from the page."""
    return quote(f"../{name}")


class Consoles:
    """The console logs of a run's boots."""

    def __init__(self, results_dir: Path) -> None:
        self._results = results_dir
        self._known: dict[str, str] = {}

    def __call__(self, regime: str, block: int, arm: str) -> str:
        """The address of a boot's console log; an empty string where none was kept."""
        name = f"raw/{regime}/block-{block:03d}/{arm}.console.log"
        if name not in self._known:
            found = _found(self._results, name)
            self._known[name] = "" if found is None else href(found)
        return self._known[name]
