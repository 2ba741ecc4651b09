# SPDX-License-Identifier: GPL-2.0-only
"""Architectures: one file each in `architectures/`; nothing else in the package knows their names.

To add one is to add such a file, and a fragment for its devices in `kernel-configs/`.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from kdelta.errors import KdeltaError
from kdelta.yaml_file import FileModel, parse_model, read_yaml

FOLDER = Path(__file__).with_name("architectures")


class Evidence(FileModel):
    """What shows a guest what executes it: the first that holds, in the order of the file."""

    mode: Literal["kvm", "tcg"]
    file: str | None = Field(default=None, description="of the guest; without one, it holds always")
    holds: str = Field(default="", description="words in it")


class Architecture(FileModel):
    """How kernels of an architecture are built, and what guests of it are run on."""

    name: str = Field(description="the name of its file")
    title: str
    machines: tuple[str, ...] = Field(strict=False, description="as `uname -m` prints it")
    debian: str = Field(description="as dpkg calls it")
    debian_release: str | None = Field(
        default=None,
        description="the Debian release that roots of its guests are of, by code name; without it "
        "the host's",
    )
    make_arch: str = Field(description="ARCH= of the kernel's make")
    source: str = Field(description="its folder in the kernel's tree")
    image: str = Field(
        description="what is booted, below make's output folder; the last part is make's target"
    )
    image_format: Literal["bzImage", "Image"]
    image_magic: str = Field(description="what shows that an image is of it, as Latin-1")
    image_magic_at: int = Field(description="where that is in the image, in bytes")
    tools: str = Field(description="prefix of compiler and binutils on hosts of another one")
    tool_packages: tuple[str, ...] = Field(strict=False, description="Debian packages of those")
    qemu: str = Field(description="QEMU's program")
    qemu_package: str
    cpu_check: bool = Field(
        default=False,
        description="whether src/cpu_check is code of it, which tells if KVM can work",
    )
    machine: str = Field(description="QEMU's machine, on which a CPU model is tried")
    console: tuple[str, ...] = Field(strict=False, description="words of the kernel's command line")
    emulated_cpu: str = Field(description="model of an emulated CPU, unless guest.cpu says one")
    kvm_arguments: tuple[str, ...] = Field(
        default=(), strict=False, description="words of the kernel's command line with KVM"
    )
    evidence: tuple[Evidence, ...] = Field(strict=False)
    page_sizes: dict[int, str] = Field(
        description="size in KiB -> line of a fragment that chooses it, where there is a choice"
    )

    port_pages: int = Field(
        default=0,
        description="pages that buffers of the ports take by which a guest is talked to",
    )

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def target(self) -> str:
        """What make is asked for."""
        return Path(self.image).name

    @property
    def native(self) -> bool:
        """Whether this host is of it."""
        return platform.machine() in self.machines

    @property
    def cross(self) -> str:
        """The prefix of the tools that build for it here; empty on hosts of it."""
        return "" if self.native else self.tools

    def packages_text(self) -> str:
        """The command that installs what guests of it need on a host of another one."""
        return f"apt-get install {' '.join([*self.tool_packages, self.qemu_package])}"

    def facts(self) -> dict[str, Any]:
        """What a kernel or a guest depends on, for keys."""
        others = {"title", "tool_packages", "qemu_package", "port_pages"}
        return self.model_dump(mode="json", exclude=others)


@functools.cache
def architectures() -> dict[str, Architecture]:
    """All that there are, by their names."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        data = read_yaml(path)
        found[path.stem] = parse_model(Architecture, {**data, "name": path.stem}, path)
    return found


def host_architecture() -> Architecture:
    """The architecture of this host.

    Raises:
        KdeltaError: there is no file of it.
    """
    found = next((one for one in architectures().values() if one.native), None)
    if found is None:
        known = ", ".join(architectures())
        raise KdeltaError(
            f"this machine is a {platform.machine()}, and kdelta knows {known}; set kernel.arch "
            f"to one of these (its guests are emulated here), or add a file to {FOLDER.name}/"
        )
    return found


def architecture(name: str | None) -> Architecture:
    """The architecture of that name; without one, this host's.

    Raises:
        KdeltaError: there is none of this host.
    """
    return host_architecture() if name is None else architectures()[name]


def _known(name: str) -> str:
    if name not in architectures():
        raise ValueError(
            f"there is no architecture {name!r}; there are {', '.join(architectures())}"
        )
    return name


ArchitectureName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": sorted(architectures())})
]
"""One of `architectures`."""
