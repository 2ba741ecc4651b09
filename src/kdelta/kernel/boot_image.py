# SPDX-License-Identifier: GPL-2.0-only
"""What is booted: images in the formats that kernels have, and what they say of the kernel."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from kdelta.architecture import Architecture, architectures
from kdelta.errors import KdeltaError
from kdelta.kernel.image import kernel_banner

_BANNER = re.compile(rb"Linux version (\S+) \([^\n]*\) (#[^\n\0]+)")
_GZIP = b"\x1f\x8b"


def unpacked(data: bytes) -> bytes:
    """An image without the compression that a boot loader undoes.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return zlib.decompress(data, wbits=31) if data.startswith(_GZIP) else data
    except zlib.error as error:
        raise ValueError(str(error)) from None


def require_architecture(data: bytes, arch: Architecture) -> None:
    """Check that an image, unpacked, is of an architecture.

    Raises:
        ValueError: it is of another one, or none; the message says which.
    """
    if _is_of(data, arch):
        return
    others = [f"a kernel of {o.title}" for o in architectures().values() if _is_of(data, o)]
    if data.startswith(b"\x7fELF"):
        others.append("an ELF file, as vmlinux is")
    raise ValueError(f"it is {others[0]}" if others else "it has not the header of one")


def _is_of(data: bytes, arch: Architecture) -> bool:
    magic = arch.image_magic.encode("latin-1")
    return data[arch.image_magic_at :][: len(magic)] == magic


def read_version(data: bytes, arch: Architecture) -> tuple[str, str]:
    """Release and version (`uname -r` and `-v`) of the kernel in an unpacked image.

    Raises:
        ValueError: it does not tell.
    """
    if arch.image_format == "bzImage":
        return _header_version(data)
    match = _BANNER.search(data)
    if match is None:
        raise ValueError("it holds no words `Linux version ...`")
    return match[1].decode("ascii", "replace"), match[2].decode("ascii", "replace").strip()


def _header_version(data: bytes) -> tuple[str, str]:
    """Of the text that a bzImage's setup header points to, ``RELEASE (USER@HOST) VERSION``.

    Source: Documentation/arch/x86/boot.rst in the kernel (kernel_version, xloadflags).
    """
    if int.from_bytes(data[0x206:0x208], "little") >= 0x20C and not data[0x236] & 1:
        raise ValueError("it is one of 32 bits, and the host's programs, which guests run, are not")
    begin = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    text = data[begin : data.index(b"\0", begin)].decode("ascii", "replace")
    match = re.fullmatch(r"(\S+) \(\S+\) (.+)", text)
    if match is None:
        raise ValueError(f"its version is {text!r}")
    return match[1], match[2].strip()


def payload(bzimage: bytes) -> bytes:
    """The compressed kernel in a bzImage.

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


def require_own_kernel(
    obj: Path, arch: Architecture, host: str, arm: str, compiler_cache: Path
) -> None:
    """Check that what make put together is the kernel that was just compiled.

    A compiler cache that misses a dependency hands out an older object; if that is the
    one which holds the compressed kernel, make is content and the guest runs another kernel.

    Args:
        obj: make's output folder.
        arch: what it was built for.
        host: the build host that has to be in the kernel's banner.
        arm: its name, for the message.
        compiler_cache: what to delete, for the message.

    Raises:
        KdeltaError: it is another one.
    """
    wrong = _what_is_wrong(obj, arch, host)
    if wrong is not None:
        raise KdeltaError(
            f"arm {arm}: the image that make built is not of this kernel: {wrong}. "
            f"Delete {obj.parent} and {compiler_cache} and build again"
        )


def _what_is_wrong(obj: Path, arch: Architecture, host: str) -> str | None:
    banner = kernel_banner(obj)
    if banner is None or f"@{host})" not in banner:
        return f"its banner is {banner!r}, without build {host}"
    image = obj / arch.image
    if arch.image_format == "Image":  # not compressed
        built = banner.encode() in image.read_bytes()
        return None if built else f"{arch.image} does not hold the banner {banner!r}"
    try:
        compressed = payload(image.read_bytes())
    except ValueError as error:
        return f"{arch.image}: {error}"
    folder = image.parent / "compressed"
    if not any(file.read_bytes() == compressed for file in folder.glob("vmlinux.bin.*")):
        return f"{arch.image} does not hold the kernel that was compressed last"
    return None
