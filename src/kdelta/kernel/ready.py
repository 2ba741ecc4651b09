# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that were built elsewhere: what their image tells, and what else a guest of it needs."""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdelta.architecture import Architecture
from kdelta.cache import copy_atomically, write_atomically
from kdelta.errors import KdeltaError
from kdelta.kernel.boot_image import payload, read_version, require_architecture, unpacked
from kdelta.kernel.costs import parse_build_id
from kdelta.kernel.image import KERNEL, sha256_file

ROOT_DRIVER = "9pnet_virtio"
"""The driver by which guests see the host's files: a module in distributions' kernels."""


@dataclass(frozen=True)
class ReadyKernel:
    """What an image says of the kernel in it.

    Attributes:
        path: of the image, absolute.
        release: what `uname -r` says.
        version: what `uname -v` says, with the number and the time of its build.
        build_id: of the linker; None where it has none, or the image does not tell it.
        has_9p: whether the driver of the guests' root is built in; None: cannot be unpacked here.
    """

    path: Path
    release: str
    version: str
    build_id: str | None
    has_9p: bool | None


def ready_kernel(path: Path, arch: Architecture, key: str) -> ReadyKernel:
    """Look into a kernel's image, and whether this host can start guests of it.

    Args:
        path: the image.
        arch: of the guests that are to boot it.
        key: the configuration key that names it, for messages.

    Raises:
        KdeltaError: it cannot be read, is no kernel that such a guest can boot, the driver of the
            guests' root is missing, or programs are that loading modules takes.
    """
    try:
        data = unpacked(path.read_bytes())
        require_architecture(data, arch)
        release, version = read_version(data, arch)
        compressed = arch.image_format == "bzImage"
        kernel = _unpacked(payload(data)) if compressed else data
    except OSError as error:
        raise KdeltaError(f"{key}: {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise KdeltaError(
            f"{key}: {path}: no kernel that {arch.title} guests boot: {error}; name a "
            f"{arch.image_format}, for example /boot/vmlinuz-..."
        ) from None
    build_id = _build_id(kernel) if kernel and compressed else None
    # KBUILD_MODNAME is the driver's name: what is built in holds it as a string of its own.
    has_9p = f"\0{ROOT_DRIVER}\0".encode() in kernel if kernel else None
    found = ReadyKernel(path.resolve(), release, version, build_id, has_9p)
    _require_root_driver(found, key)
    return found


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


def _unpacked(packed: bytes) -> bytes | None:
    """The kernel itself; None if it cannot be unpacked here."""
    how = next((how for magic, how in _UNPACK.items() if packed.startswith(magic)), None)
    if how is None:
        return None
    try:
        if callable(how):
            return how(packed)
        # They complain of what follows the compressed data, and have written all of it by then.
        return subprocess.run(how, input=packed, capture_output=True, check=False).stdout or None
    except (OSError, zlib.error, lzma.LZMAError):
        return None


def _build_id(kernel: bytes) -> str | None:
    with tempfile.NamedTemporaryFile(prefix="kdelta-vmlinux-") as file:
        file.write(kernel)
        file.flush()
        return parse_build_id(_readelf("--notes", file.name))


def _readelf(what: str, path: str) -> str:
    command = ["readelf", what, "--wide", path]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def take(path: Path, arch: Architecture, arm: str, output: Path, key: str) -> ReadyKernel:
    """Record a kernel that was built elsewhere as an arm's image; it is booted where it lies.

    Args:
        path: its image.
        arch: of the guests that are to boot it.
        arm: the arm's name.
        output: the arm's folder, which gets a copy as `vmlinuz`, and `image.json`.
        key: the configuration key that names the image, for messages.

    Raises:
        KdeltaError: it is none, or guests of it cannot be started here.
    """
    found = ready_kernel(path, arch, key)
    root, folder = _modules_place(found)
    copy_atomically(found.path, output / KERNEL)
    digest = sha256_file(output / KERNEL)
    facts = {
        "schema": 1,
        "arm": arm,
        "arch": arch.name,
        "image": str(found.path),
        "key": digest,
        "kernel_release": found.release,
        "version_has": [found.version],
        "build_id": found.build_id,
        # Without drivers of its own that are modules, it has what it needs built in.
        "modules_root": str(root) if folder.is_dir() else None,
        "source": {"image": str(found.path), "version": found.version},
        "image_sha256": digest,
        "image_bytes": (output / KERNEL).stat().st_size,
        "compiler": "",
        "patches": [],
    }
    write_atomically(output / "image.json", (json.dumps(facts, indent=1) + "\n").encode())
    return found


def _require_root_driver(kernel: ReadyKernel, key: str) -> None:
    """Check that guests of it see the host's files, by a driver of the kernel or by a module.

    Raises:
        KdeltaError: there is no such driver, or a program is missing that loads modules.
    """
    if kernel.has_9p:
        return
    _, folder = _modules_place(kernel)
    if not folder.is_dir():
        if kernel.has_9p is None:
            return  # perhaps it is built in: the boot's gate will tell
        raise KdeltaError(
            f"{key}: {kernel.path}: its modules are missing, and guests need one of them "
            f"({ROOT_DRIVER}): there is no {folder}; unpack or install the kernel's whole package"
        )
    if not any(folder.rglob(f"{ROOT_DRIVER}.ko*")):
        raise KdeltaError(
            f"{key}: {kernel.path}: guests cannot see the host's files: {ROOT_DRIVER} (9p) is "
            f"neither built in nor in {folder}; Debian's cloud kernels lack it, take linux-image-"
            "amd64 and its kin"
        )
    _require_guest_tools(key)


def _modules_place(kernel: ReadyKernel) -> tuple[Path, Path]:
    """Where virtme-ng looks for a kernel's modules, whether they are there or not: root and folder.

    That is in `lib/modules` of the nearest folder above the image that has one; of none, beside
    the image's `boot`.
    """
    for above in kernel.path.parents:
        for place in ("lib/modules", "usr/lib/modules"):
            if (above / place).is_dir():
                return above, above / place / kernel.release
    above = kernel.path.parent.parent
    return above, above / "lib/modules" / kernel.release


def _require_guest_tools(key: str) -> None:
    """Check that guests of a distribution's kernel can be started: their drivers are modules.

    Raises:
        KdeltaError: naming the key, the programs and their packages.
    """
    known = ("busybox-static", "busybox.static", "busybox")  # in virtme-ng's order
    busybox = next((path for name in known if (path := _program(name))), None)
    missing = []
    # It is the first program of a guest that has no libraries yet. Debian has it in two ways.
    if busybox is None or " INTERP " in _readelf("--program-headers", busybox):
        missing.append("busybox-static")
    if _program("depmod") is None:
        missing.append("kmod")
    if missing:
        raise KdeltaError(
            f"{key}: guests of a kernel whose drivers are modules need {' and '.join(missing)} on "
            f"this host: apt-get install {' '.join(missing)}"
        )


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
