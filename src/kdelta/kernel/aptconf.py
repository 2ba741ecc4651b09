# SPDX-License-Identifier: GPL-2.0-only
"""The host's own apt configuration, read so that another suite can be had from the same archive."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.process import clean_environment

# Where the package debian-archive-keyring puts Debian's keys.
_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Small ones first, where that makes no difference: the index of a release is 50 MB of text.
_SUITES = ("stable-backports", "stable", "testing", "unstable", "experimental")

_MAIN = "Debian|Debian|main|"
_FORMAT = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)|$(SOURCESENTRY)"


@dataclass(frozen=True)
class Repository:
    """Where the host gets Debian from: address, and the sources entry (FILE:NUMBER)."""

    uri: str
    entry: str


def sources_for(suite: str, key: str) -> str:
    """A deb822 sources file for a suite of the archive that the host uses.

    Args:
        suite: its name.
        key: what of an experiment asks for it, for the message.

    Raises:
        KdeltaError: the host's apt does not use Debian's archive.
    """
    repository = find_repository(index_fields(_FORMAT), suite)
    if repository is None:
        raise KdeltaError(
            f"{key}: {suite!r} is looked for where this host's apt gets Debian's component main "
            f"from, and apt knows no such place; run `apt-get update`, or do without {key}"
        )
    return sources_text(repository.uri, suite, _signed_by(repository.entry))


def index_fields(template: str, options: Sequence[str] = ()) -> list[str]:
    """A line for each index of packages that apt knows of, as `apt-get indextargets` makes it.

    Args:
        template: of a line, such as ``$(CODENAME)``.
        options: of apt-get, for another state than the host's.
    """
    listing = subprocess.run(
        ["apt-get", *options, "indextargets", "--format", template, "Created-By: Packages"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return listing.splitlines()


def host_release() -> str | None:
    """The codename of the Debian release that the host follows; None where it follows none."""
    followed = index_fields("$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(CODENAME)")
    names = [line.removeprefix(_MAIN) for line in followed if line.startswith(_MAIN)]
    return next((name for name in names if "-" not in name), None)


def other_suites() -> list[str]:
    """Debian's suites that the host does not follow, in the order in which they are looked at.

    The host's release first, then what is least of a change. Empty where the host's apt does
    not use Debian's archive.
    """
    return suites_beyond(index_fields("$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(SUITE)|$(CODENAME)"))


def suites_beyond(listing: Iterable[str]) -> list[str]:
    """As `other_suites`, of lines ``ORIGIN|LABEL|COMPONENT|SUITE|CODENAME``."""
    followed: list[str] = []
    for line in listing:
        fields = line.split("|")
        if len(fields) == 5 and fields[:3] == ["Debian", "Debian", "main"]:
            followed += fields[3:]
    releases = dict.fromkeys(name for name in followed[1::2] if "-" not in name)
    wanted = [f"{name}-backports" for name in releases if name != "sid"] + list(_SUITES)
    return [name for name in wanted if name not in followed] if releases else []


def find_repository(listing: Iterable[str], suite: str) -> Repository | None:
    """Debian's archive in the output of `apt-get indextargets` (in `_FORMAT`).

    Security suites are in an archive of their own; every other suite is in the
    main one.
    """
    label = "Debian-Security" if suite.endswith("-security") else "Debian"
    for line in listing:
        fields = line.split("|")
        if len(fields) == 5 and fields[:3] == ["Debian", label, "main"]:
            return Repository(fields[3], fields[4])
    return None


def sources_text(uri: str, suite: str, signed_by: str | None) -> str:
    """A deb822 sources file with one entry."""
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {suite}", "Components: main"]
    if signed_by:
        lines.append(f"Signed-By: {signed_by}")
    return "\n".join(lines) + "\n"


def _signed_by(entry: str) -> str | None:
    """The keys for the archive: those of the host's entry, else Debian's own keyring.

    None leaves it to the keys that apt trusts for everything.
    """
    file, _, number = entry.rpartition(":")
    try:
        found = parse_signed_by(Path(file).read_text(), file, int(number))
    except (OSError, ValueError):
        found = None
    if found:
        return found
    return str(_DEBIAN_KEYRING) if _DEBIAN_KEYRING.is_file() else None


def parse_signed_by(text: str, file: str, number: int) -> str | None:
    """The Signed-By value of one entry of a sources file.

    Args:
        text: the file's text.
        file: its name, which tells its format (.sources, or one line per entry).
        number: of the stanza, or of the line, counted from 1 as apt does.
    """
    if not file.endswith(".sources"):
        lines = text.splitlines()
        line = lines[number - 1] if 0 < number <= len(lines) else ""
        option = re.search(r"\[[^]]*\bsigned-by=([^\s\]]+)", line, re.IGNORECASE)
        return option[1] if option else None
    stanzas = [
        stanza
        for stanza in re.split(r"\n[ \t]*\n", text.strip())
        if re.search(r"^Types:", stanza, re.MULTILINE | re.IGNORECASE)
    ]
    if not 0 < number <= len(stanzas):
        return None
    # A value may go on in indented lines: a whole key can be written there.
    field = re.search(
        r"^Signed-By:[ \t]*((?:.*)(?:\n[ \t].*)*)",
        stanzas[number - 1],
        re.MULTILINE | re.IGNORECASE,
    )
    return field[1].strip() if field else None


def private_configuration(folder: Path, architecture: str | None = None) -> str:
    """An apt.conf that keeps apt within a folder, and to one architecture if it is named.

    The host's proxies, credentials and trusted keys stay in force; its hooks do
    not run, since they serve the system's own lists.
    """
    directories = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::State::extended_states": folder / "extended_states",
        "Dir::Cache::archives": folder / "archives",
        "Dir::Etc::sourcelist": folder / "kdelta.sources",
        "Dir::Etc::sourceparts": folder / "empty",
        "Dir::Etc::preferences": folder / "no-preferences",
        "Dir::Etc::preferencesparts": folder / "empty",
    }
    lines = [f'{name} "{path}";' for name, path in directories.items()]
    if architecture:
        lines += [
            f'APT::Architecture "{architecture}";',
            "#clear APT::Architectures;",
            f'APT::Architectures {{ "{architecture}"; }};',
        ]
    lines += [
        'Dir::Cache::pkgcache "";',
        'Dir::Cache::srcpkgcache "";',
        'Acquire::Languages "none";',
        "#clear APT::Update::Pre-Invoke;",
        "#clear APT::Update::Post-Invoke;",
        "#clear APT::Update::Post-Invoke-Success;",
        # Only the package index: not the icons, file lists and the like that a host may add.
        *(
            f'Acquire::IndexTargets::deb::{target}::DefaultEnabled "false";'
            for target in ("Contents-deb", "DEP-11", "DEP-11-icons-small", "Translations")
        ),
    ]
    return "\n".join(lines) + "\n"
