# SPDX-License-Identifier: GPL-2.0-only
"""The nodes of a run that was measured on several: what they are, and whether effects differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from kdelta.analysis.nodes import DIFFER, UNKNOWN
from kdelta.report.context import Arm, Regime
from kdelta.report.formatting import format_share, join_words, plural
from kdelta.report.frames import number, select
from kdelta.report.grid import Grid, Group
from kdelta.report.position import p_words
from kdelta.report.results import Results
from kdelta.report.sentences import confidence_label, effect, effect_words, magnitude

ONE_FOR_ALL = (
    "Where effects differ, the interval of an effect reaches over those of all nodes, and a "
    "verdict has to hold on each of them."
)


@dataclass(frozen=True)
class NodesPart:
    """The nodes, and in how far their effects agree."""

    sentence: str
    machines: Grid
    effects: Grid


def nodes(run: Results) -> NodesPart | None:
    """The part on nodes; None where all blocks were measured on one."""
    names = list(dict.fromkeys(run.frames.nodes["node"]))
    if len(names) < 2:
        return None
    found = list(compared(run))
    words = [str(rows["differ"].iloc[0]) for _, _, rows in found]
    differing, open_ones = words.count(DIFFER), words.count(UNKNOWN)
    told = "No regime was measured on more than one of them"
    if words:
        comparisons = plural(len(words), "comparison")
        told = f"Effects differ beyond chance in {differing} of {comparisons} of an arm in a regime"
    if open_ones:
        told += f"; in {open_ones} it cannot be told, for want of blocks"
    return NodesPart(
        f"Blocks were measured on {plural(len(names), 'node')}, each on one of them. That a node "
        "is slower than another one changes no ratio; an effect that is another one there would. "
        f"{told}. {ONE_FOR_ALL} Effects are those of these nodes: of others they say nothing. "
        "Values in the tables are geometric means over all of them.",
        _machines(run, names),
        Grid(
            f"Lowest and highest effect of a node on {run.primary.short} "
            f"[{confidence_label(run)} intervals, which hold those of all nodes at once], the "
            "p-value of equal effects, adjusted for the number of arms and regimes, and by how "
            f"much one node must differ from the others to be seen with {run.power * 100:g}% "
            "probability.",
            ("regime", "arm", "nodes", "lowest", "highest", "p", "visible", "effects differ"),
            (Group("", tuple(_row(*one) for one in found)),),
            labels=2,
            prose=frozenset({7}),
        ),
    )


def compared(run: Results) -> Iterator[tuple[Regime, Arm, pd.DataFrame]]:
    """The rows of every regime and arm that was measured on several nodes."""
    for regime in run.regimes:
        for arm in run.compared:
            rows = select(run.frames.nodes, regime=regime.name, arm=arm.name)
            if len(rows) > 1:
                yield regime, arm, rows


def node_effects(rows: pd.DataFrame) -> str:
    """Each node's effect in words."""
    return ", ".join(
        f"{row['node']} {effect_words(row, 1)} ({plural(int(row['blocks']), 'block')})"
        for row in rows.to_dict("records")
    )


def processors(run: Results) -> list[str]:
    """Every processor that blocks were measured on, once."""
    return [name for name in dict.fromkeys(run.frames.nodes["processor"]) if name]


def untold(run: Results) -> str:
    """A sentence on where blocks are too few to compare nodes; empty if nowhere."""
    places: dict[str, list[str]] = {}
    for regime, arm, rows in compared(run):
        if rows["differ"].iloc[0] == UNKNOWN:
            places.setdefault(regime.title, []).append(arm.name)
    if not places:
        return ""
    where = "; ".join(f"{regime} ({join_words(arms)})" for regime, arms in places.items())
    return f"Whether effects differ from node to node cannot be told, for want of blocks: {where}."


def _machines(run: Results, names: list[str]) -> Grid:
    table = run.frames.nodes
    # A regime's stressor slows the check: nodes compare within the first regime of each.
    speeds = {name: number(select(table, node=name)["cpu_speed"].iloc[0]) for name in names}
    fastest = max(filter(math.isfinite, speeds.values()), default=math.nan)
    rows = []
    for name in names:
        ours = select(table, node=name)
        share = speeds[name] / fastest
        rows.append(
            (
                name,
                "; ".join(dict.fromkeys(filter(None, ours["processor"]))) or "unknown",
                str(int(ours.groupby("regime")["blocks"].max().sum())),
                format_share(share) if math.isfinite(share) else "unknown",
            )
        )
    return Grid(
        "The nodes: blocks of all regimes, and the speed of their CPUs by the speed check, the "
        "fastest node's being 100%.",
        ("node", "processor", "blocks", "CPU speed"),
        (Group("", tuple(rows)),),
        prose=frozenset({1}),
    )


def _row(regime: Regime, arm: Arm, rows: pd.DataFrame) -> tuple[str, ...]:
    there = rows[rows["delta_percent"].notna()].sort_values("delta_percent", kind="stable")
    ends = [" ".join(effect(there.iloc[end])) if len(there) else "n/a" for end in (0, -1)]
    first = rows.iloc[0]
    return (
        regime.title,
        arm.name,
        str(len(rows)),
        *ends,
        p_words(number(first["p_holm"])),
        magnitude(first["visible_percent"]),
        str(first["differ"]),
    )
