# SPDX-License-Identifier: GPL-2.0-only
"""All samples in one file, the data package, and a run's folder that is none."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from export_runs import make_run

from kdelta.errors import KdeltaError
from kdelta.export.dictionary import descriptor, write_descriptor
from kdelta.export.run_folder import RunFolder, read_one_workload, read_run, workload_runs
from kdelta.export.samples import flat_samples, write_samples
from kdelta.schema import RESULT_FILES
from tests.unit.analysis.synthetic import Truth

MIXED = Truth(
    factors={"pin": ("none", "0-3"), "nonblock": (False, True), "writers": (1, 2)},
    blocks=3,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("files") / "run")


def test_samples_stand_alone(run: RunFolder) -> None:
    flat = flat_samples(run)
    assert list(flat.columns[:5]) == [
        "run_id",
        "experiment",
        "protocol",
        "regime_title",
        "arm_title",
    ]
    assert set(flat["arm_title"]) == {
        "as it was",
        "with the series",
        "as it was, again (A/A control)",
    }
    assert set(flat["regime_title"]) == {"Nothing else"}
    assert set(flat["run_id"]) == {run.run_id}
    # Digit for digit what the analysis wrote.
    assert flat.iloc[:, 5:].equals(run.table("samples.csv"))


def test_a_compressed_file_is_the_same_each_time(run: RunFolder, tmp_path: Path) -> None:
    plain = write_samples(run, tmp_path / "a.csv").read_bytes()
    packed = write_samples(run, tmp_path / "a.csv.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert write_samples(run, tmp_path / "other.csv.gz").read_bytes() == packed
    read = pd.read_csv(tmp_path / "a.csv.gz")
    assert read["throughput_mib_s"].dtype == "float64"
    assert pd.read_csv(io.BytesIO(plain)).equals(read)


def test_the_data_package_describes_every_file(run: RunFolder) -> None:
    written = json.loads(write_descriptor(run).read_text())
    assert written == descriptor(run)
    assert [one["path"] for one in written["resources"]] == list(RESULT_FILES)
    for one in written["resources"]:
        data = (run.path / one["path"]).read_bytes()
        assert one["bytes"] == len(data)
        assert one["hash"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        fields = [field["name"] for field in one["schema"]["fields"]]
        assert fields == list(pd.read_csv(io.BytesIO(data)).columns)
        assert set(one["schema"]["primaryKey"]) <= set(fields)
        assert one["name"] == one["name"].lower()
    assert "Emulated" in written["description"]


def test_the_data_packages_types_hold_for_every_value(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", MIXED)
    for one in descriptor(run)["resources"]:
        frame = run.table(one["path"])
        for field in one["schema"]["fields"]:
            for text in frame[field["name"]]:
                assert text == "" or _is(text, field["type"]), (one["path"], field, text)
    fields = descriptor(run)["resources"][0]["schema"]["fields"]
    types = {field["name"]: field["type"] for field in fields}
    assert [types[name] for name in MIXED.factors] == ["string", "boolean", "integer"]


def _is(text: str, kind: str) -> bool:
    match kind:
        case "boolean":
            return text in ("true", "false")
        case "integer":
            return text.lstrip("-").isdigit()
        case "number":
            return float(text) is not None
        case _:
            return kind == "string"


def test_a_data_package_of_older_files(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run.path / "tables" / "overall.csv"
    text = file.read_text()
    file.write_text(text.replace("set_aside", "put_aside"))
    with pytest.raises(KdeltaError, match=r"overall\.csv: column set_aside: missing, or not of"):
        descriptor(run)
    file.unlink()
    with pytest.raises(KdeltaError, match=r"overall\.csv: no such table; run the analysis first"):
        descriptor(run)


def test_a_run_may_lie_anywhere(run: RunFolder, tmp_path: Path) -> None:
    moved = read_run(Path(shutil.copytree(run.path, tmp_path / "elsewhere")))
    assert flat_samples(moved).equals(flat_samples(run))
    assert descriptor(moved) == descriptor(run)


def change_manifest(path: Path, change: Any) -> None:
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"run: no such folder; name one results/<experiment>/<protocol>"),
        (lambda p: (p / "manifest.json").unlink(), r"run: no run here \(manifest\.json does not"),
        (lambda p: change_manifest(p, lambda m: m.pop("hosts")), r"manifest\.json: hosts is miss"),
        (
            lambda p: change_manifest(p, lambda m: m["experiment"].update(moon=1)),
            r"manifest\.json: moon: unknown key",
        ),
        (
            lambda p: change_manifest(p, lambda m: m.update(protocol="none")),
            r"manifest\.json: protocol: 'none' is not a protocol of its experiment; it has quick",
        ),
    ],
)
def test_what_is_no_run(tmp_path: Path, spoil: Any, message: str) -> None:
    path = make_run(tmp_path / "run", Truth(blocks=1)).path
    spoil(path)
    with pytest.raises(KdeltaError, match=message):
        read_run(path)


def test_the_folder_above_the_runs(run: RunFolder) -> None:
    with pytest.raises(KdeltaError, match=rf"it holds runs, name one: {run.path}$"):
        read_run(run.path.parent)


def test_raw_data_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Truth(blocks=1))
    (run.path / "samples.csv").unlink()
    with pytest.raises(KdeltaError, match=r"has raw data: make the tables with `kdelta analyse"):
        flat_samples(run)
    shutil.rmtree(run.path / "raw")
    with pytest.raises(KdeltaError, match=r"samples\.csv: no such table; is the run finished\?"):
        flat_samples(run)


def test_a_run_of_several_workloads_is_read_one_by_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    manifest = json.loads((run.path / "manifest.json").read_text())
    chosen = manifest["experiment"]["workloads"]["pipe_bench"]
    manifest["experiment"]["workloads"]["again"] = chosen
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    (run.path / "again").mkdir()
    one = read_one_workload(run.path / "again")
    assert (one.run, one.path) == (run.path, run.path / "again")
    assert list(one.experiment.workloads) == ["again"]
    found = workload_runs(run.path)
    assert [each.path.name for each in found] == ["pipe_bench", "again"]
    with pytest.raises(KdeltaError, match=r"several workloads; name the folder of one: .*again"):
        read_one_workload(run.path)
    with pytest.raises(KdeltaError, match="no run here"):
        read_one_workload(run.path / "raw")
