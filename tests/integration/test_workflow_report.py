# SPDX-License-Identifier: GPL-2.0-only
"""`snakemake --report` of a finished run: our pages are in it, under their categories."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kdelta.report.figures import figure_stems
from kdelta.schema import RESULT_FILES
from tests.integration.documents import commands
from tests.integration.scripted_workflow import Workflow
from tests.workloads import PIPE_BENCH

RUN = "results/small/quick"
EXPORTED = ["baseline.txt", "patched.txt", "other.txt", "control.txt", "samples.csv.gz"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A run that is done, exports and all."""
    workflow = Workflow(tmp_path_factory.mktemp("report"))
    workflow.use_small_experiment()
    workflow.succeeds("all", "exports")
    return workflow


def variable(page: str, name: str) -> Any:
    """A value that the report's page keeps in a script."""
    # The libraries in the page have variables of the same names; JSON follows ours only.
    (start,) = re.finditer(rf'var {name} = (?=[{{"])', page)
    return json.JSONDecoder().raw_decode(page, start.end())[0]


def test_an_export_is_made_on_demand_only(finished: Workflow) -> None:
    assert "Exports" not in finished.planned("--forceall")
    assert "Exports" in finished.planned("--forceall", "exports")


def test_the_zip_holds_our_pages(finished: Workflow) -> None:
    (shown,) = commands(r"snakemake .*--report ")
    finished.succeeds("all", "exports", *shown.split()[1:])
    with zipfile.ZipFile(finished.root / "report.zip") as archive:
        names = archive.namelist()
        page = archive.read("report/report.html").decode()
        mine = [name for name in names if name.startswith("report/data/")]
        held = {Path(name).name for name in mine}
        assert archive.read(next(n for n in mine if n.endswith("/index.html"))) == b"report"
    figures = [f"{stem}.svg" for stem in figure_stems(PIPE_BENCH, mechanism=True)]
    wanted = {Path(name).name for name in RESULT_FILES}
    wanted |= {*figures, *EXPORTED, "index.html", "paper.pdf", "tables.txt"}
    assert held == wanted | {"manifest.json", "datapackage.json"}
    assert len(mine) == len(held)
    assert set(variable(page, "categories")) == {"Figures", "Provenance", "Report", "Tables"}
    # The first page is ours, and knows the run's configuration.
    assert "small.yaml" in variable(page, "workflow_desc")


def test_every_result_has_its_caption_and_labels(finished: Workflow) -> None:
    finished.succeeds("all", "exports", "--report", "report.html")
    results = variable((finished.root / "report.html").read_text(), "results")
    assert len(results) == len(RESULT_FILES) + len(figure_stems(PIPE_BENCH, mechanism=True)) + 10
    by_path = {Path(path).name: result for path, result in results.items()}
    for name, result in by_path.items():
        assert re.search(r"\w{3,} \w+", re.sub("<[^>]*>", "", result["caption"])), name
        assert result["labels"], name
    assert by_path["index.html"]["labels"] == {"form": "page"}
    assert by_path["deltas.csv"]["labels"] == {"table": "deltas"}
