# SPDX-License-Identifier: GPL-2.0-only
"""Object files: their hashes, and which differ between two kernels, and why."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdelta.kernel.process import output

# Linked from other objects, or made from the linked kernel: they differ
# whenever anything does, and say nothing.
_AGGREGATES = re.compile(
    r"(?:\.tmp_vmlinux.*|\.vmlinux\.export|vmlinux|"
    r"arch/[^/]+/boot/compressed/(?:piggy|vmlinux))\.o"
)
# Programs of the build, not of the kernel.
_HOST_FOLDER = re.compile(r"(?:.*/)?(?:scripts|tools)/.*")

# In the image, but not through vmlinux.a: what runs before the kernel proper, what is
# mapped into programs, and the version, which is linked last.
_BESIDE = re.compile(
    r"arch/[^/]+/(?:boot|realmode/rm|(?:.+/)?vdso[^/]*)/.*|init/version-timestamp\.o"
)
# Compiled with debug information, which the image does not get and which holds the
# build folder's path.
_WITH_DEBUG = re.compile(r"arch/[^/]+/(?:boot|realmode/rm)/")

# Generated headers, by what an object says that includes one.
_IDENTITY = ("include/generated/compile.h", "include/generated/utsversion.h")
_LAYOUT = ("voffset.h", "zoffset.h")

_EXPLAIN = {
    "patched": "depends on a file that the patches touch",
    "identity": "holds the build host, which is the image's key",
    "layout": "holds addresses of the linked kernel",
    "source": "made from another kernel source than the baseline's",
    "compiler": "made by another compiler or linker than the baseline's",
    "config": "depends on the configuration, which differs",
    "unexplained": "none of its sources is known to differ",
}

# Reasons of every image to differ from every other.
SAYS_NOTHING = ("identity", "layout")


def is_aggregate(name: str) -> bool:
    """Whether an object is made from other objects, or is no part of the kernel."""
    return (_AGGREGATES.fullmatch(name) or _HOST_FOLDER.fullmatch(name)) is not None


def hash_objects(obj: Path) -> dict[str, str]:
    """SHA-256 of every object of a finished kernel: path below `obj` -> digest, sorted.

    Objects that an earlier arm left in the folder are not listed. Debug
    information, where the kernel's makefiles ask for some, does not count.
    """
    linked = _linked(obj)
    digests = {}
    for folder, _, names in os.walk(obj):
        for name in names:
            path = Path(folder, name)
            relative = str(path.relative_to(obj))
            if not name.endswith(".o") or is_aggregate(relative):
                continue
            if linked is None or relative in linked or _BESIDE.fullmatch(relative):
                digests[relative] = hashlib.sha256(_content(path, relative)).hexdigest()
    return dict(sorted(digests.items()))


def _linked(obj: Path) -> set[str] | None:
    """The members of the archives that vmlinux is linked from; None if there are none."""
    if not (obj / "vmlinux.a").is_file():  # before Linux 6.1
        return None
    members: set[str] = set()
    for archive in ("vmlinux.a", "lib/lib.a", "arch/*/lib/lib.a"):
        for found in obj.glob(archive):
            # Thin archives: the members' paths are relative to where the archive's is.
            listed = output(["ar", "t", str(found.relative_to(obj))], obj)
            members.update(listed.decode().splitlines())
    return members


def _content(path: Path, relative: str) -> bytes:
    if not _WITH_DEBUG.match(relative):
        return path.read_bytes()
    with tempfile.NamedTemporaryFile(suffix=".o") as stripped:
        output(["objcopy", "--strip-debug", path, stripped.name], path.parent)
        return Path(stripped.name).read_bytes()


def sums_text(digests: Mapping[str, str]) -> str:
    """Hashes in the form of `sha256sum`."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def parse_sums(text: str) -> dict[str, str]:
    """The inverse of `sums_text`."""
    return {
        name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())
    }


def dependencies(cmd: str) -> set[str]:
    """The files that Kbuild's ``.<object>.cmd`` says an object was made from."""
    found: set[str] = set()
    for line in cmd.splitlines():
        if line.startswith("source_"):
            found.add(line.partition(":=")[2].strip())
        elif line.startswith("  ") and not line.strip().startswith("$("):
            found.add(line.strip().removesuffix("\\").strip())
    return found


def reasons(obj: Path, src: Path, names: Iterable[str], touched: Iterable[str]) -> dict[str, str]:
    """Why objects may differ from those of the unpatched kernel.

    Args:
        obj: the output folder of a finished build.
        src: the kernel tree it was built from.
        names: objects, relative to `obj`.
        touched: the files that the patches touch, relative to `src`.

    Returns:
        Object -> patched, identity or layout; objects without a reason are left out.
    """
    patched = set(touched) | {str(src / path) for path in touched}
    found = {}
    for name in names:
        path = obj / name
        try:
            used = dependencies((path.parent / f".{path.name}.cmd").read_text(errors="replace"))
        except FileNotFoundError:
            continue
        if used & patched:
            found[name] = "patched"
        elif any(file.endswith(_IDENTITY) for file in used):
            found[name] = "identity"
        elif any(file.endswith(_LAYOUT) for file in used):
            found[name] = "layout"
    return found


def of_all(baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> str:
    """Why any object of an arm may differ from the baseline's.

    Args:
        baseline: its image.json.
        arm: the arm's, as far as it is known. With a compiler, the configuration differs too.

    Returns:
        source, compiler, config, or unexplained where all of these are the same.
    """
    ours, theirs = (
        {
            "source": image["source"].get("id"),
            "compiler": (image["compiler"], image["linker"]),
            "config": image["config_sha256"],
        }
        for image in (baseline, arm)
    )
    return next((reason for reason in ours if ours[reason] != theirs[reason]), "unexplained")


def differing(
    baseline: Mapping[str, str],
    arm: Mapping[str, str],
    why: Mapping[str, str],
    otherwise: str,
) -> dict[str, str]:
    """Objects that differ between two kernels, or are in one only -> the reason.

    Args:
        baseline: object -> digest.
        arm: object -> digest.
        why: object of the arm -> reason (`reasons`).
        otherwise: the reason of those that have none there (`of_all`).
    """
    names = sorted(
        name for name in baseline.keys() | arm.keys() if baseline.get(name) != arm.get(name)
    )
    return {name: why.get(name, otherwise) for name in names}


def differ_text(different: Mapping[str, str]) -> str:
    """The list for a person: a line per object, its reason behind a tab."""
    used = sorted(set(different.values()))
    head = [f"# {len(different)} objects differ from the baseline's"]
    head += [f"# {reason}: {_EXPLAIN[reason]}" for reason in used]
    return "\n".join(head + [f"{name}\t{reason}" for name, reason in different.items()]) + "\n"
