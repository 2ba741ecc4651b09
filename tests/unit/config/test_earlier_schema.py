# SPDX-License-Identifier: GPL-2.0-only
"""Files and runs of schema 1: a file is told the lines to change, a run is read as before."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from kdelta.earlier_runs import declarations, programs, upgraded
from kdelta.errors import KdeltaError
from kdelta.experiment import Experiment
from tests.conftest import Project


def older(small: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The small experiment as a file of schema 1 has it."""
    data = copy.deepcopy(small)
    [(program, chosen)] = data.pop("workloads").items()
    matrix = chosen.pop("matrix")
    data |= {"schema": 1, "variants": data.pop("arms"), "matrix": matrix}
    return data | {"workload": {"program": program, **chosen}} | changes


def pasted(data: dict[str, Any], said: str) -> dict[str, Any]:
    """The file after its author did what the message says."""
    text = yaml.safe_dump(data, sort_keys=False)
    gone = re.search(r"^and (.*) to$(?=\n  workloads:)", said, re.MULTILINE)
    keys = re.findall(r"`([a-z_.]+):`", gone[1]) if gone else []
    for key in keys:
        if "." not in key:
            text = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", "", text, flags=re.MULTILINE)
        else:
            text = re.sub(rf"^  {key.partition('.')[2]}:.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("schema: 1\n", "schema: 2\n").replace("variants:\n", "arms:\n")
    text = text.replace("  variant: ", "  arm: ")
    block = said[said.index("  workloads:") :]
    return dict(yaml.safe_load(text + "\n".join(line[2:] for line in block.splitlines()) + "\n"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"workload": {"arguments": {"nonblock": True}}},
        {"validity": {"identity_error": 0.05, "steal": 0.1}},
        {"mail": {"variant": "patched", "prose": "prose.txt"}},
        {"matrix": {"writers": [1], "readers": [2], "write_size": ["64K"]}, "workload": {}},
    ],
)
def test_what_the_message_says_makes_it_a_file_of_this_version(
    project: Project, small: dict[str, Any], changes: dict[str, Any]
) -> None:
    (project.root / "prose.txt").write_text("Words.\n")
    data = older(small, **changes)
    with pytest.raises(KdeltaError) as caught:
        project.load(data)
    said = str(caught.value)
    assert said.startswith(f"{project.file}: schema: 1 is the format of an earlier version")
    mended = project.load(pasted(data, said))
    assert mended == Experiment.model_validate(upgraded(data))
    if not changes:
        assert mended == Experiment.model_validate(small)


def test_a_run_of_schema_1_is_read(small: dict[str, Any]) -> None:
    data = older(small)
    assert Experiment.model_validate(upgraded(data)) == Experiment.model_validate(small)
    assert upgraded(small) == small


def test_what_older_manifests_say_of_the_program() -> None:
    old = {"experiment": {"workload": {"program": "p"}}, "workload": {"binary_sha256": "0"}}
    assert (programs(old), declarations(old)) == ({"p": {"binary_sha256": "0"}}, {})
    said = {"binary_sha256": "0", "declaration": {"title": "t"}}
    later = {"experiment": {}, "workload": said}
    assert declarations(later) == {"pipe_bench": {"title": "t"}}
    assert programs(later) == {"pipe_bench": {"binary_sha256": "0"}}
    now = {"programs": {"a": {}}, "workloads": {"a": {"title": "t"}}}
    assert (programs(now), declarations(now)) == (now["programs"], now["workloads"])
