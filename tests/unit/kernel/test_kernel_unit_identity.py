# SPDX-License-Identifier: GPL-2.0-only
"""Image keys, objects and their reasons to differ, Debian's and apt's texts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.architecture import host_architecture
from kdelta.arms import KernelConfig
from kdelta.errors import KdeltaError
from kdelta.kernel import aptconf, objects
from kdelta.kernel.apt_state import parse_uris
from kdelta.kernel.boot_image import payload
from kdelta.kernel.build import BuildRequest, request_key
from kdelta.kernel.compile import failure_message, first_error, step_of
from kdelta.kernel.image import ccache_counts, expected_steps, image_key
from kdelta.kernel.source import SourceTree, kernel_version, restore

KEY = {
    "arch": "x86_64",
    "source_id": "aa",
    "patches": [b"one", b"two"],
    "base": "allnoconfig",
    "fragments": [b"CONFIG_A=y\n", b"CONFIG_B=y\n"],
    "compiler": "gcc 12",
    "linker": "ld 2.40",
}


@pytest.mark.parametrize(
    "change",
    [
        {"source_id": "ab"},
        {"patches": [b"one", b"tw0"]},
        {"patches": [b"two", b"one"]},
        {"patches": [b"onetwo"]},
        {"patches": [b"one"]},
        {"base": "tinyconfig"},
        {"fragments": [b"CONFIG_B=y\n", b"CONFIG_A=y\n"]},
        {"patches": [b"one"], "fragments": [b"two", b"CONFIG_A=y\n", b"CONFIG_B=y\n"]},
        {"compiler": "gcc 13"},
        {"linker": "ld 2.41"},
        {"arch": "arm64"},
    ],
)
def test_key_changes_with_every_ingredient(change: dict[str, object]) -> None:
    assert image_key(**{**KEY, **change}) != image_key(**KEY)


def request(tmp_path: Path) -> BuildRequest:
    (tmp_path / "x.patch").write_text("patch")
    (tmp_path / "x.config").write_text("CONFIG_A=y\n")
    tree = SourceTree("ab", tmp_path, {"type": "git", "url": "u", "kernel_version": "6.12.1"})
    return BuildRequest(
        arm="patched",
        source=tree,
        patches=(tmp_path / "x.patch",),
        base=KernelConfig(fragments=["x"]).base,
        fragments=(tmp_path / "x.config",),
        acceleration="tcg",
        compiler="gcc",
        arch=host_architecture(),
        page_kib=None,
        output=tmp_path / "out",
        log=tmp_path / "log",
    )


def test_a_touched_file_has_the_same_key_a_changed_one_another(tmp_path: Path) -> None:
    before = request_key(request(tmp_path))
    os.utime(tmp_path / "x.patch", (1, 1))
    assert request_key(request(tmp_path)) == before
    asked = request(tmp_path)
    (tmp_path / "x.patch").write_text("patch.")
    assert request_key(asked) != before


def test_the_arm_name_is_no_part_of_the_key(tmp_path: Path) -> None:
    one = request(tmp_path)
    other = BuildRequest(**{**vars(one), "arm": "control", "output": tmp_path / "elsewhere"})
    assert request_key(one) == request_key(other)


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    asked = BuildRequest(**{**vars(request(tmp_path)), "compiler": "no-such-cc"})
    with pytest.raises(KdeltaError, match="building a kernel needs no-such-cc"):
        request_key(asked)


def test_dependencies_of_a_cmd_file() -> None:
    cmd = (
        "savedcmd_fs/pipe.o := gcc -I/w/src/include -c -o fs/pipe.o /w/src/fs/pipe.c\n\n"
        "source_fs/pipe.o := /w/src/fs/pipe.c\n\ndeps_fs/pipe.o := \\\n"
        "    $(wildcard include/config/SYSCTL) \\\n  /w/src/include/linux/pipe_fs_i.h \\\n"
        "  include/generated/compile.h \\\n\nfs/pipe.o: $(deps_fs/pipe.o)\n"
    )
    assert objects.dependencies(cmd) == {
        "/w/src/fs/pipe.c",
        "/w/src/include/linux/pipe_fs_i.h",
        "include/generated/compile.h",
    }


def test_differing_objects_have_reasons() -> None:
    base = {"a.o": "1", "b.o": "2", "gone.o": "3"}
    new = {"a.o": "1", "b.o": "9", "new.o": "4"}
    why = {"b.o": "patched", "a.o": "identity"}
    assert objects.differing(base, new, why, "unexplained") == {
        "b.o": "patched",
        "gone.o": "unexplained",
        "new.o": "unexplained",
    }
    assert objects.differing(base, new, {}, "config")["b.o"] == "config"
    assert objects.differing(base, base, why, "unexplained") == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "unexplained"),
        ({"config_sha256": "f"}, "config"),
        # The configuration records the compiler: it is no reason of its own then.
        ({"config_sha256": "f", "compiler": "clang 19"}, "compiler"),
        ({"linker": "LLD 19"}, "compiler"),
        ({"config_sha256": "f", "source": {"id": "7.2"}, "compiler": "clang 19"}, "source"),
    ],
)
def test_the_reason_of_all_objects_is_the_gravest(changes: dict[str, Any], reason: str) -> None:
    image = {"source": {"id": "6.12"}, "compiler": "gcc", "linker": "ld", "config_sha256": "e"}
    assert objects.of_all(image, image | changes) == reason
    assert f"# {reason}: " in objects.differ_text({"a.o": reason})


sums = st.dictionaries(
    st.from_regex(r"[a-z][a-z/ ._-]{0,20}\.o", fullmatch=True),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


@given(sums)
def test_sums_are_read_again(digests: dict[str, str]) -> None:
    assert objects.parse_sums(objects.sums_text(digests)) == digests


@pytest.mark.parametrize(
    "name",
    [
        "vmlinux.o",
        ".tmp_vmlinux1.kallsyms.o",
        "arch/x86/boot/compressed/piggy.o",
        "scripts/mod/empty.o",
        "tools/objtool/elf.o",
        "arch/x86/tools/relocs_64.o",
    ],
)
def test_aggregates(name: str) -> None:
    assert objects.is_aggregate(name)
    assert not objects.is_aggregate("fs/pipe.o")


def test_debug_information_does_not_count_where_the_image_has_none(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "another"):
        folder = tmp_path / name / "arch/x86/boot"
        folder.mkdir(parents=True)
        (folder / "tty.c").write_text("int tty;\n")
        command = ["gcc", "-g", "-c", str(folder / "tty.c"), "-o", str(folder / "tty.o")]
        subprocess.run(command, check=True)
        digests.append(objects.hash_objects(tmp_path / name))
    assert list(digests[0]) == ["arch/x86/boot/tty.o"]
    assert digests[0] == digests[1]
    (folder / "tty.c").write_text("int tty = 1;\n")
    subprocess.run(command, check=True)
    assert objects.hash_objects(tmp_path / "another") != digests[0]


def test_steps_and_first_error() -> None:
    assert step_of("  CC      fs/pipe.o") == ("CC", "fs/pipe.o")
    assert step_of("  LD [M]  fs/x.ko") == ("LD [M]", "fs/x.ko")
    assert step_of("make[1]: Entering directory '/x'") is None
    output = (
        "  CC      fs/pipe.o\nfs/pipe.c:5:1: warning: unused\n"
        "fs/pipe.c:7:2: error: unknown type name 'foo'\nfs/pipe.c:8:2: error: expected ';'\n"
        "make[3]: *** [scripts/Makefile.build:229: fs/pipe.o] Error 1\n"
    )
    assert first_error(output) == "fs/pipe.c:7:2: error: unknown type name 'foo'"
    assert "7:2: error" in failure_message("patched", output, "log")
    linked = "ld: fs/pipe.o: in function `f':\npipe.c:(.text+0x1): undefined reference to `g'\n"
    assert first_error(linked + "make: *** [Makefile:1: vmlinux] Error 1") == (
        "pipe.c:(.text+0x1): undefined reference to `g'"
    )
    assert first_error("make: *** No rule to make target 'x'.  Stop.") == (
        "make: *** No rule to make target 'x'.  Stop."
    )


def test_missing_header_names_the_package() -> None:
    output = "elf.h:10:10: fatal error: gelf.h: No such file or directory"
    assert "apt-get install libelf-dev" in failure_message("baseline", output, "log")


def boot_image(sectors: int, protocol: int, offset: int, length: int, size: int) -> bytes:
    image = bytearray(range(256)) * (size // 256)
    image[0x1F1] = sectors
    image[0x202:0x208] = b"HdrS" + protocol.to_bytes(2, "little")
    image[0x248:0x250] = offset.to_bytes(4, "little") + length.to_bytes(4, "little")
    return bytes(image)


@pytest.mark.parametrize(("sectors", "begin"), [(1, 1024 + 3), (31, 16384 + 3), (0, 2560 + 3)])
def test_payload_is_what_the_setup_header_points_at(sectors: int, begin: int) -> None:
    image = boot_image(sectors, 0x20F, 3, 500, 32768)
    assert payload(image) == image[begin : begin + 500]


def test_payload_of_something_else() -> None:
    for wrong in (b"", bytes(32768), boot_image(1, 0x207, 3, 500, 32768)):
        with pytest.raises(ValueError, match="boot protocol"):
            payload(wrong)
    with pytest.raises(ValueError, match="there are fewer"):
        payload(boot_image(1, 0x20F, 3, 4096, 4096))


def test_ccache_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert ccache_counts(log) == (0, 0)
    log.write_text("# a.c\ncache_miss\ndirect_cache_miss\n# b.c\ndirect_cache_hit\n")
    assert ccache_counts(log) == (1, 1)


def test_expected_steps_come_from_the_last_build_of_that_size(tmp_path: Path) -> None:
    assert expected_steps(tmp_path, 700) > 700
    for key, options, first, steps in (("a", 700, True, 1500), ("b", 700, False, 12)):
        (tmp_path / key).mkdir()
        (tmp_path / key / "image.json").write_text(
            f'{{"options_set": {options}, "first_build": {str(first).lower()}, "steps": {steps}}}'
        )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/image.json").write_text("{")
    assert expected_steps(tmp_path, 700) == 1500


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = x\n", "6.12.117"),
        ("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\n", "7.3.0-rc2"),
        ("all:\n\ttrue\n", None),
        ("VERSION = 6\nPATCHLEVEL = 12\n", None),
    ],
)
def test_kernel_version(text: str, version: str | None) -> None:
    assert kernel_version(text) == version


def test_restore_of_nonsense(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match="this is no record of a kernel source"):
        restore({"id": "ab", "type": "debian"}, tmp_path)


def test_uri_line() -> None:
    digest = "e8" * 32
    line = (
        f"'http://a/pool/l/linux-source-6.12_6.12.117-1%7edeb12u1_all.deb' "
        f"linux-source-6.12_2%3a6.12.117-1~deb12u1_all.deb 153476148 SHA256:{digest}\n"
    )
    (package,) = parse_uris(line)
    assert package.name == "linux-source-6.12"
    assert package.version == "2:6.12.117-1~deb12u1"
    assert package.request == "linux-source-6.12=2:6.12.117-1~deb12u1"
    assert (package.size, package.sha256) == (153476148, digest)
    assert parse_uris(line.replace("SHA256", "MD5Sum")) == []


LISTING = [
    "Other|Other|main|http://other/|/etc/apt/sources.list.d/other.list:1",
    "Debian|Debian|contrib|http://mirror/debian/|/etc/apt/sources.list.d/debian.sources:1",
    "Debian|Debian|main|http://mirror/debian/|/etc/apt/sources.list.d/debian.sources:1",
    "Debian|Debian-Security|main|http://sec/debian/|/etc/apt/sources.list.d/debian.sources:2",
]


def test_the_hosts_archive_is_found() -> None:
    found = aptconf.find_repository(LISTING, "trixie-backports")
    assert found is not None
    assert found.uri == "http://mirror/debian/"
    found = aptconf.find_repository(LISTING, "trixie-security")
    assert found is not None
    assert found.uri == "http://sec/debian/"
    assert aptconf.find_repository(LISTING[:1], "sid") is None


def test_keys_of_the_hosts_entry() -> None:
    deb822 = (
        "# comment\n\nTypes: deb\nURIs: http://a\nSigned-By: /a.gpg\n\nTypes: deb\nURIs: http://b\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\nTypes: deb\nURIs: http://c\n"
    )
    assert aptconf.parse_signed_by(deb822, "x.sources", 1) == "/a.gpg"
    inline = aptconf.parse_signed_by(deb822, "x.sources", 2)
    assert inline is not None
    assert inline.splitlines()[1:] == [" .", " abc"]
    assert aptconf.parse_signed_by(deb822, "x.sources", 3) is None
    assert aptconf.parse_signed_by(deb822, "x.sources", 9) is None
    line = "deb [arch=amd64 signed-by=/b.gpg] http://a bookworm main\ndeb http://b bookworm main\n"
    assert aptconf.parse_signed_by(line, "x.list", 1) == "/b.gpg"
    assert aptconf.parse_signed_by(line, "x.list", 2) is None


def test_a_private_state_is_of_one_architecture_if_asked(tmp_path: Path) -> None:
    assert "Architecture" not in aptconf.private_configuration(tmp_path)
    text = aptconf.private_configuration(tmp_path, "riscv64")
    assert 'APT::Architectures { "riscv64"; };' in text


def test_private_configuration_stays_in_its_folder(tmp_path: Path) -> None:
    text = aptconf.private_configuration(tmp_path)
    for line in text.splitlines():
        if line.startswith("Dir::") and not line.endswith('"";'):
            assert f'"{tmp_path}/' in line
    assert "#clear APT::Update::Post-Invoke;" in text
    assert "no-check" not in text.lower()
    assert "AllowUnauthenticated" not in text
