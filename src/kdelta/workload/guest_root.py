# SPDX-License-Identifier: GPL-2.0-only
"""The root file system of guests whose architecture is not the host's: Debian's packages, unpacked.

Where guests are of the host's architecture, the host's root is theirs, and none of this is done.

No package's scripts are run, so that neither root rights nor an emulator of programs is needed:
the first process of a guest is ours (src/guest_init), and what it starts needs libraries and no
services.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdelta.architecture import Architecture, architecture
from kdelta.cache import disk_full, file_lock, make_entry, says_disk_full, use, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel import aptconf
from kdelta.kernel.apt_state import RETRIES, AptState, Package, complaints, parse_uris
from kdelta.kernel.image import sha256_file
from kdelta.kernel.process import clean_environment, run
from kdelta.progress import Progress

if TYPE_CHECKING:
    from kdelta.experiment import Experiment

RECORD = "root.json"
"""What a run's root is made of, beside the programs that are built for its guests."""

INIT_IN_ROOT = "usr/lib/kdelta/guest_init"
PYTHON = "usr/bin/python3"

# Raise it when the way of unpacking changes what comes out.
_LAYOUT = 1
# The driver is Python; its init, regimes and workloads use the others.
_BASE = ("python3", "coreutils", "dash", "mount", "util-linux")
_INSTALL = ("--yes", "--no-install-recommends", "install")
_FOLDERS = ("bin", "sbin", "lib")
# What the init and the kernel mount, which a package need not have.
_MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp", "var/tmp", "root")
_PROGRAM_FOLDERS = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/games")


def needs_root(experiment: Experiment) -> bool:
    """Whether the guests of an experiment have a root of their own on this host."""
    return not experiment.arch.native


def wanted_packages(experiment: Experiment) -> tuple[str, ...]:
    """The packages that its guests need, without those that these depend on."""
    workloads = (one.declaration.program.package for one in experiment.workloads.values())
    stressors = (
        regime.stressor.command[0] for regime in experiment.regimes.values() if regime.stressor
    )
    return tuple(sorted({*_BASE, *filter(None, workloads), *stressors}))


def make_root(arch: Architecture, wanted: Sequence[str], init: Path, cache: Path) -> dict[str, Any]:
    """The root of guests, in the cache.

    Args:
        arch: theirs.
        wanted: names of packages; what these depend on comes with them.
        init: the guests' first process, built for them.
        cache: the cache's root.

    Returns:
        For `RECORD`: key, architecture, and the packages with their versions.

    Raises:
        KdeltaError: the host's apt does not use Debian's archive, a package is unknown for the
            architecture, or cannot be had.
    """
    release = arch.debian_release or _hosts_release(arch)
    folder = cache / "apt" / f"root-{release}-{arch.debian}"
    state = AptState(folder, release, "kernel.arch", arch.debian)
    with file_lock(cache / "locks" / f"root-{arch.debian}", f"the root of {arch.title} guests"):
        if state.read_at is None:
            state.update()
        packages = _resolve(state, wanted, arch)
        key = _key(arch, packages, init)
        entry = cache / "roots" / key

        def make(folder: Path) -> None:
            archives = _download(state, wanted, packages)
            with Progress(f"unpacking the root of {arch.title} guests", len(packages)) as progress:
                for package in packages:
                    _unpack(archives / package.file, folder)
                    progress.advance()
            _furnish(folder, init)

        make_entry(entry, make)
        # They are in the root now.
        shutil.rmtree(state.archives, ignore_errors=True)
    _require_python(entry)
    return {
        "schema": 1,
        "key": key,
        "architecture": arch.name,
        "wanted": list(wanted),
        "packages": {package.name: package.version for package in packages},
    }


def root_of(programs: Path, cache: Path) -> Path | None:
    """The root that goes with a folder of programs, made anew if need be; None: the host's.

    Raises:
        KdeltaError: it is gone from the cache, and the same cannot be had any more.
    """
    try:
        record = json.loads((programs / RECORD).read_text())
    except FileNotFoundError:
        return None
    found = cache / "roots" / str(record["key"])
    if not use(found):
        init = programs / Path(INIT_IN_ROOT).name
        made = make_root(architecture(record["architecture"]), record["wanted"], init, cache)
        if made["key"] != record["key"]:
            raise KdeltaError(
                f"{found}: the guests' root file system is no longer in the cache, and Debian has "
                f"other versions of its packages now; delete {programs} and run again"
            )
    _require_python(found)
    return found


def _require_python(root: Path) -> None:
    if not (root / PYTHON).exists():
        raise KdeltaError(
            f"{root}: there is no /{PYTHON} in this root, without which nothing can be measured in "
            "its guests; delete it and run again: it is made anew"
        )


def find_program(name: str, root: Path | None) -> Path | None:
    """Where guests have a program: its path in them, or None.

    Args:
        name: of the program.
        root: of the guests; None: the host's.
    """
    if root is None:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        return Path(found) if found else None
    places = (Path(folder, name) for folder in _PROGRAM_FOLDERS)
    return next((Path("/", place) for place in places if (root / place).exists()), None)


def require_program(key: str, name: str, package: str, root: Path | None) -> Path:
    """Where guests have a program that they need: its path in them.

    Args:
        key: what asks for it, for the message.
        name: of the program.
        package: Debian's.
        root: of the guests; None: the host's.

    Raises:
        KdeltaError: they lack it; the message says what to do.
    """
    if found := find_program(name, root):
        return found
    if root is None:
        where, advice = (
            "on this host (guests use the host's programs)",
            f"apt-get install {package}"
            + (f" (is {name} a program of that package?)" if name != package else ""),
        )
    else:
        where, advice = f"in {root}", f"its Debian package is {package}?"
    raise KdeltaError(f"{key}: {name} is not installed {where}; {advice}")


def _key(arch: Architecture, packages: Sequence[Package], init: Path) -> str:
    facts = [
        _LAYOUT,
        arch.name,
        sha256_file(init),
        sorted([package.name, package.sha256] for package in packages),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _hosts_release(arch: Architecture) -> str:
    release = aptconf.host_release()
    if release is None:
        raise KdeltaError(
            f"kernel.arch: guests of {arch.title} have a root of Debian's packages here, and this "
            "host's apt does not use Debian's archive; run on Debian, or on a machine that is a "
            f"{arch.machines[0]} itself"
        )
    return release


def _resolve(state: AptState, wanted: Sequence[str], arch: Architecture) -> list[Package]:
    """All packages that the wanted ones come to."""
    # Of packages that it has downloaded already it prints nothing.
    elsewhere = ("-o", f"Dir::Cache::archives={state.folder / 'empty'}")
    hashed = ("-o", "Acquire::ForceHash=SHA256")
    result = subprocess.run(
        ["apt-get", *state.options, *elsewhere, *hashed, "--print-uris", *_INSTALL, *wanted],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise KdeltaError(
            f"guests of {arch.title} need Debian's packages {', '.join(wanted)}, and apt finds no "
            f"way to have all of them for {arch.debian}:\n{complaints(result.stderr)}"
        )
    return parse_uris(result.stdout)


def _download(state: AptState, wanted: Sequence[str], packages: Sequence[Package]) -> Path:
    archives = state.archives
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    with Progress("downloading packages of the guests' root", len(packages)) as progress:
        result = run(
            ["apt-get", *state.options, *RETRIES, "--download-only", *_INSTALL, *wanted],
            env=clean_environment(),
            on_tick=lambda: progress.update(len(list(archives.glob("*.deb")))),
        )
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(archives, "downloading packages of the guests' root")
        # What it would read is out of date, most likely: read it again the next time.
        state.conf.unlink(missing_ok=True)
        raise KdeltaError(
            "packages of the guests' root cannot be downloaded; check the network and run again. "
            f"apt says:\n{complaints(result.tail)}"
        )
    for package in packages:
        if sha256_file(archives / package.file) != package.sha256:
            raise KdeltaError(f"{archives / package.file}: damaged on the way; run again")
    return archives


def _unpack(package: Path, root: Path) -> None:
    for folder in _FOLDERS:  # merged, as on every Debian since 12
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).is_symlink():
            (root / folder).symlink_to(f"usr/{folder}")
    script = (
        'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink --no-same-owner -C "$2"'
    )
    result = run(
        ["bash", "-o", "pipefail", "-c", script, "unpack", package, root], env=clean_environment()
    )
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(root, "unpacking the guests' root")
        raise KdeltaError(f"{package.name} cannot be unpacked: {result.tail.strip()[-300:]}")


def _furnish(root: Path, init: Path) -> None:
    """Add what packages' scripts would have made, and the guests' first process."""
    for folder in _MOUNT_POINTS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    shell = root / "usr/bin/sh"
    if not shell.exists():
        shell.symlink_to("dash")
    write_atomically(root / "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    write_atomically(root / "etc/group", b"root:x:0:\n")
    target = root / INIT_IN_ROOT
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(init, target)
    target.chmod(0o755)
