# SPDX-License-Identifier: GPL-2.0-only
"""The configuration that is shipped: it loads, and its schemas are the models'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kdelta.cli import main
from kdelta.config import RunConfig, load_experiment, parse_model, read_yaml
from kdelta.errors import KdeltaError
from kdelta.workflow import plan_run
from tests.conftest import CHECKOUT, Project

EXPERIMENTS = sorted((CHECKOUT / "config" / "experiments").glob("*.yaml"))
SCHEMAS = CHECKOUT / "workflow" / "schemas"


def test_there_are_experiments() -> None:
    assert EXPERIMENTS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_shipped_experiment_loads_and_is_planned(path: Path) -> None:
    experiment = load_experiment(path, CHECKOUT)
    assert experiment.name == path.stem
    for protocol in experiment.protocols:
        relative = str(path.relative_to(CHECKOUT))
        run = plan_run({"experiment": relative, "protocol": protocol}, "c", CHECKOUT)
        assert len({run.build_key(arm, (6, 12), "tcg") for arm in run.kernels}) == len(run.kernels)
        assert len(run.blocks) == experiment.protocols[protocol].blocks


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_schema_takes_a_shipped_experiment(path: Path) -> None:
    schema = json.loads((SCHEMAS / "experiment.schema.json").read_text())
    jsonschema.validate(read_yaml(path), schema)


def test_the_schema_refuses_a_mistake() -> None:
    schema = json.loads((SCHEMAS / "experiment.schema.json").read_text())
    data = read_yaml(EXPERIMENTS[0]) | {"sed": 1}
    with pytest.raises(jsonschema.ValidationError, match="sed"):
        jsonschema.validate(data, schema)


def test_the_shipped_run_configuration() -> None:
    path = CHECKOUT / "config" / "config.yaml"
    config = parse_model(RunConfig, read_yaml(path), path)
    experiment = load_experiment(CHECKOUT / config.experiment, CHECKOUT)
    assert config.protocol in experiment.protocols


def test_the_schemas_are_what_kdelta_schema_writes(tmp_path: Path) -> None:
    assert main(["schema", str(tmp_path)]) == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_text() for path in SCHEMAS.iterdir()}
    assert written == shipped, "run `kdelta schema workflow/schemas`"


def test_a_file_of_claims_that_is_not_there(project: Project, small: dict[str, Any]) -> None:
    small["claims"] = {"file": "claims.csv", "source": "a mail", "arm": "patched"}
    with pytest.raises(KdeltaError, match=r"claims\.file: no such file: claims\.csv \(looked in"):
        project.load(small)


def test_prose_that_is_not_there(project: Project, small: dict[str, Any]) -> None:
    small["mail"] = {"arm": "patched", "prose": "prose.txt"}
    with pytest.raises(KdeltaError, match=r"mail\.prose: no such file: prose\.txt \(looked in"):
        project.load(small)
