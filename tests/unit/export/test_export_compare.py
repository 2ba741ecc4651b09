# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta compare`: which parts of two runs belong together, and what is printed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from export_runs import make_run

from kdelta.analysis.inference import estimates
from kdelta.errors import KdeltaError
from kdelta.export.compare import Comparison, compare_runs
from kdelta.export.compare_text import comparison_text
from kdelta.export.run_folder import RunFolder, read_run
from kdelta.export.run_setup import setup_differences
from tests.unit.analysis.synthetic import Truth, edit

BOTH = ("idle", "memory-pressure")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    """The same experiment, twice; the second on another host, with a weaker effect."""
    folder = tmp_path_factory.mktemp("pair")
    a = make_run(folder / "a", Truth(regimes=BOTH, blocks=6, seed=1))
    b = make_run(
        folder / "b",
        Truth(effects={"patched": 1.05}, regimes=BOTH, blocks=5, seed=2),
        mode="kvm",
        host={"cpu_model": "Another Processor"},
    )
    return a, b


def words(found: Comparison) -> list[str]:
    return [one.word for arm in found.arms for rows in arm.regimes for _, one in rows.cells]


def test_a_run_beside_itself(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    a, _ = runs
    moved = read_run(Path(shutil.copytree(a.path, tmp_path / "moved")))
    for other in (a, moved):
        found = compare_runs(a, other)
        assert found.paired
        assert found.setup == ()
        assert set(words(found)) == {"same within noise"}
        assert len(words(found)) == 2 * 2 * 4
        assert found.identical
        text = comparison_text(found)
        assert "Set-up: no difference on record." in text
        # Sixteen times "+0 [+0, +0]" would tell nobody anything.
        said = "the same in 16 cells of patched and control: nothing to compare."
        assert said in " ".join(text.split())
        assert "--arm-a patched --arm-b control" in text
        assert "==" not in text


def test_two_runs(runs: tuple[RunFolder, RunFolder]) -> None:
    found = compare_runs(*runs)
    assert not found.paired
    assert [(arm.arm_a, arm.arm_b) for arm in found.arms] == [
        ("patched", "patched"),
        ("control", "control"),
    ]
    patched, control = found.arms
    for rows in patched.regimes:
        assert rows.overall.word == "differs"
        assert rows.overall.low < 1.05 / 1.2 < rows.overall.high
    assert {one.word for rows in control.regimes for _, one in rows.cells} == {"same within noise"}


def test_the_columns_are_those_of_each_runs_own_table(runs: tuple[RunFolder, RunFolder]) -> None:
    found = compare_runs(*runs)
    for run, side in zip(runs, ("a", "b"), strict=True):
        deltas = pd.read_csv(run.path / "tables" / "deltas.csv")
        mine = deltas[(deltas["arm"] == "patched") & (deltas["metric"] == "throughput_mib_s")]
        ours = [getattr(one, side) for rows in found.arms[0].regimes for _, one in rows.cells]
        for name, column in (("ratio", "ratio"), ("low", "ratio_low"), ("high", "ratio_high")):
            got = [getattr(one, name) for one in ours]
            assert got == pytest.approx(mine[column].tolist(), rel=1e-8)
    overall = pd.read_csv(runs[0].path / "tables" / "overall.csv")
    wanted = overall[(overall["arm"] == "patched") & (overall["metric"] == "throughput_mib_s")]
    got = [rows.overall.a.ratio for rows in found.arms[0].regimes]
    assert got == pytest.approx(wanted["ratio"].tolist(), rel=1e-8)


def test_two_arms_of_one_run_are_paired(runs: tuple[RunFolder, RunFolder]) -> None:
    a, _ = runs
    found = compare_runs(a, a, arm_a="control", arm_b="patched")
    ratios = pd.read_csv(a.path / "tables" / "ratios.csv")
    cell = ratios[
        (ratios["metric"] == "throughput_mib_s")
        & (ratios["regime"] == "idle")
        & (ratios["writers"] == 2)
        & (ratios["readers"] == 5)
    ].pivot_table(index="block", columns="arm", values="value")
    (own,) = estimates([np.log(cell["patched"] / cell["control"]).to_numpy()], 0.95)
    (arm,) = found.arms
    by_cell = dict(arm.regimes[0].cells)
    one = by_cell["2", "5"]
    assert (one.ratio, one.low, one.high) == pytest.approx((own.ratio, own.low, own.high))
    assert set(words(found)) == {"differs"}
    text = comparison_text(found)
    assert "== Nothing else: control (A), patched (B) ==" in text
    assert "a paired t interval" in text


def test_the_answer_comes_first(runs: tuple[RunFolder, RunFolder]) -> None:
    """Arm by arm and regime by regime, before set-up and cells."""
    found = compare_runs(*runs)
    assert not found.identical
    text = comparison_text(found, 80)
    assert re.search(r"^regime +overall +B/A +cells$", text, re.MULTILINE)
    text = comparison_text(found, 100)
    summary = text.partition("What differs in set-up:")[0]
    assert re.search(r"^patched:$", summary, re.MULTILINE)
    for arm in found.arms:
        part = summary.partition(f"\n{arm.arm_a}:\n")[2]
        for rows in arm.regimes:
            (line,) = re.findall(rf"^{rows.regime} .*$", part.partition(":")[0], re.MULTILINE)
            differ = sum(one.word == "differs" for _, one in rows.cells)
            assert line.split()[1] == rows.overall.word.split()[0]
            assert line.endswith(f" {differ}/{len(rows.cells)}")
            assert f"{100 * (rows.overall.ratio - 1):+.1f} [" in line


def test_other_tables_of_the_same_measurements_are_told(
    runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    """Two analyses of the same raw files may disagree: only then there are tables."""
    a, _ = runs
    other = read_run(Path(shutil.copytree(a.path, tmp_path / "other")))
    file = other.path / "tables" / "ratios.csv"
    frame = pd.read_csv(file)
    frame.loc[frame["metric"] == "throughput_mib_s", "ratio"] *= 1.01
    frame.to_csv(file, index=False)
    found = compare_runs(a, other)
    assert found.paired
    assert not found.identical
    assert "nothing to compare" not in comparison_text(found)


def test_what_differs_in_set_up(runs: tuple[RunFolder, RunFolder]) -> None:
    told = {label: (a, b) for label, a, b in setup_differences(*runs)}
    assert told == {
        "Blocks": ("6", "5"),
        "Acceleration": ("tcg", "kvm"),
        "Processor": ("A Processor 1000", "Another Processor"),
    }


def test_another_matrix_is_told_and_what_it_leaves_out(
    runs: tuple[RunFolder, RunFolder], tmp_path: Path
) -> None:
    factors = {"writers": (1, 4), "readers": (1, 5), "write_size": (4096, 65536)}
    other = make_run(tmp_path / "b", Truth(factors=factors, blocks=5, seed=2), arguments={})
    found = compare_runs(runs[0], other)
    told = {label: (x, y) for label, x, y in found.setup}
    assert told["Matrix"] == (
        "writers 1, 2 x readers 1, 5",
        "writers 1, 4 x readers 1, 5 x write_size 4096, 65536",
    )
    text = comparison_text(found)
    assert "Only in A: regime memory-pressure." in text
    assert "Only in A: 2 x 1 x 65536, 2 x 5 x 65536.\n" in text
    # A cell is one thing: no line ends within it.
    assert not re.search(r" x$", text.partition("\n== ")[2], re.MULTILINE)


def test_other_conditions_and_patches_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a")
    regimes = {"idle": {"title": "Nothing else", "memcg": True, "sysctl": {"vm.swappiness": 100}}}
    b = make_run(tmp_path / "b", Truth(seed=9), regimes=regimes, seed=8)
    file = b.path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["kernels"]["patched"]["key"] = "99" * 32
    del manifest["kernels"]["baseline"]["compiler"]
    file.write_text(json.dumps(manifest))
    found = compare_runs(a, read_run(b.path))
    told = {label: (x, y) for label, x, y in found.setup}
    assert told["Conditions of idle"] == ("none", 'memcg true, sysctl {"vm.swappiness": 100}')
    assert told["Compiler"] == ("gcc 12.2", "not recorded")
    assert told["Seed"] == ("7", "8")
    assert told["Arm patched"][1] == "image 999999999999, patches 121212121212"
    assert "Arm control" not in told


def test_what_made_an_arm_and_how_it_is_booted_is_told(tmp_path: Path) -> None:
    """Arms of one series and one image may differ in nothing else."""
    thp = {"/sys/kernel/mm/transparent_hugepage/enabled": "never"}
    arms = {"baseline": {"title": "b"}, "patched": {"title": "n", "files": thp}}
    run = make_run(tmp_path / "a", arms=arms)
    file = run.path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["kernels"]["patched"] |= {"compiler": "clang 19", "patches": []}
    file.write_text(json.dumps(manifest))
    run = read_run(run.path)
    ((_, *facts),) = compare_runs(run, run, arm_a="control", arm_b="patched").setup
    key, same = (manifest["kernels"][arm]["key"][:12] for arm in ("patched", "baseline"))
    booted = "booted with never in /sys/kernel/mm/transparent_hugepage/enabled"
    assert facts == [f"image {same}, no patch", f"image {key}, no patch, clang 19, {booted}"]


def test_emulation_is_said(runs: tuple[RunFolder, RunFolder]) -> None:
    a, b = runs
    assert "EMULATED (TCG), both: " in comparison_text(compare_runs(a, a))
    assert "EMULATED (TCG): A holds no measurements" in comparison_text(compare_runs(a, b))
    assert "EMULATED (TCG): B holds no measurements" in comparison_text(compare_runs(b, a))
    assert "EMULATED" not in comparison_text(compare_runs(b, b))


def test_the_text_fits_a_terminal(runs: tuple[RunFolder, RunFolder]) -> None:
    text = comparison_text(compare_runs(*runs))
    lines = text.splitlines()[4:]  # the paths above may be of any length
    assert max(map(len, lines)) <= 80
    assert text.isascii()
    rows = [line for line in lines if re.match(r"\d+ x \d+ ", line)]
    assert len(rows) == 2 * 2 * 4
    # Aligned: the second interval of every row of a table begins in the same column.
    for start in range(0, len(rows), 4):
        ends = {tuple(m.end() for m in re.finditer(r"\]", row)) for row in rows[start : start + 4]}
        assert len(ends) == 1
    assert text.count("Cells: 4 differ.") == 2
    assert text.count("Cells: 4 same within noise.") == 2


def test_what_only_one_has_is_listed(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", Truth(regimes=BOTH))
    b = make_run(tmp_path / "b", Truth(factors={"writers": (2, 5), "readers": (5,)}, seed=3))
    found = compare_runs(a, b)
    (rows,) = found.arms[0].regimes
    assert [cell for cell, _ in rows.cells] == [("2", "5")]
    assert set(rows.only_a) == {("1", "1"), ("1", "5"), ("2", "1")}
    assert rows.only_b == (("5", "5"),)
    assert found.missing == ("Only in A: regime memory-pressure.",)
    text = comparison_text(found)
    assert "Cells: writers x readers." in text
    assert "Only in A: 1 x 1, 1 x 5, 2 x 1." in text
    assert "Overall, 1 cell: " in text


def test_a_factor_that_only_one_varies(tmp_path: Path) -> None:
    """The other ran all its cells at one level of it, which its arguments name."""
    a = make_run(tmp_path / "a")
    b = make_run(
        tmp_path / "b",
        Truth(factors={"readers": (5,), "writers": (1, 2), "write_size": (4096, 65536)}, seed=3),
        arguments={},
    )
    found = compare_runs(a, b)
    assert found.factors == ("writers", "readers", "write_size")
    (rows,) = found.arms[0].regimes
    assert [cell for cell, _ in rows.cells] == [("1", "5", "65536"), ("2", "5", "65536")]
    swapped = compare_runs(b, a).arms[0].regimes[0]
    assert len(swapped.cells) == 2


def test_the_stricter_confidence_is_taken(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", Truth(seed=3), statistics={"confidence": 0.99})
    assert compare_runs(a, b).confidence == compare_runs(b, a).confidence == 0.99
    assert "[99% interval]" in comparison_text(compare_runs(a, b))


def test_a_cell_that_was_set_aside(tmp_path: Path) -> None:
    def spoil(raw: Path) -> None:
        for block in ("001", "002", "003"):
            file = raw / "idle" / f"block-{block}" / "patched.jsonl"
            edit(file, lambda records: [r.update(stressor_alive=False) for r in records[1:-1]])

    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", Truth(seed=3), spoil=spoil)
    patched, control = compare_runs(a, b).arms
    assert {one.word for _, one in patched.regimes[0].cells} == {"invalid"}
    assert patched.regimes[0].overall.word == "invalid"
    assert control.regimes[0].overall.word == "same within noise"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"arm_a": "loop"},
            r"--arm-a loop: not an arm of .*; its arms with a delta are patched, control",
        ),
        ({"arm_a": "patched", "arm_b": "loop"}, r"--arm-b loop: not an arm of .*"),
        (
            {"arm_b": "baseline"},
            r"--arm-a baseline: the baseline of .*, which has no delta; its other arms are",
        ),
    ],
)
def test_an_arm_that_cannot_be_compared(
    runs: tuple[RunFolder, RunFolder], names: dict[str, Any], message: str
) -> None:
    with pytest.raises(KdeltaError, match=message):
        compare_runs(*runs, **names)


def test_no_cell_in_common(runs: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    other = make_run(tmp_path / "b", Truth(factors={"writers": (9,), "readers": (9,)}, seed=3))
    with pytest.raises(KdeltaError, match=r"no cell in common: A has regimes idle, memory-pressur"):
        compare_runs(runs[0], other)


def test_runs_that_share_some_of_their_data(tmp_path: Path) -> None:
    """A run that was extended and the state before are not two independent experiments."""
    a = make_run(tmp_path / "a", Truth(blocks=4))
    b = make_run(tmp_path / "b", Truth(blocks=4, seed=5))
    for run, change in ((a, {}), (b, {"raw/idle/block-001/patched.jsonl": "ab" * 32})):
        file = run.path / "manifest.json"
        manifest = json.loads(file.read_text())
        shared = a.manifest["raw_sha256"]
        manifest["raw_sha256"] = {**shared, **change}
        file.write_text(json.dumps(manifest))
    with pytest.raises(KdeltaError, match=r"share 11 of their raw files: .* --arm-a and --arm-b"):
        compare_runs(a, read_run(b.path))


def test_equal_schedules_and_empty_files_are_no_shared_data(tmp_path: Path) -> None:
    def fail(raw: Path) -> None:
        (raw / "idle" / "block-001" / "control.jsonl").write_text("")

    a = make_run(tmp_path / "a", spoil=fail)
    b = make_run(tmp_path / "b", Truth(seed=3), spoil=fail)
    hashes = [run.manifest["raw_sha256"] for run in (a, b)]
    hashes[1].update({k: v for k, v in hashes[0].items() if k.endswith("schedule.json")})
    assert not compare_runs(a, b).paired
