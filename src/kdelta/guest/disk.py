# SPDX-License-Identifier: GPL-2.0-only
"""The scratch disk of a guest: a sparse file of the host, for as long as the guest lives.

Each guest has its own, empty when it boots. It is never a device of the host, and nothing on it is
ever read by the host or kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdelta.cache import require_free
from kdelta.errors import KdeltaError
from kdelta.guest.share import scratch_base

FILE = "disk.raw"
_ID = "kdelta-disk"

# Without the host's page cache: what a guest has written is written when it is told so, and not
# later, in another arm's turn, and none is answered from memory that the next one does not find.
# What is discarded there is given back here. A full disk of the host is an error of the guest's
# write, which the workload tells; by default QEMU would stop the guest.
DRIVE = (
    *("format=raw", "cache=none", "discard=unmap", "detect-zeroes=off"),
    *("werror=report", "rerror=report"),
)


def make_disk(folder: Path, size_bytes: int) -> Path:
    """A new, sparse file for a disk.

    Args:
        folder: that is deleted with all that is in it once the guest has ended.
        size_bytes: of the disk.

    Raises:
        KdeltaError: it cannot be made there, or its file system has only buffered files.
    """
    path = folder / FILE
    try:
        with path.open("xb") as file:
            file.truncate(size_bytes)
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        raise KdeltaError(
            f"{path}: a guest's scratch disk of {size_bytes:,} bytes cannot be made there: "
            f"{error.strerror}; set TMPDIR to a folder on a disk"
        ) from None
    return path


def disk_options(path: Path) -> list[str]:
    """QEMU's options for the disk in this file: the guest's first virtio disk."""
    drive = ",".join(["if=none", f"id={_ID}", f"file={path}", *DRIVE])
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={_ID}"]


def require_room(guests: int, size_bytes: int) -> None:
    """Check that the disks of guests that live together fit, written all over.

    Args:
        guests: how many.
        size_bytes: of each one's disk; 0: they have none.

    Raises:
        KdeltaError: they do not.
    """
    if size_bytes:
        what = f"the scratch disks of {guests} guest{'' if guests == 1 else 's'}"
        require_free(scratch_base(), guests * size_bytes, what, variable="TMPDIR")
