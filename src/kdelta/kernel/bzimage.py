# SPDX-License-Identifier: GPL-2.0-only
"""Whether the image that make put together holds the kernel that was compiled."""

from __future__ import annotations

import struct
from pathlib import Path

from kdelta.errors import KdeltaError
from kdelta.kernel.image import BZIMAGE, kernel_banner


def payload(bzimage: bytes) -> bytes:
    """The compressed kernel in an x86 image.

    Source: Documentation/arch/x86/boot.rst in the kernel (setup_sects, payload_offset and
    payload_length of the setup header, protocol 2.08 and newer).

    Raises:
        ValueError: there is no such header, or it points out of the file.
    """
    if bzimage[0x202:0x206] != b"HdrS" or int.from_bytes(bzimage[0x206:0x208], "little") < 0x208:
        raise ValueError("no setup header of boot protocol 2.08 or newer")
    sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    begin = (sectors + 1) * 512 + offset
    if begin + length > len(bzimage):
        raise ValueError(f"the header promises {length} bytes at {begin}; there are fewer")
    return bzimage[begin : begin + length]


def require_own_kernel(obj: Path, host: str, arm: str, compiler_cache: Path) -> None:
    """Check that what make put together is the kernel that was just compiled.

    A compiler cache that misses a dependency hands out an older object; if that is the
    one which holds the compressed kernel, make is content and the guest runs another kernel.

    Args:
        obj: make's output folder.
        host: the build host that has to be in the kernel's banner.
        arm: its name, for the message.
        compiler_cache: what to delete, for the message.

    Raises:
        KdeltaError: it is another one.
    """
    wrong = _what_is_wrong(obj, host)
    if wrong is not None:
        raise KdeltaError(
            f"arm {arm}: the image that make built is not of this kernel: {wrong}. "
            f"Delete {obj.parent} and {compiler_cache} and build again"
        )


def _what_is_wrong(obj: Path, host: str) -> str | None:
    banner = kernel_banner(obj)
    if banner is None or f"@{host})" not in banner:
        return f"its banner is {banner!r}, without build {host}"
    try:
        compressed = payload((obj / BZIMAGE).read_bytes())
    except ValueError as error:
        return f"{BZIMAGE}: {error}"
    folder = obj / BZIMAGE.parent / "compressed"
    if not any(file.read_bytes() == compressed for file in folder.glob("vmlinux.bin.*")):
        return f"{BZIMAGE} does not hold the kernel that was compressed last"
    return None
