# SPDX-License-Identifier: GPL-2.0-only
"""Published claims beside this run's results, and the negative controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kdelta.report.context import Metric, ReportContext
from kdelta.report.formatting import (
    Row,
    cell_heads,
    cell_labels,
    format_percent,
    format_value,
    plural,
    value_decimals,
)
from kdelta.report.frames import number
from kdelta.report.grid import Grid, Group
from kdelta.report.results import Results
from kdelta.report.sentences import acceleration_label, confidence_label, effect_words
from kdelta.report.tables import Precision

CLAIM_STATUSES = (*("reproduced", "same direction", "not settled", "contradicted", "not measured"),)
_CONTROL_STATUSES = ("held", "broken", "not settled", "invalid")


@dataclass(frozen=True)
class ClaimCheck:
    """Every published delta with this run's, and how the set-ups differ."""

    source: str
    sentences: tuple[str, ...]
    cells: Grid
    setup: Grid


@dataclass(frozen=True)
class NegativeControls:
    """Cells in which no effect can be: one grid per reason."""

    sentence: str
    grids: tuple[Grid, ...]


def claim_check(run: Results, precision: Precision) -> ClaimCheck | None:
    """The claims that the experiment names; None where it names none."""
    table = run.frames.claims
    if table.empty:
        return None
    groups: list[Group] = []
    sentences: list[str] = []
    for name, rows in table.groupby("metric", sort=False):
        metric = run.metric(str(name)) or _unknown(str(name), str(rows["unit"].iloc[0]))
        counts = _tally(rows["status"], CLAIM_STATUSES)
        how = f"{metric.title}, under emulation" if run.emulated else metric.title
        sentence = f"{how}: of {plural(len(rows), 'published cell')}, {counts}."
        if metric.remark and len(sentences):
            sentence += f" {metric.remark}"
        sentences.append(sentence)
        decimals = value_decimals([*rows["claimed_baseline"], *rows["claimed_value"]])
        for regime, part in rows.groupby("regime", sort=False):
            groups.append(
                Group(
                    f"{run.regime_title(str(regime))}, {metric.title.lower()} in {metric.unit}",
                    tuple(
                        _claim_row(run, row, precision.percent, decimals)
                        for row in part.to_dict("records")
                    ),
                )
            )
    heads = cell_heads(run)
    n = len(heads)
    return ClaimCheck(
        source=run.claim_source,
        sentences=tuple(sentences),
        cells=Grid(
            f"Published deltas and this run's [{confidence_label(run)} interval over at most "
            f"{plural(run.blocks, 'block')}]; acceleration: {acceleration_label(run)}. "
            "Reproduced: the interval lies on the claim's side of no change and overlaps it; same "
            "direction: on its side without overlap; contradicted: on the other side, or within "
            "the margin of equivalence while the claim is not; not settled: neither.",
            (*heads, "arm", "published", "published delta", "delta here", "status"),
            tuple(groups),
            labels=n + 1,
            statuses=frozenset({n + 4}),
        ),
        setup=Grid(
            "How the set-ups differ.",
            ("", "published", "here"),
            (Group("", run.claim_setup),),
            prose=frozenset({1, 2}),
        ),
    )


def negative_controls(run: Results, precision: Precision) -> NegativeControls | None:
    """The cells that must come out equivalent; None where the experiment names none."""
    table = run.frames.negative_controls
    if table.empty:
        return None
    heads = cell_heads(run)
    grids = tuple(
        Grid(
            f"Negative controls, {run.primary.short} [{confidence_label(run)} interval "
            f"over at most {plural(run.blocks, 'block')}]; "
            f"acceleration: {acceleration_label(run)}. Why there can be no effect: "
            f"{str(reason).rstrip('.')}.",
            (*heads, "delta", "status"),
            tuple(
                Group(
                    f"{run.regime_title(str(regime))}, {arm}",
                    tuple(
                        (
                            *cell_labels(run, row),
                            effect_words(row, precision.percent),
                            str(row["status"]),
                        )
                        for row in part.to_dict("records")
                    ),
                )
                for (regime, arm), part in rows.groupby(["regime", "arm"], sort=False)
            ),
            labels=len(heads),
            statuses=frozenset({len(heads) + 1}),
        )
        for reason, rows in table.groupby("reason", sort=False)
    )
    counts = _tally(table["status"], _CONTROL_STATUSES)
    return NegativeControls(
        f"Cells in which no arm can have an effect, {len(table)} in all regimes and arms together: "
        f"{counts}. Held: equivalent; broken: faster or slower.",
        grids,
    )


def _claim_row(context: ReportContext, row: Row, percent: int, decimals: int) -> tuple[str, ...]:
    base, value = (
        format_value(number(row[c]), decimals) for c in ("claimed_baseline", "claimed_value")
    )
    return (
        *cell_labels(context, row),
        str(row["arm"]),
        f"{base} -> {value}",
        format_percent(number(row["claimed_delta_percent"]), 0),
        effect_words(row, percent),
        str(row["status"]),
    )


def _tally(statuses: Iterable[str], order: tuple[str, ...]) -> str:
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in order)


def _unknown(name: str, unit: str) -> Metric:
    return Metric(name, name, name, unit, True)
