# SPDX-License-Identifier: GPL-2.0-only
"""A finished kernel image: its key, its record, its place in the cache and in the results."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdelta.cache import copy_atomically, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel import costs, objects

# Part of every key: raise it when the way of building changes what comes out.
RECIPE_VERSION = 6

KERNEL = "vmlinuz"
"""What is booted, in the folder of an arm."""

_BANNER = re.compile(rb"Linux version [\x20-\x7e]+ #[\x20-\x7e]+")

# Steps of a build from nothing per option that is set; measured on
# kernel-configs/ (6.12). Only used until a build has been seen.
_STEPS_PER_OPTION = 2.45

_FILES = (KERNEL, "config", "objects.sha256", costs.SYMBOLS, "build.log")
_REASONS = "object-reasons.json"


@dataclass(frozen=True)
class Image:
    """A kernel image in an output folder.

    Attributes:
        folder: holds vmlinuz, config, image.json, build.log, objects.sha256, symbols.tsv.gz,
            and objects-differ.txt if there was a baseline to compare with.
        key: identity of everything that it was made from.
        from_cache: nothing was built.
        facts: the content of image.json.
    """

    folder: Path
    key: str
    from_cache: bool
    facts: Mapping[str, Any]

    @property
    def kernel(self) -> Path:
        """What is booted."""
        return self.folder / KERNEL


@dataclass(frozen=True)
class Naming:
    """What the same image is called in one experiment.

    Attributes:
        arm: whose it is.
        patches: of each commit, in order: file, sha256 of the file, subject and author.
        cover_letters: file, sha256 and subject of each.
        fragments: names of the config fragments, in order.
        acceleration: `kvm` or `tcg`, which the fragments were chosen for.
    """

    arm: str
    patches: Sequence[Mapping[str, str]]
    cover_letters: Sequence[Mapping[str, str]]
    fragments: tuple[str, ...]
    acceleration: str


def image_key(
    *,
    arch: str,
    source_id: str,
    patches: Sequence[bytes],
    base: str,
    fragments: Sequence[bytes],
    compiler: str,
    linker: str,
) -> str:
    """SHA-256 over all that an image is made from. Names and dates of files do not count.

    Args:
        arch: the architecture's name.
        source_id: `SourceTree.id`.
        patches: contents of the files, in the order they apply, without cover letters.
        base: the make target that the configuration starts from.
        fragments: contents, in order.
        compiler: its version line.
        linker: its version line.
    """
    parts = {
        "recipe": RECIPE_VERSION,
        "arch": arch,
        "source": source_id,
        "patches": [hashlib.sha256(patch).hexdigest() for patch in patches],
        "base": base,
        "fragments": [hashlib.sha256(fragment).hexdigest() for fragment in fragments],
        "compiler": compiler,
        "linker": linker,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """As `sha256sum` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kernel_release(obj: Path) -> str:
    """What `uname -r` will say."""
    return (obj / "include/config/kernel.release").read_text().strip()


def kernel_banner(obj: Path) -> str | None:
    """What `/proc/version` will say, without its end of line."""
    # Linux 6.1 moved it from version.o to version-timestamp.o.
    for name in ("init/version-timestamp.o", "init/version.o"):
        path = obj / name
        if path.is_file() and (match := _BANNER.search(path.read_bytes())) is not None:
            return match[0].decode()
    return None


def ccache_counts(log: Path) -> tuple[int, int]:
    """Hits and misses in ccache's statistics log; zeros without one."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return 0, 0
    hits = sum(line in ("direct_cache_hit", "preprocessed_cache_hit") for line in lines)
    return hits, sum(line == "cache_miss" for line in lines)


def expected_steps(images: Path, options_set: int) -> int:
    """About how many steps a build from nothing takes.

    Args:
        images: the cached images; the last one built from nothing with as many
            options tells.
        options_set: number of options that are set.
    """
    best: tuple[float, int] | None = None
    for path in images.glob("*/image.json"):
        try:
            facts = json.loads(path.read_bytes())
            if facts["first_build"] and facts["options_set"] == options_set:
                candidate = (path.stat().st_mtime, int(facts["steps"]))
                best = max(best, candidate) if best else candidate
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return best[1] if best else round(options_set * _STEPS_PER_OPTION)


def is_complete(entry: Path) -> bool:
    """Whether a cache entry holds a whole image (image.json is written last)."""
    return (entry / "image.json").is_file() and (entry / KERNEL).is_file()


def collect(
    folder: Path,
    obj: Path,
    kernel: str,
    log: Path,
    digests: Mapping[str, str],
    why: Mapping[str, str],
    sizes: Mapping[costs.Entry, int],
    facts: Mapping[str, object],
) -> None:
    """Put a finished build into a cache entry.

    Args:
        folder: the entry, under its temporary name.
        obj: make's output folder.
        kernel: what is booted, in it.
        log: the build's output.
        digests: object -> SHA-256.
        why: object -> reason to differ from the unpatched kernel's.
        sizes: bytes by symbol, and of stack by function.
        facts: for image.json, all but the hashes of the files here.
    """
    copy_atomically(obj / kernel, folder / KERNEL)
    copy_atomically(obj / ".config", folder / "config")
    copy_atomically(log, folder / "build.log")
    write_atomically(folder / "objects.sha256", objects.sums_text(digests).encode())
    write_atomically(folder / _REASONS, _json(why))
    write_atomically(folder / costs.SYMBOLS, costs.table(sizes))
    found = {
        "image_bytes": (folder / KERNEL).stat().st_size,
        # /proc/config.gz unpacks to exactly these bytes
        "config_sha256": sha256_file(folder / "config"),
        "image_sha256": sha256_file(folder / KERNEL),
    }
    write_atomically(folder / "image.json", _json({**facts, **found}))


def publish(
    entry: Path,
    output: Path,
    log: Path,
    naming: Naming,
    baseline: Path | None,
    *,
    from_cache: bool,
) -> Image:
    """Copy a cached image to an output folder; image.json comes last.

    Args:
        entry: the cache entry.
        output: the folder.
        log: where the build's output is wanted besides.
        naming: what the image is called there.
        baseline: folder of the image that its objects are compared with.
        from_cache: for the result.
    """
    for name in _FILES:
        copy_atomically(entry / name, output / name)
    if log.resolve() != (output / "build.log").resolve() and from_cache:
        copy_atomically(entry / "build.log", log)
    facts = json.loads((entry / "image.json").read_bytes())
    facts = {
        "schema": facts.pop("schema"),
        "arm": naming.arm,
        "acceleration": naming.acceleration,
        **facts,
    }
    facts["patches"] = list(naming.patches)
    if naming.cover_letters:
        facts["cover_letters"] = list(naming.cover_letters)
    facts["fragments"] = [
        {"file": name, **known}
        for name, known in zip(naming.fragments, facts["fragments"], strict=True)
    ]
    if baseline is not None:
        different = _compare(entry, baseline, facts)
        write_atomically(output / "objects-differ.txt", objects.differ_text(different).encode())
        facts["objects_differ"] = {
            reason: sum(value == reason for value in different.values())
            for reason in sorted(set(different.values()))
        }
        facts["costs"] = costs.record(
            *(_sizes(folder / costs.SYMBOLS) for folder in (baseline, entry))
        )
    write_atomically(output / "image.json", _json(facts))
    return Image(output, facts["key"], from_cache, facts)


def _compare(entry: Path, baseline: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    try:
        other = json.loads((baseline / "image.json").read_bytes())
        sums = (baseline / "objects.sha256").read_text()
    except (OSError, ValueError) as error:
        raise _no_baseline(baseline, error) from None
    return objects.differing(
        objects.parse_sums(sums),
        objects.parse_sums((entry / "objects.sha256").read_text()),
        json.loads((entry / _REASONS).read_bytes()),
        objects.of_all(other, facts),
    )


def _sizes(file: Path) -> dict[costs.Entry, int]:
    try:
        return costs.parse_table(file.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise _no_baseline(file.parent, error) from None


def _no_baseline(folder: Path, error: Exception) -> KdeltaError:
    return KdeltaError(
        f"{folder}: no finished baseline image to compare with ({error}); build it first"
    )


def load(folder: Path) -> Image:
    """The image that `publish` put into a folder, with its files checked.

    Raises:
        KdeltaError: there is none, or a file is not the one that was recorded.
    """
    try:
        facts = json.loads((folder / "image.json").read_bytes())
        found = {
            "image_sha256": sha256_file(folder / KERNEL),
            "config_sha256": sha256_file(folder / "config"),
        }
    except (OSError, ValueError) as error:
        raise KdeltaError(f"{folder}: no finished kernel image here ({error}); build it") from None
    for name, digest in found.items():
        if facts.get(name) != digest:
            raise KdeltaError(
                f"{folder}: the image was changed after it was built: {name} is {digest}, "
                f"image.json says {facts.get(name)}; delete the folder and build again"
            )
    return Image(folder, str(facts["key"]), from_cache=True, facts=facts)


def _json(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", errors="replace")
