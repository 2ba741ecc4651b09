# SPDX-License-Identifier: GPL-2.0-only
"""Whatever is written at whatever key: an experiment, or a message; never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdelta.config import load_experiment
from kdelta.errors import KdeltaError
from kdelta.measure.plan import block_timeout_s, boot_plan
from kdelta.measure.schedule import block_schedule, schedule_record
from kdelta.workflow import plan_run
from tests.conftest import SMALL, Project

# One project serves all examples: each writes its whole experiment file anew.
checked = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

IMAGE = {"kernel_release": "6.12.0", "config_sha256": "0" * 64, "key": "1" * 24}


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested data."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


FULL = copy.deepcopy(SMALL)
FULL["kernel"]["source"] |= {"version": "6.12.1-1", "suite": "trixie"}
FULL["kernel"] |= {"compiler": "gcc"}
FULL["workloads"]["pipe_bench"]["arguments"] |= {"pin": "0", "processes": True}
FULL |= {"summary": "s", "baseline": "baseline", "control": True}
FULL["statistics"] = {"confidence": 0.9, "equivalence_margin": 0.05}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=4),
    st.text(max_size=8),
    # near misses: what is right at another key
    st.sampled_from(["auto", "kvm", "git", "1G", "64K", "idle", "baseline", "control", "0-3", "."]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def use(project: Project) -> None:
    """Load the experiment file and do all that comes before the first boot."""
    try:
        experiment = load_experiment(project.file, project.root)
    except KdeltaError:
        return  # anything else is a traceback
    protocol = next(iter(experiment.protocols))
    run = plan_run({"experiment": project.file.name, "protocol": protocol}, "c", project.root)
    assert len({run.build_key(arm, (6, 12), "tcg") for arm in run.kernels}) <= len(run.kernels)
    assert run.programs_key()
    for regime in run.regimes:
        assert run.measure_key(regime)
        schedule = block_schedule(experiment, regime, 1, experiment.protocols[protocol].rounds)
        json.dumps(schedule_record(schedule, experiment, protocol))
        json.dumps(boot_plan(experiment, protocol, schedule, 0, IMAGE, "tcg", 1))
        slices = len(schedule.cells) * len(schedule.rounds)
        assert block_timeout_s(experiment, protocol, regime, slices) > 0
    assert experiment.memory_mib() > 0


def test_the_full_experiment_is_a_good_one(project: Project) -> None:
    project.load(FULL)
    use(project)


@checked
@given(place=st.sampled_from(list(places(FULL))), value=values)
def test_any_value_at_any_key(project: Project, place: tuple[Any, ...], value: Any) -> None:
    data = copy.deepcopy(FULL)
    node: Any = data
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    project.write(data)
    use(project)


@checked
@given(place=st.sampled_from(list(places(FULL))), key=st.text(max_size=8) | st.integers())
def test_any_key_anywhere(project: Project, place: tuple[Any, ...], key: Any) -> None:
    data = copy.deepcopy(FULL)
    node: Any = data
    for part in place[:-1]:
        node = node[part]
    if isinstance(node, dict):
        node[key] = node.pop(place[-1])
    project.write(data)
    use(project)


SNIPPETS = [
    "&a ",
    "*a",
    "!!int x",
    "!!set {[1]: }",
    "<<: *a",
    "? [1]",
    "2026-02-30",
    "- ",
    "{",
    "]",
]


@checked
@given(
    cut=st.integers(0, len(yaml.safe_dump(FULL))),
    snippet=st.sampled_from(SNIPPETS) | st.text(max_size=6),
)
def test_any_text_in_the_middle_of_the_file(project: Project, cut: int, snippet: str) -> None:
    text = yaml.safe_dump(FULL, sort_keys=False)
    project.file.write_text(text[:cut] + snippet + text[cut:], encoding="utf-8", newline="")
    use(project)


@pytest.mark.parametrize("path", ["\0", "\ud800", "x" * 5000, "..", "", "\n"])
def test_paths_that_are_no_paths(project: Project, small: dict[str, Any], path: str) -> None:
    small["kernel"]["config"]["fragments"] = [path]
    try:
        project.file.write_text(json.dumps(small))  # JSON is YAML, escapes included
        with pytest.raises(KdeltaError):
            load_experiment(project.file, project.root)
        with pytest.raises(KdeltaError):
            plan_run({"experiment": path, "protocol": "quick"}, "config.yaml", Path(project.root))
    except UnicodeEncodeError as error:  # what the message is printed with has to stand it
        pytest.fail(str(error))
