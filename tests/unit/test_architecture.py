# SPDX-License-Identifier: GPL-2.0-only
"""The seam between architectures: one file each, and what is made from it."""

from __future__ import annotations

import platform
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdelta import architecture as module
from kdelta.architecture import Architecture, architecture, architectures, host_architecture
from kdelta.config import load_experiment
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.guest.launch import GuestSpec, require_tools, vng_argv
from kdelta.kernel import toolchain
from kdelta.kernel.configure import parse_fragment, read_fragments
from kdelta.kernel.toolchain import make_command, read_toolchain
from kdelta.per_kernel import fragment_files

CHECKOUT = Path(__file__).resolve().parents[2]
FLAGSHIP = CHECKOUT / "config/experiments/pipe-prealloc.yaml"
NAMES = sorted(architectures())
FRAGMENTS = ["kernel-configs/guest.config", "kernel-configs/observe.config"]


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    """An architecture that is not this host's."""
    name = next(name for name in NAMES if not architecture(name).native)
    return architecture(name)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_fragment_of_its_own_and_a_host_of_its_own(name: str) -> None:
    arch = architecture(name)
    assert (CHECKOUT / f"kernel-configs/guest.{name}.config").is_file()
    others = {m for other in NAMES if other != name for m in architecture(other).machines}
    assert not others & set(arch.machines)
    # Whatever runs a guest, something shows it.
    assert arch.evidence[0].mode == "kvm"
    assert arch.evidence[-1].mode == "tcg"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("series", [(6, 12), (7, 2)])
def test_all_guests_have_what_the_driver_and_the_regimes_need(
    name: str, series: tuple[int, int]
) -> None:
    files = fragment_files(FRAGMENTS, CHECKOUT, series, "tcg", name)
    asked = read_fragments(files)
    for needed in ("9P_FS", "VIRTIO_CONSOLE", "MEMCG", "ZRAM", "CPUSETS", "KPROBE_EVENTS"):
        assert asked[f"CONFIG_{needed}"].value == "y"


def test_a_new_one_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the file is there, and experiments may ask for it."""
    known = yaml.safe_load((module.FOLDER / "riscv64.yaml").read_text())
    (tmp_path / "toy64.yaml").write_text(
        yaml.safe_dump({**known, "title": "toy", "machines": ["toy"], "qemu": "qemu-system-toy"})
    )
    shutil.copy(module.FOLDER / f"{host_architecture().name}.yaml", tmp_path)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    architectures.cache_clear()
    try:
        experiment = load_experiment(FLAGSHIP, CHECKOUT, "toy64")
        assert (experiment.name, experiment.arch.title) == ("pipe-prealloc-toy64", "toy")
        monkeypatch.setattr(platform, "machine", lambda: "toy")
        assert host_architecture().name == "toy64"
        assert experiment.arch.cross == ""
    finally:
        architectures.cache_clear()


def test_a_host_that_nobody_knows_is_told_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(KdeltaError, match=r"a pdp11, and kdelta knows arm64, .*set kernel\.arch"):
        host_architecture()


def flagship(change: dict[str, Any]) -> Experiment:
    data = yaml.safe_load(FLAGSHIP.read_text())
    data["kernel"] |= change
    return Experiment.model_validate(data, context={"root": CHECKOUT})


def test_an_experiment_is_of_the_hosts_unless_it_says_otherwise() -> None:
    assert flagship({}).arch == host_architecture()
    for name in NAMES:
        assert flagship({"arch": name}).arch.name == name


def test_of_another_architecture_it_has_another_name_and_the_same_rest() -> None:
    experiment = flagship({"arch": NAMES[0]})
    assert experiment.of_architecture(None) is experiment
    assert experiment.of_architecture(NAMES[0]) is experiment
    other = experiment.of_architecture(NAMES[1])
    assert (other.name, other.arch.name) == (f"{experiment.name}-{NAMES[1]}", NAMES[1])
    same = {"name", "kernel"}
    assert other.model_dump(exclude=same) == experiment.model_dump(exclude=same)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "mips"}, "there is no architecture 'mips'; there are arm64, riscv64, x86_64"),
        ({"arch": "x86_64", "page_size": "64K"}, "x86-64 has no pages of 64K; it has 4K"),
        ({"arch": "arm64", "page_size": "8K"}, "arm64 has no pages of 8K; it has 4K, 16K, 64K"),
    ],
)
def test_what_there_is_not_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flagship(change)


def test_large_pages_need_memory_for_the_buffers_of_ports() -> None:
    large = {"arch": "arm64", "page_size": "64K"}
    with pytest.raises(ValueError, match=r"guest\.memory: 1G is too little with pages of 64 KiB"):
        flagship(large)
    data = yaml.safe_load(FLAGSHIP.read_text())
    data["kernel"] |= large
    data["guest"]["memory"] = "2G"
    Experiment.model_validate(data, context={"root": CHECKOUT})
    data["arms"]["bulk"]["memory"] = "1500M"
    with pytest.raises(ValueError, match=r"arms\.bulk\.memory: 1500M .* give it 2G, or ask for"):
        Experiment.model_validate(data, context={"root": CHECKOUT})


def test_pages_that_the_other_architecture_does_not_have() -> None:
    with pytest.raises(ValueError, match="x86-64 has no pages of 16K"):
        flagship({"arch": "arm64", "page_size": "16K"}).of_architecture("x86_64")


def test_page_sizes_are_options_of_the_kernel() -> None:
    for name in NAMES:
        for line in architecture(name).page_sizes.values():
            for option in parse_fragment(line, "kernel.page_size"):
                assert option.value == "y"


def spec(arch: Architecture, **changes: Any) -> GuestSpec:
    given = {"acceleration": "tcg", "root": Path("/r"), **changes}
    where = {"kernel": Path("/k/vmlinuz"), "share": Path("/s"), "command": ("/bin/true",)}
    return GuestSpec(arch=arch, vcpus=1, memory_mib=512, **where, **given)


def kernels_words(argv: list[str]) -> list[str]:
    (word,) = (w for w in argv if w.startswith("--qemu-opts="))
    options = shlex.split(word.removeprefix("--qemu-opts="))
    return options[options.index("-append") + 1].split()


def test_a_guest_of_another_architecture_has_its_own_root_and_console(
    foreign: Architecture,
) -> None:
    argv = vng_argv(spec(foreign))
    assert argv[argv.index("--arch") + 1] == foreign.name
    assert argv[argv.index("--root") + 1] == "/r"
    words = kernels_words(argv)
    assert set(foreign.console) <= set(words)
    assert "init=/usr/lib/kdelta/guest_init" in words


def test_a_guest_of_the_hosts_has_the_hosts_root() -> None:
    argv = vng_argv(spec(host_architecture(), root=None))
    assert not {"--arch", "--root"} & set(argv)
    assert "init=/s/guest_init" in kernels_words(argv)


def test_a_missing_cross_compiler_is_one_message_with_one_command(
    foreign: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = toolchain.shutil.which
    monkeypatch.setattr(
        toolchain.shutil,
        "which",
        lambda name, path=None: None if name.startswith(foreign.tools) else which(name, path=path),
    )
    read_toolchain.cache_clear()
    with pytest.raises(KdeltaError) as caught:
        read_toolchain("gcc", foreign)
    packages = " ".join([*foreign.tool_packages, foreign.qemu_package])
    assert str(caught.value) == (
        f"building a kernel needs {foreign.tools}gcc, {foreign.tools}ld; "
        f"on Debian: apt-get install {packages}"
    )


def test_a_missing_emulator_likewise(
    foreign: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdelta.guest.launch.launch_path", lambda: "/nowhere")
    with pytest.raises(KdeltaError, match=rf"need {foreign.qemu}, .*apt-get install "):
        require_tools(foreign)


def test_make_is_told_what_it_builds_for(foreign: Architecture, tmp_path: Path) -> None:
    made = toolchain.Toolchain(f"{foreign.cross}gcc", "gcc 12", "ld 2", foreign)
    words = make_command(made, tmp_path, tmp_path)
    assert f"ARCH={foreign.make_arch}" in words
    assert f"CROSS_COMPILE={foreign.tools}" in words
    llvm = toolchain.Toolchain("clang-19", "clang 19", "ld 19", foreign, "-19")
    words = make_command(llvm, tmp_path, tmp_path)
    assert f"ARCH={foreign.make_arch}" in words
    assert not any(word.startswith("CROSS_COMPILE") for word in words)


@given(st.sampled_from(NAMES), st.sampled_from(["gcc", "gcc-12", "clang", "clang-19"]))
def test_only_gcc_is_another_program_for_another_architecture(name: str, compiler: str) -> None:
    arch = architecture(name)
    found = toolchain.compiler_for(compiler, arch)
    foreign_gcc = compiler.startswith("gcc") and not arch.native
    assert found == (arch.tools if foreign_gcc else "") + compiler
