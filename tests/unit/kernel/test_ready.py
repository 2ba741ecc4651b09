# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that were built elsewhere: looked into, and taken as they are."""

from __future__ import annotations

import gzip
import json
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.kernel.ready import read_ready, take

RELEASE, VERSION = "6.1.0-47-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)"
BUILD_ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ELF file with a build ID that we know."""
    folder = tmp_path_factory.mktemp("elf")
    (folder / "x.c").write_text("int main(void) { return 0; }\n")
    command = ["gcc", f"-Wl,--build-id=0x{BUILD_ID}", "-o", "vmlinux", "x.c"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "vmlinux").read_bytes()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def bzimage(packed: bytes, text: str = f"{RELEASE} (me@here) {VERSION}") -> bytes:
    """An image with that compressed kernel, its size behind it as the kernel's make puts it."""
    head = bytearray(0x1000)
    head[0x1F1] = 7  # setup sectors: the protected-mode code begins at 0x1000
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x400 - 0x200)
    head[0x400 : 0x400 + len(text) + 1] = text.encode() + b"\0"
    struct.pack_into("<II", head, 0x248, 0, len(packed) + 4)
    return bytes(head) + packed + struct.pack("<I", 1234)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd, lambda data: data])
def test_what_an_image_tells(
    tmp_path: Path, vmlinux: bytes, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(pack(vmlinux)))
    found = read_ready(path)
    assert (found.release, found.version) == (RELEASE, VERSION)
    # What it is packed with is not known, or it is damaged: then its build ID is not asked for.
    unknown = pack(vmlinux)[:4] == b"\x7fELF"
    assert found.build_id == (None if unknown else BUILD_ID)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x7fELF" + bytes(5000), "it has no setup header"),
        (b"MZ", "it has no setup header"),
        (bzimage(b"", "no version"), "its version is 'no version'"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(KdeltaError) as caught:
        read_ready(path)
    assert str(caught.value).startswith(f"{path}: no bzImage, which is what x86 guests boot: ")
    assert expected in str(caught.value)


def test_an_image_is_taken_as_it_is(tmp_path: Path, vmlinux: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage(gzip.compress(vmlinux)))
    take(path, "debian", tmp_path / "debian")
    facts = json.loads((tmp_path / "debian/image.json").read_text())
    assert (tmp_path / "debian/bzImage").read_bytes() == path.read_bytes()
    assert facts["image"] == str(path)
    assert (facts["arm"], facts["kernel_release"]) == ("debian", RELEASE)
    assert (facts["version_has"], facts["build_id"]) == ([VERSION], BUILD_ID)


def test_what_guests_of_it_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vmlinux: bytes
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    path = tmp_path / "root/boot/vmlinuz"
    path.parent.mkdir(parents=True)
    path.write_bytes(bzimage(gzip.compress(vmlinux)))
    modules = tmp_path / "root/lib/modules"
    modules.mkdir(parents=True)
    take(path, "a", tmp_path / "out")  # everything is built in: nothing is needed
    image = tmp_path / "out/image.json"
    assert json.loads(image.read_text())["modules_root"] is None
    (modules / RELEASE).mkdir()
    with pytest.raises(KdeltaError, match=r"arms\.a\.image: busybox is not installed; .*apt-get"):
        take(path, "a", tmp_path / "out")
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/sbin/{name}")
    take(path, "a", tmp_path / "out")
    assert json.loads(image.read_text())["modules_root"] == str(tmp_path / "root")
