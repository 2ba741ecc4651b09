# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that were built elsewhere: what their image tells, and what else a guest of it needs."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdelta.cache import copy_atomically, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.bzimage import payload
from kdelta.kernel.costs import parse_build_id
from kdelta.kernel.image import sha256_file


@dataclass(frozen=True)
class ReadyKernel:
    """What a bzImage says of the kernel in it.

    Attributes:
        path: of the image, absolute.
        release: what `uname -r` says.
        version: what `uname -v` says, with the number and the time of its build.
        build_id: of the linker; None where it has none, or cannot be unpacked here.
    """

    path: Path
    release: str
    version: str
    build_id: str | None


def read_ready(path: Path) -> ReadyKernel:
    """Look into a kernel's image.

    Raises:
        KdeltaError: it cannot be read, or is no kernel that an x86 guest can boot.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KdeltaError(f"{path}: the kernel cannot be read: {error.strerror}") from None
    try:
        release, version = _version(data)
        build_id = _build_id(payload(data))
    except ValueError as error:
        raise KdeltaError(
            f"{path}: no bzImage, which is what x86 guests boot: {error}; name a kernel's image, "
            "for example /boot/vmlinuz-..."
        ) from None
    return ReadyKernel(path.resolve(), release, version, build_id)


def _version(data: bytes) -> tuple[str, str]:
    """Release and version, of the text that the setup header points to.

    Source: Documentation/arch/x86/boot.rst in the kernel (kernel_version). The text is
    ``RELEASE (USER@HOST) VERSION``.
    """
    if data[0x202:0x206] != b"HdrS":
        raise ValueError("it has no setup header")
    begin = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    text = data[begin : data.index(b"\0", begin)].decode("ascii", "replace")
    match = re.fullmatch(r"(\S+) \(\S+\) (.+)", text)
    if match is None:
        raise ValueError(f"its version is {text!r}")
    return match[1], match[2].strip()


# What compressed kernels begin with -> how they are unpacked; the programs may be missing.
_UNPACK: dict[bytes, Callable[[bytes], bytes] | tuple[str, ...]] = {
    b"\x1f\x8b": lambda data: zlib.decompressobj(wbits=31).decompress(data),
    # Its size follows the compressed data, which is no part of it.
    b"\xfd7zXZ": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x5d\0\0": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x28\xb5\x2f\xfd": ("zstd", "-dc"),
    b"\x02\x21\x4c\x18": ("lz4", "-dc"),
    b"BZh": ("bzip2", "-dc"),
}


def _build_id(packed: bytes) -> str | None:
    how = next((how for magic, how in _UNPACK.items() if packed.startswith(magic)), None)
    if how is None:
        return None
    try:
        if callable(how):
            kernel = how(packed)
        else:
            # They complain of what follows the compressed data, and have written all of it by then.
            kernel = subprocess.run(how, input=packed, capture_output=True, check=False).stdout
        with tempfile.NamedTemporaryFile(prefix="kdelta-vmlinux-") as file:
            file.write(kernel)
            file.flush()
            told = subprocess.run(
                ["readelf", "--notes", "--wide", file.name],
                capture_output=True,
                text=True,
                check=False,
            )
            return parse_build_id(told.stdout)
    except (OSError, zlib.error, lzma.LZMAError):
        return None


def take(path: Path, arm: str, output: Path) -> ReadyKernel:
    """Record a kernel that was built elsewhere as an arm's image; it is booted where it lies.

    Args:
        path: its image.
        arm: the arm's name.
        output: the arm's folder, which gets a copy as `bzImage`, and `image.json`.

    Raises:
        KdeltaError: it is none, or a program that its guests need is not installed.
    """
    found = read_ready(path)
    modules_root = modules_root_of(found)
    if modules_root:
        require_guest_tools(f"arms.{arm}.image")
    copy_atomically(found.path, output / "bzImage")
    digest = sha256_file(output / "bzImage")
    facts = {
        "schema": 1,
        "arm": arm,
        "image": str(found.path),
        "key": digest,
        "kernel_release": found.release,
        "version_has": [found.version],
        "build_id": found.build_id,
        # Without drivers of its own that are modules, it has what it needs built in.
        "modules_root": str(modules_root) if modules_root else None,
        "source": {"image": str(found.path), "version": found.version},
        "bzimage_sha256": digest,
        "bzimage_bytes": (output / "bzImage").stat().st_size,
        "compiler": "",
        "patches": [],
    }
    write_atomically(output / "image.json", (json.dumps(facts, indent=1) + "\n").encode())
    return found


def modules_root_of(kernel: ReadyKernel) -> Path | None:
    """Where virtme-ng looks for a kernel's modules; None if it has none there.

    That is the nearest folder above the image that has `lib/modules`.
    """
    for above in kernel.path.parents:
        for place in ("lib/modules", "usr/lib/modules"):
            if (above / place).is_dir():
                return above if (above / place / kernel.release).is_dir() else None
    return None


def require_guest_tools(key: str) -> None:
    """Check that guests of a distribution's kernel can be started: their drivers are modules.

    Raises:
        KdeltaError: naming the key, the program and its package.
    """
    for program, package in (("busybox", "busybox-static"), ("depmod", "kmod")):
        if not (shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")):
            raise KdeltaError(
                f"{key}: {program} is not installed; guests of a kernel whose drivers are modules "
                f"need it: apt-get install {package}"
            )
