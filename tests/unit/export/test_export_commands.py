# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta export`, `kdelta compare` and `kdelta show` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from export_runs import make_run

from kdelta.cli import main
from kdelta.commands import analysis as analysis_commands
from kdelta.export.run_folder import RunFolder, read_run
from tests.conftest import Project
from tests.unit.analysis.synthetic import Truth

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """`main` takes SIGTERM over; here it belongs to pytest."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("commands") / "run", Truth(blocks=3))


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    """A run that a test may change."""
    return read_run(Path(shutil.copytree(made.path, tmp_path / "run")))


def told(capsys: Captured) -> str:
    return capsys.readouterr().out


def test_export_everything(run: RunFolder, capsys: Captured) -> None:
    assert main(["export", str(run.path)]) == 0
    go = run.path / "exports" / "go"
    written = [go / "baseline.txt", go / "patched.txt", go / "control.txt"]
    written += [run.path / "exports" / "samples.csv.gz", run.path / "datapackage.json"]
    assert told(capsys).splitlines() == [str(path) for path in written]
    assert all(path.stat().st_size for path in written)


def test_export_one_thing_elsewhere(run: RunFolder, tmp_path: Path, capsys: Captured) -> None:
    argv = ["export", str(run.path), "--format"]
    assert main([*argv, "samples", "--output", str(tmp_path / "out" / "all.csv")]) == 0
    assert (tmp_path / "out" / "all.csv").read_text().startswith("run_id,experiment,protocol,")
    assert main([*argv, "go", "--output", str(tmp_path / "go")]) == 0
    assert len(told(capsys).splitlines()) == 4
    assert not (run.path / "exports").exists()


def test_an_arm_that_benchstat_would_miss_without_a_word_is_told(
    run: RunFolder, capsys: Captured
) -> None:
    samples = run.path / "samples.csv"
    table = pd.read_csv(samples, dtype=str, keep_default_na=False)
    table.loc[table["arm"] == "baseline", "valid"] = "false"
    table.to_csv(samples, index=False)
    assert main(["export", str(run.path), "--format", "go"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert "arm baseline has no valid sample, so that baseline.txt has no result" in notes[0]


@pytest.mark.parametrize("words", [[], ["--format", "datapackage"]])
def test_an_output_needs_a_format(run: RunFolder, words: list[str], capsys: Captured) -> None:
    assert main(["export", str(run.path), *words, "--output", "x"]) == 1
    assert capsys.readouterr().err.startswith("kdelta: --output: say with --format go or")


def test_export_the_configured_run(project: Project, capsys: Captured) -> None:
    (project.root / "config").mkdir()
    (project.root / "config" / "config.yaml").write_text("experiment: experiment.yaml\n")
    make_run(project.root / "results" / "small" / "quick", Truth(blocks=1))
    assert main(["--root", str(project.root), "export", "--format", "datapackage"]) == 0
    assert told(capsys).endswith("results/small/quick/datapackage.json\n")


def test_compare(run: RunFolder, tmp_path: Path, capsys: Captured) -> None:
    other = make_run(tmp_path / "other", Truth(blocks=3, seed=5))
    assert main(["compare", str(run.path), str(other.path)]) == 0
    assert f"A: {run.path}, run {run.run_id}\n" in (text := told(capsys))
    assert "Throughput, change against baseline in % [95% interval]; higher is better." in text
    argv = ["compare", str(run.path), str(run.path), "--arm-a", "patched", "--arm-b", "control"]
    assert main([*argv, "--metric", "latency_p99_ns"]) == 0
    assert "99th percentile of write latency, change" in (text := told(capsys))
    assert "lower is better" in text
    assert "patched (A), control (B)" in text


def test_compare_nothing(tmp_path: Path, run: RunFolder, capsys: Captured) -> None:
    assert main(["compare", str(run.path), str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == (
        f"kdelta: {tmp_path / 'none'}: no such folder; name one results/<experiment>/<protocol>\n"
    )


def test_a_metric_that_the_workload_has_not(run: RunFolder, capsys: Captured) -> None:
    assert main(["compare", str(run.path), str(run.path), "--metric", "speed"]) == 1
    assert "they have throughput_mib_s, latency_mean_ns" in capsys.readouterr().err


def test_show_makes_tables_where_there_are_none(run: RunFolder, capsys: Captured) -> None:
    """Reference data come without a report: the CSV files and the manifest are enough."""
    assert not (run.path / "report").exists()
    assert main(["show", str(run.path)]) == 0
    text = told(capsys)
    assert "EMULATED (TCG)" in text
    assert "== Nothing else (0.6 s per cell, 3 blocks) ==" in text
    assert not (run.path / "report").exists()


def test_show_without_tables(run: RunFolder, capsys: Captured) -> None:
    (run.path / "samples.csv").unlink()
    assert main(["show", str(run.path)]) == 1
    assert "has raw data: make the tables with `kdelta analyse" in capsys.readouterr().err


def test_show_a_run_of_another_version(run: RunFolder, capsys: Captured) -> None:
    file = run.path / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["hosts"][0]["host"]["turbo"]
    file.write_text(json.dumps(manifest))
    assert main(["show", str(run.path)]) == 1
    assert capsys.readouterr().err == (
        f"kdelta: {file}: 'turbo' is missing; it is of another version of kdelta\n"
    )


@pytest.mark.parametrize("spoil", [True, False])
def test_show_on_a_narrow_terminal(
    run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, spoil: bool
) -> None:
    """Laid out again; as it was saved where the run is of another version."""
    (run.path / "report").mkdir()
    (run.path / "report" / "tables.txt").write_text("saved " * 50 + "\n")
    if spoil:
        (run.path / "manifest.json").write_text("{}")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["show", str(run.path)]) == 0
    text = told(capsys)
    assert ("saved saved" in text) == spoil
    assert ("== Nothing else" in text) != spoil


def test_show_without_templates(
    run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(analysis_commands, "ASSETS", tmp_path / "nowhere")
    assert main(["show", str(run.path)]) == 1
    assert "the templates of the report are not here" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["show", "export"])
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("..", "; it holds runs, name one: {run}"),
        ("raw", "; it lies in a run, name that: {run}"),
        ("raw/idle/block-001", "; it lies in a run, name that: {run}"),
        ("manifest.json", ": this is a file; it lies in a run, name that: {run}"),
    ],
)
def test_a_folder_near_a_run(
    run: RunFolder,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    where: str,
    said: str,
) -> None:
    """What was meant is in sight: the message names it."""
    near = run.path / where
    monkeypatch.chdir(run.path.parent)
    assert main([verb, os.path.normpath(near)]) == 1
    err = capsys.readouterr().err
    assert said.format(run=run.path.name if "lies in" in said else run.path) in err
    assert err.count("\n") == 1


def test_the_results_folder_itself(run: RunFolder, tmp_path: Path, capsys: Captured) -> None:
    results = tmp_path / "results"
    for protocol in ("paper", "quick"):
        shutil.copytree(run.path, results / "pipes" / protocol)
    assert main(["show", str(results)]) == 1
    said = f"; it holds runs, name one: {results}/pipes/paper (or another of 2)\n"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "folder", "command"),
    [
        ([], "small/quick", "snakemake --cores all"),
        (
            ["--arch", "riscv64"],
            "small-riscv64/quick",
            "snakemake --cores all --config arch=riscv64",
        ),
    ],
)
def test_show_the_configured_run_before_it_is_made(
    project: Project, capsys: Captured, options: list[str], folder: str, command: str
) -> None:
    (project.root / "config").mkdir()
    (project.root / "config" / "config.yaml").write_text("experiment: experiment.yaml\n")
    assert main(["--root", str(project.root), "show", *options]) == 1
    assert capsys.readouterr().err == (
        f"kdelta: {project.root}/results/{folder}: the configured run is not there yet; "
        f"`{command}` makes it, or name another folder results/<experiment>/<protocol>\n"
    )


def test_show_the_answer_on_one_screen(run: RunFolder, capsys: Captured) -> None:
    assert main(["show", "--brief", str(run.path)]) == 0
    brief = told(capsys)
    assert brief.startswith("EMULATED (TCG): not a measurement of kernel performance\n")
    assert "Change of throughput against baseline" in brief
    assert "What weakens it:" in brief
    assert " -> " not in brief
    assert len(brief.splitlines()) <= 40
    assert max(map(len, brief.splitlines())) <= 160


@pytest.mark.parametrize(("lines", "hint"), [("20", True), ("2000", False)])
def test_show_tells_of_what_has_scrolled_away(
    run: RunFolder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, lines: str, hint: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", lines)
    assert main(["show", str(run.path)]) == 0
    text = told(capsys)
    assert (" lines, the answer first: add `--brief`" in text) == hint
    assert max(map(len, text.splitlines())) <= 90
