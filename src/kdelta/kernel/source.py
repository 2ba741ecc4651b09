# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source, fetched once and kept by content: `cache/sources/<id>/`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.arms import DebianSource, GitSource
from kdelta.cache import (
    file_lock,
    make_entry,
    remove_leftovers,
    require_free,
    storage_errors_are_clear,
    take_away,
    use,
    write_atomically,
)
from kdelta.errors import KdeltaError
from kdelta.kernel import debian, git
from kdelta.kernel.process import ending_on_sigterm
from kdelta.per_kernel import Series, series_of

_NEEDED_BYTES = 2_500 * 2**20  # archive 150 MiB, tree 1.7 GiB


@dataclass(frozen=True)
class SourceTree:
    """An unpacked kernel source in the cache. Read it; never write to it.

    Attributes:
        id: identity of the content, hexadecimal: the Debian package's SHA-256,
            or the git commit.
        path: the tree.
        describe: where it came from, for provenance: type, kernel_version, and
            package, version, sha256, suite (Debian) or url, commit (git).
    """

    id: str
    path: Path
    describe: Mapping[str, str | None]

    @property
    def kernel_version(self) -> str:
        """As the tree's Makefile has it, for example ``6.12.117``."""
        return str(self.describe["kernel_version"])

    @property
    def series(self) -> Series:
        """What of the version decides which patches and fragments belong to this kernel."""
        return series_of(self.kernel_version)

    @property
    def title(self) -> str:
        """The kernel in words, for messages and reports."""
        if self.describe["type"] == "debian":
            origin = f"{self.describe['package']} {self.describe['version']}"
        else:
            origin = f"{self.describe['url']} {self.id[:12]}"
        return f"Linux {self.kernel_version} ({origin})"

    def record(self) -> dict[str, Any]:
        """What `restore` needs, ready for JSON."""
        return {"schema": 1, "id": self.id, **self.describe}


def fetch(source: DebianSource | GitSource, cache: Path) -> SourceTree:
    """The source's tree, from the cache if it is there.

    A Debian package without a version is the newest that apt knows of now.
    Record the result (`SourceTree.record`) and use `restore` afterwards, so
    that a run does not change its kernel halfway.

    Raises:
        KdeltaError: there is no such package, version, suite, repository or
            commit, it cannot be downloaded, or it is no kernel.
    """
    cache = cache.resolve()  # programs are run in other folders
    with ending_on_sigterm(), storage_errors_are_clear(cache, "fetching a kernel's source"):
        if isinstance(source, GitSource):
            return _fetch_git(source, cache)
        return _fetch_debian(source, cache)


def restore(record: Mapping[str, Any], cache: Path) -> SourceTree:
    """The very tree that a record of an earlier `fetch` stands for.

    It comes from the cache, without network, or is fetched again, by its
    exact version, and compared.

    Args:
        record: what `SourceTree.record` returned.
        cache: the cache folder.

    Raises:
        KdeltaError: the record is none, or that source cannot be had any more.
    """
    cache = cache.resolve()
    try:
        identity = str(record["id"])
        known = _cached(cache, identity)
        if known is not None:
            return known
        source: DebianSource | GitSource
        if record["type"] == "git":
            source = GitSource(type="git", url=record["url"], commit=identity)
        else:
            source = DebianSource(
                type="debian",
                package=record["package"],
                version=record["version"],
                suite=record["suite"],
            )
    except (KeyError, ValueError, TypeError) as error:
        raise KdeltaError(
            f"this is no record of a kernel source: {error}; fetch it again"
        ) from None
    tree = fetch(source, cache)
    if tree.id != identity:
        raise KdeltaError(
            f"{tree.title}: its content is {tree.id}, but {identity} is recorded; "
            "fetch the source anew and measure again"
        )
    return tree


def cached_source(source: DebianSource | GitSource, cache: Path) -> SourceTree | None:
    """A tree in the cache that an experiment's source may stand for, without network or apt.

    Of a Debian package without a version it is the one that was unpacked last, which need not be
    the newest there is.

    Args:
        source: as the experiment names it.
        cache: the cache folder.
    """
    if isinstance(source, GitSource):
        return _cached(cache, source.commit)
    asked = {"package": source.package, "suite": source.suite, "version": source.version}
    # A package that was looked for may have come from any suite, in any version.
    wanted = {key: value for key, value in asked.items() if value is not None}
    fitting = [
        (unpacked_ns, tree)
        for record in (cache / "sources").glob("*/source.json")
        if (tree := _read(record.parent)) and (unpacked_ns := _changed_ns(record))
        if all(tree.describe.get(key) == value for key, value in wanted.items())
    ]
    fitting.sort(key=lambda one: one[0], reverse=True)
    return next((tree for _, tree in fitting if use(tree.path.parent)), None)


def kernel_version(makefile: str) -> str | None:
    """The version in the text of a kernel's top Makefile, for example ``6.12.117``.

    None if this is not such a Makefile.
    """
    found: dict[str, str] = dict(
        re.findall(
            r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*$",
            makefile,
            re.MULTILINE,
        )
    )
    numbers = [found.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(number.isdigit() for number in numbers):
        return None
    return ".".join(numbers) + found.get("EXTRAVERSION", "")


def _fetch_git(source: GitSource, cache: Path) -> SourceTree:
    def unpack(tree: Path) -> None:
        git.unpack_commit(source, cache / "git", tree)

    return _obtain(
        cache, source.commit, {"type": "git", "url": source.url, "commit": source.commit}, unpack
    )


def _fetch_debian(source: DebianSource, cache: Path) -> SourceTree:
    if source.suite is None:
        archive, package = debian.find_in_any_suite(cache / "apt", source)
        suite = archive.suite
    else:
        archive, suite = debian.Archive(cache / "apt", source.suite), source.suite
        package = archive.find(source)
    if source.suite and _cached(cache, package.sha256) is None:
        # The index may name a version that its archive has replaced since.
        archive.refresh(within_s=0)
        package = archive.find(source)
    describe = {
        "type": "debian",
        "package": source.package,
        "version": package.version,
        "sha256": package.sha256,
        "suite": suite,
    }

    def unpack(tree: Path) -> None:
        download = tree.parent / "download"
        download.mkdir()
        debian.unpack_source(archive.download(package, download), source.package, tree)
        for file in download.iterdir():
            file.unlink()
        download.rmdir()

    return _obtain(cache, package.sha256, describe, unpack)


def _obtain(
    cache: Path, identity: str, describe: Mapping[str, str | None], unpack: Callable[[Path], None]
) -> SourceTree:
    entry = cache / "sources" / identity
    lock = cache / "locks" / f"source-{identity[:16]}"
    with file_lock(lock, "the kernel's source, which is being fetched"):
        known = _cached(cache, identity)
        if known is not None:
            return known
        require_free(entry, _NEEDED_BYTES, "a kernel's source")
        remove_leftovers(entry)
        take_away(entry)  # there, but not whole: someone cleaned up by hand

        def make(folder: Path) -> None:
            tree = folder / "tree"
            tree.mkdir()
            unpack(tree)
            version = _version_of(tree, describe)
            record = {"schema": 1, "id": identity, **describe, "kernel_version": version}
            write_atomically(folder / "source.json", json.dumps(record, indent=2).encode() + b"\n")

        make_entry(entry, make)
        known = _cached(cache, identity)
        assert known is not None
        return known


def _version_of(tree: Path, describe: Mapping[str, str | None]) -> str:
    try:
        version = kernel_version((tree / "Makefile").read_text(errors="replace"))
    except FileNotFoundError:
        version = None
    if version is None or not (tree / "Kconfig").is_file():
        origin = describe.get("package") or describe.get("url")
        raise KdeltaError(
            f"kernel.source: {origin}: this is no Linux kernel: "
            "its top folder has no Kconfig, or no Makefile with VERSION, PATCHLEVEL and SUBLEVEL"
        )
    return version


def _cached(cache: Path, identity: str) -> SourceTree | None:
    """A tree of the cache, which stays as long as this process uses it."""
    entry = cache / "sources" / identity
    return _read(entry) if use(entry) else None


def _changed_ns(file: Path) -> int:
    """When a file was changed last; 0 if it is gone."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read(entry: Path) -> SourceTree | None:
    """The tree in an entry, which may vanish."""
    try:
        record = json.loads((entry / "source.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not (entry / "tree" / "Makefile").is_file():
        return None
    describe = {key: record[key] for key in record if key not in ("schema", "id")}
    return SourceTree(entry.name, entry / "tree", describe)
