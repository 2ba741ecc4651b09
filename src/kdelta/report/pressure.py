# SPDX-License-Identifier: GPL-2.0-only
"""What a regime did to the kernel, as its counters show, and whether that was expected."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import pandas as pd

from kdelta.pressure_counters import BY_COLUMN
from kdelta.report.context import Regime
from kdelta.report.formatting import (
    Row,
    cell_heads,
    cell_labels,
    format_percent,
    format_quantity,
    format_share,
    join_words,
    plural,
)
from kdelta.report.frames import number
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label

_COUNTS = ("samples", "with_direct_reclaim")
_SHOWN = [counter for counter in BY_COLUMN if counter.shown]
_SUMMED = {*_COUNTS, *(counter.column for counter in _SHOWN if counter.rare)}
_PHRASES = {counter.name: counter.phrase for counter in BY_COLUMN}


@dataclass(frozen=True)
class Expectation:
    """What was expected of a regime, and a sentence on whether it held."""

    met: bool
    sentence: str


@dataclass(frozen=True)
class PressurePanel:
    """What a regime did: sentences, one row per arm, and one per arm and cell."""

    expectations: tuple[Expectation, ...]
    arms: Grid
    cells: Grid


def pressure_panel(run: Results, regime: Regime) -> PressurePanel:
    """The counters of a regime; its grids are empty where nothing was counted."""
    rows = run.frames.pressure[run.frames.pressure["regime"] == regime.name]
    arms = [arm.name for arm in run.arms]
    by_arm = [(name, rows[rows["arm"] == name]) for name in arms if (rows["arm"] == name).any()]
    heads = ("samples", "with direct reclaim", *(counter.rate_title for counter in _SHOWN))
    overall = tuple((name, *_over_cells(part)) for name, part in by_arm)
    cells = tuple(
        Group(
            name,
            tuple((*cell_labels(run, row), *_values(row)) for row in part.to_dict("records")),
        )
        for name, part in by_arm
    )
    return PressurePanel(
        expectations=expectations(run, regime),
        arms=Grid(
            f"Kernel counters in {regime.title}, per arm: means over cells, per second of wall time"
            "; OOM kills are a sum; n/a: the kernel has no such counter; acceleration: "
            f"{acceleration_label(run)}.",
            ("arm", *heads),
            (Group("", overall),),
        ),
        cells=Grid(
            f"Kernel counters in {regime.title}, per arm and cell; acceleration: "
            f"{acceleration_label(run)}.",
            (*cell_heads(run), *heads),
            cells,
            labels=len(run.factors),
        ),
    )


MOST_MOVED = 20


def moved_counters(run: Results, regime: Regime) -> Grid:
    """Kernel counters that moved with an arm in a regime, as the kernel test robot tells them.

    Those of the smallest q-value, at most `MOST_MOVED`; empty where none moved.
    """
    table = run.frames.counters[
        run.frames.counters["moved"] & (run.frames.counters["regime"] == regime.name)
    ]
    groups = []
    for arm in run.treatments:
        ours = table[table["arm"] == arm.name].sort_values("q_value", kind="stable")
        groups.append(
            Group(arm.name, tuple(_moved(row) for row in ours[:MOST_MOVED].to_dict("records")))
        )
    shown, every = sum(len(group.rows) for group in groups), len(table)
    more = f" Shown: {shown} of {every}; all are in tables/counters.csv." if shown < every else ""
    return Grid(
        f"Kernel counters that moved in {regime.title}: growth per second of the slices, mean over "
        "blocks and its standard deviation (false discovery rate 5%). They explain, and prove "
        f"nothing; acceleration: {acceleration_label(run)}.{more}",
        ("counter", run.baseline, "change", "arm"),
        tuple(group for group in groups if group.rows),
    )


def _moved(row: Row) -> tuple[str, ...]:
    base, ours = (
        f"{format_quantity(number(row[side]))} "
        f"± {format_quantity(number(row[f'{side}_sd_percent']))}%"
        for side in ("baseline", "value")
    )
    return str(row["counter"]), base, format_percent(number(row["change_percent"]), 1), ours


def expectations(run: Results, regime: Regime) -> tuple[Expectation, ...]:
    """One sentence per expectation of a regime, in their order."""
    rows = run.frames.expectations[run.frames.expectations["regime"] == regime.name]
    key = ["counter", "bound", "limit", "share_wanted"]
    order = {arm.name: i for i, arm in enumerate(run.arms)}
    return tuple(
        _expectation(group.sort_values("arm", key=lambda names: names.map(order), kind="stable"))
        for _, group in rows.groupby(key, sort=False)
    )


def _expectation(group: pd.DataFrame) -> Expectation:
    first = group.iloc[0]
    counter, limit = str(first["counter"]), format_quantity(number(first["limit"]))
    bound = str(first["bound"]).replace("_", " ")
    share = number(first["share_wanted"])
    often = "every sample" if share >= 1 else f"{format_share(share)} of samples"
    what = f"{_PHRASES.get(counter, counter)} ({counter} {bound} {limit} in {often})"
    failed = group[~group["met"]]
    if failed.empty:
        return Expectation(True, f"Met: {what}: {_counts(group)}.")
    kept = "was seen" if first["bound"] == "at_least" else "held"
    sentence = f"Not met: {what} {kept} in {_counts(failed)}; measured: {_measured(failed)}."
    met = group[group["met"]]
    if not met.empty:
        sentence += f" Met in {_counts(met)}."
    return Expectation(False, sentence)


def _counts(group: pd.DataFrame) -> str:
    counts = [(int(m), int(n)) for m, n in zip(group["samples_met"], group["samples"], strict=True)]
    if len(set(counts)) == 1 and len(counts) > 1:
        met, samples = counts[0]
        return f"{met} of {plural(samples, 'sample')} in each of {join_words(group['arm'])}"
    return join_words(
        f"{met} of {plural(samples, 'sample')} of {arm}"
        for (met, samples), arm in zip(counts, group["arm"], strict=True)
    )


def _measured(group: pd.DataFrame) -> str:
    words = []
    for row in group.to_dict("records"):
        if number(row["samples"]) < 1 or pd.isna(row["median"]):
            words.append("nothing (no sample has this counter)")
        else:
            middle, low, high = (
                format_quantity(number(row[c])) for c in ("median", "lowest", "highest")
            )
            words.append(f"median {middle}, lowest {low}, highest {high}")
    if len(set(words)) == 1:
        return words[0]
    return "; ".join(f"{arm} {text}" for arm, text in zip(group["arm"], words, strict=True))


def _over_cells(rows: pd.DataFrame) -> list[str]:
    """Sums of what is counted, means of what is a rate; unknown where no cell knows it."""
    totals: dict[Hashable, object] = {}
    for name in (*_COUNTS, *(counter.column for counter in _SHOWN)):
        column = pd.to_numeric(rows[name])
        totals[name] = column.sum(min_count=1) if name in _SUMMED else column.mean()
    return _values(totals)


def _values(row: Row) -> list[str]:
    names = (*_COUNTS, *(counter.column for counter in _SHOWN))
    return [format_quantity(number(row[name])) for name in names]
