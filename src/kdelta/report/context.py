# SPDX-License-Identifier: GPL-2.0-only
"""What the report says about a run beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kdelta.workload.declaration import Workload


class Metric(NamedTuple):
    """A column of the results.

    ``higher_is_better`` decides which sign of a delta is good news. ``main`` ones are shown in
    full everywhere, with heat maps, the others on the page only, folded. ``slug`` stands for it
    in names of files and macros.
    """

    name: str
    title: str
    short: str
    unit: str
    higher_is_better: bool
    main: bool = True
    slug: str = ""
    remark: str = ""


def metrics_of(workload: Workload) -> tuple[Metric, ...]:
    """A workload's metrics, the primary one first."""
    order = sorted(workload.metrics, key=lambda name: name != workload.primary)
    return tuple(
        Metric(
            name=name,
            title=metric.title,
            short=metric.in_sentence,
            unit=metric.unit,
            higher_is_better=metric.better == "higher",
            main=metric.shown == "main",
            slug=metric.slug or name.replace("_", "-"),
            remark=metric.remark,
        )
        for name, metric in ((name, workload.metrics[name]) for name in order)
    )


class Arm(NamedTuple):
    """An arm, or the control, as run.

    Tables, figures and sentences call it by its ``name``; the ``title`` explains it once.
    ``booting`` says in words how it is booted, if not as the guest is by itself; ``compiler``
    what compiled its kernel, where that is not the same for all arms; ``resized``: whether its
    guests have other vCPUs or memory than the experiment's have by themselves.
    """

    name: str
    title: str
    is_control: bool = False
    booting: str = ""
    compiler: str = ""
    resized: bool = False

    @property
    def described(self) -> str:
        """Its title, what compiled it and how it is booted."""
        compiled = f"compiled by {self.compiler}" if self.compiler else ""
        booted = f"booted with {self.booting}" if self.booting else ""
        return "; ".join(filter(None, (self.title, compiled, booted)))


class Factor(NamedTuple):
    """One axis of the workload's matrix.

    ``levels`` are the planned values as they are written in the CSV files; with them, a value
    that no sample was taken at still shows as missing.
    """

    name: str
    title: str
    unit: str = ""
    levels: tuple[str, ...] = ()


class Regime(NamedTuple):
    """A condition of the guest."""

    name: str
    title: str
    description: str = ""


class Image(NamedTuple):
    """A kernel, with the subjects of the patches on top of the source.

    ``objects_changed`` counts the object files that its patches or its configuration made
    differ from the baseline's; None for the baseline, and where that was not recorded.
    """

    name: str
    title: str
    patches: tuple[str, ...] = ()
    objects_changed: int | None = None


class EarlierAttempt(NamedTuple):
    """A try of a block that ended without data; ``at`` is a time in words."""

    regime: str
    block: int
    at: str
    reason: str


@dataclass(frozen=True)
class ReportContext:
    """The facts of one run that the tables do not hold.

    Attributes:
        experiment: Short name, as in the results folder.
        title: One line; any text, it is escaped for every output.
        summary: A few sentences on what is compared and why.
        baseline: Name of the baseline arm.
        arms: Every arm as run, the baseline included, in the order to be shown.
        factors: The matrix columns of the CSV files.
        row_factor: The factor that runs down the tables.
        column_factor: The factor that runs across, or None for a matrix of one factor.
        regimes: In the order to be shown.
        traced_regimes: Those with mechanism boots, timed or not.
        protocol: Name of the protocol, such as ``quick``.
        blocks: Planned blocks of each regime.
        seconds_per_cell: Measured seconds of one cell, by regime name.
        confidence: Of the intervals, 0 to 1.
        equivalence_margin: As a fraction: 0.02 calls a cell within 2 % equivalent.
        metrics: Of the workload, the primary one first.
        phrases: What the workload was told in every cell, such as ``64 KiB writes``.
        distribution: Of what the workload gives a histogram; empty if of nothing.
        workload_methods: Label and text of paragraphs about the workload.
        acceleration: ``kvm`` or ``tcg``.
        acceleration_reason: Why it is that one.
        architecture: Of the guest; empty of runs of before it was recorded.
        vcpus: Of the guest.
        host_cpus: Of the host.
        memory_mib: Of the guest.
        environment: Label to text: host, guest and tools.
        provenance: Label to text: hashes, versions, seed.
        images: kernels of the arms.
        kernel_release: Of the baseline's kernel, such as ``6.12.9``; empty where it is unknown.
        reproduce: The command that makes this report again.
        generated_from: Which files this report was made from, without a full stop: it follows
            ``Made from``.
        interval_method: How the interval of a ratio is computed, in words.
        verdict_method: When a cell is called faster or slower, in words.
        power: With which the noise floor's effect would have been found, 0 to 1.
        earlier_attempts: Tries of a block that ended without data, in order.
        claim_source: Where the claims that are checked were published.
        claim_setup: Differences of set-up: what, as published, as here.
        host_differences: In what the hosts and guests of the blocks differ, and which blocks were
            where; empty where all were measured on one host.
        environment_set: What was set on the host for the time of a block: what, from, to.
        environment_not_set: What could not be set: what, why.
    """

    experiment: str
    title: str
    summary: str
    baseline: str
    arms: tuple[Arm, ...]
    factors: tuple[Factor, ...]
    row_factor: str
    column_factor: str | None
    regimes: tuple[Regime, ...]
    traced_regimes: tuple[Regime, ...]
    protocol: str
    blocks: int
    seconds_per_cell: Mapping[str, float]
    confidence: float
    equivalence_margin: float
    metrics: tuple[Metric, ...]
    acceleration: str
    acceleration_reason: str
    vcpus: int
    host_cpus: int
    memory_mib: int
    architecture: str = ""
    phrases: tuple[str, ...] = ()
    distribution: str = ""
    workload_methods: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    kernel_release: str = ""
    reproduce: str = ""
    generated_from: str = ""
    interval_method: str = "a Student t interval on the logarithms of the block ratios"
    verdict_method: str = (
        "its interval excludes no change and its t test, adjusted by Holm over all cells of the "
        "arm and metric in all regimes, rejects no change at the same confidence"
    )
    power: float = 0.8
    earlier_attempts: tuple[EarlierAttempt, ...] = ()
    claim_source: str = ""
    claim_setup: tuple[tuple[str, str, str], ...] = ()
    host_differences: tuple[str, ...] = ()
    environment_set: tuple[tuple[str, str, str], ...] = ()
    environment_not_set: tuple[tuple[str, str], ...] = ()

    @property
    def primary(self) -> Metric:
        """The metric that verdicts are about."""
        return self.metrics[0]

    @property
    def main_metrics(self) -> tuple[Metric, ...]:
        """Those that all outputs show."""
        return tuple(metric for metric in self.metrics if metric.main)

    @property
    def detail_metrics(self) -> tuple[Metric, ...]:
        """Those that the page alone shows, folded."""
        return tuple(metric for metric in self.metrics if not metric.main)

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, if the workload has it."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def emulated(self) -> bool:
        """Whether the numbers come from instruction emulation."""
        return self.acceleration != "kvm"

    @property
    def oversubscribed(self) -> bool:
        """Whether the guest had more vCPUs than the host has cores."""
        return self.vcpus > self.host_cpus

    @property
    def treatments(self) -> tuple[Arm, ...]:
        """The arms under test: neither the baseline nor a control."""
        return tuple(a for a in self.arms if a.name != self.baseline and not a.is_control)

    @property
    def controls(self) -> tuple[Arm, ...]:
        """The arms that run the baseline image again."""
        return tuple(a for a in self.arms if a.is_control)

    @property
    def compared(self) -> tuple[Arm, ...]:
        """Every arm that has a ratio: treatments first, then controls."""
        return self.treatments + self.controls

    @property
    def extra_factors(self) -> tuple[Factor, ...]:
        """The factors that run neither down nor across: one table per combination of levels."""
        return tuple(f for f in self.factors if f.name not in (self.row_factor, self.column_factor))

    def regime_title(self, name: str) -> str:
        """The title of a regime; its name where the context does not list it."""
        every = (*self.regimes, *self.traced_regimes)
        return next((r.title for r in every if r.name == name), name)

    def factor(self, name: str) -> Factor:
        """The factor called ``name``; a bare one where the context does not list it."""
        return next((f for f in self.factors if f.name == name), Factor(name, name))
