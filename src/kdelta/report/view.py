# SPDX-License-Identifier: GPL-2.0-only
"""Everything the three outputs show, once, in the order shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdelta.analysis.effects import DIFFERENT
from kdelta.report.caveats import Notice, missing_blocks, notices, weaknesses
from kdelta.report.claims import ClaimCheck, NegativeControls, claim_check, negative_controls
from kdelta.report.context import Arm, Metric, Regime, ReportContext
from kdelta.report.costs import CostsPart, costs
from kdelta.report.disturbance import HostState, host_state
from kdelta.report.formatting import format_seconds, plural
from kdelta.report.frames import ReportFrames
from kdelta.report.grid import Grid, Group
from kdelta.report.locks import LockPart, lock_contention
from kdelta.report.mechanism import MechanismPart, mechanism
from kdelta.report.methods import Paragraph, environment_grids, methods
from kdelta.report.position import BootOrder, boot_order
from kdelta.report.pressure import PressurePanel, moved_counters, pressure_panel
from kdelta.report.sentences import (
    NOISE_FLOOR,
    Answer,
    Banner,
    answer,
    confidence_label,
    control_line,
    emulation_banner,
    overall_line,
    setup_sentence,
    tally_line,
)
from kdelta.report.set_aside import SetAside, set_aside
from kdelta.report.tables import DeltaTable, Precision, choose_precision, delta_tables


@dataclass(frozen=True)
class ArmTables:
    """The tables of one arm with the lines under them."""

    arm: Arm
    tables: tuple[DeltaTable, ...]
    overall: str
    tally: str


@dataclass(frozen=True)
class MetricTables:
    """The tables of one metric in a regime."""

    metric: Metric
    arms: tuple[ArmTables, ...]
    control: str


@dataclass(frozen=True)
class Section:
    """A regime: its answers, what it did to the kernel, and its tables.

    ``with_all`` holds the main tables with the samples that were set aside taken in; it is empty
    where none was.
    """

    regime: Regime
    subtitle: str
    answers: tuple[Answer, ...]
    pressure: PressurePanel
    moved: Grid
    main: tuple[MetricTables, ...]
    details: tuple[MetricTables, ...]
    with_all: tuple[MetricTables, ...]


SETTLED = (*DIFFERENT, "equivalent")


@dataclass(frozen=True)
class View:
    """The report's content, free of any layout."""

    context: ReportContext
    precision: Precision
    banner: Banner | None
    notices: tuple[Notice, ...]
    setup: str
    host: HostState
    confidence: str
    sections: tuple[Section, ...]
    answers: Grid
    weaknesses: tuple[str, ...]
    costs: CostsPart | None
    mechanism: MechanismPart | None
    locks: LockPart | None
    claims: ClaimCheck | None
    negative_controls: NegativeControls | None
    boot_order: BootOrder
    environment: tuple[Grid, ...]
    set_aside: SetAside
    methods: tuple[Paragraph, ...]

    @property
    def main_tables(self) -> tuple[DeltaTable, ...]:
        """Every table that all outputs show."""
        return tuple(
            table
            for section in self.sections
            for group in section.main
            for arm in group.arms
            for table in arm.tables
        )

    @property
    def any_short_of_blocks(self) -> bool:
        """Whether a shown cell rests on fewer blocks than planned."""
        return any(cell.short_of_blocks for table in self.main_tables for cell in table.cells)


def build_view(frames: ReportFrames, context: ReportContext) -> View:
    """Bring tables and context together."""
    precision = choose_precision(frames, context)
    sections = tuple(_section(frames, context, r, precision) for r in context.regimes)
    return View(
        context=context,
        precision=precision,
        banner=emulation_banner(context),
        notices=notices(frames, context),
        setup=setup_sentence(context),
        host=host_state(frames, context),
        confidence=confidence_label(context),
        sections=sections,
        answers=_answers(sections, context),
        weaknesses=weaknesses(frames, context),
        costs=costs(frames, context),
        mechanism=mechanism(frames, context),
        locks=lock_contention(frames, context),
        claims=claim_check(frames, context, precision),
        negative_controls=negative_controls(frames, context, precision),
        boot_order=boot_order(frames, context),
        environment=environment_grids(context),
        set_aside=set_aside(frames, context, precision),
        methods=methods(frames, context),
    )


def _section(
    frames: ReportFrames, context: ReportContext, regime: Regime, precision: Precision
) -> Section:
    seconds = context.seconds_per_cell.get(regime.name)
    parts = [f"{format_seconds(seconds)} per cell"] if seconds is not None else []
    left = context.blocks - len(missing_blocks(frames, context, regime))
    there = "" if left == context.blocks else f"{left} of "
    parts.append(f"{there}{plural(context.blocks, 'block')}")
    present = set(frames.deltas["metric"])
    with_all = replace(frames, deltas=frames.deltas_all, overall=frames.overall_all)
    # The noise floor is one of the first analysis alone.
    no_control = replace(context, arms=tuple(a for a in context.arms if not a.is_control))
    return Section(
        regime=regime,
        subtitle=", ".join(parts),
        answers=tuple(answer(frames, context, regime, arm) for arm in context.treatments),
        main=tuple(_metric(frames, context, regime, m, precision) for m in context.main_metrics),
        details=tuple(
            _metric(frames, context, regime, m, precision)
            for m in context.detail_metrics
            if m.name in present
        ),
        pressure=pressure_panel(frames, context, regime),
        moved=moved_counters(frames, context, regime),
        with_all=tuple(
            _metric(with_all, no_control, regime, m, precision)
            for m in context.main_metrics
            if not frames.deltas_all.empty
        ),
    )


def _answers(sections: tuple[Section, ...], context: ReportContext) -> Grid:
    """The answers of all regimes as a table: a row each."""
    rows = []
    for section in sections:
        (primary,) = (group for group in section.main if group.metric == context.primary)
        for found, arm in zip(section.answers, primary.arms, strict=True):
            cells = [cell for table in arm.tables for cell in table.cells]
            settled = sum(cell.verdict in SETTLED for cell in cells)
            rows.append(
                (
                    section.regime.title,
                    found.arm.name,
                    found.delta,
                    found.interval,
                    found.verdict or "no verdict",
                    f"{settled} of {len(cells)}",
                    found.floor.removeprefix(f"{NOISE_FLOOR} ") or "unknown",
                )
            )
    emulated = " Emulated: no measurement of hardware." if context.emulated else ""
    return Grid(
        f"Change of {context.primary.short} against {context.baseline}, geometric mean over "
        f"all cells, with its {confidence_label(context)} interval; the cells that are settled "
        f"by themselves; the noise floor of a cell.{emulated}",
        ("regime", "arm", "change", "interval", "verdict", "cells settled", "noise floor"),
        (Group("", tuple(rows)),),
        labels=2,
        prose=frozenset({4}),
    )


def _metric(
    frames: ReportFrames,
    context: ReportContext,
    regime: Regime,
    metric: Metric,
    precision: Precision,
) -> MetricTables:
    arms = []
    for arm in context.treatments:
        tables = delta_tables(frames, context, regime, arm, metric, precision)
        overall = overall_line(frames, context, regime, arm, metric)
        arms.append(ArmTables(arm, tables, overall, tally_line(tables)))
    return MetricTables(metric, tuple(arms), control_line(frames, context, regime, metric))
