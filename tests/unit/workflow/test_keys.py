# SPDX-License-Identifier: GPL-2.0-only
"""Keys of the expensive rules: changed by what a result depends on, and by nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from kdelta.errors import KdeltaError
from kdelta.measure import schedule
from kdelta.workflow import STAGES, RunPlan, plan_run
from tests.conftest import Project


def plan(project: Project, protocol: str = "quick") -> RunPlan:
    settings = {"experiment": project.file.name, "protocol": protocol}
    return plan_run(settings, "config/config.yaml", project.root)


def keys(project: Project, protocol: str = "quick") -> dict[str, str]:
    run = plan(project, protocol)
    return {
        **{f"fetch {name}": run.fetch_key(name) for name in run.kernels},
        "programs": run.programs_key(),
        "probe": run.probe_key((6, 12)),
        **{f"build {name}": run.build_key(name, (6, 12), "tcg") for name in run.kernels},
        **{f"measure {name}": run.measure_key(name) for name in run.regimes},
    }


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


FETCHES = {"fetch baseline", "fetch patched", "fetch other"}
BUILDS = {"build baseline", "build patched", "build other"}
MEASURES = {"measure idle", "measure pressed"}


def test_keys_differ_where_the_work_does(project: Project) -> None:
    found = keys(project)
    assert len(set(found.values())) == len(found) - 2, "the three arms have one source"
    assert found == keys(project)


def test_touching_files_changes_nothing(project: Project) -> None:
    before = keys(project)
    for path in project.root.rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    assert keys(project) == before


def test_moving_the_project_changes_nothing(project: Project) -> None:
    before = keys(project)
    elsewhere = Project(project.root.rename(project.root.with_name("elsewhere")))
    assert keys(elsewhere) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("patches/series/0002-second.patch", {"build patched"}),
        ("patches/other.patch", {"build other"}),
        ("kernel-configs/guest.config", BUILDS),
        ("workloads/pipe_bench/pipe_bench.c", {"programs"}),
    ],
)
def test_a_byte_of_a_file(project: Project, name: str, expected: set[str]) -> None:
    before = keys(project)
    with (project.root / name).open("a") as file:
        file.write("#")
    assert changed(before, keys(project)) == expected


def test_the_order_and_number_of_patches(project: Project) -> None:
    before = keys(project)
    series = project.root / "patches" / "series"
    (series / "0002-second.patch").rename(series / "0000-second.patch")
    swapped = keys(project)
    assert changed(before, swapped) == {"build patched"}
    (series / "0001-first.patch").unlink()
    assert changed(swapped, keys(project)) == {"build patched"}


def edit(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        *parents, last = name.split(".")
        node = data
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value

    return apply


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        # what people read
        ("title", "Another title", set()),
        ("summary", "More words", set()),
        ("arms.patched.title", "Another", set()),
        ("regimes.idle.title", "Another", set()),
        ("regimes.idle.description", "Another", set()),
        # how it is analysed
        ("statistics.confidence", 0.9, set()),
        # how much is measured: more blocks keep those that there are
        ("protocols.quick.blocks", 9, set()),
        ("protocols.long.warmup_s", 3, set()),
        ("protocols.quick.duration_s.idle", 0.7, {"measure idle"}),
        ("protocols.quick.duration_s.pressed", 2, {"measure pressed"}),
        ("protocols.quick.warmup_s", 0.3, MEASURES),
        # what is measured
        ("seed", 8, MEASURES),
        ("workloads.pipe_bench.matrix.writers", [1, 4], MEASURES),
        ("workloads.pipe_bench.arguments.write_size", 4096, MEASURES),
        ("guest.vcpus", 2, MEASURES),
        ("guest.memory", "512M", MEASURES),
        # the probe may find another acceleration, and kernels are configured for it
        ("guest.acceleration", "auto", {*MEASURES, *BUILDS, "probe"}),
        ("guest.cpu", "max,-erms", {*MEASURES, *BUILDS, "probe"}),
        ("control", False, MEASURES),
        ("regimes.pressed.stressor.command", ["sleep", "999"], {"measure pressed"}),
        # which kernels
        ("kernel.source.package", "linux-source-7.2", {*FETCHES, *BUILDS}),
        ("kernel.source.version", "6.12.1-1", {*FETCHES, *BUILDS}),
        ("kernel.config.base", "tinyconfig", BUILDS),
        ("kernel.compiler", "gcc-no-such", BUILDS),
        ("arms.patched.fragments", ["patches/other.patch"], {"build patched"}),
        ("arms.patched.base", "tinyconfig", {"build patched"}),
        ("arms.patched.base", "kernel-configs/guest.config", {"build patched"}),
        ("arms.patched.compiler", "gcc-no-such", {"build patched"}),
        (
            "arms.patched.source",
            {"type": "debian", "package": "linux-source-7.2"},
            {"fetch patched", "build patched"},
        ),
        # how arms are booted: no kernel is built for it
        ("arms.patched.boot_parameters", ["mitigations=off"], MEASURES),
        ("arms.patched.sysctl", {"vm.swappiness": 1}, MEASURES),
        ("arms.patched.files", {"/sys/kernel/x": 1}, MEASURES),
        ("arms.patched.memory", "512M", MEASURES),
        ("arms.patched.vcpus", 2, MEASURES),
    ],
)
def test_a_line_of_the_experiment(
    project: Project, small: dict[str, Any], key: str, value: Any, expected: set[str]
) -> None:
    before = keys(project)
    edit(key, value)(small)
    project.write(small)
    assert changed(before, keys(project)) == expected


def test_a_regime_more_leaves_the_others_alone(project: Project, small: dict[str, Any]) -> None:
    before = keys(project)
    edit("regimes.third", {"title": "third"})(small)
    for protocol in small["protocols"].values():
        protocol["duration_s"]["third"] = 1
    project.write(small)
    after = keys(project)
    assert after.pop("measure third")
    assert changed(before, after) == set()


def test_another_balance_of_the_arms_measures_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks ordered by another rule would unbalance those that are added to them."""
    before = keys(project)
    in_order = schedule.arm_orders

    def turned(arms: Iterable[str], seed: str) -> list[tuple[str, ...]]:
        return in_order(arms, seed)[::-1]

    monkeypatch.setattr(schedule, "arm_orders", turned)
    assert changed(before, keys(project)) == MEASURES


def test_the_order_of_arms_in_the_file_does_not_count(
    project: Project, small: dict[str, Any]
) -> None:
    before = keys(project)
    project.write(small | {"arms": dict(reversed(list(small["arms"].items())))})
    assert changed(before, keys(project)) == set()


def test_the_order_of_keys_in_the_file_does_not_count(
    project: Project, small: dict[str, Any]
) -> None:
    before = keys(project)
    reordered = dict(reversed(list(small.items())))
    reordered["kernel"] = dict(reversed(list(small["kernel"].items())))
    project.write(reordered)
    assert keys(project) == before


def test_paths_and_names(project: Project) -> None:
    run = plan(project, "long")
    assert run.base == "results/small"
    assert run.run == "results/small/long"
    assert run.blocks == ["001", "002", "003"]
    assert run.arms == ["baseline", "patched", "other", "control"]
    for path in run.sources("analysis", "report"):
        assert path.endswith(".py")


@pytest.mark.parametrize("stage", STAGES)
def test_the_sources_of_a_stage_are_what_python_loads_for_it(project: Project, stage: str) -> None:
    """A module that is edited makes tables and reports anew, wherever it lies."""
    program = (
        "import importlib, sys\n"
        f"[importlib.import_module(name) for name in {STAGES[stage]!r}]\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'kdelta'),"
        " sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines())
    assert len(loaded) > 10
    assert loaded <= set(plan(project).sources(stage))


def test_stages_need_what_they_use_inside_of_functions(project: Project) -> None:
    names = {stage: _names(plan(project), stage) for stage in STAGES}
    for module in ("run_context.py", "run_facts.py", "claims.py", "provenance.py"):
        assert {f"kdelta/{module}"} <= names["report"] & names["analysis"]
    assert "figures/forest.py" in names["report"]  # matplotlib is loaded late
    # hours of measuring are keyed otherwise, and do not make a report
    assert not {name for found in names.values() for name in found if "guest/" in name}
    assert "report/html.py" not in names["analysis"]


def _names(run: RunPlan, stage: str) -> set[str]:
    return {"/".join(Path(path).parts[-2:]) for path in run.sources(stage)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"protocol": "fast"},
            "config/config.yaml: protocol: in experiment.yaml: no protocol 'fast'; "
            "it defines quick, long",
        ),
        ({"budget": "1m"}, "config/config.yaml: budget: in experiment.yaml: 1m are too few for"),
        ({"budget": "soon"}, "config/config.yaml: budget: "),
        ({"protocol": 1}, "config/config.yaml: protocol: should be text, found 1; put"),
        ({"exeriment": "x"}, "config/config.yaml: exeriment: unknown key (value 'x'); did you"),
        ({"experiment": "none.yaml"}, "none.yaml: no such file; give the path of an experiment"),
    ],
)
def test_wrong_settings(project: Project, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(KdeltaError) as caught:
        plan_run({"experiment": "experiment.yaml", **settings}, "config/config.yaml", project.root)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
