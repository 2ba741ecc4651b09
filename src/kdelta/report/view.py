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
from kdelta.report.grid import Grid, Group
from kdelta.report.locks import LockPart, lock_contention
from kdelta.report.mechanism import MechanismPart, mechanism
from kdelta.report.methods import Paragraph, environment_grids, methods
from kdelta.report.nodes import NodesPart, nodes
from kdelta.report.position import BootOrder, boot_order
from kdelta.report.pressure import PressurePanel, moved_counters, pressure_panel
from kdelta.report.results import Results
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
    nodes: NodesPart | None
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


def build_view(run: Results) -> View:
    """Bring tables and run together."""
    precision = choose_precision(run)
    sections = tuple(_section(run, r, precision) for r in run.regimes)
    return View(
        context=run,
        precision=precision,
        banner=emulation_banner(run),
        notices=notices(run),
        setup=setup_sentence(run),
        host=host_state(run),
        confidence=confidence_label(run),
        sections=sections,
        answers=_answers(sections, run),
        weaknesses=weaknesses(run),
        costs=costs(run),
        mechanism=mechanism(run),
        locks=lock_contention(run),
        claims=claim_check(run, precision),
        negative_controls=negative_controls(run, precision),
        boot_order=boot_order(run),
        nodes=nodes(run),
        environment=environment_grids(run),
        set_aside=set_aside(run, precision),
        methods=methods(run),
    )


def _section(run: Results, regime: Regime, precision: Precision) -> Section:
    seconds = run.seconds_per_cell.get(regime.name)
    parts = [f"{format_seconds(seconds)} per cell"] if seconds is not None else []
    left = run.blocks - len(missing_blocks(run, regime))
    there = "" if left == run.blocks else f"{left} of "
    parts.append(f"{there}{plural(run.blocks, 'block')}")
    present = set(run.frames.deltas["metric"])
    with_all = run.with_tables(deltas=run.frames.deltas_all, overall=run.frames.overall_all)
    # The noise floor is one of the first analysis alone.
    with_all = replace(with_all, arms=tuple(a for a in run.arms if not a.is_control))
    return Section(
        regime=regime,
        subtitle=", ".join(parts),
        answers=tuple(answer(run, regime, arm) for arm in run.treatments),
        main=tuple(_metric(run, regime, m, precision) for m in run.main_metrics),
        details=tuple(
            _metric(run, regime, m, precision) for m in run.detail_metrics if m.name in present
        ),
        pressure=pressure_panel(run, regime),
        moved=moved_counters(run, regime),
        with_all=tuple(
            _metric(with_all, regime, m, precision)
            for m in run.main_metrics
            if not run.frames.deltas_all.empty
        ),
    )


def _answers(sections: tuple[Section, ...], run: Results) -> Grid:
    """The answers of all regimes as a table: a row each, and what the control came to."""
    groups = []
    for section in sections:
        rows = []
        (primary,) = (group for group in section.main if group.metric == run.primary)
        for found, arm in zip(section.answers, primary.arms, strict=True):
            cells = [cell for table in arm.tables for cell in table.cells]
            settled = sum(cell.verdict in SETTLED for cell in cells)
            floor = found.floor.removeprefix(f"{NOISE_FLOOR} ") or "unknown"
            rows.append((*_answer_row(found), f"{settled} of {len(cells)}", floor))
        controls = (answer(run, section.regime, control) for control in run.controls)
        rows += [(*_answer_row(found), "", "") for found in controls]
        groups.append(Group(section.regime.title, tuple(rows)))
    emulated = " Emulated: no measurement of hardware." if run.emulated else ""
    again = f"; the control is {run.baseline} again, its true change zero" if run.controls else ""
    return Grid(
        f"Change of {run.primary.short} against {run.baseline}, geometric mean over "
        f"all cells, with its {confidence_label(run)} interval; the cells that are settled "
        f"by themselves; the noise floor of a cell{again}.{emulated}",
        ("arm", "change", "interval", "verdict", "cells settled", "noise floor"),
        tuple(groups),
        prose=frozenset({3}),
    )


def _answer_row(found: Answer) -> tuple[str, ...]:
    return found.arm.name, found.delta, found.interval, found.verdict or "no verdict"


def _metric(run: Results, regime: Regime, metric: Metric, precision: Precision) -> MetricTables:
    arms = []
    for arm in run.treatments:
        tables = delta_tables(run, regime, arm, metric, precision)
        overall = overall_line(run, regime, arm, metric)
        arms.append(ArmTables(arm, tables, overall, tally_line(tables)))
    return MetricTables(metric, tuple(arms), control_line(run, regime, metric))
