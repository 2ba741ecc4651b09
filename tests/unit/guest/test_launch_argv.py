# SPDX-License-Identifier: GPL-2.0-only
"""What is asked of virtme-ng, and what a guest's last words are taken for."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from kdelta.architecture import architecture
from kdelta.errors import KdeltaError
from kdelta.guest import launch
from kdelta.guest.acceleration import choose, device_refusal
from kdelta.guest.disk import make_disk
from kdelta.guest.launch import GuestSpec, guest_python, require_tools, vng_argv
from kdelta.guest.watch import console_verdict, read_records

ARCH = architecture("x86_64")
SPEC = GuestSpec(ARCH, Path("/k/vmlinuz"), "tcg", 3, 512, Path("/share"), ("/bin/echo", "hello"))


def test_the_command_line_of_a_guest() -> None:
    argv = vng_argv(SPEC)
    assert argv[:3] == ["vng", "--run", "/k/vmlinuz"]
    for option, value in (("--cpus", "3"), ("--memory", "512M"), ("--user", "root")):
        assert argv[argv.index(option) + 1] == value
    assert "--rwdir=/run/kdelta=/share" in argv
    assert "--verbose" in argv
    assert "--disable-kvm" in argv


def qemu_options(spec: GuestSpec, *more: str) -> list[str]:
    """QEMU's options of ours, as the shell takes them apart that vng puts them through."""
    (word,) = (w for w in vng_argv(spec, list(more)) if w.startswith("--qemu-opts="))
    return shlex.split(word.removeprefix("--qemu-opts="))


def test_the_kernels_command_line_is_ours() -> None:
    options = qemu_options(SPEC, "-qmp", "unix:/s")
    line = options[options.index("-append") + 1]
    assert line.endswith("ro init=/share/guest_init -- /run/kdelta /bin/echo hello")
    assert {"console=ttyS0", "panic=-1", "rootfstype=9p"} <= set(line.split())
    assert options[options.index("-qmp") + 1] == "unix:/s"
    assert "clocksource" not in line


def test_kvm_is_not_disabled_where_it_is_asked_for() -> None:
    """And its guests keep time by a clock that stands still while they do."""
    spec = GuestSpec(ARCH, Path("/k"), "kvm", 1, 512, Path("/s"), ("/bin/true",), ("a=1", "b"))
    assert "--disable-kvm" not in vng_argv(spec)
    line = qemu_options(spec)[1]
    assert " clocksource=kvm-clock a=1 b init=" in line


def test_a_cpu_model_is_behind_virtme_ngs() -> None:
    options = qemu_options(replace(SPEC, cpu="max,-erms"))
    assert options[-2:] == ["-cpu", "max,-erms"]
    assert "-cpu" not in qemu_options(SPEC)


def test_a_disk_is_the_file_itself_past_the_hosts_page_cache() -> None:
    options = qemu_options(replace(SPEC, disk=Path("/scratch/disk.raw")))
    drive = dict(word.split("=") for word in options[options.index("-drive") + 1].split(","))
    assert drive["file"] == "/scratch/disk.raw"
    assert (drive["format"], drive["cache"], drive["discard"]) == ("raw", "none", "unmap")
    assert f"virtio-blk-pci,drive={drive['id']}" in options
    assert "-drive" not in qemu_options(SPEC)


def test_a_disk_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    path = make_disk(tmp_path, 3 * 2**30)
    assert (path.stat().st_size, path.stat().st_blocks) == (3 * 2**30, 0)
    for folder in (tmp_path, tmp_path / "gone"):  # there is one already; there is no folder
        with pytest.raises(KdeltaError, match=r"a guest's scratch disk of 1,024 .* set TMPDIR"):
            make_disk(folder, 1024)


@pytest.mark.parametrize("what", ["kernel", "share", "command"])
def test_a_path_that_a_shell_minds_is_refused(what: str) -> None:
    bad = Path("/a b")
    value = (str(bad),) if what == "command" else bad
    with pytest.raises(KdeltaError, match=r"^/a b: a guest cannot be started with this path"):
        vng_argv(replace(SPEC, **{what: value}))


def test_the_guests_python_is_a_real_binary() -> None:
    path = Path(guest_python())
    assert path.is_file()
    assert not path.is_symlink()
    assert ".venv" not in path.parts


def test_a_missing_tool_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "launch_path", lambda: str(tmp_path))
    with pytest.raises(KdeltaError, match="vng is not installed; install virtme-ng"):
        require_tools(ARCH)
    vng = tmp_path / "vng"
    vng.write_text("#!/bin/sh\n")
    vng.chmod(0o755)
    with pytest.raises(KdeltaError, match="qemu-system-x86_64 is not installed; install qemu-sys"):
        require_tools(ARCH)


@pytest.mark.parametrize(
    ("console", "verdict"),
    [
        ("booting\nall well\n", None),
        (
            "BUG: unable to handle page fault\nOops: 0002\n  Kernel panic - not syncing: Fatal\n",
            "Kernel panic - not syncing: Fatal",
        ),
        ("[  9.1] Out of memory: Killed process 77 (python3)\n", "[  9.1] Out of memory: Killed"),
        ("BUG: kernel NULL pointer dereference\n", "BUG: kernel NULL pointer dereference"),
    ],
)
def test_the_line_that_says_why(console: str, verdict: str | None) -> None:
    found = console_verdict(console)
    assert found == verdict if verdict is None else str(found).startswith(verdict)


def test_records_up_to_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert read_records(path) == []
    whole = "".join(json.dumps({"record": name}) + "\n" for name in ("boot", "sample"))
    for tail in (
        '{"record":"sam',
        '{"record"',
        '{"record":"sample"}',
        '{"rec\0\0\0\n{"record":1}\n',
    ):
        path.write_text(whole + tail)
        assert [record["record"] for record in read_records(path)] == ["boot", "sample"]


def test_no_kvm_device(tmp_path: Path) -> None:
    assert device_refusal(tmp_path / "kvm") == f"{tmp_path / 'kvm'} does not exist"
    (tmp_path / "kvm").touch()
    assert device_refusal(tmp_path / "kvm") is None


def no_kernel() -> Path:
    raise AssertionError("no kernel has to be built to know this")


def test_what_is_asked_for_without_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdelta.guest.acceleration.require_tools", lambda arch: None)
    none = tmp_path / "kvm"
    assert choose(ARCH, "tcg", None, no_kernel, none).as_dict() == {
        "mode": "tcg",
        "requested": "tcg",
        "reason": "emulation was asked for (guest.acceleration: tcg)",
        "cpu": "max,-erms",
        "arch": "x86_64",
    }
    auto = choose(ARCH, "auto", None, no_kernel, none)
    assert (auto.mode, auto.reason) == (
        "tcg",
        f"KVM does not work on this host: {none} does not exist",
    )
    with pytest.raises(KdeltaError, match=r"guest\.acceleration is kvm, but KVM does not work"):
        choose(ARCH, "kvm", None, no_kernel, none)
