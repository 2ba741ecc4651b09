# SPDX-License-Identifier: GPL-2.0-only
"""A comparison of two runs as text for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator

from kdelta.export.comparison import Change, Difference
from kdelta.export.run_folder import RunFolder
from kdelta.export.run_pair import ArmRows, Cell, Comparison, RegimeRows
from kdelta.report.formatting import format_interval, format_percent, percent_decimals, plural
from kdelta.report.grid import Grid, Group
from kdelta.report.text_grid import format_grid

PROSE_WIDTH = 78
_INDENT = 4  # of `format_grid`
_SHORT = {"same within noise": "same"}
_TITLES = {
    "throughput_mib_s": "Throughput",
    "latency_mean_ns": "Mean write latency",
    "latency_p50_ns": "Median write latency",
    "latency_p99_ns": "99th percentile of write latency",
}


def comparison_text(found: Comparison, width: int = 80) -> str:
    """The whole comparison.

    Args:
        found: what was found.
        width: columns that tables may take; prose is folded at 78.
    """
    parts = [
        "\n".join(f"{name}: {_run_line(run)}" for name, run in (("A", found.a), ("B", found.b))),
        *_warnings(found),
        _setup(found, width),
        *found.missing,
    ]
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
    what = arm.arm_a if arm.arm_a == arm.arm_b else f"{arm.arm_a} (A), {arm.arm_b} (B)"
    against = names[0] if names[0] == names[1] else f"{names[0]} (A), {names[1]} (B)"
    lines = [
        f"== {rows.title}: {what} ==",
        "",
        _fold(
            f"{_TITLES[found.metric.name]}, change against {against} in % "
            f"[{found.confidence * 100:g}% interval]; {found.metric.direction} is better. "
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
            told = ", ".join(map(_cell, cells))
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
    return "\n".join(line[_INDENT:] for line in table.splitlines())


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
    return f"Cells: {', '.join(f'{count} {word}' for word, count in counts.items())}."


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
    )


def _fold(text: str) -> str:
    return textwrap.fill(text, PROSE_WIDTH, break_long_words=False, break_on_hyphens=False)
