# SPDX-License-Identifier: GPL-2.0-only
"""What the arms cost beside their gain: size of the kernel, stack, memory after boot."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd

from kdelta.report.context import Arm, ReportContext
from kdelta.report.formatting import format_interval, format_percent, join_words, plural
from kdelta.report.frames import ReportFrames, number
from kdelta.report.grid import Grid, Group, Row
from kdelta.report.results import Results
from kdelta.report.sentences import confidence_label

SHOWN = 10
"""Symbols of an arm that are named, and stack frames; all that are kept are in a table."""

_QUANTITIES = (
    ("symbols", "symbols (B)"),
    ("text", "text (B)"),
    ("data", "data (B)"),
    ("bss", "bss (B)"),
    ("image", "image (B)"),
    ("memory_used", "memory after boot (KiB)"),
)
_STACK = "stack"


@dataclass(frozen=True)
class CostsPart:
    """The costs as all outputs show them; a grid without rows is not shown."""

    sentence: str
    totals: Grid
    symbols: Grid
    stack: Grid


def costs(run: Results) -> CostsPart | None:
    """Totals, and what they are made of; None where nothing of it was recorded."""
    known = run.frames.costs[run.frames.costs["arm"].isin([arm.name for arm in run.compared])]
    if known.empty:
        return None
    return CostsPart(
        sentence=_sentence(known, run),
        totals=_totals(known, run),
        symbols=_named(
            run,
            f"Symbols of another size than in the kernel of {run.baseline}, in bytes.",
            ("symbol", "kind"),
            stack=False,
        ),
        stack=_named(
            run,
            f"Functions of another stack use than in the kernel of {run.baseline}, in bytes.",
            ("function", "object"),
            stack=True,
        ),
    )


def _sentence(known: pd.DataFrame, run: Results) -> str:
    same = set(known.loc[known["same_kernel"], "arm"])
    names = [arm.name for arm in run.treatments if arm.name in same]
    found = []
    if names:
        boots, costs_ = ("boots", "costs") if len(names) == 1 else ("boot", "cost")
        found.append(
            f"{join_words(names)} {boots} the kernel of {run.baseline} and {costs_} nothing "
            "in code."
        )
    found += [
        f"{arm.name} was compiled by another compiler than {run.baseline}: "
        f"{plural(_count(run.frames, arm, 'symbols_changed'), 'symbol')} of another size and "
        f"{plural(_count(run.frames, arm, 'stack_changed'), 'function')} of another stack use, "
        "most by what each inlines and how it names things; the largest are in tables/symbols.csv."
        for arm in run.treatments
        if _compiled_otherwise(arm, run)
    ]
    return " ".join(found)


def _compiled_otherwise(arm: Arm, context: ReportContext) -> bool:
    usual = next((one.compiler for one in context.arms if one.name == context.baseline), "")
    return bool(arm.compiler and usual) and arm.compiler != usual


def _totals(known: pd.DataFrame, context: ReportContext) -> Grid:
    every = set(known["quantity"])
    shown = [(name, title) for name, title in _QUANTITIES if name in every]
    base = known.drop_duplicates("quantity").set_index("quantity")["baseline"]
    first = (context.baseline, *(f"{number(base[name]):.0f}" for name, _ in shown))
    rows = [
        (arm.name, *(_change(known, arm, name) for name, _ in shown))
        for arm in context.compared
        if arm.name in set(known["arm"])
    ]
    memory = (
        " Memory: in use (MemTotal - MemAvailable) once the guest is up, before anything runs in "
        f"it; mean over blocks, change with its {confidence_label(context)} interval."
    )
    return Grid(
        f"Change against {context.baseline}, whose own values come first: sizes of vmlinux (text "
        "with constants; sections are padded to whole pages, symbols are not) and of the image "
        "that is booted, which are exact." + (memory if "memory_used" in every else ""),
        ("arm", *(title for _, title in shown)),
        (Group("", (first, *rows)),),
    )


def _change(known: pd.DataFrame, arm: Arm, quantity: str) -> str:
    found = known[(known["arm"] == arm.name) & (known["quantity"] == quantity)]
    if found.empty:
        kernel = known.loc[known["arm"] == arm.name, "same_kernel"]
        return "same" if bool(kernel.any()) else "n/a"
    row = found.iloc[0]
    change = f"{number(row['change']) + 0.0:+.0f}"
    if quantity == "memory_used":
        low, high = (number(row[name]) for name in ("change_low", "change_high"))
        return f"{change} {format_interval(low, high, 0)}"
    if quantity == "text":
        return f"{change} ({format_percent(number(row['change_percent']), 2)})"
    return change


def _named(run: Results, caption: str, labels: Row, *, stack: bool) -> Grid:
    groups = []
    for arm in run.treatments:
        if _compiled_otherwise(arm, run):
            continue
        mine = run.frames.symbols[run.frames.symbols["arm"] == arm.name]
        mine = mine[(mine["kind"] == _STACK) == stack]
        count = _count(run.frames, arm, "stack_changed" if stack else "symbols_changed")
        rows = tuple(_row(row, stack) for row in mine.head(SHOWN).to_dict("records"))
        more = f", the {len(rows)} largest changes of {count}" if count > len(rows) else ""
        groups.append(Group(f"{arm.name}{more}", rows))
    return Grid(
        caption,
        (*labels, run.baseline, "arm", "change"),
        tuple(groups),
        labels=len(labels),
    )


def _count(frames: ReportFrames, arm: Arm, quantity: str) -> int:
    table = frames.costs
    found = table[(table["arm"] == arm.name) & (table["quantity"] == quantity)]["value"]
    return 0 if found.empty else int(found.iloc[0])


def _row(row: Mapping[Hashable, object], stack: bool) -> Row:
    name, kind = str(row["symbol"]), str(row["kind"])
    if stack:
        kind, _, name = name.rpartition(":")
    before, after = number(row["baseline_bytes"]), number(row["bytes"])
    return (name, kind, _bytes(before), _bytes(after), f"{number(row['change_bytes']):+.0f}")


def _bytes(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.0f}"
