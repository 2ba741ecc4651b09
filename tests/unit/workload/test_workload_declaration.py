# SPDX-License-Identifier: GPL-2.0-only
"""workload.yaml: mistakes in it have words, and what ships is described and understood."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdelta.cli import main
from kdelta.errors import KdeltaError
from kdelta.workload.declaration import Workload
from kdelta.workload.folder import load_workload
from kdelta.workload.readers import ReadError
from kdelta.workload.samples import (
    broken_checks,
    check_all,
    understand,
    values_of,
    wrong_parameters,
)
from kdelta.workload.trial import try_on_host
from tests.conftest import CHECKOUT

SHIPPED = sorted(path.parent.name for path in CHECKOUT.glob("workloads/*/workload.yaml"))
GOOD: dict[str, Any] = {
    "title": "a program",
    "parameters": {"size": {"type": "size", "required": True}, "fast": {"type": "flag"}},
    "program": {"package": "coreutils", "command": "true"},
    "command": ["{program}", "{parameters}", "--for", "{seconds}"],
    "output": "key-value",
    "metrics": {"rate": {"read": "rate", "title": "Rate", "unit": "1/s", "better": "higher"}},
    "values": {"double": {"expression": "2 * rate"}},
    "checks": [{"rule": "sane", "value": "rate", "at_least": "floor", "detail": "{rate:.1f} only"}],
    "limits": {"floor": {"default": 3, "meaning": "lowest rate"}},
}


def workload(**changes: Any) -> Workload:
    return Workload.model_validate({**copy.deepcopy(GOOD), **changes})


def test_arguments() -> None:
    made = workload()
    given = {"size": "64K", "fast": True}
    argv = made.argv(made.command, given, program="/run/p", seconds=0.4)
    assert argv == ["/run/p", "--size", "65536", "--fast", "--for", "0.4"]
    assert made.timed_by_protocol
    assert not workload(command=["{program}"]).timed_by_protocol


@pytest.mark.parametrize(("seconds", "whole"), [(0.4, "1"), (1, "1"), (1.2, "2"), (3.0, "3")])
def test_programs_that_know_whole_seconds_get_them_rounded_up(seconds: float, whole: str) -> None:
    made = workload(command=["{program}", "{whole_seconds}"])
    assert made.argv(made.command, {"size": 1}, program="p", seconds=seconds) == ["p", whole]
    assert made.timed_by_protocol


def test_a_default_is_what_is_run_whatever_the_program_would_take() -> None:
    parameters = {"loops": {"type": "count", "default": 5}, "rest": {"type": "count"}}
    made = workload(parameters=parameters, command=["{program}", "{parameters}"])
    assert made.argv(made.command, {}, program="p") == ["p", "--loops", "5"]
    assert made.argv(made.command, {"loops": 7}, program="p") == ["p", "--loops", "7"]


PLACES = {
    "size": {"type": "size", "default": "64K"},
    "where": {
        "type": "text",
        "default": "here",
        "choices": {"here": ["--quick"], "there": ["--file={disk}", "--of={size}"], "off": []},
    },
}


@pytest.mark.parametrize(
    ("given", "added", "needed"),
    [
        ({}, ["--quick"], 0),
        ({"where": "there"}, ["--file=/dev/x", "--of=65536"], 65536),
        ({"where": "there", "size": "1M"}, ["--file=/dev/x", "--of=1048576"], 2**20),
        ({"where": "off", "size": "1M"}, [], 0),
    ],
)
def test_choices_add_words_of_their_own(
    given: dict[str, Any], added: list[str], needed: int
) -> None:
    made = workload(
        parameters=PLACES,
        disk="(where == 'there') * size",
        command=["{program}", "{parameters}", "end"],
    )
    size = str(made.meanings(given)["size"])
    argv = made.argv(made.command, given, program="p", disk="/dev/x")
    assert argv == ["p", "--size", size, *added, "end"]
    assert made.needed_disk(given) == needed
    assert made.needed_memory(given) == 0
    made.check_parameter("here", "where", "there", "it")
    with pytest.raises(ValueError, match="one of here, there, off"):
        made.check_parameter("here", "where", "elsewhere", "it")


def test_a_trial_on_the_host_gets_a_file_for_a_disk(tmp_path: Path) -> None:
    """Of the size that the cell needs; it is gone afterwards."""
    made = workload(
        parameters={"size": {"type": "size", "required": True}},
        program={"package": "coreutils", "command": "stat"},
        command=["{program}", "--printf", "rate: %s\\nkind: %F\\npath: %n\\n", "{disk}"],
        values={"kind": {"read": "kind", "type": "text"}, "path": {"read": "path", "type": "text"}},
        checks=[],
        disk="2 * size",
    )
    trial = try_on_host(made, tmp_path, {"size": "64K"}, {}, tmp_path, tmp_path / "log")
    assert (trial.values["rate"], trial.values["kind"]) == (2 * 65536, "regular file")
    assert not Path(trial.values["path"]).exists()


def test_values_and_checks() -> None:
    made, cell = workload(), {"size": 1}
    values = values_of(made, "rate: 2.5", cell)
    assert values == {"rate": 2.5, "double": 5.0}
    (broken,) = broken_checks(made, values, cell, {})
    assert (broken.rule, broken.value, broken.limit, broken.detail) == ("sane", 2.5, 3, "2.5 only")
    assert list(broken_checks(made, values, cell, {"floor": 2})) == []


OUTPUTS = st.sampled_from(
    ["rate: 2.5", "rate: 4", "rate: x", "rate: nan", "nothing", "", None, "double: 3\nrate: 0"]
)


@given(st.lists(st.tuples(OUTPUTS, st.integers(1, 3)), max_size=6))
def test_many_samples_are_each_by_itself(samples: list[tuple[str | None, int]]) -> None:
    made = workload()
    cells = [{"size": size} for _, size in samples]
    found = understand(made, [said for said, _ in samples], cells, [None] * len(samples))
    broken = check_all(made, found.values, cells, {})
    for place, ((said, _), cell) in enumerate(zip(samples, cells, strict=True)):
        values = {name: column[place] for name, column in found.values.items()}
        if place in found.misread:
            assert set(values.values()) == {None}
            with pytest.raises(ReadError, match=re.escape(found.misread[place])):
                values_of(made, said, cell)
            continue
        alone = values_of(made, said, cell)
        assert values == {name: alone.get(name) for name in values}
        assert broken.get(place, []) == broken_checks(made, alone, cell, {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"program": {}}, "give one of source, package and tree"),
        ({"program": {"tree": "a/b.c", "package": "base"}}, "give one of source, package and tree"),
        ({"program": {"tree": "a/b.c", "command": "b"}}, "a C file's is its own"),
        ({"program": {"source": "b.c", "command": "b"}}, "a C file's is its own"),
        ({"program": {"tree": "/etc/passwd"}}, "program.tree"),
        ({"program": {"tree": "tools/../../b.c"}}, "program.tree"),
        ({"command": ["{program}", "{speed}"]}, "{speed} stands for nothing"),
        ({"command": ["{program}", "x{parameters}"]}, "a word of its own"),
        ({"command": ["{program}", "{"]}, "command"),
        ({"values": {"rate": {"read": "x"}}}, "it is a metric already"),
        ({"values": {"more": {"expression": "2 * speed"}}}, "there is no value 'speed'"),
        ({"values": {"more": {}}}, "more: give read"),
        ({"checks": [{"rule": "a", "value": "rate", "detail": "x"}]}, "give one of equals"),
        (
            {"checks": [{"rule": "a", "value": "rate", "equals": "top", "detail": "x"}]},
            "there is no limit 'top'",
        ),
        ({"output": "script"}, "belong together"),
        ({"memory": "rate * 2"}, "there is no parameter 'rate'"),
        ({"disk": "rate * 2"}, "disk: there is no parameter 'rate'"),
        ({"command": ["{program}", "{disk}"]}, "command: {disk}: say in the key disk how large"),
        ({"parameters": {"disk": {"type": "size"}}}, "parameters.disk: {disk} is something else"),
        (
            {"parameters": {"a": {"type": "text", "choices": {"b": []}, "arguments": ["c"]}}},
            "leave arguments out",
        ),
        (
            {"parameters": {"a": {"type": "text", "choices": {"b": ["{speed}"]}}}},
            "parameters.a.choices.b: {speed} stands for nothing",
        ),
        ({"operations": "steps"}, "there is no value 'steps'"),
        (
            {
                "metrics": dict.fromkeys(("one", "two"), GOOD["metrics"]["rate"]),
                "values": {},
                "checks": [],
            },
            "one of one, two has primary: true",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*" + said.replace("{", r"\{").replace("}", r"\}")):
        workload(**changes)


def test_an_unknown_workload_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no workload 'pipebench' .* pipe_bench"):
        load_workload("pipebench")
    folder = tmp_path / "workloads" / "mine"
    folder.mkdir(parents=True)
    (folder / "workload.yaml").write_text(yaml.safe_dump({**GOOD, "titel": "x"}))
    with pytest.raises(KdeltaError, match=r"workload\.yaml: titel: unknown key"):
        load_workload("mine", tmp_path)


# What each of them prints, and what that says. Of the versions in Debian 12.
PRINTED: dict[str, tuple[dict[str, Any], str, dict[str, float]]] = {
    "hackbench": ({"groups": 1}, "Running in process mode\nTime: 0.123\n", {"time_s": 0.123}),
    "cyclictest": (
        {},
        "# /dev/cpu_dma_latency set to 0us\n"
        "T: 0 (  812) P:80 I:1000 C:    500 Min:      3 Act:    9 Avg:    7 Max:      91\n",
        {"latency_mean_us": 7, "latency_max_us": 91},
    ),
    "perf-sched-pipe": (
        {},
        "# Running 'sched/pipe' benchmark:\n"
        "# Executed 20000 pipe operations between two processes\n\n"
        "     Total time: 0.131 [sec]\n\n       6.576250 usecs/op\n         152062 ops/sec\n",
        {"time_per_op_us": 6.57625},
    ),
    "perf-sched-messaging": (
        {"groups": 1},
        "# 20 sender and receiver processes per group\n\n     Total time: 0.044 [sec]\n",
        {"time_s": 0.044},
    ),
    "perf-futex-hash": (
        {},
        "Run summary [PID 1]: 1 threads, each operating on 1024 [private] futexes for 1 secs.\n\n"
        "Averaged 4118764 operations/sec (+- 0.00%), total secs = 1\n",
        {"operations_per_s": 4118764},
    ),
    "perf-syscall": (
        {},
        "# Executed 200000 getppid() calls\n     Total time: 0.019 [sec]\n\n"
        "       0.095840 usecs/op\n       10434056 ops/sec\n",
        {"time_per_op_us": 0.09584},
    ),
    "perf-memcpy": ({}, "9118236470.588236\n", {"bytes_per_s": 9118236470.588236}),
    "stress-ng": (
        {"stressor": "pipe"},
        "metrics:\n    - stressor: pipe\n      bogo-ops: 261290\n"
        "      bogo-ops-per-second-usr-sys-time: 511741.318866\n"
        "      bogo-ops-per-second-real-time: 261188.496330\n",
        {"operations_per_s": 261188.49633},
    ),
    "fio": (
        {"rw": "read"},
        '{"jobs": [{"read": {"bw_bytes": 1048576, "total_ios": 10, "lat_ns": {"mean": 50.0}},'
        ' "write": {"bw_bytes": 0, "total_ios": 0, "lat_ns": {"mean": 0.0}}}]}',
        {"bandwidth_mib_s": 1.0, "latency_mean_ns": 50.0},
    ),
    "command": ({"line": "true"}, "", {"elapsed_s": 1.5}),
    # What it prints for programs, then what it prints for people. Of another run.
    "ptsematest": (
        {"loops": 100},
        """{
  "file_version": 1,
  "cmdline:": "ptsematest -l 100 -q --json=/dev/stdout",
  "rt_test_version:": "2.40",
  "return_code": 0,
  "num_threads": 1,
  "thread": {
    "0": {
      "sender": {
        "cpu": 0,
        "priority": 0,
        "samples": 100,
        "interval": 1000
      },
      "receiver": {
        "cpu": 0,
        "priority": 0,
        "min": 3,
        "avg": 4.96,
        "max": 78
      }
    }
  }
}
#0: ID2681, P0, CPU0, I1000; #1: ID2682, P0, CPU0, Cycles 100
#1 -> #0, Min    3, Cur   78, Avg    5, Max   78
""",
        {"latency_mean_us": 4.96, "latency_max_us": 78},
    ),
    # Of Linux 7.2.12.
    "selftest-pipe": (
        {"writers": 2, "readers": 3},
        "config: writers=2 readers=3 msgsize=65536 duration=1 pipe_size=1048576 "
        "memory_pressure=no\n"
        "writes: total=95299 rate=95299/s\nthroughput_MBps: 5956.19\nlat_avg_ns: 21114\n"
        "lat_p50_ns_upper: 4095\nlat_p99_ns_upper: 524287\nlat_max_ns: 10932012\n",
        {"throughput_mib_s": 5956.19, "latency_mean_ns": 21114},
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_described(name: str) -> None:
    text = (CHECKOUT / "docs/workloads.md").read_text()
    assert f"`{name}`" in text
    made = load_workload(name, CHECKOUT)
    for value in made.metrics.values():
        assert value.unit


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "pipe_bench"])
def test_what_ships_understands_its_program(name: str) -> None:
    cell, output, expected = PRINTED[name]
    made = load_workload(name, CHECKOUT)
    for parameter, value in cell.items():
        made.check_parameter("here", parameter, value, name)
    assert set(made.required()) <= set(cell)
    script = CHECKOUT / "workloads" / name / made.script if made.script else None
    values = values_of(made, output, cell, 1.5, script)
    assert {metric: values[metric] for metric in made.metrics} == expected
    assert list(broken_checks(made, values, cell, {})) == []
    reported = understand(made, [output], [cell], [1.5], script).reported
    assert wrong_parameters(made, reported, [cell]) == {}
    assert made.argv(made.command, cell, program="/usr/bin/p")[0] == "/usr/bin/p"


def test_a_new_workload_is_a_folder_whose_test_passes(tmp_path: Path) -> None:
    assert main(["--root", str(tmp_path), "new", "workload", "my-thing"]) == 0
    folder = tmp_path / "workloads" / "my-thing"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert main(["--root", str(tmp_path), "new", "workload", "my-thing"]) == 1
    assert main(["--root", str(tmp_path), "new", "workload", "My Thing"]) == 1
