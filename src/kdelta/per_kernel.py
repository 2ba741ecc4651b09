# SPDX-License-Identifier: GPL-2.0-only
"""What belongs to which kernel: fragments and patches by its series, and by acceleration.

An experiment names a fragment or a topic of patches; which files that comes to is
decided here, from the names of what lies beside or below:

    guest.config              for every kernel
    guest.arm64.config        on top of it for kernels of that architecture
    guest.linux-7.2.config    on top of it from Linux 7.2 on
    guest.tcg.config          on top of it for kernels that are emulated (kvm: with KVM)

Names may have an architecture and one of the others: guest.arm64.tcg.config.

    patches/TOPIC/linux-6.12/     for Linux 6.12 up to the next folder's series

So the same experiment stands for another kernel when the source alone is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kdelta.errors import KdeltaError

Series = tuple[int, int]
"""Version and patch level of a kernel: (6, 12)."""

_SERIES = re.compile(r"([0-9]+)\.([0-9]+)(?![0-9])")
_PREFIX = "linux-"


def series_of(version: str) -> Series:
    """The series of a version such as ``6.12.117`` or ``7.3.0-rc7``.

    Raises:
        ValueError: it does not begin with two numbers.
    """
    match = _SERIES.match(version)
    if match is None:
        raise ValueError(f"no version of a kernel: {version!r}")
    return int(match[1]), int(match[2])


def series_text(series: Series) -> str:
    """As people write it: ``6.12``."""
    return f"{series[0]}.{series[1]}"


def fragment_files(
    fragments: Sequence[str], root: Path, series: Series, acceleration: str, arch: str
) -> list[Path]:
    """The files that the named fragments come to for one kernel; a later one wins.

    Each fragment is followed by what lies beside it for the architecture, for this series and
    those before, in their order, and for the acceleration; of each of these first what is for
    every architecture.

    Args:
        fragments: as the experiment names them, relative to `root`.
        root: the project's root.
        series: of the kernel.
        acceleration: `kvm` or `tcg`.
        arch: the architecture's name.

    Raises:
        KdeltaError: a file beside a fragment is named for a series that is none.
    """
    return [
        file
        for name in fragments
        for file in (root / name, *_companions(root / name, series, acceleration, arch))
    ]


def _companions(fragment: Path, series: Series, acceleration: str, arch: str) -> list[Path]:
    heads = (fragment.stem, f"{fragment.stem}.{arch}")

    def beside(head: str, word: str) -> list[Path]:
        file = fragment.with_name(f"{head}.{word}{fragment.suffix}")
        return [file] if file.is_file() else []

    of_series = [found for head in heads for found in _of_series(fragment, head, series)]
    return [
        *beside(fragment.stem, arch),
        *(file for _, file in sorted(of_series, key=lambda found: found[0])),
        *(file for head in heads for file in beside(head, acceleration)),
    ]


def _of_series(fragment: Path, head: str, series: Series) -> list[tuple[Series, Path]]:
    """The files HEAD.linux-X.Y beside a fragment that are for this series or one before."""
    found = []
    for file in sorted(fragment.parent.glob(f"*{fragment.suffix}")):
        name = file.name.removesuffix(fragment.suffix)
        if not name.startswith(f"{head}.{_PREFIX}"):
            continue
        since = _folder_series(name.removeprefix(f"{head}."))
        if since is None:
            raise KdeltaError(
                f"{file}: named for no series of kernels; call it "
                f"{head}.linux-7.2{fragment.suffix} if it is for Linux 7.2 and later"
            )
        if since <= series:
            found.append((since, file))
    return found


def patch_folder(folder: Path, series: Series | None) -> Path:
    """The folder of a topic's patches for one kernel; `folder` itself if it is no topic.

    A topic has a folder ``linux-X.Y`` for each kernel that its patches differ for. The
    newest that is not newer than the kernel is taken.

    Args:
        folder: an existing folder.
        series: of the kernel; None while that is not known: the newest of all is taken.

    Raises:
        FileNotFoundError: there is none for a kernel as old as this; the message is
            what to say after the topic's name.
    """
    known = {
        found: child
        for child in folder.iterdir()
        if child.is_dir() and (found := _folder_series(child.name)) is not None
    }
    if not known:
        return folder
    fitting = [found for found in known if series is None or found <= series]
    if not fitting:
        assert series is not None
        raise FileNotFoundError(
            f"has no patches for Linux {series_text(series)}: its folders are "
            f"{', '.join(known[found].name for found in sorted(known))}; add one for this "
            "kernel, or name another kernel in kernel.source"
        )
    return known[max(fitting)]


def _folder_series(name: str) -> Series | None:
    match = _SERIES.fullmatch(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    return (int(match[1]), int(match[2])) if match else None
