# SPDX-License-Identifier: GPL-2.0-only
"""A private state of apt in the cache: one suite of the host's archive, for one architecture.

Signatures are checked as apt always does; the system's own lists stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kdelta.cache import disk_full, file_lock, make_entry, says_disk_full, use, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel import aptconf
from kdelta.kernel.process import clean_environment, run
from kdelta.progress import Progress

RETRIES = ("-o", "Acquire::Retries=3")

_PACKAGE = re.compile(
    r"^'[^']*' (?P<file>(?P<name>[^_ ]+)_(?P<version>[^_ ]+)_[^_ ]+\.deb) (?P<size>\d+) "
    r"SHA256:(?P<sha256>[0-9a-f]{64})$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Package:
    """A package as apt's index has it, checked against a signed Release file by apt."""

    name: str
    version: str
    file: str
    size: int
    sha256: str

    @property
    def request(self) -> str:
        """What to give `apt-get download`."""
        return f"{self.name}={self.version}"


def parse_uris(output: str) -> list[Package]:
    """The packages in the output of ``apt-get --print-uris``, in its order.

    A line there is: 'URI' FILE SIZE SHA256:DIGEST. FILE is NAME_VERSION_ARCHITECTURE.deb, with
    the version's colon as %3a.
    """
    return [
        Package(
            name=match["name"],
            version=match["version"].replace("%3a", ":"),
            file=match["file"],
            size=int(match["size"]),
            sha256=match["sha256"],
        )
        for match in _PACKAGE.finditer(output)
    ]


@dataclass(frozen=True)
class AptState:
    """One suite, read through a folder of our own.

    Attributes:
        folder: in the cache; made if needed.
        suite: of the archive that the host uses.
        key: what of an experiment asks for it, for messages.
        architecture: as dpkg calls it; None: the host's.
    """

    folder: Path
    suite: str
    key: str
    architecture: str | None = None

    @property
    def conf(self) -> Path:
        """Its configuration, which is there once the index was read; as old as that."""
        return self.folder / "apt.conf"

    @property
    def archives(self) -> Path:
        """Where packages are downloaded to."""
        return self.folder / "archives"

    @property
    def options(self) -> list[str]:
        """Of apt's programs, to use this state."""
        return ["-c", str(self.conf)]

    @property
    def read_at(self) -> float | None:
        """When the index was fetched last, in seconds since the epoch; None: there is none."""
        if not use(self.folder):
            return None
        try:
            return self.conf.stat().st_mtime
        except FileNotFoundError:
            return None

    def update(self) -> None:
        """Fetch the index.

        Raises:
            KdeltaError: the suite does not exist, or cannot be reached.
        """
        sources = aptconf.sources_for(self.suite, self.key)
        with file_lock(self.folder.with_name("lock"), "apt's index in the cache"):
            make_entry(self.folder, lambda _: None)
            for part in ("lists/partial", "archives/partial", "empty"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "status", b"")
            write_atomically(self.folder / "kdelta.sources", sources.encode())
            text = aptconf.private_configuration(self.folder, self.architecture)
            staged = self.folder / "apt.conf.new"
            write_atomically(staged, text.encode())
            of = f"{self.suite} for {self.architecture}" if self.architecture else self.suite
            with Progress(f"reading the index of {of}") as progress:
                result = run(
                    ["apt-get", "-c", staged, *RETRIES, "--error-on=any", "update"],
                    env=clean_environment(),
                    on_tick=progress.update,
                )
            if result.status != 0:
                if says_disk_full(result.tail):
                    raise disk_full(self.folder, f"reading the index of {of}")
                raise KdeltaError(
                    f"{self.key}: the index of {of!r} cannot be read; check that Debian has such a "
                    f"suite, and the network. apt says:\n{complaints(result.tail)}"
                )
            # Only now is the state worth looking into.
            staged.replace(self.conf)


def complaints(output: str) -> str:
    """The errors and warnings in apt's output, indented."""
    lines = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return "\n".join(f"  {line}" for line in lines or ["(nothing)"])
