# SPDX-License-Identifier: GPL-2.0-only
"""Every mistake in an experiment file is one line: file, key, value, what to do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from kdelta.cli import main
from kdelta.config import RunConfig, load_experiment, parse_model
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from kdelta.names import RESERVED
from kdelta.schema import COLUMN_NAMES
from tests.conftest import Project

REMOVE = object()


def put(data: Any, dotted: str, value: Any) -> None:
    """Set (or remove) a key of nested data, named as the messages name it."""
    *parents, last = dotted.split(".")
    for part in parents:
        data = data[int(part) if isinstance(data, list) else part]
    if value is REMOVE:
        del data[last]
    elif isinstance(data, list):
        data[int(last)] = value
    else:
        data[last] = value


def message(project: Project, small: dict[str, Any], key: str, value: Any) -> str:
    put(small, key, value)
    with pytest.raises(KdeltaError) as caught:
        project.load(small)
    text = str(caught.value)
    assert text.startswith(f"{project.file}: ")
    assert "\n" not in text, "one mistake, one line"
    return text.removeprefix(f"{project.file}: ")


MISTAKES = [
    # an unknown key, with the one that was meant
    ("arm", {}, "arm: unknown key (value {}); did you mean 'arms'?"),
    ("guest.memroy", "1G", "guest.memroy: unknown key (value '1G'); did you mean 'memory'?"),
    # "title" is a key elsewhere, but not here
    (
        "guest.title",
        "x",
        "guest.title: unknown key (value 'x'); "
        "keys here: acceleration, boot_timeout_s, cpu, memory, vcpus",
    ),
    # a wrong type
    ("title", 6.12, "title: should be text, found 6.12; put it in quotes"),
    ("guest.memory", 1024, "guest.memory: should be text, found 1024; put it in quotes"),
    # what goes through a shell on its way to QEMU holds nothing that one minds
    ("guest.cpu", "max -smp 64", "guest.cpu: should match pattern"),
    ("guest.cpu", "max;reboot", "guest.cpu: should match pattern"),
    ("guest.vcpus", "two", "guest.vcpus: should be 'auto' or should be a whole number"),
    ("guest.vcpus", 0, "guest.vcpus: should be 'auto' or should be greater than or equal to 1"),
    ("protocols.quick.blocks", True, "protocols.quick.blocks: should be a whole number"),
    ("protocols.quick.blocks", "3", "protocols.quick.blocks: should be a whole number, found '3'"),
    ("protocols.quick.blocks", 0, "protocols.quick.blocks: should be greater than or equal to 1"),
    ("protocols.quick.blocks", "3", "found '3'; without quotes"),
    ("protocols.quick.warmup_s", "1s", "found '1s'; a number alone, no unit"),
    (
        "workloads.pipe_bench.matrix.writers",
        5,
        "workloads.pipe_bench.matrix.writers: should be a list, found 5; write [5]",
    ),
    ("workloads", None, "workloads: should be a mapping of keys to values, found nothing; give a"),
    ("control", "no", "control: should be true or false, found 'no'"),
    ("arms", [], "arms: should be a mapping of keys to values, found []"),
    (
        "workloads.pipe_bench.matrix.writers.1",
        1.5,
        "workloads.pipe_bench.matrix.writers: should be a whole number from 1 to 1000, found 1.5",
    ),
    ("guest.acceleration", "hvf", "guest.acceleration: should be 'auto', 'kvm' or 'tcg', found"),
    ("schema", 3, "schema: should be 2, found 3"),
    ("seed", -1, "seed: should be greater than or equal to 0, found -1"),
    ("protocols.quick.warmup_s", float("nan"), "protocols.quick.warmup_s: should be less than"),
    ("statistics", {"confidence": 95}, "statistics.confidence: should be less than 1, found 95"),
    # a missing key
    ("title", REMOVE, "title: this key is required"),
    ("arms.baseline.title", REMOVE, "arms.baseline.title: this key is required"),
    ("kernel.source.type", REMOVE, "kernel.source.type: this key is required; it is one of debian"),
    ("workloads.pipe_bench.matrix", {}, "workloads.pipe_bench.matrix: should have at least 1 item"),
    (
        "workloads.pipe_bench.matrix.writers",
        [],
        "workloads.pipe_bench.matrix.writers: should have at least 1 item",
    ),
    # sources
    ("kernel.source.type", "tar", "kernel.source.type: should be one of 'debian', 'git', found"),
    ("kernel.source.package", "linux-6.12", "kernel.source.package: should match pattern"),
    ("kernel.source.package", "linux-6.12", "found 'linux-6.12' (Debian source package, for"),
    (
        "kernel.source",
        {"type": "git", "url": "u", "commit": "abc123"},
        "kernel.source.commit: should match pattern '^[0-9a-f]{40}$', found 'abc123'",
    ),
    ("kernel.source", {"type": "git", "url": "u", "commit": "abc123"}, "`git rev-parse NAME^{com"),
    ("kernel.compiler", "gcc -O3", "kernel.compiler: should match pattern"),
    # names
    ("name", "Has Spaces", "name: should match pattern"),
    ("arms.Bad Name", {"title": "x"}, "arms.Bad Name: this name should match pattern"),
    ("baseline", "vanilla", "baseline: 'vanilla' is not an arm; arms are baseline, patched"),
    ("arms.control", {"title": "x"}, "arms.control: this name is kept for the A/A arm"),
    # the matrix and the workload's arguments
    (
        "workloads.pipe_bench.matrix.threads",
        [1],
        "workloads.pipe_bench.matrix.threads: 'threads' is not a parameter of pipe_bench; param",
    ),
    (
        "workloads.pipe_bench.arguments.speed",
        1,
        "workloads.pipe_bench.arguments.speed: 'speed' is not a parameter of pi",
    ),
    (
        "workloads.pipe_bench.matrix.write_size",
        [64],
        "workloads.pipe_bench.arguments.write_size: it is a factor of the matrix too",
    ),
    (
        "workloads.pipe_bench.matrix.writers",
        [1, 2, 1],
        "workloads.pipe_bench.matrix.writers: a level is listed twice in [1, 2, 1]",
    ),
    (
        "workloads.pipe_bench.matrix.writers",
        ["1,2"],
        "workloads.pipe_bench.matrix.writers: should be a whole number from 1 to 1000, found",
    ),
    (
        "workloads.pipe_bench.arguments.write_size",
        "64KB",
        "workloads.pipe_bench.arguments.write_size: should be bytes",
    ),
    (
        "workloads.pipe_bench.arguments.pipe_size",
        100000,
        "workloads.pipe_bench.arguments.pipe_size: should be a power of",
    ),
    (
        "workloads.pipe_bench.arguments.nonblock",
        "yes",
        "workloads.pipe_bench.arguments.nonblock: should be true or false",
    ),
    (
        "workloads.pipe_bench.arguments.pin",
        "all",
        "workloads.pipe_bench.arguments.pin: should be none, auto or a list of",
    ),
    (
        "workloads.pipe_bench.matrix",
        {"readers": [1]},
        "workloads.pipe_bench.matrix: nothing says which writers a cell has; make 'writers' a "
        "factor, or write workloads.pipe_bench.arguments.writers",
    ),
    (
        "workloads.pipe_bench.matrix.pipe_size",
        ["64K", 65536],
        "workloads.pipe_bench.matrix.pipe_size: '64K' and 65536 are the same level",
    ),
    (
        "workloads.pipe_bench.matrix.pin",
        ["0", 0],
        "workloads.pipe_bench.matrix.pin: '0' and 0 are the same level; keep one",
    ),
    (
        "workloads.pipe_bench.arguments.pin",
        "0-1",
        "workloads.pipe_bench.arguments.pin: CPU 1 is none of the guest's, whi",
    ),
    (
        "workloads.pipe_bench.matrix.pin",
        ["0", "0,3"],
        "workloads.pipe_bench.matrix.pin: CPU 3 is none of the guest's, which has 1 (guest.",
    ),
    (
        "workloads.pipe_bench.arguments.write_size",
        "64M",
        "guest.memory: 256M is less than the 321 MiB of the largest cell of workloads.pi",
    ),
    (
        "workloads.pipe_bench.matrix",
        {
            "writers": [1],
            "readers": list(range(1, 1001)),
            "pipe_size": [2**k for k in range(12, 23)],
        },
        "workloads.pipe_bench.matrix: 11000 cells; a boot runs every one of them, and more than",
    ),
    # sizes
    ("guest.memory", "1 gigabyte", "guest.memory: '1 gigabyte' is not a size; write for example"),
    ("guest.memory", "0", "guest.memory: '0' is not a size"),
    # protocols and regimes
    (
        "protocols.quick.duration_s",
        {},
        "protocols.quick.duration_s: should have at least",
    ),
    (
        "protocols.long.duration_s.lazy",
        1,
        "protocols.long.duration_s: lazy: no such regime; regimes are idle, pressed",
    ),
    (
        "protocols.long.duration_s.idle",
        0.0005,
        "protocols.long.duration_s.idle: should be greater than or equal to 0.001, found 0.0005",
    ),
    (
        "workloads.pipe_bench.timeout_s",
        0.05,
        "workloads.pipe_bench.timeout_s: should be greater than or equal to 1, found",
    ),
    ("guest.boot_timeout_s", 0.5, "guest.boot_timeout_s: should be greater than or equal to 1, f"),
    (
        "protocols.quick.warmup_s",
        60,
        "protocols.quick.warmup_s: 60 s before each cell of 0.5 s: more than 10 times what is",
    ),
    (
        "protocols.long",
        {"blocks": 200, "duration_s": {"idle": 86400}},
        "protocols.long: 200 blocks of 4 boots of 4 cells take 3200 days in the cells alone, more",
    ),
    ("regimes.pressed.stressor.settled_by", "time", "settled_by: time: give settle_s, the seconds"),
    (
        "regimes.pressed.stressor.settle_s",
        5,
        "regimes.pressed.stressor: settle_s: 5 has no effect with settled_by: memory; write",
    ),
    (
        "regimes.pressed.stressor",
        {"command": ["yes"], "settled_by": "time", "settle_s": 61},
        "regimes.pressed.stressor.settle_s: 61 is longer than its settle_timeout_s, 60; raise",
    ),
    ("protocols.long.duration_s.idle", 0, "protocols.long.duration_s.idle: should be greater than"),
    ("regimes.pressed.stressor.command", [], "regimes.pressed.stressor.command: should have"),
    ("regimes.idle.memcg", "yes", "regimes.idle.memcg: should be true or false, found 'yes'"),
    ("regimes.idle.memgc", True, "regimes.idle.memgc: unknown key (value True); did you mean 'mem"),
    ("regimes.idle.swap", "lots", "regimes.idle.swap: 'lots' is not a size; write for example"),
    ("regimes.idle.sysctl", {"swappiness": 1}, "regimes.idle.sysctl.swappiness: this name should"),
    ("regimes.idle.sysctl", {"vm.swappiness": 0.5}, "regimes.idle.sysctl.vm.swappiness: should be"),
    (
        "regimes.pressed.stressor.settled_by",
        "cpu",
        "regimes.pressed.stressor.settled_by: should be 'memory', 'reclaim' or 'time', found 'cpu'",
    ),
    # what a regime must do
    (
        "regimes.pressed.expects",
        [{"counter": "allocstalls", "at_least": 1}],
        "regimes.pressed.expects.0.counter: should be 'pgscan_direct', 'pgsteal_direct', 'pgscan_",
    ),
    (
        "regimes.pressed.expects",
        [{"counter": "oom_kill", "at_most": 0}, {"counter": "allocstall"}],
        "regimes.pressed.expects.1: allocstall: give one of at_least and at_most",
    ),
    (
        "regimes.pressed.expects",
        [{"counter": "allocstall", "at_least": 1, "at_most": 2}],
        "regimes.pressed.expects.0: allocstall: give one of at_least and at_most",
    ),
    (
        "regimes.pressed.expects",
        [{"counter": "allocstall", "at_least": 0}],
        "regimes.pressed.expects.0.at_least: should be greater than or equal to 1, found 0",
    ),
    (
        "regimes.pressed.expects",
        [{"counter": "allocstall", "at_least": 1, "share": 95}],
        "regimes.pressed.expects.0.share: should be less than or equal to 1, found 95",
    ),
    ("regimes.pressed.expects", {"allocstall": 1}, "regimes.pressed.expects: should be a list"),
    # traced boots
    ("mechanism", {}, "mechanism.regimes: this key is required"),
    ("mechanism", {"regimes": []}, "mechanism.regimes: should have at least 1 item"),
    (
        "mechanism",
        {"regimes": ["idle", "lazy"]},
        "mechanism.regimes: lazy: no such regime; regimes are idle, pressed",
    ),
    (
        "mechanism",
        {"regimes": ["idle"], "duration_s": 100},
        "mechanism.duration_s: should be less than or equal to 60, found 100",
    ),
    # limits
    (
        "workloads.pipe_bench.limits",
        {"speed": 1},
        "workloads.pipe_bench.limits.speed: not a limit of pipe_bench; limits",
    ),
    (
        "workloads.pipe_bench.program",
        "pipebench",
        "workloads.pipe_bench: program: there is no workload 'pipebench' in ",
    ),
    ("workloads.pipe_bench.program", 3, "workloads.pipe_bench.program: should be text, found 3"),
    ("arms.patched.boot_parameters", ["a b"], "arms.patched.boot_parameters.0: should mat"),
    ("arms.patched.files", {"/etc/passwd": 1}, "arms.patched.files./etc/passwd: this name"),
    ("validity", {"clock_jump_ms": 0}, "validity.clock_jump_ms: should be greater than 0, found 0"),
    ("validity", {"steal": 5}, "validity.steal: should be less than or equal to 1, found 5"),
    ("validity", {"host_load": "low"}, "validity.host_load: should be a number, found 'low'"),
    ("validity", {"host_other_cpu": 0}, "validity.host_other_cpu: should be greater than 0, found"),
    ("validity", {"load": 1}, "validity.load: unknown key (value 1); did you mean 'host_load'?"),
    # the host
    ("environment", {"governor": "powersave"}, "environment.governor: should be 'performance' or"),
    # YAML reads a bare `off` so.
    ("environment", {"turbo": False}, "environment.turbo: should be 'off' or 'leave', found False"),
    ("environment", {"pin_vcpus": 2}, "environment.pin_vcpus: should be true or false, found 2"),
    ("environment", {"move_irqs": "no"}, "environment.move_irqs: should be true or false, found"),
    # cells without effect
    (
        "negative_controls",
        [{"cells": {"writers": [1]}}],
        "negative_controls.0.reason: this key is required",
    ),
    (
        "negative_controls",
        [{"cells": {}, "reason": "x"}],
        "negative_controls.0.cells: should have at least 1 item",
    ),
    (
        "negative_controls",
        [{"cells": {"write_size": [1]}, "reason": "x"}],
        "negative_controls.0.cells.write_size: not a factor of the matrix, which has writers, rea",
    ),
    (
        "negative_controls",
        [{"cells": {"writers": [1]}, "reason": "x"}, {"cells": {"readers": [2]}, "reason": "x"}],
        "negative_controls.1.cells.readers: 2 is not a level of the matrix, which has 1, 3",
    ),
    # published deltas
    (
        "claims",
        {"file": "claims.csv", "arm": "patched"},
        "claims.source: this key is required",
    ),
    (
        "claims",
        {"file": "claims.csv", "source": "a mail", "arm": "baseline"},
        "claims.arm: 'baseline' is not an arm beside the baseline; arms are baseline, pat",
    ),
    (
        "claims",
        {"file": "claims.csv", "source": "a mail", "arm": "control"},
        "claims.arm: 'control' is not an arm beside the baseline; arms are",
    ),
    (
        "claims",
        {"file": "claims.csv", "source": "a mail", "arm": "patched", "setup": {"vCPUs": 16}},
        "claims.setup.vCPUs: should be text, found 16; put it in quotes",
    ),
    # arms
    ("kernel", REMOVE, "arms.baseline: it has no image, and there is no key kernel that says what"),
    (
        "arms.other.image",
        "vmlinuz",
        "arms.other: image: vmlinuz is built already, and patches says",
    ),
    ("arms.other", {"title": "x", "image": "no/vmlinuz"}, "arms.other.image: no such file: no/vm"),
    ("arms.other", {"title": "x", "image": "a b"}, "arms.other.image: should match pattern"),
    ("arms.other.base", "defcnf", "arms.other.base: should be a make target such as allnoconfig"),
    ("arms.other.base", "x86_64_defconfg", "arms.other.base: should be a make target such as all"),
    ("kernel.config.base", "bogusconfig", "kernel.config.base: should be a make target such as a"),
    ("kernel.config.base", "menuconfig", "kernel.config.base: should be a make target such as al"),
    ("kernel.config.base", "randconfig", "kernel.config.base: should be a make target such as al"),
    ("arms.other.base", "config/no.config", "arms.other.base: no such file: config/no.config (lo"),
    ("arms.other.base", "./kernel-configs", "arms.other.base: a folder, and a file is needed: ./k"),
    ("arms.other.base", "/no/.config", "arms.other.base: no such file: /no/.config"),
    ("arms.other.vcpus", 0, "arms.other.vcpus: should be greater than or equal to 1, found 0"),
    ("arms.other.source", {"type": "tar"}, "arms.other.source.type: should be one of 'debian'"),
    # workloads
    ("workloads", {}, "workloads: should have at least 1 item"),
    ("workloads.raw", 1, "workloads.raw: should be a mapping"),
    ("claims", {"file": "c", "source": "s", "arm": "other", "workload": "w"}, "claims.workload: w"),
    # files
    (
        "kernel.config.fragments",
        ["kernel-configs/none.config"],
        "kernel.config.fragments: no such file: kernel-configs/none.config (looked in ",
    ),
    (
        "arms.patched.patches",
        ["patches/none.patch"],
        "arms.patched.patches: no such patch: patches/none.patch (looked in ",
    ),
    ("arms.patched.patches", ["kernel-configs"], "kernel-configs (a folder without *.patch"),
    ("arms.patched.patches", ["x" * 300], "arms.patched.patches: no such patch: "),
    ("arms.patched.fragments", ["x" * 300], "arms.patched.fragments: no such file: xxx"),
]


@pytest.mark.parametrize(("key", "value", "expected"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_that_names_it(
    project: Project, small: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    assert expected in message(project, small, key, value)


def test_names_that_files_and_folders_of_ours_have(project: Project, small: dict[str, Any]) -> None:
    quick = {"blocks": 1, "duration_s": {"idle": 1}}
    for kind, entry in (
        ("arms", {"title": "x"}),
        ("regimes", {"title": "x"}),
        ("protocols", quick),
    ):
        for name in [*RESERVED[kind], "a.partial", "source.json", "6.jsonl", "a.", "6..1"]:
            mistaken = copy.deepcopy(small)
            said = message(project, mistaken, kind, {**small[kind], name: entry})
            assert said.startswith(f"{kind}.{name}: "), said
            if name in RESERVED[kind]:
                assert said.endswith(f"; rename the {kind.removesuffix('s')}")
            else:
                assert "should have dots only between digits, as linux-6.12 does" in said
        good = {**small[kind], "linux-6.12": entry, "7.2.12-rc1": entry, "a": entry}
        project.load({**small, kind: good})
    for name in RESERVED["name"]:
        assert "; rename the experiment" in message(project, copy.deepcopy(small), "name", name)
    for name in ("..", ".", ".hidden", "a..b", "a.json", "A"):
        assert message(project, copy.deepcopy(small), "name", name).startswith("name: should ")


def test_a_factor_with_the_name_of_a_tables_column(small: dict[str, Any]) -> None:
    for column in COLUMN_NAMES:
        data = copy.deepcopy(small)
        put(data, f"workloads.pipe_bench.matrix.{column}", [1])
        with pytest.raises(ValidationError, match=f"matrix.{column}: "):
            Experiment.model_validate(data)


def test_a_misspelt_required_key_is_one_mistake(project: Project, small: dict[str, Any]) -> None:
    put(small, "kernel.source.package", REMOVE)
    said = message(project, small, "kernel.source.packge", "linux-source-6.12")
    assert said == (
        "kernel.source.packge: unknown key (value 'linux-source-6.12'); did you mean 'package'?"
    )


def test_several_mistakes_are_told_at_once(project: Project, small: dict[str, Any]) -> None:
    put(small, "guest.vcpus", "two")
    put(small, "seed", REMOVE)
    with pytest.raises(KdeltaError) as caught:
        project.load(small)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{project.file}: guest.vcpus: ")
    assert second == f"{project.file}: seed: this key is required"


def test_a_huge_value_is_shown_short(project: Project, small: dict[str, Any]) -> None:
    assert len(message(project, small, "guest", ["x" * 300] * 100)) < 1000


def test_the_run_configuration_too(project: Project) -> None:
    with pytest.raises(KdeltaError) as caught:
        parse_model(RunConfig, {"protocoll": "quick"}, project.root / "config.yaml")
    assert str(caught.value).endswith(
        "config.yaml: protocoll: unknown key (value 'quick'); did you mean 'protocol'?"
    )


def test_the_command_line_prints_the_message_alone(
    project: Project, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    put(small, "baseline", "vanilla")
    project.write(small)
    assert main(["--root", str(project.root), "check", "experiment.yaml"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"kdelta: {project.file}: baseline: 'vanilla' is not an arm; "
        "arms are baseline, patched, other\n"
    )


def test_a_good_file_is_told_what_it_amounts_to(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the host's cache, whose kernels these patches are not for.
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.root / "cache"))
    assert main(["--root", str(project.root), "check", "experiment.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "arm patched: with the series (linux-source-6.12, 2 patches)" in printed
    # 2 blocks x 2 regimes
    assert "protocol quick: 4 blocks of 4 guests, 1 round of 4 cells: about " in printed
    assert "protocol long: 6 blocks of 4 guests, 1 round of 4 cells: about " in printed


def test_mechanism_boots_are_counted(
    project: Project,
    small: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.root / "cache"))
    project.write(small | {"mechanism": {"regimes": ["idle"], "duration_s": 7}})
    assert main(["--root", str(project.root), "check", "experiment.yaml"]) == 0
    assert "1 round of 4 cells and 4 mechanism boots: about " in capsys.readouterr().out


def test_claims_that_the_analysis_would_refuse(
    project: Project, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "claims.csv").write_text("regime,metric\n")
    claims = {"file": "claims.csv", "source": "a mail", "arm": "patched"}
    project.write(small | {"claims": claims})
    assert main(["--root", str(project.root), "check", "experiment.yaml"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "claims.csv:1: " in printed.err


def test_without_a_root_files_are_not_looked_for(project: Project, small: dict[str, Any]) -> None:
    put(small, "arms.patched.patches", ["nowhere"])
    assert load_experiment(project.write(small)).arms["patched"].patches == ["nowhere"]
