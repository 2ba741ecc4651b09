# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source packages of Debian, by apt, without root.

Where the archive is, and which keys it is signed with, comes from the host's
own apt configuration; no host name is written here. A suite that the host does
not follow is read through a state folder of our own, signatures checked as apt
always does; the system's own lists stay as they are.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path

from kdelta.arms import DebianSource
from kdelta.cache import disk_full, says_disk_full
from kdelta.errors import KdeltaError
from kdelta.kernel import aptconf
from kdelta.kernel.apt_state import RETRIES, AptState, Package, complaints, parse_uris
from kdelta.kernel.process import clean_environment, run
from kdelta.progress import Progress


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
        self._state = AptState(state / suite, suite, "kernel.source.suite") if suite else None

    @property
    def is_private(self) -> bool:
        """Whether the suite is read through a state folder of our own."""
        return self._state is not None

    def find(self, source: DebianSource) -> Package:
        """The package, in the version asked for or else the newest that the index has.

        No network is used, except that the index of a suite is fetched the
        first time, and again if it does not have the package.

        Raises:
            KdeltaError: there is no such package or version.
        """
        fresh = False
        if self._state is not None and self._state.read_at is None:
            self._state.update()
            fresh = True
        package, said = self._look_up(source)
        if package is None and self._state is not None and not fresh:
            self._state.update()
            package, said = self._look_up(source)
        if package is None:
            raise self._unknown(source, said)
        return package

    def refresh(self, within_s: float = 3600.0) -> None:
        """Fetch the private state's index, unless that was done so many seconds ago or less.

        Raises:
            KdeltaError: the suite does not exist, or cannot be reached.
        """
        if self._state is None:
            return
        read_at = self._state.read_at
        if read_at is None or time.time() - read_at > within_s:
            self._state.update()

    @property
    def codename(self) -> str | None:
        """What the suite of a private state is called for good: `stable` changes, `trixie` not.

        None for the host's suites.
        """
        if self._state is None:
            return None
        names = aptconf.index_fields("$(CODENAME)", self._options())
        return names[0] if names else self.suite

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
                ["apt-get", *self._options(), *RETRIES, "download", package.request],
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
        return self._state.options if self._state is not None else []

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
        named = [found for found in parse_uris(result.stdout) if found.name == source.package]
        return (named[0] if named else None), result.stderr + result.stdout

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
