# SPDX-License-Identifier: GPL-2.0-only
"""What `kdelta check` accepts, pipe_bench takes: plans are fed to the program itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdelta.experiment import Experiment
from kdelta.measure.plan import boot_plan
from kdelta.measure.schedule import block_schedule
from tests.conftest import SMALL
from tests.workloads import PIPE_BENCH

IMAGE = {"kernel_release": "6.12.0", "config_sha256": "0" * 64, "key": "1" * 24}

sizes = st.one_of(
    st.integers(1, 2**20),
    st.integers(0, 30).map(lambda power: 2**power),
    st.builds("{}{}".format, st.integers(1, 1024), st.sampled_from(["", "K", "M"])),
)
pipes = st.integers(12, 28).map(lambda power: 2**power) | st.sampled_from(["4K", "1M", "512M"])
cpus = st.integers(0, 66)
ranges = cpus.map(str) | st.tuples(cpus, cpus).map(lambda ends: "{}-{}".format(*sorted(ends)))
pins = st.one_of(
    cpus,
    st.sampled_from(["none", "auto", "0-3,8", "63-64"]),
    st.lists(ranges, min_size=1, max_size=4).map(",".join),
)
workers = st.integers(1, 20) | st.sampled_from([1000])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "writers": workers,
    "readers": workers,
    "write_size": sizes,
    "read_size": sizes,
    "pipe_size": pipes,
    "processes": st.booleans(),
    "nonblock": st.booleans(),
    "pin": pins,
}
seconds = st.floats(0.001, 100) | st.sampled_from([0.0005, 0.001, 0.1, 1, 30, 300, 86400])


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Experiments of any shape that pass; those that do not are drawn too, and dropped."""
    data = copy.deepcopy(SMALL)
    chosen = data["workloads"]["pipe_bench"]
    chosen["matrix"], chosen["arguments"] = {}, {}
    for name, parameter in PIPE_BENCH.parameters.items():
        # What else is refused is refused as a whole: of that too much would leave nothing to run.
        values = VALUES[name].filter(lambda value, name=name: accepted(name, value))
        where = draw(st.sampled_from(["matrix", "arguments", "nowhere"]))
        if where == "matrix":
            chosen["matrix"][name] = draw(st.lists(values, min_size=1, max_size=3))
        elif where == "arguments" or (parameter.required and draw(st.integers(0, 9))):
            chosen["arguments"][name] = draw(values)
    chosen["timeout_s"] = draw(seconds.map(lambda number: number + 0.9))
    data["guest"] |= {"memory": "64T", "vcpus": draw(st.just("auto") | st.integers(1, 64))}
    durations = {"idle": draw(seconds), "pressed": draw(seconds)}
    warmups = st.floats(0, 1) | st.sampled_from([0, 1e-9, 5, 900])
    quick = {"blocks": 1, "warmup_s": draw(warmups), "duration_s": durations}
    data["protocols"] = {"quick": quick}
    data["mechanism"] = {"regimes": ["idle"], "duration_s": draw(st.floats(0.001, 1))}
    try:
        return Experiment.model_validate(data)
    except ValidationError:
        assume(False)
        raise


def plans(experiment: Experiment) -> list[dict[str, Any]]:
    """The plans of a boot of each kind."""
    made = []
    for regime, mechanism in (("idle", False), ("pressed", False), ("idle", True)):
        schedule = block_schedule(experiment, regime, 1)
        made.append(
            boot_plan(experiment, "quick", schedule, 0, IMAGE, "tcg", 4, mechanism=mechanism)
        )
    return made


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)
@given(experiment=experiments())
def test_every_cell_of_a_validated_experiment_is_one_cell(bench, experiment):
    for plan in plans(experiment):
        check = bench(*plan["self_checks"][0]["argv"][1:], "--dry-run")
        assert (check.returncode, check.stdout, check.stderr) == (0, "writers=2 readers=2\n", "")
        for cell in plan["cells"][:4]:
            options = {**experiment.workload.arguments, **cell["levels"]}
            done = bench(*cell["argv"][1:], "--dry-run")
            assert (done.returncode, done.stderr) == (0, "")
            cells = "writers={writers} readers={readers}\n"
            assert done.stdout == cells.format_map(options)


def accepted(name: str, value: Any) -> bool:
    """Whether an experiment may have this option or time."""
    data = copy.deepcopy(SMALL)
    try:
        if name in PIPE_BENCH.parameters:
            PIPE_BENCH.check_parameter("here", name, value, "pipe_bench")
            return True
        if name == "timeout":
            data["workloads"]["pipe_bench"]["timeout_s"] = value
        elif name == "warmup":
            data["protocols"] = {
                "quick": {"blocks": 1, "warmup_s": value, "duration_s": {"idle": 80000}}
            }
        else:
            data["protocols"] = {"quick": {"blocks": 1, "duration_s": {"idle": value}}}
        Experiment.model_validate(data)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("writers", 1000, 1001),
        ("readers", 1, 0),
        ("write_size", 2**30, 2**30 + 1),
        ("write_size", 1, 0),
        ("write_size", "1024M", "1025M"),
        ("read_size", "1K", "1k"),
        ("pin", "0-1023", "0-1024"),
        ("pin", "3,1", "3-1"),
        ("pin", "0-1023", "0-1023,5"),
        ("duration", 0.001, 0.0009),
        ("duration", 86400, 86400.5),
        ("warmup", 0, -0.1),
        ("timeout", 86400, 86401),
    ],
)
def test_both_sides_have_the_same_limits(bench, name, inside, outside):
    one = ["--writers", "1", "--readers", "1", "--dry-run"]
    for value, good in ((inside, True), (outside, False)):
        done = bench(*one, f"--{name.replace('_', '-')}", str(value))
        assert (done.returncode == 0) == good, (value, done.stderr)
        assert accepted(name, value) == good, value


@pytest.mark.parametrize("name", PIPE_BENCH.parameters)
def test_every_option_is_one_of_the_programs(bench, name):
    done = bench("--" + name.replace("_", "-"), "--dry-run")
    if name in ("processes", "nonblock"):
        assert done.returncode == 0
    else:
        assert "is not" in done.stderr, "the next word was taken as its value"


@pytest.mark.parametrize(
    ("timeout_s", "error"),
    [(20, "not done 20 s after its window: killed"), (70, None), (300, None)],
)
def test_the_workloads_timeout_takes_effect(small, faulty, timeout_s, error):
    """Below and above pipe_bench's own 30 s: one write lasts a second, 35 s by its clock."""
    small["workloads"]["pipe_bench"]["timeout_s"] = timeout_s
    small["protocols"]["quick"]["warmup_s"] = 0  # the first write counts
    experiment = Experiment.model_validate(small)
    plan = boot_plan(experiment, "quick", block_schedule(experiment, "idle", 1), 0, IMAGE, "tcg", 1)
    argv = next(c["argv"][1:] for c in plan["cells"] if c["levels"] == {"writers": 1, "readers": 1})
    done = faulty("slow-writes", *argv, env={"PIPE_CLOCK": "35"})
    if error is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 1
        assert done.stderr == f"pipe_bench: writers=1 readers=1: {error}\n"
    # The driver's own deadline comes after the program's, which says more.
    assert plan["cells"][0]["deadline_s"] >= 0.5 + timeout_s + 5
    assert plan["silence_s"] > plan["cells"][0]["deadline_s"]
