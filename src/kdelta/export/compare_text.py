# SPDX-License-Identifier: GPL-2.0-only
"""A comparison of two runs as text for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator

from kdelta.export.compare import ArmRows, Cell, Comparison, RegimeRows
from kdelta.export.differences import Change, Difference
from kdelta.export.run_folder import RunFolder
from kdelta.report.formatting import (
    format_interval,
    format_percent,
    join_words,
    percent_decimals,
    plural,
)
from kdelta.report.grid import Grid, Group
from kdelta.report.text_tables import format_grid

PROSE_WIDTH = 78
_INDENT = 4  # of `format_grid`
_ANY_WIDTH = 1000
_HARD_SPACE = "\N{NO-BREAK SPACE}"
_SHORT = {"same within noise": "same"}


def comparison_text(found: Comparison, width: int = 80) -> str:
    """The whole comparison.

    Args:
        found: what was found.
        width: columns that tables may take; prose is folded at 78.
    """
    parts = [
        "\n".join(f"{name}: {_run_line(run)}" for name, run in (("A", found.a), ("B", found.b))),
        *_warnings(found),
    ]
    if found.identical:
        parts += [_nothing_to_compare(found), _setup(found, width)]
        return "\n\n".join(parts) + "\n"
    parts += [_summary(found, width), _setup(found, width), *found.missing]
    for arm in found.arms:
        parts += [_regime(found, arm, rows, width) for rows in arm.regimes]
    return "\n\n".join([*(part for part in parts if part), _legend(found)]) + "\n"


def _run_line(run: RunFolder) -> str:
    return f"{run.path}, run {run.run_id}\n   {run.experiment.title}"


def _warnings(found: Comparison) -> Iterator[str]:
    emulated = [name for name, run in (("A", found.a), ("B", found.b)) if run.emulated]
    if len(emulated) == 2:
        yield _fold(
            "EMULATED (TCG), both: neither holds measurements of kernel performance, and what "
            "differs between them need not differ on hardware."
        )
    elif emulated:
        other = "B" if emulated == ["A"] else "A"
        yield _fold(
            f"EMULATED (TCG): {emulated[0]} holds no measurements of kernel performance, "
            f"{other} does. What differs may be the emulation."
        )
    if found.paired:
        yield _fold("A and B are the same measurements: differences are taken within each block.")


def _nothing_to_compare(found: Comparison) -> str:
    cells = sum(len(rows.cells) for arm in found.arms for rows in arm.regimes)
    arms = join_words(arm.arm_a for arm in found.arms)
    text = f"Their deltas are the same in {plural(cells, 'cell')} of {arms}: nothing to compare."
    ours = [arm for arm in found.a.experiment.booted_arms() if arm != found.a.experiment.baseline]
    if len(ours) > 1:
        text += f" For two arms of one run: --arm-a {ours[0]} --arm-b {ours[1]}."
    return _fold(text)


def _summary(found: Comparison, width: int) -> str:
    """The answer: an arm's overall effect in every regime, and how many cells differ."""
    answers = (rows.overall for arm in found.arms for rows in arm.regimes)
    ends = [pair for one in answers for pair in _intervals(one)]
    decimals = percent_decimals([low for low, _ in ends], [high for _, high in ends])
    told = _fold(
        f"{found.metric.title}, overall change in % [{found.confidence * 100:g}% "
        f"interval]; {_better(found)} is better. cells: how many of them differ."
    )
    tables = [_summary_table(found, decimals, both) for both in (True, False)]
    fitting = (table for table in tables if max(map(len, table.splitlines())) <= width)
    return f"{told}\n\n{next(fitting, tables[-1])}"


def _better(found: Comparison) -> str:
    return "higher" if found.metric.higher_is_better else "lower"


def _summary_table(found: Comparison, decimals: int, both: bool) -> str:
    """The table of the answers; without the columns of each run where `both` are too wide."""

    def row(rows: RegimeRows) -> tuple[str, ...]:
        one = rows.overall
        return (
            rows.regime,
            _SHORT.get(one.word, one.word),
            *((_change(one.a, decimals), _change(one.b, decimals)) if both else ()),
            _effect(one.ratio, one.low, one.high, decimals),
            f"{sum(cell.word == 'differs' for _, cell in rows.cells)}/{len(rows.cells)}",
        )

    groups = tuple(
        Group(_pair(arm.arm_a, arm.arm_b), tuple(row(rows) for rows in arm.regimes))
        for arm in found.arms
    )
    head = ("regime", "overall", *(("A", "B") if both else ()), "B/A", "cells")
    grid = Grid(caption="", head=head, groups=groups, labels=2)
    return _flush_left(format_grid(grid, _ANY_WIDTH))


def _pair(ours: str, theirs: str) -> str:
    return ours if ours == theirs else f"{ours} (A), {theirs} (B)"


def _setup(found: Comparison, width: int) -> str:
    if not found.setup:
        return "Set-up: no difference on record."
    grid = Grid(
        caption="",
        head=("set-up", "A", "B"),
        groups=(Group("", found.setup),),
        prose=frozenset({1, 2}),
    )
    return f"What differs in set-up:\n{format_grid(grid, width)}"


def _regime(found: Comparison, arm: ArmRows, rows: RegimeRows, width: int) -> str:
    decimals = _decimals(rows)
    names = [found.a.experiment.baseline, found.b.experiment.baseline]
    what = _pair(arm.arm_a, arm.arm_b)
    against = _pair(*names)
    lines = [
        f"== {rows.title}: {what} ==",
        "",
        _fold(
            f"{found.metric.title}, change against {against} in % "
            f"[{found.confidence * 100:g}% interval]; {_better(found)} is better. "
            f"Cells: {_cell(found.factors)}."
        ),
        "",
        _flush_left(format_grid(_grid(rows, decimals), width + _INDENT)),
        "",
        _fold(_overall(rows, decimals)),
        _fold(_tally(rows)),
    ]
    for name, cells in (("A", rows.only_a), ("B", rows.only_b)):
        if cells:
            told = ", ".join(_cell(cell).replace(" ", _HARD_SPACE) for cell in cells)
            lines.append(_fold(f"Only in {name}: {told}."))
    return "\n".join(lines)


def _grid(rows: RegimeRows, decimals: int) -> Grid:
    # The verdict is a label: where the table has to be cut, every part of it has it.
    body = tuple(
        (
            _cell(cell),
            _SHORT.get(one.word, one.word),
            _change(one.a, decimals),
            _change(one.b, decimals),
            _effect(one.ratio, one.low, one.high, decimals),
        )
        for cell, one in rows.cells
    )
    head = ("cell", "verdict", "A", "B", "B/A")
    return Grid(caption="", head=head, groups=(Group("", body),), labels=2)


def _flush_left(table: str) -> str:
    """Without the indent that reports give a table: three intervals in a line need the width."""
    return "\n".join(line[min(_INDENT, _blanks(line)) :] for line in table.splitlines())


def _blanks(line: str) -> int:
    """Blanks before a line's text: less than the indent before a group's heading."""
    return len(line) - len(line.lstrip())


def _overall(rows: RegimeRows, decimals: int) -> str:
    one = rows.overall
    return (
        f"Overall, {plural(len(rows.cells), 'cell')}: "
        f"A {_change(one.a, decimals)} ({plural(one.a.blocks, 'block')}), "
        f"B {_change(one.b, decimals)} ({plural(one.b.blocks, 'block')}), "
        f"B/A {_effect(one.ratio, one.low, one.high, decimals)}: {one.word}."
    )


def _tally(rows: RegimeRows) -> str:
    counts = Counter(one.word for _, one in rows.cells)
    words = (
        f"{count} {'differ' if word == 'differs' and count > 1 else word}"
        for word, count in counts.items()
    )
    return f"Cells: {', '.join(words)}."


def _decimals(rows: RegimeRows) -> int:
    shown = [*(one for _, one in rows.cells), rows.overall]
    pairs = [pair for one in shown for pair in _intervals(one)]
    return percent_decimals([low for low, _ in pairs], [high for _, high in pairs])


def _intervals(one: Difference) -> list[tuple[float, float]]:
    ends = ((one.a.low, one.a.high), (one.b.low, one.b.high), (one.low, one.high))
    # That a run does not differ from itself needs no digits.
    return [(_percent(low), _percent(high)) for low, high in ends if low != high]


def _change(one: Change, decimals: int) -> str:
    return _effect(one.ratio, one.low, one.high, decimals)


def _effect(ratio: float, low: float, high: float, decimals: int) -> str:
    if math.isnan(ratio):
        return "none"
    # The unit stands above the column: three intervals in a line are wide enough.
    change = format_percent(_percent(ratio), decimals).rstrip("%")
    return f"{change} {format_interval(_percent(low), _percent(high), decimals)}"


def _percent(ratio: float) -> float:
    return 100 * (ratio - 1)


def _cell(levels: Cell) -> str:
    return " x ".join(levels)


def _legend(found: Comparison) -> str:
    how = (
        "a paired t interval over blocks"
        if found.paired
        else "Welch's t interval over the blocks of both"
    )
    return _fold(
        f"A and B: change of the arm against its own baseline. B/A: B's ratio over A's, as a "
        f"change in %, with {how}, on log ratios. differs: that interval excludes no change, and "
        "its t test rejects it after Holm over all cells of the arm in all regimes. same: same "
        "within noise, which is no proof of equality; the interval says how far apart they may be."
        + (
            " Overall: over the cells that both have in a block, so that it can differ from what "
            "a run's own tables say."
            if found.paired
            else ""
        )
    )


def _fold(text: str) -> str:
    folded = textwrap.fill(text, PROSE_WIDTH, break_long_words=False, break_on_hyphens=False)
    return folded.replace(_HARD_SPACE, " ")
