# SPDX-License-Identifier: GPL-2.0-only
"""What is compared: kernels, how they are made, and how they are booted."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kdelta.architecture import ArchitectureName, architecture
from kdelta.per_kernel import Series, series_of
from kdelta.units import Size, SysctlName, Timeout, parse_size_bytes
from kdelta.yaml_file import FileModel

COMPILER = r"^[A-Za-z0-9._+-]+$"
Vcpus = Annotated[int, Field(ge=1, le=64)]
# Those that ask nothing, begin with nothing of the host's, and give the same each time.
_MAKE_TARGET = re.compile(r"(all(no|yes|mod|def)|tiny)config|([a-z0-9_]+_)?defconfig")


def is_config_file(base: str) -> bool:
    """Whether a base configuration is a file, and not a target of the kernel's make."""
    return _MAKE_TARGET.fullmatch(base) is None


def _checked_base(text: str) -> str:
    if is_config_file(text) and not ("/" in text or "." in text or text.startswith("config-")):
        raise ValueError(
            "should be a make target such as allnoconfig or defconfig, or the "
            f"path of a .config file, found {text!r}"
        )
    return text


Base = Annotated[str, AfterValidator(_checked_base)]
"""A make target such as ``defconfig``, or a file such as ``config/debian.config``."""


class DebianSource(FileModel):
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


class GitSource(FileModel):
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


Source = Annotated[DebianSource | GitSource, Field(discriminator="type")]


class KernelConfig(FileModel):
    """How a kernel is configured: a base, then fragments on top of it."""

    base: Base = Field(
        default="allnoconfig",
        description="a target of the kernel's make (allnoconfig, defconfig ...), or a .config file "
        "such as a distribution's, relative to the project's root",
    )
    fragments: list[str] = Field(
        min_length=1,
        description="files of CONFIG_ lines, relative to the project's root. NAME.linux-7.2.config "
        "beside NAME.config is added for Linux 7.2 and later, NAME.arm64.config for the "
        "architecture, NAME.kvm.config and NAME.tcg.config for the acceleration",
    )


class Kernel(FileModel):
    """What arms are built from, unless they say otherwise."""

    source: Source
    config: KernelConfig
    compiler: str = Field(
        default="gcc",
        pattern=COMPILER,
        description="the C compiler's command, a name without options",
    )
    arch: ArchitectureName | None = Field(
        default=None,
        description="the guests' architecture (default: the host's); guests of another one than "
        "the host's are emulated, on a root file system of Debian's packages",
    )
    page_size: Size | None = Field(
        default=None,
        description="size of a page, where the architecture has several, for example 64K",
    )

    @model_validator(mode="after")
    def _page_size_exists(self) -> Self:
        if self.page_size is not None:
            arch = architecture(self.arch)
            if self.page_kib not in arch.page_sizes:
                sizes = ", ".join(f"{size}K" for size in arch.page_sizes)
                raise ValueError(
                    f"page_size: {arch.title} has no pages of {self.page_size}; it has {sizes}"
                )
        return self

    @property
    def page_kib(self) -> int | None:
        """The size of a page in KiB, if it is asked for."""
        return parse_size_bytes(self.page_size) // 1024 if self.page_size else None


class Arm(FileModel):
    """One thing that is compared: a kernel, and how it is booted."""

    title: str = Field(min_length=1, max_length=200)
    patches: list[str] = Field(
        default_factory=list,
        description="patch files, or folders whose patch files (*.patch, *.mbox ...) are taken in "
        "name order, numbers as numbers; of a folder with folders linux-X.Y, the newest that is "
        "not newer than the kernel",
    )
    fragments: list[str] = Field(default_factory=list, description="further config fragments")
    source: Source | None = Field(
        default=None, description="another kernel source than kernel.source"
    )
    base: Base | None = Field(
        default=None, description="another base configuration than kernel.config.base"
    )
    compiler: str | None = Field(
        default=None,
        pattern=COMPILER,
        description="another C compiler than kernel.compiler, a name without options, for example "
        "gcc-12 or clang-19",
    )
    image: str | None = Field(
        default=None,
        # Goes through a shell on its way to QEMU: no character that it minds.
        pattern=r"^[A-Za-z0-9_./+@-]+$",
        description="a kernel that is built already, for example /boot/vmlinuz-6.1.0-47-amd64; "
        "its modules are looked for in /lib/modules, or below the same root as its boot/",
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
    memory: Size | None = Field(default=None, description="another memory than guest.memory")
    vcpus: Vcpus | None = Field(default=None, description="another number than guest.vcpus")

    @model_validator(mode="after")
    def _ready_or_built(self) -> Self:
        made = ("patches", "fragments", "source", "base", "compiler")
        given = [name for name in made if getattr(self, name)]
        if self.image is not None and given:
            raise ValueError(
                f"image: {self.image} is built already, and {given[0]} says how to build one; "
                "keep one of them"
            )
        return self

    @property
    def booting(self) -> dict[str, Any]:
        """How it is booted, whatever it is built from."""
        names = {"boot_parameters", "sysctl", "files", "memory", "vcpus"}
        said = self.model_dump(mode="json", include=names, exclude_none=True)
        return {name: value for name, value in said.items() if value}

    @property
    def booting_words(self) -> str:
        """The same for people; empty of an arm that is booted as the guest is by itself."""
        words = [*self.boot_parameters]
        words += [f"{name}={value}" for name, value in self.sysctl.items()]
        words += [f"{value} in {path}" for path, value in self.files.items()]
        words += [f"{self.memory} of memory"] if self.memory else []
        words += [f"{self.vcpus} vCPU{'' if self.vcpus == 1 else 's'}"] if self.vcpus else []
        return ", ".join(words)


class Guest(FileModel):
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
        description="another CPU model than ours (KVM: host, else the architecture's), as QEMU's "
        "-cpu takes it: where KVM refuses a register, for example host,arch-capabilities=off",
    )
    vcpus: Literal["auto"] | Vcpus = Field(
        default="auto",
        description="auto: the host's physical cores, of their fastest kind, at most 16",
    )
    memory: Size = Field(default="1G", description="guest memory, for example 1G or 2048M")
    boot_timeout_s: Timeout = Field(
        default=120, description="a guest whose driver has not begun by then is given up"
    )
