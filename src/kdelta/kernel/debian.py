# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source packages of Debian, by apt, without root.

Where the archive is, and which keys it is signed with, comes from the host's
own apt configuration; no host name is written here. A suite that the host does
not follow is read through a state folder of our own, signatures checked as apt
always does; the system's own lists stay as they are.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from kdelta.arms import DebianSource
from kdelta.cache import disk_full, file_lock, make_entry, says_disk_full, use, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel import aptconf
from kdelta.kernel.process import clean_environment, run
from kdelta.progress import Progress

_RETRIES = "Acquire::Retries=3"
_RECENT_S = 3600.0


@dataclass(frozen=True)
class Package:
    """A package as apt's index has it, checked against a signed Release file by apt."""

    request: str
    """What to give `apt-get download`: ``name=version``."""
    version: str
    file: str
    size: int
    sha256: str


class Archive:
    """Debian's archive: the host's suites, or one other suite."""

    def __init__(self, state: Path, suite: str | None) -> None:
        """Nothing is read yet.

        Args:
            state: folder in the cache for the private apt states.
            suite: a suite that is read through such a state; None: those of the host.

        Raises:
            KdeltaError: this host has no apt.
        """
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise KdeltaError(
                "kernel.source: type debian needs apt-get and dpkg-deb, which this host does not "
                "have; use type git with a url and a commit instead"
            )
        self.suite = suite
        self._folder = state / suite if suite else None
        self._lock = state / "lock"

    @property
    def is_private(self) -> bool:
        """Whether the suite is read through a state folder of our own."""
        return self._folder is not None

    def find(self, source: DebianSource) -> Package:
        """The package, in the version asked for or else the newest that the index has.

        No network is used, except that the index of a suite is fetched the
        first time, and again if it does not have the package.

        Raises:
            KdeltaError: there is no such package or version.
        """
        fresh = False
        if self.is_private and self._read_at is None:
            self.update()
            fresh = True
        package, said = self._look_up(source)
        if package is None and self.is_private and not fresh:
            self.update()
            package, said = self._look_up(source)
        if package is None:
            raise self._unknown(source, said)
        return package

    def refresh(self) -> None:
        """Fetch the private state's index, unless that was done within the last hour.

        Raises:
            KdeltaError: the suite does not exist, or cannot be reached.
        """
        read_at = self._read_at
        if read_at is None or time.time() - read_at > _RECENT_S:
            self.update()

    @property
    def _read_at(self) -> float | None:
        """When the private state's index was fetched last; None: there is none."""
        if self._folder is None or not use(self._folder):
            return None
        try:
            return (self._folder / "apt.conf").stat().st_mtime
        except FileNotFoundError:
            return None

    @property
    def codename(self) -> str | None:
        """What the suite of a private state is called for good: `stable` changes, `trixie` not.

        None for the host's suites.
        """
        if self._folder is None:
            return None
        names = aptconf.index_fields("$(CODENAME)", self._options())
        return names[0] if names else self.suite

    def update(self) -> None:
        """Fetch the private state's index.

        Raises:
            KdeltaError: the suite does not exist, or cannot be reached.
        """
        if self._folder is None or self.suite is None:
            return
        sources = aptconf.sources_for(self.suite)
        with file_lock(self._lock, "apt's index in the cache"):
            make_entry(self._folder, lambda _: None)
            for part in ("lists/partial", "archives/partial", "empty"):
                (self._folder / part).mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / "status", b"")
            write_atomically(self._folder / "kdelta.sources", sources.encode())
            staged = self._folder / "apt.conf.new"
            write_atomically(staged, aptconf.private_configuration(self._folder).encode())
            with Progress(f"reading the index of {self.suite}") as progress:
                result = run(
                    ["apt-get", "-c", staged, "-o", _RETRIES, "--error-on=any", "update"],
                    env=clean_environment(),
                    on_tick=progress.update,
                )
            if result.status != 0:
                if says_disk_full(result.tail):
                    raise disk_full(self._folder, f"reading the index of {self.suite}")
                raise KdeltaError(
                    f"kernel.source.suite: the index of {self.suite!r} cannot be read; check that "
                    "Debian has a suite of this name, and the network. apt says:\n"
                    + complaints(result.tail)
                )
            # Only now is the state worth looking into.
            staged.replace(self._folder / "apt.conf")

    def download(self, package: Package, folder: Path) -> Path:
        """Download a package into a folder and check its SHA-256.

        Raises:
            KdeltaError: it cannot be downloaded, or is not what the index says.
        """
        with Progress(f"downloading {package.file}", package.size // 2**20, unit="MiB") as progress:

            def show() -> None:
                have = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                progress.update(have // 2**20)

            result = run(
                ["apt-get", *self._options(), "-o", _RETRIES, "download", package.request],
                cwd=folder,
                env=clean_environment(),
                on_tick=show,
            )
        if result.status != 0:
            if says_disk_full(result.tail):
                raise disk_full(folder, f"downloading {package.file}")
            raise KdeltaError(
                f"kernel.source: {package.request} cannot be downloaded; check the network, and "
                "run `apt-get update` in case the archive has a newer version. apt says:\n"
                + complaints(result.tail)
            )
        file = folder / package.file
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != package.sha256:
            raise KdeltaError(
                f"kernel.source: {package.file} was damaged on the way: its SHA-256 is {found}, "
                f"the index says {package.sha256}; start again"
            )
        return file

    def _options(self) -> list[str]:
        return ["-c", str(self._folder / "apt.conf")] if self._folder is not None else []

    def _look_up(self, source: DebianSource) -> tuple[Package | None, str]:
        request = f"{source.package}={source.version}" if source.version else source.package
        result = subprocess.run(
            ["apt-get", *self._options(), "--print-uris", "download", request],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            return None, result.stderr
        return parse_uri_line(result.stdout, source.package), result.stderr + result.stdout

    def _unknown(self, source: DebianSource, said: str, others: str = "") -> KdeltaError:
        wanted = source.package + (f" in version {source.version}" if source.version else "")
        suite = f" in {self.suite}" if self.suite else ""
        offered = subprocess.run(
            ["apt-cache", *self._options(), "search", "--names-only", "^linux-source-[0-9]"],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        names = [line.split(" ", 1)[0] for line in offered.splitlines()]
        refresh = "" if self.is_private else " after `apt-get update`"
        return KdeltaError(
            f"kernel.source: apt knows no {wanted}{suite}. "
            + (f"It offers {', '.join(names)}. " if names else "It offers no kernel source. ")
            + others
            + f"`apt-cache search linux-source`{refresh} lists what there is, "
            f"`apt-cache policy {source.package}` the versions. apt says:\n" + complaints(said)
        )


def find_in_any_suite(state: Path, source: DebianSource) -> tuple[Archive, Package]:
    """The package, and the archive that has it: the host's suites, or the first other one.

    Args:
        state: folder in the cache for the private apt states.
        source: what is looked for; its suite does not count.

    Raises:
        KdeltaError: no suite of Debian's has it.
    """
    host = Archive(state, None)
    package, said = host._look_up(source)
    if package is not None:
        return host, package
    without, unread = [], []
    for suite in aptconf.other_suites():
        archive = Archive(state, suite)
        try:
            archive.refresh()
        except KdeltaError as error:
            unread.append(f"the index of {suite} cannot be read ({str(error).splitlines()[-1]})")
            continue
        package, _ = archive._look_up(source)
        if package is not None:
            return _by_codename(state, archive, package, source)
        without.append(suite)
    others = f"Nor is it in Debian's {', '.join(without)}. " if without else ""
    raise host._unknown(source, said, others + "".join(f"Besides, {why}. " for why in unread))


def _by_codename(
    state: Path, archive: Archive, package: Package, source: DebianSource
) -> tuple[Archive, Package]:
    """The same suite under its lasting name, which is what a record has to name.

    The two are one folder of the archive, but a mirror may keep one of them longer.
    """
    lasting = Archive(state, archive.codename)
    try:
        lasting.refresh()
    except KdeltaError:
        return archive, package
    found, _ = lasting._look_up(source)
    return (lasting, found) if found is not None else (archive, package)


def parse_uri_line(output: str, name: str) -> Package | None:
    """The package in the output of ``apt-get --print-uris download``.

    A line there is: 'URI' FILE SIZE SHA256:DIGEST. FILE is
    NAME_VERSION_ARCHITECTURE.deb with the version's colon as %3a.
    """
    match = re.search(
        rf"^'[^']*' (?P<file>{re.escape(name)}_(?P<version>[^_ ]+)_[^_ ]+\.deb) "
        r"(?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$",
        output,
        re.MULTILINE,
    )
    if match is None:
        return None
    version = match["version"].replace("%3a", ":")
    return Package(f"{name}={version}", version, match["file"], int(match["size"]), match["sha256"])


def unpack_source(package: Path, name: str, tree: Path) -> None:
    """Unpack the kernel tree that a `linux-source` package holds as a tar archive.

    Args:
        package: the .deb file.
        name: the package's name, which is the archive's too.
        tree: an empty folder, which gets the files.

    Raises:
        KdeltaError: the package does not hold such an archive.
    """
    script = (
        'dpkg-deb --fsys-tarfile "$1" | tar -x -O "./usr/src/$2.tar.xz" '
        '| tar -x -J --strip-components=1 --no-same-owner -C "$3"'
    )
    with Progress(f"unpacking {package.name}") as progress:
        result = run(
            ["bash", "-o", "pipefail", "-c", script, "unpack", package, name, tree],
            env=clean_environment(),
            on_tick=progress.update,
        )
    if result.status != 0:
        if says_disk_full(result.tail):
            raise disk_full(tree, "unpacking a kernel's source")
        raise KdeltaError(
            f"kernel.source: {package.name} cannot be unpacked: "
            + (result.tail.strip().splitlines() or ["no reason was given"])[0]
        )


def complaints(output: str) -> str:
    """The errors and warnings in apt's output, indented."""
    lines = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return "\n".join(f"  {line}" for line in lines or ["(nothing)"])
