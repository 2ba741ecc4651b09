# SPDX-License-Identifier: GPL-2.0-only
"""The programs that a kernel is built with, and the environment they run in."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdelta.architecture import Architecture
from kdelta.errors import KdeltaError
from kdelta.kernel.costs import STACK_FLAG
from kdelta.kernel.process import clean_environment

# Program -> the Debian package that has it.
_NEEDED = {
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "git": "git",
    "tar": "tar",
    "xz": "xz-utils",
    "gzip": "gzip",
}
# What LLVM= has kbuild take instead of binutils: Documentation/kbuild/llvm.rst in the kernel.
_LLVM_TOOLS = ("ar", "nm", "objcopy", "objdump", "readelf", "strip")

# Reproducible builds: Documentation/kbuild/reproducible-builds.rst in the
# kernel. The date is shown by `uname -v` and must be the same for ever.
_TIMESTAMP = "Thu Jan  1 00:00:00 UTC 1970"
_REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": _TIMESTAMP,
    "KBUILD_BUILD_USER": "kdelta",
    "KBUILD_BUILD_VERSION": "1",
    "LOCALVERSION": "",
    "SOURCE_DATE_EPOCH": "0",
}
# Not by disassembly, which sees no pushed registers, and no pass over a whole kernel. The code
# is the same with it and without: all objects of a kernel were compared.
_STACK_USE = {"KCFLAGS": STACK_FLAG}


@dataclass(frozen=True)
class Toolchain:
    """What a kernel is built with.

    Attributes:
        compiler_command: the C compiler's name.
        compiler: its version line; like the linker's, part of an image's identity.
        linker: its version line.
        arch: what it builds for.
        llvm: of clang: the value of LLVM=, which makes kbuild take the rest from LLVM too.
    """

    compiler_command: str
    compiler: str
    linker: str
    arch: Architecture
    llvm: str = ""

    @property
    def identity(self) -> str:
        """The architecture and both lines."""
        return f"{self.arch.name}\n{self.compiler}\n{self.linker}"


@functools.cache
def read_toolchain(compiler: str, arch: Architecture) -> Toolchain:
    """What the compiler and the linker say they are.

    Args:
        compiler: its command name on a host of the architecture, such as gcc-12.
        arch: what kernels are built for.

    Raises:
        KdeltaError: a program that a kernel build needs is missing.
    """
    require_programs({"": compiler}, arch)
    command, linker = compiler_for(compiler, arch), linker_of(compiler, arch)
    return Toolchain(command, _first_line(command), _first_line(linker), arch, llvm_of(compiler))


def require_programs(compilers: Mapping[str, str], arch: Architecture) -> None:
    """Refuse kernels that cannot be built here, all in one message.

    Args:
        compilers: arm -> the C compiler's command name on a host of the architecture.
        arch: what kernels are built for.

    Raises:
        KdeltaError: a program is missing; the message says of which arms, and which packages
            have it.
    """
    missing: dict[str, str] = {}
    arms = []
    for arm, compiler in compilers.items():
        lacks = {
            name: package
            for name, package in _programs(compiler, arch).items()
            if shutil.which(name) is None
        }
        missing |= lacks
        arms += [f"{arm} (compiler {compiler})"] if lacks and arm else []
    if missing:
        what = "building " + ("arm " + " and ".join(arms) if arms else "a kernel")
        packages = sorted(set(missing.values()))
        raise KdeltaError(
            f"{what} needs {', '.join(missing)}; on Debian: apt-get install {' '.join(packages)}"
        )


def _programs(compiler: str, arch: Architecture) -> dict[str, str]:
    """What a kernel build with a compiler runs: program -> the Debian package that has it."""
    llvm, command, linker = (
        llvm_of(compiler),
        compiler_for(compiler, arch),
        linker_of(compiler, arch),
    )
    if not llvm:
        # All that guests of another architecture take is one command.
        of_gcc = " ".join([*arch.tool_packages, arch.qemu_package]) if arch.cross else compiler
        return {**_NEEDED, command: of_gcc, linker: of_gcc if arch.cross else "binutils"}
    suffix = "" if llvm == "1" else llvm
    tools = {f"llvm-{tool}{suffix}": f"llvm{suffix}" for tool in _LLVM_TOOLS}
    return {**_NEEDED, command: compiler, linker: f"lld{suffix}", **tools}


def compiler_for(compiler: str, arch: Architecture) -> str:
    """The command that compiles for an architecture here: gcc is another program then."""
    return compiler if llvm_of(compiler) else f"{arch.cross}{compiler}"


def llvm_of(compiler: str) -> str:
    """What kbuild's LLVM= is set to for a compiler: `-19` for clang-19; empty for gcc.

    Source: Documentation/kbuild/llvm.rst in the kernel.
    """
    match = re.fullmatch(r"clang(-[0-9]+)?", compiler)
    return "" if match is None else match[1] or "1"


def linker_of(compiler: str, arch: Architecture) -> str:
    """The linker that goes with a compiler."""
    llvm = llvm_of(compiler)
    return f"ld.lld{'' if llvm == '1' else llvm}" if llvm else f"{arch.cross}ld"


def _first_line(program: str) -> str:
    result = subprocess.run(
        [program, "--version"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout.splitlines()
    if result.returncode != 0 or not lines:
        raise KdeltaError(f"`{program} --version` does not work: {result.stderr.strip()}")
    return lines[0]


def make_command(toolchain: Toolchain, src: Path, obj: Path) -> list[str]:
    """The make command, with what is constant for a workspace."""
    # ccache remembers what a workspace forgets: when it is deleted, or when
    # an arm switches an option that everything depends on and back.
    ccache = "ccache " if shutil.which("ccache") else ""
    make = ["make", "-C", str(src), f"O={obj}", f"CC={ccache}{toolchain.compiler_command}"]
    make.append(f"ARCH={toolchain.arch.make_arch}")
    if toolchain.llvm:
        return [*make, f"LLVM={toolchain.llvm}"]
    return [*make, f"CROSS_COMPILE={toolchain.arch.cross}"] if toolchain.arch.cross else make


def build_environment(
    cache: Path, key: str, ccache_log: Path, *, first: bool = False
) -> dict[str, str]:
    """The whole environment of a build.

    Args:
        cache: the cache folder.
        key: the image's key. Its first digits become the build host, so that
            `/proc/version` in the guest says which image runs.
        ccache_log: where ccache notes hits and misses.
        first: nothing is built in the workspace yet. A compilation that ccache does not find
            takes half as long again with it (docs/architecture.md), and of a first
            build it would find nothing: what it keeps is what arms switch to and back.
    """
    return clean_environment(
        {
            **_REPRODUCIBLE,
            **_STACK_USE,
            **({"CCACHE_DISABLE": "1"} if first else {}),
            "KBUILD_BUILD_HOST": build_host(key),
            "CCACHE_DIR": str(compiler_cache(cache)),
            "CCACHE_CONFIGPATH": os.devnull,
            "CCACHE_MAXSIZE": "2G",
            # Never depend mode, though it preprocesses nothing twice: it does not see
            # `.incbin` (ccache issue 1540, mended in 2026), and a kernel of a compressed
            # size that was seen before became the kernel that had had this size.
            "CCACHE_NODEPEND": "1",
            "CCACHE_STATSLOG": str(ccache_log),
        }
    )


def compiler_cache(cache: Path) -> Path:
    """Where ccache keeps objects. Not in `ccache`: that was once filled in depend mode."""
    return cache.resolve() / "compiler"


def build_host(key: str) -> str:
    """The build host that is compiled into the image with this key."""
    return key[:12]
