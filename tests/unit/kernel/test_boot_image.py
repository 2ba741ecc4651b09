# SPDX-License-Identifier: GPL-2.0-only
"""Images of kernels: which architecture they are of, and what they say of their kernel."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.architecture import Architecture, architecture, architectures
from kdelta.errors import KdeltaError
from kdelta.kernel.boot_image import (
    read_version,
    require_architecture,
    require_own_kernel,
    unpacked,
)

BANNER = b"Linux version 6.12.9 (kdelta@0123456789ab) (gcc 12, ld 2) #1 SMP Thu Jan  1 1970"
RAW = [arch for arch in architectures().values() if arch.image_format == "Image"]


def image(arch: Architecture, content: bytes = b"") -> bytes:
    """An image with nothing but its architecture's mark, and a content behind its header."""
    magic = arch.image_magic.encode("latin-1")
    return bytes(arch.image_magic_at) + magic + bytes(0x400) + content


@given(st.sampled_from(sorted(architectures())), st.sampled_from(sorted(architectures())))
def test_an_image_is_of_one_architecture(mine: str, other: str) -> None:
    data = image(architecture(mine))
    require_architecture(data, architecture(mine))
    if other != mine:
        with pytest.raises(ValueError, match=f"it is a kernel of {architecture(mine).title}"):
            require_architecture(data, architecture(other))


@given(st.binary(max_size=2000))
def test_a_packed_image_is_the_same_image(data: bytes) -> None:
    assert unpacked(gzip.compress(data)) == data


def test_a_damaged_one_is_told() -> None:
    with pytest.raises(ValueError, match="incomplete"):
        unpacked(gzip.compress(bytes(100))[:-12])


@pytest.mark.parametrize("arch", RAW, ids=lambda arch: arch.name)
def test_a_raw_image_tells_its_version(arch: Architecture) -> None:
    data = image(arch, b"\0" + BANNER + b"\n\0rest")
    assert read_version(data, arch) == ("6.12.9", "#1 SMP Thu Jan  1 1970")
    with pytest.raises(ValueError, match="no words `Linux version"):
        read_version(image(arch), arch)


@pytest.mark.parametrize("arch", RAW, ids=lambda arch: arch.name)
def test_an_image_of_another_build_is_refused(arch: Architecture, tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init/version-timestamp.o").write_bytes(b"\0" + BANNER + b"\0")
    built = tmp_path / arch.image
    built.parent.mkdir(parents=True)
    built.write_bytes(image(arch, BANNER))
    require_own_kernel(tmp_path, arch, "0123456789ab", "bulk", tmp_path)
    with pytest.raises(KdeltaError, match="without build ffff"):
        require_own_kernel(tmp_path, arch, "ffff", "bulk", tmp_path)
    built.write_bytes(image(arch, BANNER.replace(b"0123", b"9999")))
    with pytest.raises(KdeltaError, match=r"arm bulk: the image .* is not of this kernel"):
        require_own_kernel(tmp_path, arch, "0123456789ab", "bulk", tmp_path)
