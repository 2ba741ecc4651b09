# SPDX-License-Identifier: GPL-2.0-only
"""The typed experiment: one YAML file, parsed once, at the edge.

Everything a run depends on is in the `Experiment` model; nothing inside the
package looks at the YAML again. JSON schemas for editors and for Snakemake are
generated from these models (`kdelta schema`), so that they cannot disagree.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kdelta.units import parse_size_bytes
from kdelta.workload_options import check_option

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Factor = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


def _checked_size(text: str) -> str:
    parse_size_bytes(text)
    return text


Size = Annotated[str, AfterValidator(_checked_size)]

Level = int | str | bool

CONTROL_ARM = "control"


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
        "folder; for example trixie-backports",
    )


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


class KernelConfig(_Model):
    """How a kernel is configured: a make target, then fragments on top of it."""

    base: Literal["allnoconfig", "defconfig", "tinyconfig"] = "allnoconfig"
    fragments: list[str] = Field(
        min_length=1, description="files of CONFIG_ lines, relative to the project's root"
    )


class Kernel(_Model):
    source: Annotated[DebianSource | GitSource, Field(discriminator="type")]
    config: KernelConfig
    compiler: str = Field(
        default="gcc", pattern=r"^[A-Za-z0-9._+-]+$", description="the C compiler's command name"
    )


class Variant(_Model):
    """A kernel: the source, plus patches, plus config fragments of its own."""

    title: str = Field(min_length=1, max_length=200)
    patches: list[str] = Field(
        default_factory=list,
        description="patch files, or folders whose *.patch files are taken in name order",
    )
    fragments: list[str] = Field(default_factory=list, description="further config fragments")


class Guest(_Model):
    """The virtual machine that every arm is booted in."""

    acceleration: Literal["auto", "kvm", "tcg"] = Field(
        default="auto",
        description="auto: boot the built kernel with KVM under a deadline, else emulate, "
        "with the reason recorded",
    )
    vcpus: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto", description="auto: the host's cores, at most 16"
    )
    memory: Size = Field(default="1G", description="guest memory, for example 1G or 2048M")
    boot_timeout_s: Seconds = Field(
        default=120, description="a guest whose driver has not begun by then is given up"
    )


class Workload(_Model):
    """What is run in the guest, with the arguments that are the same in every cell."""

    program: Literal["pipe_bench"] = "pipe_bench"
    arguments: dict[Factor, Level] = Field(
        default_factory=dict,
        description="pipe_bench options by name, underscores for dashes: write_size, pipe_size, "
        "read_size, processes, nonblock, pin",
    )
    timeout_s: Seconds = Field(
        default=60, description="a cell may take this much longer than its own duration"
    )


class Stressor(_Model):
    """A program that runs beside the workload, started before each boot's sweep."""

    command: list[str] = Field(
        min_length=1, description="argument vector, run as root in the guest"
    )
    settle_timeout_s: Seconds = Field(
        default=60, description="how long its memory may take to stop growing"
    )


class Regime(_Model):
    """A condition of the guest."""

    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    stressor: Stressor | None = None


class Protocol(_Model):
    """How much is measured. The number of blocks is fixed before the first boot."""

    blocks: Annotated[int, Field(ge=1, le=200)]
    warmup_s: Annotated[float, Field(ge=0, le=3600)] = 0.2
    duration_s: dict[str, Seconds] = Field(
        description="seconds per cell for every regime, by the regime's name"
    )


class Statistics(_Model):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    equivalence_margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.03,
        description="an effect whose whole interval lies within this margin is called equivalent",
    )


class Experiment(_Model):
    """One experiment file."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Slug
    title: str = Field(min_length=1, max_length=200)
    summary: str = ""
    kernel: Kernel
    variants: dict[Slug, Variant] = Field(min_length=1)
    baseline: Slug = "baseline"
    control: bool = Field(
        default=True, description="boot the baseline image once more in every block, as an A/A arm"
    )
    guest: Guest = Guest()
    workload: Workload = Workload()
    matrix: dict[Factor, Annotated[list[Level], Field(min_length=1)]] = Field(min_length=1)
    regimes: dict[Slug, Regime] = Field(min_length=1)
    protocols: dict[Slug, Protocol] = Field(min_length=1)
    statistics: Statistics = Statistics()
    seed: Annotated[int, Field(ge=0, lt=2**63)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.baseline not in self.variants:
            raise ValueError(
                f"baseline: {self.baseline!r} is not a variant; variants are "
                f"{', '.join(self.variants)}"
            )
        if CONTROL_ARM in self.variants:
            raise ValueError(
                f"variants.{CONTROL_ARM}: this name is kept for the A/A arm; rename the variant"
            )
        for factor, levels in self.matrix.items():
            for level in levels:
                check_option(f"matrix.{factor}", factor, level)
            if len(set(map(str, levels))) != len(levels):
                raise ValueError(f"matrix.{factor}: a level is listed twice in {levels}")
            if factor in self.workload.arguments:
                raise ValueError(
                    f"workload.arguments.{factor}: it is a factor of the matrix too; keep one"
                )
        for option, value in self.workload.arguments.items():
            check_option(f"workload.arguments.{option}", option, value)
        for name, protocol in self.protocols.items():
            missing = [regime for regime in self.regimes if regime not in protocol.duration_s]
            unknown = [regime for regime in protocol.duration_s if regime not in self.regimes]
            if missing or unknown:
                raise ValueError(
                    f"protocols.{name}.duration_s: needs one entry for every regime "
                    f"({', '.join(self.regimes)})"
                    + (f"; missing: {', '.join(missing)}" if missing else "")
                    + (f"; unknown: {', '.join(unknown)}" if unknown else "")
                )
        return self

    def arms(self) -> dict[str, str]:
        """Arm name -> variant name, baseline first, the control last."""
        order = [self.baseline, *(name for name in self.variants if name != self.baseline)]
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


def patch_files(variant: Variant, root: Path) -> list[Path]:
    """The variant's patch files in the order they apply.

    Raises:
        FileNotFoundError: a named file or folder does not exist, or a folder
            holds no patch (the message is the path).
    """
    files: list[Path] = []
    for entry in variant.patches:
        path = root / entry
        if path.is_dir():
            found = sorted(path.glob("*.patch"))
            if not found:
                raise FileNotFoundError(f"{entry} (a folder without *.patch files)")
            files.extend(found)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(entry)
    return files
