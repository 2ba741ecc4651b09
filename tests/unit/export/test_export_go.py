# SPDX-License-Identifier: GPL-2.0-only
"""The Go benchmark format: what is written reads back, by the specification's rules."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from export_runs import make_run
from go_format import parse
from hypothesis import given, settings
from hypothesis import strategies as st

from kdelta.errors import KdeltaError
from kdelta.export.run_folder import RunFolder
from kdelta.export.samples import go_files, go_text, write_go
from tests.unit.analysis.synthetic import Truth, edit


@functools.cache
def emulated() -> RunFolder:
    return make_run(Path(tempfile.mkdtemp()) / "run", Truth(regimes=("idle", "memory-pressure")))


def row(**changes: str) -> dict[str, str]:
    return {
        "regime": "idle",
        "block": "1",
        "arm": "patched",
        "vcpus": "2",
        "writers": "1",
        "readers": "5",
        "writes": "1234",
        "latency_mean_ns": "811234.5",
        "throughput_mib_s": "76.9",
        "latency_p50_ns": "700000",
        "latency_p99_ns": "9000000",
        "valid": "true",
    } | changes


def test_every_cell_of_a_block_is_a_line() -> None:
    run = emulated()
    samples = run.table("samples.csv")
    files = go_files(run)
    assert list(files) == ["baseline.txt", "patched.txt", "control.txt"]
    for name, text in files.items():
        mine = samples[samples["arm"] == name.removesuffix(".txt")]
        results = parse(text).results
        assert len(results) == len(mine) == 32
        for result, (_, sample) in zip(results, mine.iterrows(), strict=True):
            assert result.base == "BenchmarkPipeBench"
            assert result.parts == {k: sample[k] for k in ("regime", "writers", "readers")}
            assert result.procs == 2
            assert result.iterations == int(sample["writes"])
            assert result.values["latency-mean-ns"] == float(sample["latency_mean_ns"])
            rate = float(sample["throughput_mib_s"]) * 2**20
            assert result.values["B/s"] == pytest.approx(rate, rel=1e-9)


def test_rounds_of_a_block_are_one_result() -> None:
    rounds = [row(throughput_mib_s="10", writes="100"), row(throughput_mib_s="40", writes="300")]
    other_block = row(block="2", throughput_mib_s="30", writes="7")
    text = go_text(emulated(), "patched", pd.DataFrame([*rounds, other_block]))
    results = parse(text).results
    assert [(r.iterations, r.values["B/s"] / 2**20) for r in results] == [
        (400, pytest.approx(20)),
        (7, pytest.approx(30)),
    ]


def test_arms_have_the_same_configuration() -> None:
    """Else benchstat would put them into different tables and compare nothing."""
    configurations = [
        parse(text).results[0].configuration for text in go_files(emulated()).values()
    ]
    assert configurations == [configurations[0]] * 3
    assert configurations[0] == {
        "experiment": "pipes",
        "protocol": "quick",
        "acceleration": "tcg (emulated)",
        "kernel": "6.12.9",
        "cpu": "A Processor 1000",
        "guest-memory-mib": "1024",
    }


def test_units_say_which_way_is_better() -> None:
    assert parse(go_files(emulated())["patched.txt"]).units == {
        "B/s": {"better": "higher"},
        "latency-mean-ns": {"better": "lower"},
        "latency-median-ns": {"better": "lower"},
        "latency-tail-ns": {"better": "lower"},
    }


def test_emulated_numbers_are_called_so(tmp_path: Path) -> None:
    assert "EMULATED (TCG)" in go_files(emulated())["patched.txt"]
    measured = go_files(make_run(tmp_path / "run", mode="kvm"))["patched.txt"]
    assert "EMULATED" not in measured
    assert "acceleration: kvm\n" in measured


def test_samples_set_aside_are_left_out_and_counted(tmp_path: Path) -> None:
    def spoil(raw: Path) -> None:
        file = raw / "idle" / "block-002" / "patched.jsonl"
        edit(file, lambda records: records[1].update(stressor_alive=False))

    run = make_run(tmp_path / "run", spoil=spoil)
    files = {name: parse(text) for name, text in go_files(run).items()}
    assert len(files["patched.txt"].results) == 15
    assert any(c.startswith("1 samples were set aside") for c in files["patched.txt"].comments)
    assert len(files["baseline.txt"].results) == 16
    assert not any("set aside" in c for c in files["baseline.txt"].comments)


@settings(deadline=None)
@given(
    level=st.text(min_size=1, max_size=20),
    writes=st.integers(1, 10**12),
    latency=st.floats(1, 1e12),
    rate=st.floats(1e-3, 1e6),
)
def test_what_is_written_reads_back(level: str, writes: int, latency: float, rate: float) -> None:
    run = emulated()
    one = row(
        readers=level,
        writes=str(writes),
        latency_mean_ns=f"{latency:.10g}",
        throughput_mib_s=f"{rate:.10g}",
    )
    (result,) = parse(go_text(run, "patched", pd.DataFrame([one]))).results
    assert unquote(result.parts["readers"]) == level
    assert result.iterations == writes
    assert result.values["latency-mean-ns"] == float(f"{latency:.10g}")
    assert result.values["B/s"] == pytest.approx(rate * 2**20, rel=1e-8)


@settings(deadline=None)
@given(title=st.text(max_size=60), model=st.text(max_size=60))
def test_any_title_stays_a_comment(title: str, model: str) -> None:
    run = emulated()
    experiment = run.experiment.model_copy(update={"title": title})
    host = {"host": {"cpu_model": model}, "memory_mib": 1}
    changed = dataclasses.replace(
        run, experiment=experiment, manifest={**run.manifest, "hosts": [host]}
    )
    file = parse(go_text(changed, "patched", pd.DataFrame([row()])))
    assert len(file.results) == 1
    assert file.results[0].configuration.get("cpu", "") == " ".join(model.split())


def test_a_file_per_arm(tmp_path: Path) -> None:
    run = emulated()
    written = write_go(run, tmp_path / "go")
    assert [path.name for path in written] == list(go_files(run))
    assert written[1].read_text() == go_files(run)["patched.txt"]


def test_an_older_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run.path / "samples.csv"
    pd.read_csv(file, dtype=str).drop(columns="throughput_mib_s").to_csv(file, index=False)
    said = r"samples\.csv: column throughput_mib_s is missing; .* again"
    with pytest.raises(KdeltaError, match=said):
        go_files(run)


@pytest.mark.parametrize(
    "text",
    [
        "Key: value\n",
        "no colon\n",
        "key:value\n",
        "Benchmarkpipe 1 2 ns/op\n",
        "BenchmarkPipe 1 2\n",
        "BenchmarkPipe 1 2 ns/op 3\n",
        "BenchmarkPipe 1.5 2 ns/op\n",
        "BenchmarkPipe 1 nan ns/op\n",
        "BenchmarkPipe/x 1 2 ns/op\n",
        "BenchmarkPipe 1 2 ns/op 3 ns/op\n",
        "BenchmarkPipe 1 2 ns/op",
    ],
)
def test_the_reader_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
