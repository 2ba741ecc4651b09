# SPDX-License-Identifier: GPL-2.0-only
"""The whole kernel stage on a tree of two C files: cache, identity, failures, interrupts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdelta.architecture import host_architecture
from kdelta.errors import KdeltaError
from kdelta.kernel import costs, image
from kdelta.kernel.build import BuildRequest, build
from kdelta.kernel.source import SourceTree

from .kernel_support import cached_tree, make_patch, snapshot


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def baseline(tmp_path: Path, cache: Path) -> BuildRequest:
    fragment = tmp_path / "guest.config"
    fragment.write_text("# why\nCONFIG_A=y\n")
    return BuildRequest(
        arm="baseline",
        source=cached_tree(cache),
        patches=(),
        base="allnoconfig",
        fragments=(fragment,),
        acceleration="tcg",
        compiler="gcc",
        arch=host_architecture(),
        page_kib=None,
        output=tmp_path / "kernels/baseline",
        log=tmp_path / "logs/baseline.log",
        root=tmp_path,
    )


def patched(baseline: BuildRequest, change: dict[str, tuple[str, str]]) -> BuildRequest:
    folder = baseline.root / "patches"
    folder.mkdir(exist_ok=True)
    return replace(
        baseline,
        arm="patched",
        patches=(make_patch(folder / "0001.patch", change),),
        output=baseline.output.parent / "patched",
        log=baseline.log.with_name("patched.log"),
        baseline=baseline.output,
    )


PIPE_CHANGE = {"fs/pipe.c": ("return 5;", "return 55;")}


def listed(request: BuildRequest) -> dict[str, str]:
    lines = (request.output / "objects-differ.txt").read_text().splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def test_output_folder_and_record(baseline: BuildRequest, cache: Path) -> None:
    built = build(baseline, cache)
    assert not built.from_cache
    assert sorted(path.name for path in baseline.output.iterdir()) == [
        "build.log",
        "config",
        "image.json",
        "objects.sha256",
        "symbols.tsv.gz",
        "vmlinuz",
    ]
    facts = json.loads((baseline.output / "image.json").read_text())
    assert facts == built.facts
    assert facts["arm"] == "baseline"
    assert facts["kernel_release"] == "6.12.1"
    assert facts["kernel_banner"].startswith(f"Linux version 6.12.1 (kdelta@{built.key[:12]}) #1 ")
    assert facts["options_set"] == 2
    assert facts["objects_rebuilt"] == 3
    assert facts["first_build"] is True
    assert image.expected_steps(cache / "images", 2) == facts["steps"] == 4
    assert facts["fragments"][0]["file"] == "guest.config"
    assert facts["patches"] == []
    sums = (baseline.output / "objects.sha256").read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == [
        "fs/exec.o",
        "fs/pipe.o",
        "init/version-timestamp.o",
    ]
    for name, key in (("vmlinuz", "image_sha256"), ("config", "config_sha256")):
        assert hashlib.sha256((baseline.output / name).read_bytes()).hexdigest() == facts[key]
    assert image.load(baseline.output).facts == facts
    assert "CC      fs/pipe.o" in baseline.log.read_text()


def test_a_one_file_patch_compiles_one_file(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache)
    before = snapshot(baseline.source.path)
    request = patched(baseline, PIPE_CHANGE)
    second = build(request, cache)
    steps = request.log.read_text()
    assert "fs/pipe.o" in steps
    assert "fs/exec.o" not in steps
    assert second.facts["patches"] == [
        {
            "file": "patches/0001.patch",
            "sha256": hashlib.sha256(request.patches[0].read_bytes()).hexdigest(),
            "subject": "fs/pipe: a change",
            "author": "",
        }
    ]
    assert listed(request) == {"fs/pipe.o": "patched", "init/version-timestamp.o": "identity"}
    assert second.facts["objects_differ"] == {"identity": 1, "patched": 1}
    assert second.facts["first_build"] is False
    assert second.key != first.key
    assert snapshot(baseline.source.path) == before


LARGER = {"fs/pipe.c": ("return 5;", "volatile char page[512] = {5}; return page[0];")}


def test_what_an_arm_costs(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache)
    second = build(patched(baseline, LARGER), cache)
    assert second.facts["sizes"]["text"] > first.facts["sizes"]["text"]
    assert second.facts["image_bytes"] == second.kernel.stat().st_size
    assert len(second.facts["build_id"]) == 40
    assert second.facts["build_id"] != first.facts["build_id"]
    assert "costs" not in first.facts
    found = second.facts["costs"]
    assert {kind: entry["count"] for kind, entry in found.items()} == {"symbols": 1, "stack": 1}
    (symbol,), (stack,) = (found[kind]["largest"] for kind in ("symbols", "stack"))
    assert (symbol["kind"], symbol["name"]) == ("text", "pipe_5")
    assert symbol["arm"] > symbol["baseline"] > 0
    assert stack["name"] == "fs/pipe.o:pipe_5"
    assert stack["arm"] >= 256 > stack["baseline"]


@pytest.mark.parametrize("keep_workspace", [True, False])
def test_back_at_the_baseline_nothing_of_the_arm_is_left(
    baseline: BuildRequest, cache: Path, keep_workspace: bool
) -> None:
    """Whether objects come from the folder, the compiler or its cache."""
    build(baseline, cache)
    symbols = (baseline.output / costs.SYMBOLS).read_bytes()
    build(patched(baseline, LARGER), cache)
    assert (baseline.output.parent / "patched" / costs.SYMBOLS).read_bytes() != symbols
    shutil.rmtree(cache / "images")
    if not keep_workspace:
        shutil.rmtree(cache / "workspaces")
    for arm in (baseline, patched(baseline, LARGER), baseline):
        build(arm, cache)
    assert (baseline.output / costs.SYMBOLS).read_bytes() == symbols


def test_after_the_clock_was_set_back_nothing_old_is_taken_for_new(
    baseline: BuildRequest, cache: Path
) -> None:
    """A virtual machine that was resumed: objects are younger than what is patched now."""
    build(baseline, cache)
    tomorrow = time.time() + 86400
    for path in cache.glob("workspaces/*/obj/**/*"):
        os.utime(path, (tomorrow, tomorrow))
    request = patched(baseline, PIPE_CHANGE)
    build(request, cache)
    assert listed(request) == {"fs/pipe.o": "patched", "init/version-timestamp.o": "identity"}


def test_a_header_change_is_traced_to_its_objects(baseline: BuildRequest, cache: Path) -> None:
    build(baseline, cache)
    request = patched(baseline, {"include/pipe_fs_i.h": ("16", "32")})
    build(request, cache)
    # pipe.c includes the header too, but does not use what changed
    assert listed(request) == {"fs/exec.o": "patched", "init/version-timestamp.o": "identity"}


def test_objects_that_another_arm_left_are_not_listed(baseline: BuildRequest, cache: Path) -> None:
    build(baseline, cache)
    (workspace,) = cache.glob("workspaces/*")
    (workspace / "obj/fs/stale.o").write_text("of an option that is off by now")
    request = patched(baseline, PIPE_CHANGE)
    build(request, cache)
    assert "stale.o" not in (request.output / "objects.sha256").read_text()
    assert "stale.o" not in listed(request)


def test_rebuilt_after_another_arm_it_is_bit_identical(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache).kernel.read_bytes()
    build(patched(baseline, PIPE_CHANGE), cache)
    shutil.rmtree(cache / "images")
    again = build(baseline, cache)
    assert not again.from_cache
    assert again.kernel.read_bytes() == first


def test_bit_identical_in_another_cache(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache).kernel.read_bytes()
    elsewhere = cache.with_name("elsewhere")
    symbols = (baseline.output / costs.SYMBOLS).read_bytes()
    again = build(replace(baseline, source=cached_tree(elsewhere)), elsewhere)
    assert again.kernel.read_bytes() == first
    assert (baseline.output / costs.SYMBOLS).read_bytes() == symbols


def test_cached_image_is_not_built_again(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache)
    shutil.rmtree(cache / "workspaces")
    os.utime(baseline.fragments[0], (1, 1))
    other = replace(
        baseline, arm="same", output=baseline.output.with_name("same"), log=cache / "same.log"
    )
    second = build(other, cache)
    assert second.from_cache
    assert not (cache / "workspaces").exists()
    assert {**second.facts, "arm": "baseline"} == first.facts
    assert other.log.read_bytes() == baseline.log.read_bytes()


def test_defconfig_with_fragments_on_top(baseline: BuildRequest, cache: Path) -> None:
    build(replace(baseline, base="defconfig"), cache)
    assert (baseline.output / "config").read_text() == "CONFIG_DEF=y\nCONFIG_A=y\n"


def test_changed_fragment_changes_config_and_says_so(baseline: BuildRequest, cache: Path) -> None:
    build(baseline, cache)
    extra = baseline.root / "more.config"
    extra.write_text("CONFIG_B=y\n")
    request = replace(
        patched(baseline, PIPE_CHANGE), patches=(), fragments=(*baseline.fragments, extra)
    )
    built = build(request, cache)
    assert "CONFIG_B=y" in (request.output / "config").read_text()
    assert [entry["file"] for entry in built.facts["fragments"]] == ["guest.config", "more.config"]


def test_option_that_does_not_take(baseline: BuildRequest, cache: Path) -> None:
    baseline.fragments[0].write_text("CONFIG_A=y\nCONFIG_IMPOSSIBLE=y\n")
    with pytest.raises(KdeltaError) as caught:
        build(baseline, cache)
    assert (
        f"{baseline.fragments[0]}:2: CONFIG_IMPOSSIBLE: asked y, got n; defined at Kconfig:4; "
        "depends on MAGIC"
    ) in str(caught.value)
    assert not baseline.output.exists()


def test_compile_error_names_the_line_and_keeps_the_log(
    baseline: BuildRequest, cache: Path
) -> None:
    request = replace(
        patched(baseline, {"fs/pipe.c": ("return 5;", "return five;")}), baseline=None
    )
    with pytest.raises(KdeltaError) as caught:
        build(request, cache)
    message = str(caught.value)
    assert "arm patched: the kernel does not compile" in message
    assert "error: 'five' undeclared" in message.replace("‘", "'").replace("’", "'")
    assert str(request.log) in message
    assert "five" in request.log.read_text()
    assert not request.output.exists()
    # the workspace is not spoilt by it
    assert build(baseline, cache).facts["kernel_release"] == "6.12.1"


def test_full_disk_while_compiling(baseline: BuildRequest, cache: Path) -> None:
    makefile = baseline.source.path / "Makefile"
    text = makefile.read_text().replace("vmlinux.bin.gz > $@", "vmlinux.bin.gz > /dev/full")
    assert "/dev/full" in text
    makefile.write_text(text)
    with pytest.raises(KdeltaError, match="no space left on the device while building arm"):
        build(baseline, cache)


def test_an_image_that_holds_another_kernel(baseline: BuildRequest, cache: Path) -> None:
    """As a compiler cache leaves it that hands out the compressed kernel of an older build."""
    build(baseline, cache)
    request = patched(baseline, {**PIPE_CHANGE, "stale": ("", "put nothing together\n")})
    with pytest.raises(KdeltaError) as caught:
        build(request, cache)
    message = str(caught.value)
    assert "arm patched: the image that make built is not of this kernel" in message
    assert "does not hold the kernel that was compressed last" in message
    assert str(cache / "compiler") in message
    assert not request.output.exists()


def test_half_deleted_cache_entries_are_made_again(baseline: BuildRequest, cache: Path) -> None:
    first = build(baseline, cache)
    (cache / "images" / first.key / "image.json").unlink()
    again = build(baseline, cache)
    assert not again.from_cache
    assert again.kernel.read_bytes() == first.kernel.read_bytes()


def test_missing_baseline_image(baseline: BuildRequest, cache: Path) -> None:
    with pytest.raises(KdeltaError, match="no finished baseline image to compare with"):
        build(patched(baseline, PIPE_CHANGE), cache)


def test_tampered_image_is_not_loaded(baseline: BuildRequest, cache: Path) -> None:
    build(baseline, cache)
    with (baseline.output / "vmlinuz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(KdeltaError, match="the image was changed after it was built"):
        image.load(baseline.output)


def slow(source: SourceTree) -> None:
    """Let the compiler of fs/pipe.c take a minute, after it has said who it is."""
    makefile = source.path / "Makefile"
    makefile.write_text(
        makefile.read_text().replace(
            "\t@$(CC) $(KCFLAGS) -Iinclude -c -o $@ $<",
            "\t@[ $< != fs/pipe.c ] || { echo $$$$ > $(O)/slow; exec sleep 60; }\n"
            "\t@$(CC) $(KCFLAGS) -Iinclude -c -o $@ $<",
        )
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return False


SCRIPT = """
import sys
from pathlib import Path
from kdelta.architecture import host_architecture
from kdelta.kernel.build import BuildRequest, build
from kdelta.kernel.source import restore
root = Path(sys.argv[1])
tree = restore({"id": "5eed"}, root / "cache")
build(BuildRequest("baseline", tree, (), "allnoconfig", (root / "guest.config",), "tcg", "gcc",
                   host_architecture(), None, root / "out", root / "build.log"), root / "cache")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_build_leaves_no_process_and_goes_on(
    baseline: BuildRequest, cache: Path, number: signal.Signals
) -> None:
    makefile = baseline.source.path / "Makefile"
    fast = makefile.read_text()
    slow(baseline.source)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(baseline.root)])
    wait_for(lambda: bool(list(cache.glob("workspaces/*/obj/slow"))))
    (mark,) = cache.glob("workspaces/*/obj/slow")
    wait_for(lambda: mark.read_text().endswith("\n"))
    compiler = int(mark.read_text())
    assert alive(compiler)
    process.send_signal(number)
    process.wait(20)
    assert process.returncode != 0
    wait_for(lambda: not alive(compiler))
    assert not (baseline.root / "out").exists()

    # The next start finds the lock free and goes on in the same folder.
    (workspace,) = cache.glob("workspaces/*")
    (workspace / "src/Makefile").write_text(fast)
    done = build(baseline, cache)
    assert done.kernel.is_file()
    assert list(cache.glob("workspaces/*")) == [workspace]
