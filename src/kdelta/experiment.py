# SPDX-License-Identifier: GPL-2.0-only
"""The typed experiment: one YAML file, parsed once, at the edge.

Everything a run depends on is in the `Experiment` model; nothing inside the
package looks at the YAML again. JSON schemas for editors and for Snakemake are
generated from these models (`kdelta schema`), so that they cannot disagree.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from kdelta.consistency import check_cells, check_names, check_times
from kdelta.mail.settings import Mail
from kdelta.names import CONTROL_ARM as CONTROL_ARM
from kdelta.names import Name
from kdelta.per_kernel import Series, series_of
from kdelta.probes.inside import PROBES
from kdelta.units import parse_size_bytes
from kdelta.workload.declaration import Workload as Declaration
from kdelta.workload.folder import load_workload
from kdelta.workload.parameters import Level

# Of --duration and --timeout. Shorter ones are gone before a cell's processes have started.
MIN_DURATION_S = 0.001
MIN_TIMEOUT_S = 1
MAX_SECONDS = 86400

Factor = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=MIN_DURATION_S, le=MAX_SECONDS, allow_inf_nan=False)]
Timeout = Annotated[float, Field(ge=MIN_TIMEOUT_S, le=MAX_SECONDS, allow_inf_nan=False)]


SysctlName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)+$")]
COMPILER = r"^[A-Za-z0-9._+-]+$"


def _checked_size(text: str) -> str:
    parse_size_bytes(text)
    return text


Size = Annotated[str, AfterValidator(_checked_size)]


class _Model(BaseModel):
    # Strict: YAML has types, and `blocks: yes` is a mistake, not one block.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DebianSource(_Model):
    """A kernel as Debian packages it (`linux-source-*`), fetched with apt, without root."""

    type: Literal["debian"]
    package: str = Field(
        pattern=r"^linux-source-[0-9]+\.[0-9]+$",
        description="Debian source package, for example linux-source-6.12",
    )
    version: str | None = Field(
        default=None,
        pattern=r"^[0-9A-Za-z.+~:-]+$",
        description="exact package version; without it the newest that apt offers is taken "
        "once, and recorded",
    )
    suite: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        description="another Debian suite than the host's, read through a private apt state "
        "folder; for example trixie-backports. Without it the host's suites are asked, then its "
        "backports, stable, testing, unstable and experimental",
    )

    @property
    def series(self) -> Series:
        """The kernel's series, as the package's name has it."""
        return series_of(self.package.removeprefix("linux-source-"))


class GitSource(_Model):
    """One commit of a git repository, fetched shallow."""

    type: Literal["git"]
    url: str = Field(
        min_length=1,
        description="anything `git fetch` takes: an address or the path of a local repository",
    )
    commit: str = Field(
        pattern=r"^[0-9a-f]{40}$",
        description="the full commit id (40 digits), so that the source is one thing for ever; "
        "`git rev-parse NAME^{commit}` prints it",
    )

    @property
    def series(self) -> None:
        """The kernel's series is only known once its source is there."""
        return None


class KernelConfig(_Model):
    """How a kernel is configured: a make target, then fragments on top of it."""

    base: Literal["allnoconfig", "defconfig", "tinyconfig"] = "allnoconfig"
    fragments: list[str] = Field(
        min_length=1,
        description="files of CONFIG_ lines, relative to the project's root. NAME.linux-7.2.config "
        "beside NAME.config is added for Linux 7.2 and later, NAME.kvm.config and NAME.tcg.config "
        "for the acceleration",
    )


class Kernel(_Model):
    source: Annotated[DebianSource | GitSource, Field(discriminator="type")]
    config: KernelConfig
    compiler: str = Field(
        default="gcc", pattern=COMPILER, description="the C compiler's command name"
    )


class Arm(_Model):
    """A kernel: the source, plus patches, plus config fragments of its own."""

    title: str = Field(min_length=1, max_length=200)
    patches: list[str] = Field(
        default_factory=list,
        description="patch files, or folders whose patch files (*.patch, *.mbox ...) are taken in "
        "name order, numbers as numbers; of a folder with folders linux-X.Y, the newest that is "
        "not newer than the kernel",
    )
    fragments: list[str] = Field(default_factory=list, description="further config fragments")
    compiler: str | None = Field(
        default=None,
        pattern=COMPILER,
        description="another C compiler than kernel.compiler, for example gcc-12 or clang-19",
    )
    boot_parameters: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:=@/+-]*$")]] = (
        Field(
            default_factory=list,
            description="words of the kernel's command line, for example mitigations=off",
        )
    )
    sysctl: dict[SysctlName, int | str] = Field(
        default_factory=dict,
        description="kernel settings, set after those of the regime, before its stressor starts",
    )
    files: dict[Annotated[str, Field(pattern=r"^/(proc|sys)/[^\s]+$")], int | str] = Field(
        default_factory=dict,
        description="what is written to files of the guest's kernel, for example "
        "/sys/kernel/mm/transparent_hugepage/enabled: never",
    )

    @property
    def booting(self) -> dict[str, Any]:
        """How it is booted, whatever it is built from."""
        return self.model_dump(mode="json", include={"boot_parameters", "sysctl", "files"})


class Guest(_Model):
    """The virtual machine that every arm is booted in."""

    acceleration: Literal["auto", "kvm", "tcg"] = Field(
        default="auto",
        description="auto: boot a kernel built for KVM with it under a deadline, else emulate, "
        "with the reason recorded",
    )
    cpu: str | None = Field(
        default=None,
        # Goes through a shell on its way to QEMU: no character that it minds.
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(,[+-]?[a-z][A-Za-z0-9._-]*(=[A-Za-z0-9._-]+)?)*$",
        max_length=200,
        description="another CPU model than ours (KVM: host, else max,-erms), as QEMU's -cpu "
        "takes it: where KVM refuses a register, for example host,arch-capabilities=off",
    )
    vcpus: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="auto: the host's physical cores, of their fastest kind, at most 16",
    )
    memory: Size = Field(default="1G", description="guest memory, for example 1G or 2048M")
    boot_timeout_s: Timeout = Field(
        default=120, description="a guest whose driver has not begun by then is given up"
    )


class Workload(_Model):
    """What is run in the guest, with the arguments that are the same in every cell."""

    program: Name = Field(default="pipe_bench", description="a folder of workloads/")
    arguments: dict[Factor, Level] = Field(
        default_factory=dict,
        description="parameters of the workload that are the same in every cell, by name",
    )
    limits: dict[Factor, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict,
        description="bounds of the workload's checks other than its own, by name",
    )
    timeout_s: Timeout = Field(
        default=60,
        description="a cell that is not done so long after its own duration is killed, and failed",
    )
    # What workload.yaml says, read with the experiment. In the manifest it stands by itself.
    declaration: SkipJsonSchema[Declaration] = Field(exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _declared(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or "declaration" in data:
            return data
        name = data.get("program", "pipe_bench")
        if not isinstance(name, str):
            return {**data, "declaration": load_workload("pipe_bench")}  # the name is at fault
        context = info.context or {}
        known = context.get("workloads", {}).get(name)
        try:
            return {**data, "declaration": known or load_workload(name, context.get("root"))}
        except ValueError as error:
            raise ValueError(f"workload.program: {error}") from None


class Stressor(_Model):
    """A program that runs beside the workload, started before each boot's sweep."""

    command: list[str] = Field(
        min_length=1, description="argument vector, run as root in the guest"
    )
    settled_by: Literal["memory", "reclaim", "time"] = Field(
        default="memory",
        description="memory: it has more than 16 MiB, which have stopped growing; reclaim: the "
        "kernel has gone into direct reclaim again and again, for two seconds; time: it has run "
        "for settle_s, for a stressor of CPUs, disks or the like",
    )
    settle_s: Seconds | None = Field(
        default=None, description="with settled_by: time, how long it runs before the sweep"
    )
    settle_timeout_s: Seconds = Field(default=60, description="how long settling may take")

    @model_validator(mode="after")
    def _seconds_with_time(self) -> Self:
        if (self.settled_by == "time") != (self.settle_s is not None):
            raise ValueError(
                "settled_by: time: give settle_s, the seconds that it runs before the sweep"
                if self.settle_s is None
                else f"settle_s: {self.settle_s:g} has no effect with settled_by: "
                f"{self.settled_by}; write settled_by: time, or leave it out"
            )
        return self


Counter = Literal[
    "pgscan_direct",
    "pgsteal_direct",
    "pgscan_kswapd",
    "allocstall",
    "oom_kill",
    "pswpin",
    "pswpout",
    "psi_memory_some_us",
    "psi_memory_full_us",
    "psi_cpu_some_us",
]
Share = Annotated[float, Field(gt=0, le=1)]


class Expectation(_Model):
    """What a regime must do to the kernel, as a counter's growth over each sample shows it."""

    counter: Counter = Field(description="a counter column of samples.csv")
    at_least: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="smallest growth over a sample"
    )
    at_most: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="largest growth over a sample"
    )
    share: Share = Field(default=1.0, description="of each arm's samples in which it must hold")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.counter}: give one of at_least and at_most")
        return self


class Regime(_Model):
    """A condition of the guest."""

    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    memcg: bool = Field(
        default=False,
        description="run the workload in a child memory cgroup; without it no memory cgroup "
        "but the root is ever created in the boot. The guest asserts either",
    )
    swap: Size | None = Field(
        default=None, description="size of a compressed swap device in memory (zram)"
    )
    sysctl: dict[SysctlName, int | str] = Field(
        default_factory=dict,
        description="kernel settings of the guest, set before the stressor starts, for example "
        "vm.swappiness: 100",
    )
    stressor: Stressor | None = None
    expects: tuple[Expectation, ...] = Field(
        default=(),
        strict=False,
        description="what the regime must do to the kernel; the report says whether it did",
    )


class Protocol(_Model):
    """How much is measured. The number of blocks is fixed before the first boot."""

    arms: tuple[Name, ...] | None = Field(
        default=None,
        strict=False,
        description="arms that are measured beside the baseline; without it all of them. The "
        "control comes besides",
    )
    blocks: Annotated[int, Field(ge=1, le=200)]
    rounds: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="of a block: in each round every cell is run once by every arm, one arm right "
        "after the other; an effect is the mean over the rounds",
    )
    warmup_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=0.2, description="seconds that a cell runs unmeasured, in every round"
    )
    duration_s: dict[str, Duration] = Field(
        min_length=1,
        description="seconds per cell, over all rounds of a block, by the regime's name; the "
        "protocol runs these regimes",
    )
    mechanism: tuple[Name, ...] | None = Field(
        default=None,
        strict=False,
        description="regimes whose mechanism is traced, timed or not; without it those of "
        "mechanism.regimes that are timed",
    )

    def slice_s(self, regime: str) -> float:
        """Seconds that one arm runs one cell in one round."""
        return round(self.duration_s[regime] / self.rounds, 6)

    @model_validator(mode="after")
    def _slices_long_enough(self) -> Self:
        for regime, seconds in self.duration_s.items():
            if self.slice_s(regime) < MIN_DURATION_S:
                raise ValueError(
                    f"duration_s.{regime}: {seconds:g} s in {self.rounds} rounds are "
                    f"{self.slice_s(regime):g} s a time, and {MIN_DURATION_S:g} s is the least: "
                    "give more seconds or fewer rounds"
                )
        return self


def _known_probe(name: str) -> str:
    if name not in PROBES:
        raise ValueError(f"there is no probe {name!r}; there are {', '.join(PROBES)}")
    return name


ProbeName = Annotated[
    str, AfterValidator(_known_probe), WithJsonSchema({"type": "string", "enum": [*PROBES]})
]


class Mechanism(_Model):
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
    cells: dict[Factor, Annotated[list[Level], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="levels by factor that are traced, of the matrix; other factors take every "
        "level. Page counts hardly vary from cell to cell",
    )

    def probes_of(self, workload: Declaration) -> tuple[str, ...]:
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


class Validity(_Model):
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


class Environment(_Model):
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


class Claims(_Model):
    """Published deltas that the report compares its own with."""

    file: str = Field(description="CSV of claims, see config/README.md")
    source: str = Field(min_length=1, description="where they were published")
    arm: Name = Field(description="the arm that the claims are about")
    setup: dict[str, str] = Field(
        default_factory=dict, description="how the published numbers were measured, label to text"
    )


class NegativeControl(_Model):
    """Cells that a series cannot make faster, so that they must come out equivalent."""

    cells: dict[Factor, Annotated[list[Level], Field(min_length=1)]] = Field(
        min_length=1, description="levels by factor; other factors take every level"
    )
    reason: str = Field(min_length=1, description="why there can be no effect")


class Statistics(_Model):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.03,
        description="an effect whose whole interval lies within this margin is called equivalent",
    )


class Experiment(_Model):
    """One experiment file."""

    schema_version: Literal[2] = Field(alias="schema")
    name: Name
    title: str = Field(min_length=1, max_length=200)
    summary: str = ""
    kernel: Kernel
    arms: dict[Name, Arm] = Field(min_length=1)
    baseline: Name = "baseline"
    control: bool = Field(
        default=True, description="boot the baseline image once more in every block, as an A/A arm"
    )
    guest: Guest = Guest()
    workload: Workload = Field(default_factory=lambda: Workload.model_validate({}))
    matrix: dict[Factor, Annotated[list[Level], Field(min_length=1)]] = Field(min_length=1)
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.baseline not in self.arms:
            raise ValueError(
                f"baseline: {self.baseline!r} is not an arm; arms are {', '.join(self.arms)}"
            )
        check_names(self)
        check_cells(self)
        for name, protocol in self.protocols.items():
            strange = [arm for arm in protocol.arms or () if arm not in self.arms]
            if strange:
                raise ValueError(
                    f"protocols.{name}.arms: {', '.join(strange)}: no such arm; arms are "
                    f"{', '.join(self.arms)}"
                )
            traced = [r for r in protocol.mechanism or () if r not in self.regimes]
            if traced or (protocol.mechanism and self.mechanism is None):
                raise ValueError(
                    f"protocols.{name}.mechanism: {', '.join(traced or protocol.mechanism or ())}: "
                    + (
                        f"no such regime; regimes are {', '.join(self.regimes)}"
                        if traced
                        else "the experiment has no key mechanism; say there what is traced"
                    )
                )
            unknown = [regime for regime in protocol.duration_s if regime not in self.regimes]
            if unknown:
                raise ValueError(
                    f"protocols.{name}.duration_s: {', '.join(unknown)}: no such regime; "
                    f"regimes are {', '.join(self.regimes)}"
                )
        check_times(self)
        self._consistent_additions()
        return self

    def _consistent_additions(self) -> None:
        for regime in self.mechanism.regimes if self.mechanism else ():
            if regime not in self.regimes:
                raise ValueError(
                    f"mechanism.regimes: {regime!r} is not a regime; regimes are "
                    f"{', '.join(self.regimes)}"
                )
        if self.claims and (self.claims.arm not in self.arms or self.claims.arm == self.baseline):
            raise ValueError(
                f"claims.arm: {self.claims.arm!r} is not an arm beside the baseline; arms "
                f"are {', '.join(self.arms)}"
            )
        if self.mail and (
            self.mail.arm == self.baseline
            or self.mail.arm not in self.arms
            or not self.arms[self.mail.arm].patches
        ):
            patched = [name for name, v in self.arms.items() if v.patches]
            raise ValueError(
                f"mail.arm: {self.mail.arm!r} is not an arm with patches beside the "
                f"baseline; arms with patches are {', '.join(patched) or '(none)'}"
            )
        for number, control in enumerate(self.negative_controls):
            self._consistent_cells(f"negative_controls.{number}.cells", control.cells)
        if self.mechanism:
            self._consistent_cells("mechanism.cells", self.mechanism.cells)
            self.mechanism.probes_of(self.workload.declaration)

    def _consistent_cells(self, key: str, cells: dict[Factor, list[Level]]) -> None:
        for factor, levels in cells.items():
            if factor not in self.matrix:
                raise ValueError(
                    f"{key}.{factor}: not a factor of the matrix, which has "
                    f"{', '.join(self.matrix)}"
                )
            for level in levels:
                # 1 == True in Python, and is another level all the same.
                if (type(level), level) not in [(type(x), x) for x in self.matrix[factor]]:
                    raise ValueError(
                        f"{key}.{factor}: {level!r} is not a level of the matrix, which has "
                        f"{', '.join(map(str, self.matrix[factor]))}"
                    )

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
                "arms": {name: v for name, v in self.arms.items() if name in arms},
                "claims": self.claims if self.claims and self.claims.arm in arms else None,
                "mail": self.mail if self.mail and self.mail.arm in arms else None,
            }
        )

    def protocol_regimes(self, protocol: str) -> dict[str, Regime]:
        """The regimes that a protocol runs, in the order of the experiment file."""
        durations = self.protocols[protocol].duration_s
        return {name: regime for name, regime in self.regimes.items() if name in durations}

    def mechanism_regimes(self, protocol: str) -> list[str]:
        """The regimes of a protocol that get mechanism boots, in the order of the file."""
        chosen = self.protocols[protocol].mechanism
        if chosen is not None:
            return [name for name in self.regimes if name in chosen]
        wanted = self.mechanism.regimes if self.mechanism else ()
        return [name for name in self.protocol_regimes(protocol) if name in wanted]

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes of its mechanism boots."""
        return self.mechanism.probes_of(self.workload.declaration) if self.mechanism else ()

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

    def memory_mib(self) -> int:
        """Guest memory in MiB, rounded up."""
        return math.ceil(parse_size_bytes(self.guest.memory) / 2**20)

    def protocol(self, name: str) -> Protocol:
        """The protocol of that name.

        Raises:
            KeyError: there is none; callers check at the edge (`config.load`).
        """
        return self.protocols[name]
