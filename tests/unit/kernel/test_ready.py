# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that were built elsewhere: looked into, and taken as they are."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kdelta.architecture import architecture
from kdelta.errors import KdeltaError
from kdelta.kernel.ready import ready_kernel, take

ARCH = architecture("x86_64")
RELEASE, VERSION = "6.1.0-47-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)"
KEY = "x.yaml: arms.debian.image"
BUILD_ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ELF file with a build ID that we know, and the name of a driver that is built in."""
    return compiled(tmp_path_factory.mktemp("elf"), 'const char *name = "9pnet_virtio";')


@pytest.fixture(scope="module")
def modular(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same of a distribution's kernel: that driver is a module."""
    return compiled(tmp_path_factory.mktemp("elf"), 'const char *name = "9pnet_virtio.ko";')


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that needs no library."""
    return compiled(tmp_path_factory.mktemp("elf"), "", "-static")


def compiled(folder: Path, line: str, *options: str) -> bytes:
    (folder / "x.c").write_text(f"{line}\nint main(void) {{ return 0; }}\n")
    command = ["gcc", f"-Wl,--build-id=0x{BUILD_ID}", *options, "-o", "out", "x.c"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "out").read_bytes()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def bzimage(packed: bytes, text: str = f"{RELEASE} (me@here) {VERSION}", flags: int = 1) -> bytes:
    """An image with that compressed kernel, its size behind it as the kernel's make puts it."""
    head = bytearray(0x1000)
    head[0x1F1] = 7  # setup sectors: the protected-mode code begins at 0x1000
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x400 - 0x200)
    head[0x400 : 0x400 + len(text) + 1] = text.encode() + b"\0"
    head[0x236] = flags  # of xloadflags, bit 0: a kernel of 64 bits
    struct.pack_into("<II", head, 0x248, 0, len(packed) + 4)
    return bytes(head) + packed + struct.pack("<I", 1234)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd, lambda data: data])
def test_what_an_image_tells(
    tmp_path: Path, vmlinux: bytes, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(pack(vmlinux)))
    found = ready_kernel(path, ARCH, KEY)
    assert (found.release, found.version) == (RELEASE, VERSION)
    # What it is packed with is not known, or it is damaged: then its build ID is not asked for.
    unknown = pack(vmlinux)[:4] == b"\x7fELF"
    assert found.build_id == (None if unknown else BUILD_ID)
    assert found.has_9p == (None if unknown else True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x7fELF" + bytes(5000), "it is an ELF file, as vmlinux is;"),
        (b"MZ", "it has not the header of one;"),
        (b"", "it has not the header of one;"),
        (b"MZ" + bytes(54) + b"ARM\x64" + bytes(5000), "it is a kernel of arm64;"),
        (b"MZ" + bytes(54) + b"RSC\x05" + bytes(5000), "it is a kernel of riscv64;"),
        (bzimage(b"", flags=0x7E), "it is one of 32 bits"),
        (bzimage(bytes(5000))[:0x1100], "the header promises 5004 bytes at 4096; there are fewer"),
        (bzimage(b"", "no version"), "its version is 'no version'"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(KdeltaError) as caught:
        ready_kernel(path, ARCH, KEY)
    assert str(caught.value).startswith(f"{KEY}: {path}: no kernel that x86-64 guests boot: ")
    assert expected in str(caught.value)


def test_an_image_is_taken_as_it_is(tmp_path: Path, vmlinux: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(gzip.compress(vmlinux)))
    take(path, ARCH, "debian", tmp_path / "debian", KEY)
    facts = json.loads((tmp_path / "debian/image.json").read_text())
    assert (tmp_path / "debian/vmlinuz").read_bytes() == path.read_bytes()
    assert facts["image"] == str(path)
    assert (facts["arm"], facts["kernel_release"]) == ("debian", RELEASE)
    assert (facts["version_has"], facts["build_id"]) == ([VERSION], BUILD_ID)


@pytest.fixture
def unpacked(tmp_path: Path, modular: bytes) -> tuple[Path, Path]:
    """A package's image, and the folder of its modules, which is not there yet."""
    image = tmp_path / "root/boot/vmlinuz"
    image.parent.mkdir(parents=True)
    image.write_bytes(bzimage(gzip.compress(modular)))
    return image, tmp_path / "root/lib/modules" / RELEASE


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one of this host besides readelf's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "readelf").symlink_to(str(shutil.which("readelf")))
    monkeypatch.setenv("PATH", str(folder))
    found = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, path=None: found(name))
    return folder


def program(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o755)


def test_a_kernel_without_its_modules(unpacked: tuple[Path, Path]) -> None:
    image, modules = unpacked
    with pytest.raises(KdeltaError, match=r"its modules are missing.*there is no ") as caught:
        ready_kernel(image, ARCH, KEY)
    assert str(caught.value).startswith(f"{KEY}: {image}: ")
    assert str(modules) in str(caught.value)
    (modules.parent / "6.1.0-48-amd64").mkdir(parents=True)  # those of another kernel
    with pytest.raises(KdeltaError, match="its modules are missing"):
        ready_kernel(image, ARCH, KEY)


def test_a_kernel_that_has_no_9p(unpacked: tuple[Path, Path]) -> None:
    image, modules = unpacked
    (modules / "kernel/drivers/virtio").mkdir(parents=True)
    (modules / "kernel/drivers/virtio/virtio_pci.ko").touch()
    with pytest.raises(KdeltaError, match=r"9pnet_virtio \(9p\) is neither built in nor in"):
        ready_kernel(image, ARCH, KEY)


@pytest.mark.parametrize("packed", ["", ".xz", ".zst"])
def test_programs_that_loading_modules_takes(
    unpacked: tuple[Path, Path], static: bytes, programs: Path, packed: str, vmlinux: bytes
) -> None:
    def expect(*packages: str) -> None:
        with pytest.raises(KdeltaError) as caught:
            ready_kernel(image, ARCH, KEY)
        assert str(caught.value).startswith(f"{KEY}: guests of a kernel whose drivers are modules")
        assert str(caught.value).endswith(f": apt-get install {' '.join(packages)}")

    image, modules = unpacked
    (modules / "kernel/net/9p").mkdir(parents=True)
    (modules / f"kernel/net/9p/9pnet_virtio.ko{packed}").touch()
    expect("busybox-static", "kmod")
    program(programs / "depmod", static)
    expect("busybox-static")
    # What initramfs-tools brings along: it needs libraries, which a guest does not have so early.
    program(programs / "busybox", vmlinux)
    expect("busybox-static")
    program(programs / "busybox", static)
    assert ready_kernel(image, ARCH, KEY).release == RELEASE
    (programs / "depmod").unlink()
    expect("kmod")
    # With everything built in, none of them is needed.
    image.write_bytes(bzimage(gzip.compress(vmlinux)))
    assert ready_kernel(image, ARCH, KEY).has_9p


def test_where_its_modules_are_is_recorded(unpacked: tuple[Path, Path], vmlinux: bytes) -> None:
    image, modules = unpacked
    image.write_bytes(bzimage(gzip.compress(vmlinux)))  # it needs none to boot
    out = image.parent / "out"
    for there in (False, True):
        if there:
            modules.mkdir(parents=True)
        take(image, ARCH, "a", out, KEY)
        found = json.loads((out / "image.json").read_text())["modules_root"]
        assert found == (str(modules.parents[2]) if there else None)
