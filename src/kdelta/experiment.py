# SPDX-License-Identifier: GPL-2.0-only
"""The typed experiment: one YAML file, parsed once, at the edge.

Everything a run depends on is in the `Experiment` model; nothing inside the
package looks at the YAML again. JSON schemas for editors and for Snakemake are
generated from these models (`kdelta schema`), so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from kdelta.architecture import Architecture, architecture
from kdelta.arms import Arm, Guest, Kernel, Source
from kdelta.consistency import check_experiment
from kdelta.earlier_runs import advice
from kdelta.mail.settings import Mail
from kdelta.names import CONTROL_ARM as CONTROL_ARM
from kdelta.names import Name
from kdelta.per_kernel import Series
from kdelta.probes.inside import PROBES
from kdelta.regimes import Protocol, Regime
from kdelta.units import MIN_DURATION_S, Share, parse_size_bytes
from kdelta.workload.chosen import Chosen, Matrix
from kdelta.workload.declaration import Workload
from kdelta.workload.folder import FOLDER
from kdelta.yaml_file import FileModel


def _known_probe(name: str) -> str:
    if name not in PROBES:
        raise ValueError(f"there is no probe {name!r}; there are {', '.join(PROBES)}")
    return name


ProbeName = Annotated[
    str, AfterValidator(_known_probe), WithJsonSchema({"type": "string", "enum": [*PROBES]})
]


class Mechanism(FileModel):
    """Boots that are traced and never timed, by probes that explain what the timed ones show."""

    probes: tuple[ProbeName, ...] | None = Field(
        default=None,
        min_length=1,
        strict=False,
        description="what is traced; without it every probe that can look at the workload: "
        "pipe-allocation where it declares the value `writes`, lock-contention always",
    )
    regimes: tuple[Name, ...] = Field(
        min_length=1, strict=False, description="regimes in which every arm gets such a boot"
    )
    duration_s: Annotated[float, Field(ge=MIN_DURATION_S, le=60)] = Field(
        default=0.3, description="seconds per cell and kind of trace"
    )
    workload: Name | None = Field(default=None, description="of several, the one that is traced")
    cells: Matrix = Field(
        default_factory=dict,
        description="levels by factor that are traced, of the matrix; other factors take every "
        "level. Page counts hardly vary from cell to cell",
    )

    def probes_of(self, workload: Workload) -> tuple[str, ...]:
        """The probes that look at a workload, in the order in which they run.

        Raises:
            ValueError: one that was asked for cannot.
        """
        able = [n for n, p in PROBES.items() if p.needs_value in ("", *workload.recorded)]
        for name in self.probes or ():
            if name not in able:
                raise ValueError(
                    f"mechanism.probes: {name}: the workload declares no value "
                    f"{PROBES[name].needs_value!r}, which this probe counts; leave the probe out"
                )
        return tuple(name for name in able if self.probes is None or name in self.probes)


class Validity(FileModel):
    """Limits beyond which a sample is set aside; fixed before the run."""

    clock_jump_ms: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="largest difference between two clocks over a sample",
    )
    steal: Share = Field(
        default=0.05,
        description="largest share of CPU time that a hypervisor took away, in the guest over a "
        "sample and on the host over a boot",
    )
    # A build that has just ended, one job per CPU, still stands in the load average with about
    # 1 per CPU. What really runs beside a boot is seen by its CPU time, the next limit.
    host_load: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="largest load average of the host before a boot, per host CPU, beyond the "
        "guest's vCPUs (which the boot before has kept busy)",
    )
    host_other_cpu: Share = Field(
        default=0.05,
        description="share of the host's CPU time above which other programs disturb a slice; the "
        "report says so, and uses it: what slows a whole cell's run falls out of its ratios",
    )
    cpu_speed: Share = Field(
        default=0.6,
        description="smallest mean speed of the vCPUs directly before and after a sample, as a "
        "share of what they reach in the regime when nothing disturbs them",
    )


class Environment(FileModel):
    """What is set on the host for the time of a block, with the rights at hand, then restored."""

    governor: Literal["performance", "leave"] = Field(
        default="performance", description="CPU frequency governor"
    )
    turbo: Literal["off", "leave"] = Field(
        default="off", description="clock rates above the nominal one, which heat decides on"
    )
    pin_vcpus: bool = Field(
        default=True,
        description="each vCPU on a physical core of its own, if there are enough of them",
    )
    move_irqs: bool = Field(
        default=True, description="device interrupts away from the cores that vCPUs are pinned to"
    )
    wait_for_quiet_s: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = Field(
        default=60,
        description="before its first boot a block waits until other programs take at most "
        "validity.host_other_cpu of the host's CPU time, for at most so long; then it goes on, "
        "and that is recorded. 0: never wait",
    )


class Claims(FileModel):
    """Published deltas that the report compares its own with."""

    file: str = Field(description="CSV of claims, see config/README.md")
    source: str = Field(min_length=1, description="where they were published")
    arm: Name = Field(description="the arm that the claims are about")
    workload: Name | None = Field(default=None, description="of several, the one they are about")
    setup: dict[str, str] = Field(
        default_factory=dict, description="how the published numbers were measured, label to text"
    )


class NegativeControl(FileModel):
    """Cells that a series cannot make faster, so that they must come out equivalent."""

    workload: Name | None = Field(default=None, description="of several, the one whose cells")
    cells: Matrix = Field(
        min_length=1, description="levels by factor; other factors take every level"
    )
    reason: str = Field(min_length=1, description="why there can be no effect")


class Statistics(FileModel):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.03,
        description="an effect whose whole interval lies within this margin is called equivalent",
    )


class Experiment(FileModel):
    """One experiment file."""

    schema_version: Literal[2] = Field(alias="schema")
    name: Name
    title: str = Field(min_length=1, max_length=200)
    summary: str = ""
    kernel: Kernel | None = Field(
        default=None, description="what arms are built from; not needed where all have an image"
    )
    arms: dict[Name, Arm] = Field(min_length=1)
    baseline: Name = "baseline"
    control: bool = Field(
        default=True, description="boot the baseline once more in every block, as an A/A arm"
    )
    guest: Guest = Guest()
    workloads: dict[Name, Chosen] = Field(
        min_length=1, description="what is measured, all of it in the same boots"
    )
    regimes: dict[Name, Regime] = Field(min_length=1)
    protocols: dict[Name, Protocol] = Field(min_length=1)
    mechanism: Mechanism | None = None
    statistics: Statistics = Statistics()
    validity: Validity = Validity()
    environment: Environment = Environment()
    negative_controls: tuple[NegativeControl, ...] = Field(default=(), strict=False)
    claims: Claims | None = None
    # Excluded from dumps: a run stays the same run, however its series is mailed.
    mail: Mail | None = Field(default=None, exclude=True)
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("schema") == 1:
            raise ValueError(advice(data))
        workloads = data.get("workloads")
        if not isinstance(workloads, dict):
            return data
        named = {
            name: {"program": name, **chosen} if isinstance(chosen, dict) else chosen
            for name, chosen in workloads.items()
        }
        return {**data, "workloads": named}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_experiment(self)
        return self

    def of_protocol(self, protocol: str) -> Self:
        """The experiment as one of its protocols runs it: with that one and its arms only.

        Raises:
            ValueError: there is no such protocol; the message says which there are.
        """
        if protocol not in self.protocols:
            raise ValueError(f"no protocol {protocol!r}; it defines {', '.join(self.protocols)}")
        chosen = self.protocols[protocol]
        arms = self.arms if chosen.arms is None else {self.baseline, *chosen.arms}
        return self.model_copy(
            update={
                "protocols": {protocol: chosen},
                "arms": {name: arm for name, arm in self.arms.items() if name in arms},
                "claims": self.claims if self.claims and self.claims.arm in arms else None,
                "mail": self.mail if self.mail and self.mail.arm in arms else None,
            }
        )

    def of_architecture(self, name: str | None) -> Self:
        """The experiment with guests of another architecture, and a name that says so.

        Args:
            name: of the architecture; itself for its own one, or for None.

        Raises:
            ValueError: it builds no kernel, or asks for pages that the architecture does not have.
        """
        if name is None or name == self.arch.name:
            return self
        if self.kernel is None:
            raise ValueError(
                f"arch: {name} cannot be had: all arms have an image, and that is of one "
                "architecture; name images of the other one"
            )
        changed = self.kernel.model_dump() | {"arch": name}
        return self.model_copy(
            update={"kernel": Kernel.model_validate(changed), "name": f"{self.name}-{name}"}
        )

    def of_workload(self, name: str) -> Self:
        """The experiment as if one of its workloads were all of it: what tables are made of.

        Raises:
            KeyError: there is none of that name.
        """
        claims, traced = self.claims, self.mechanism
        return self.model_copy(
            update={
                "workloads": {name: self.workloads[name]},
                "claims": claims if claims and self.named(claims.workload) == name else None,
                "mechanism": traced if traced and self.named(traced.workload) == name else None,
                "negative_controls": tuple(
                    control
                    for control in self.negative_controls
                    if self.named(control.workload) == name
                ),
            }
        )

    def each_workload(self) -> Iterator[tuple[str, Self]]:
        """Every workload: the folder of its tables below the run's, and the experiment so far.

        The folder is the run's own where there is one workload.
        """
        for name in self.workloads:
            yield self.tables_of(name), self.of_workload(name)

    def tables_of(self, workload: str) -> str:
        """The folder of a workload's tables, below the run's: its name, or none if it is alone."""
        return workload if len(self.workloads) > 1 else ""

    def named(self, workload: str | None) -> str:
        """A workload's name; without one, the first's."""
        return workload if workload is not None else next(iter(self.workloads))

    @property
    def workload_name(self) -> str:
        """Of the one workload of what `of_workload` gave; of several, the first."""
        return self.named(None)

    @property
    def workload(self) -> Chosen:
        """The workload of that name."""
        return self.workloads[self.workload_name]

    @property
    def matrix(self) -> Matrix:
        """Its matrix."""
        return self.workload.matrix

    def protocol_regimes(self, protocol: str) -> dict[str, Regime]:
        """The regimes that a protocol runs, in the order of the experiment file."""
        durations = self.protocols[protocol].duration_s
        return {name: regime for name, regime in self.regimes.items() if name in durations}

    def mechanism_regimes(self, protocol: str) -> list[str]:
        """The regimes of a protocol that get mechanism boots, in the order of the file."""
        if self.mechanism is None:
            return []
        chosen = self.protocols[protocol].mechanism
        if chosen is not None:
            return [name for name in self.regimes if name in chosen]
        wanted = self.mechanism.regimes
        return [name for name in self.protocol_regimes(protocol) if name in wanted]

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes of its mechanism boots, which trace one workload."""
        if self.mechanism is None:
            return ()
        traced = self.workloads[self.named(self.mechanism.workload)]
        return self.mechanism.probes_of(traced.declaration)

    def arm(self, name: str) -> Arm:
        """The arm of that name; the control is the baseline once more."""
        return self.arms[self.baseline if name == CONTROL_ARM else name]

    def booted_arms(self) -> dict[str, str]:
        """Arm that is booted -> arm whose kernel it boots; baseline first, control last."""
        order = [self.baseline, *(name for name in self.arms if name != self.baseline)]
        arms = {name: name for name in order}
        if self.control:
            arms[CONTROL_ARM] = self.baseline
        return arms

    @property
    def built_arms(self) -> list[str]:
        """Arms whose kernel is built; the others have an image."""
        return [name for name, arm in self.arms.items() if arm.image is None]

    def source_of(self, arm: str) -> Source:
        """What an arm's kernel is built from; it has no image."""
        source = self.arm(arm).source
        if source is None:
            assert self.kernel is not None, "checked with the file"
            source = self.kernel.source
        return source

    def source_record(self, arm: str) -> str:
        """The file that `kdelta fetch` records an arm's source in; one for each source."""
        source = self.source_of(arm)
        if self.kernel and source == self.kernel.source:
            return "source.json"
        owner = next(name for name in self.built_arms if self.source_of(name) == source)
        return f"source-{owner}.json"

    def series_of(self, arm: str) -> Series | None:
        """The series of an arm's kernel, as far as the file tells; None where git knows it."""
        return None if self.arm(arm).image else self.source_of(arm).series

    def compiler_of(self, arm: str) -> str:
        """The command name of the compiler that an arm's kernel is built with."""
        return self.arm(arm).compiler or (self.kernel.compiler if self.kernel else "gcc")

    @property
    def compilers(self) -> dict[str, str]:
        """Arm whose kernel is built -> the command name of its compiler."""
        return {name: self.compiler_of(name) for name in self.built_arms}

    def base_of(self, arm: str) -> str:
        """The base configuration of an arm's kernel."""
        base = self.arm(arm).base or (self.kernel and self.kernel.config.base)
        return base or "defconfig"

    def fragments_of(self, arm: str) -> list[str]:
        """Config fragments of an arm's kernel, a later one wins; relative to the project's root."""
        shared = self.kernel.config.fragments if self.kernel else []
        needed = [
            str(Path(FOLDER, chosen.program, name))
            for chosen in self.workloads.values()
            for name in chosen.declaration.fragments
        ]
        return list(dict.fromkeys([*shared, *needed, *self.arm(arm).fragments]))

    @property
    def arch(self) -> Architecture:
        """The architecture of its guests."""
        return architecture(self.kernel.arch if self.kernel else None)

    @property
    def page_kib(self) -> int | None:
        """The size of a page in KiB, if the experiment asks for one."""
        return self.kernel.page_kib if self.kernel else None

    def memory_mib(self, arm: str | None = None) -> int:
        """Guest memory in MiB, rounded up; of an arm, or of those that say nothing else."""
        own = self.arm(arm).memory if arm is not None else None
        return math.ceil(parse_size_bytes(own or self.guest.memory) / 2**20)

    @property
    def disk_bytes(self) -> int:
        """Bytes of the scratch disk that each guest has, whole MiB; 0: none has one.

        One for all workloads, since they run one after the other.
        """
        return math.ceil(max(w.disk_bytes for w in self.workloads.values()) / 2**20) * 2**20

    def vcpus(self, arm: str | None = None) -> int | str:
        """Virtual CPUs, or `auto`; likewise."""
        own = self.arm(arm).vcpus if arm is not None else None
        return own or self.guest.vcpus
