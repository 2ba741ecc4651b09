# SPDX-License-Identifier: GPL-2.0-only
"""What runs in guests: programs built for them, the same bytes for every guest, and the host's.

A program of the kernel's tree is built once, from the tree that the baseline is built from, and
all arms run it: what is measured is the kernel.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdelta.architecture import Architecture
from kdelta.cache import copy_atomically, make_entry, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.kernel.process import clean_environment, run
from kdelta.workload.declaration import Workload
from kdelta.workload.guest_root import RECORD as ROOT_RECORD
from kdelta.workload.guest_root import make_root, require_program, root_of
from kdelta.workload.tree import in_tree

if TYPE_CHECKING:
    from kdelta.kernel.source import SourceTree

_SOURCES = Path(__file__).resolve().parents[2]
HELPERS = ("speed_check", "guest_init")
"""What every guest is given beside the workload: each is one C file in a folder of its name."""
SPEED_SOURCE, INIT_SOURCE = (_SOURCES / name / f"{name}.c" for name in HELPERS)
CPU_CHECK = _SOURCES / "cpu_check" / "cpu_check.S"
"""What KVM is tried with before there is a kernel."""
RECORD = "programs.json"
"""What the workloads' programs are, beside the programs."""
# The build ID and macro prefixes would tie the bytes to this folder.
FLAGS = ("-O2", "-Wall", "-Wextra", "-static", "-pthread", "-Wl,--build-id=none")
CPU_CHECK_FLAGS = (
    *("-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"),
    *("-Wl,--entry=start", "-Wl,-Ttext-segment=0x100000"),
)
# As the tree's own selftests are built; {tree} stands for it.
TREE_FLAGS = ("-D_GNU_SOURCE=", "-I{tree}/tools/testing/selftests", "-ffile-prefix-map={tree}/=")
# A tool knows the variables that are its own. perf needs none of these libraries for its
# benchmarks, and finds some of them on one host and not on the next.
MAKE_OPTIONS = (
    *("WERROR=0", "prefix=/usr", "BUILD_BPF_SKEL=0"),
    *(
        f"NO_{name}=1"
        for name in (
            *("AUXTRACE", "BABELTRACE2", "BACKTRACE", "BPF_SKEL", "CAPSTONE", "DEMANGLE", "DWARF"),
            *("GTK2", "JEVENTS", "JVMTI", "LIBAUDIT", "LIBBABELTRACE", "LIBBPF", "LIBCAP"),
            *("LIBCRYPTO", "LIBDEBUGINFOD", "LIBDW", "LIBELF", "LIBLLVM", "LIBNUMA", "LIBPERL"),
            *("LIBPFM4", "LIBPYTHON", "LIBTRACEEVENT", "LIBUNWIND", "LIBZSTD", "LZMA", "RUST"),
            *("SDT", "SHELLCHECK", "SLANG", "ZLIB"),
        )
    ),
)


def built_programs(workload: Workload) -> list[str]:
    """Names of the programs that are built for a workload; none where the host has it."""
    return [workload.program.name] if workload.program.built else []


def program_sources(workload: Workload, folder: Path) -> list[Path]:
    """The C files of the project that are built for a workload's guests.

    Args:
        workload: the workload.
        folder: of the workload.
    """
    own = [folder / workload.program.source] if workload.program.source is not None else []
    return [*own, SPEED_SOURCE, INIT_SOURCE]


def package_program(workload: Workload, root: Path | None = None) -> Path:
    """A package's program, as guests have it: in the host's root, or in one of their own.

    Args:
        workload: whose program it is.
        root: the guests' root; None: the host's.

    Raises:
        KdeltaError: it is not there.
    """
    program = workload.program
    return require_program("workload.yaml: program", program.name, str(program.package), root)


@dataclass(frozen=True)
class Target:
    """What programs are built for, and with what.

    Attributes:
        arch: of the guests; None: this host's, with the compiler as it is called here.
        root: the guests' root file system; None: the host's.
        compiler: the C compiler's command name on a host of the architecture.
    """

    arch: Architecture | None = None
    root: Path | None = None
    compiler: str = "gcc"

    def tool(self, name: str) -> str:
        """The command of a tool, such as `strip`, that is for it."""
        return f"{self.arch.cross if self.arch else ''}{name}"

    def require(self, name: str, package: str) -> str:
        """The command of a tool that has to be there.

        Raises:
            KdeltaError: it is not; the message names the package.
        """
        command = self.tool(name)
        if shutil.which(command) is None:
            cross = self.arch is not None and self.arch.cross
            install = (
                self.arch.packages_text() if self.arch and cross else f"apt-get install {package}"
            )
            raise KdeltaError(f"{command} is not installed; {install}")
        return command


THIS_HOST = Target()


def build_programs(
    workloads: Mapping[str, tuple[Workload, Path]],
    output: Path,
    log: Path,
    cache: Path,
    target: Target = THIS_HOST,
    tree: SourceTree | None = None,
    packages: Sequence[str] = (),
) -> None:
    """Build what guests run, or take it from the cache.

    Args:
        workloads: by the name of their folder, each with that folder.
        output: folder that gets the programs, and `RECORD` about the workloads' own.
        log: receives what the compiler says.
        cache: the cache's root.
        target: what they are built for; its root is found here.
        tree: the kernel's source, where a workload's program is of it.
        packages: what the guests' root is made of, where it is their own; see `guest_root`.

    Raises:
        KdeltaError: no compiler, one of them cannot be built, or a package is not installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    output.mkdir(parents=True, exist_ok=True)
    for source in (SPEED_SOURCE, INIT_SOURCE):
        _place(cached_program(source, log, cache, target), output / source.stem)
    if packages and target.arch:
        made = make_root(target.arch, packages, output / INIT_SOURCE.stem, cache)
        write_atomically(output / ROOT_RECORD, (json.dumps(made, indent=1) + "\n").encode())
        target = replace(target, root=root_of(output, cache))
    record: dict[str, Any] = {}
    for name, (workload, folder) in workloads.items():
        path, origin = own_program(name, workload, folder, log, cache, target, tree)
        if workload.program.built:
            _place(path, output / workload.program.name)
        record[name] = {"binary_sha256": sha256_file(path.resolve()), **origin}
    write_atomically(output / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def own_program(
    name: str,
    workload: Workload,
    folder: Path,
    log: Path,
    cache: Path,
    target: Target = THIS_HOST,
    tree: SourceTree | None = None,
) -> tuple[Path, dict[str, Any]]:
    """A workload's own program as a file of this host, built if need be, and what it comes from.

    Args:
        name: the workload's folder's name, for messages.
        workload: the workload.
        folder: of the workload.
        log: what the compiler says is appended to it.
        cache: the cache's root.
        target: what it is for.
        tree: the kernel's source, where the program is of it.

    Raises:
        KdeltaError: as for `build_programs`.
    """
    program = workload.program
    if program.package is not None:
        found = package_program(workload, target.root)
        path = target.root / found.relative_to("/") if target.root else found
        return path, {"program": str(found), "package": program.package}
    if program.source is not None:
        return _cached(_c_recipe(folder / program.source, target), log, cache)
    if tree is None:
        raise KdeltaError(
            f"workloads/{name}: program.tree: it is built from a kernel's source; give the record "
            "of `kdelta fetch`"
        )
    path = in_tree(name, workload, tree)
    recipe = (
        _c_recipe(path, target, tree)
        if program.tree_file
        else _make_recipe(path, program.command or path.name, target, tree)
    )
    origin = {"tree": program.tree, "kernel": tree.title, "source": tree.id}
    built, record = _cached(recipe, log, cache)
    return built, {**record, **origin}


def cached_program(
    source: Path,
    log: Path,
    cache: Path,
    target: Target = THIS_HOST,
    flags: tuple[str, ...] = FLAGS,
) -> Path:
    """A static program in the cache, compiled if it is not there yet.

    Args:
        source: its one file, of C or assembler.
        log: what the compiler says is appended to it.
        cache: the cache's root.
        target: what it is for.
        flags: the compiler's.

    Raises:
        KdeltaError: no compiler, or it does not compile.
    """
    return _cached(_c_recipe(source, target, flags=flags), log, cache)[0]


@dataclass(frozen=True)
class _Recipe:
    """How a program is built: its name, all that its bytes depend on, and the building."""

    program: str
    record: dict[str, Any]
    depends: tuple[str, ...]
    build: Callable[[Path, Path], None]
    """With the program's path and the log."""


def _cached(recipe: _Recipe, log: Path, cache: Path) -> tuple[Path, dict[str, Any]]:
    key = hashlib.sha256("\0".join((recipe.program, *recipe.depends)).encode()).hexdigest()[:24]
    entry = make_entry(
        cache / "workloads" / key, lambda folder: recipe.build(folder / recipe.program, log)
    )
    return entry / recipe.program, {"program": recipe.program, **recipe.record}


def _c_recipe(
    source: Path,
    target: Target,
    tree: SourceTree | None = None,
    flags: tuple[str, ...] = FLAGS,
) -> _Recipe:
    """Of one file, which may include others of the kernel's tree if it is of that."""
    flags = (*flags, *(TREE_FLAGS if tree else ()))
    compiler = target.require(target.compiler, "gcc libc6-dev")
    version = _version(compiler)
    source_sha256 = sha256_file(source)
    # What else of the tree it includes is the tree's.
    depends = (source_sha256, version, *flags, *((tree.id,) if tree else ()))
    words = [flag.replace("{tree}", str(tree.path)) if tree else flag for flag in flags]
    return _Recipe(
        source.stem,
        {"source_sha256": source_sha256, "compiler": version, "flags": list(flags)},
        depends,
        lambda binary, log: _compile(compiler, words, source, binary, log),
    )


def _make_recipe(folder: Path, program: str, target: Target, tree: SourceTree) -> _Recipe:
    """Of a folder of the kernel's tree with a Makefile."""
    Target().require("make", "make")
    strip = target.require("strip", "binutils")
    compiler = target.require(target.compiler, "gcc libc6-dev")
    version = _version(compiler)
    options = [f"CC={compiler}", *MAKE_OPTIONS]
    if target.arch and target.arch.cross:
        options += [f"ARCH={target.arch.make_arch}", f"CROSS_COMPILE={target.arch.cross}"]
    return _Recipe(
        program,
        {"compiler": version, "options": options},
        (tree.id, str(folder.relative_to(tree.path)), program, version, *options),
        lambda binary, log: _make(folder, options, strip, binary, log),
    )


def _version(compiler: str) -> str:
    return subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=False
    ).stdout.partition("\n")[0]


def _place(program: Path, placed: Path) -> None:
    copy_atomically(program, placed)
    placed.chmod(0o755)


def _make(folder: Path, options: list[str], strip: str, binary: Path, log: Path) -> None:
    """Build a folder of the tree out of the tree, which stays as it is, and keep one program."""
    with tempfile.TemporaryDirectory(dir=binary.parent, prefix="objects-") as objects:
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        before = set(folder.rglob("*"))
        with log.open("ab") as file:
            done = run(
                ["make", "-C", folder, f"O={Path(objects).resolve()}", *options, jobs],
                # Scripts of the tree leave nothing beside them.
                env=clean_environment({"PYTHONDONTWRITEBYTECODE": "1"}),
                log=file,
            )
        what = f"{folder.name}: `make` of the kernel's tree"
        strays = sorted(set(folder.rglob("*")) - before, reverse=True)
        for stray in strays:
            stray.rmdir() if stray.is_dir() and not stray.is_symlink() else stray.unlink()
        if strays:
            raise KdeltaError(
                f"{what} wrote {strays[-1].name} into the tree, and not into O=, as the kernel's "
                "tools do; the tree is shared and stays as it is"
            )
        if done.status != 0:
            raise KdeltaError(
                f"{what}: {_first_error(done.tail, 'make', done.status)}; whole log: {log}"
            )
        found = [path for path in Path(objects).rglob(binary.name) if os.access(path, os.X_OK)]
        programs = [path for path in found if path.is_file()]
        if not programs:
            raise KdeltaError(
                f"{what} made no program {binary.name}; name the one it makes in program.command; "
                f"whole log: {log}"
            )
        # The build ID, and paths in what is left for debuggers, would tie it to this folder.
        program = min(programs, key=lambda path: len(path.parts))
        stripped = run(
            [strip, "--strip-all", "--remove-section=.note.gnu.build-id", "-o", binary, program],
            env=clean_environment(),
        )
        if stripped.status != 0:
            raise KdeltaError(f"{what}: {binary.name} is no program: {stripped.tail}")


def _compile(compiler: str, flags: list[str], source: Path, binary: Path, log: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [compiler, *flags, "-o", str(binary), str(source.resolve())],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
        )
    with log.open("a") as file:
        file.write(done.stderr)
    if done.returncode != 0:
        raise KdeltaError(
            f"{source.stem} does not compile: "
            f"{_first_error(done.stderr, compiler, done.returncode)}; whole log: {log}"
        )


def _first_error(text: str, program: str, status: int) -> str:
    # The compiler's errors, and the linker's; a path may hold the word "error" too.
    signs = ("error:", "cannot find", "undefined reference")
    errors = [line for line in text.splitlines() if any(s in line for s in signs)]
    return errors[0] if errors else f"{program} exited with {status}"
