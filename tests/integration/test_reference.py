# SPDX-License-Identifier: GPL-2.0-only
"""`snakemake figures`: every table and figure of a shipped run, from its raw files alone."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.font_manager import findfont

from kdelta.analysis.run import analyse
from kdelta.cli import main
from kdelta.export.run_folder import read_run
from kdelta.reference.sums import read_sums
from kdelta.run_context import analysis_settings
from kdelta.schema import RESULT_FILES
from tests.conftest import CHECKOUT
from tests.integration.documents import commands
from tests.integration.scripted_workflow import Workflow
from tests.unit.reference.reference_runs import SECRETS, finished_run

SHIPPED = sorted((CHECKOUT / "results" / "reference").glob("*/*/reference.json"))
NAME = "pipes/quick"
AGAIN = f"results/from-reference/{NAME}"
# What fetching, building and booting would call.
FORBIDDEN = ("apt-get", "apt-cache", "git", "make", "sudo", "vng", "qemu-system-x86_64", "curl")
# Instruction sets that numpy picks code by: without them it computes as on an old processor.
NO_VECTORS = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3 AVX"
MIB = 2**20


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed run."""
    folder = tmp_path_factory.mktemp("packed")
    run = finished_run(folder / "results", folder, blocks=3)
    found = read_run(run)
    kernels = found.manifest["kernels"]
    # Its tables name the nodes, and those of what is packed must be the same but for that.
    analyse(run / "raw", run, analysis_settings(found.experiment, "quick", folder, kernels))
    packed = folder / "reference"
    argv = ["reference", "--run", str(run), "--output", str(packed), "--private", "pluto"]
    assert main(["--root", str(folder), *argv]) == 0
    return packed


def checkout(folder: Path, reference: Path | None, name: str = NAME) -> Workflow:
    """A copy of the checkout that ships one run, on a machine that can neither fetch nor boot."""
    workflow = Workflow(folder, stand_in=False)
    workflow.environment.kdelta(folder / "lock")
    for program in FORBIDDEN:
        trap = f"#!/bin/sh\necho {program} >> {workflow.root}/forbidden\nexit 1\n"
        workflow.environment.program(program, trap)
    if reference is not None:
        shutil.copytree(reference, workflow.root / "results/reference" / name)
    return workflow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Workflow:
    """A checkout in which `figures` has run."""
    workflow = checkout(tmp_path_factory.mktemp("made"), reference)
    workflow.succeeds("figures")
    return workflow


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text())
    assert count == 1
    path.write_text(text)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".snakemake" not in path.name
    }


def test_everything_is_made_and_nothing_measured(made: Workflow) -> None:
    run = made.root / AGAIN
    for name in (*RESULT_FILES, "report/tables.txt", "report/index.html", "report/macros.tex"):
        assert (run / name).stat().st_size > 0, name
    assert (run / "report/paper.pdf").read_bytes().startswith(b"%PDF")
    assert list((run / "report/tables").glob("delta-*.tex"))
    assert list((run / "figures").glob("*.svg"))
    assert "with the series" in (run / "report/tables.txt").read_text()
    assert "1000 -> 1200" in (run / "report/tables.txt").read_text(), "the claims are not there"
    assert not (made.root / "forbidden").exists(), (made.root / "forbidden").read_text()
    assert {path.name for path in (made.root / "results").iterdir()} == {
        "reference",
        "from-reference",
    }


def test_what_has_been_made_is_not_made_again(made: Workflow) -> None:
    assert not made.planned("figures")
    packed = made.root / "results/reference" / NAME / "manifest.json"
    before = packed.read_bytes()
    packed.write_bytes(before + b"\n")
    planned = made.planned("figures")
    packed.write_bytes(before)
    assert "Unpack the raw files of pipes/quick" in planned
    assert not [message for message in planned if re.search("Fetch|Build|Measure|KVM", message)]


def test_the_same_bytes_elsewhere(
    made: Workflow,
    reference: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = checkout(tmp_path_factory.mktemp("other-place"), reference)
    for name, value in {
        "NPY_DISABLE_CPU_FEATURES": NO_VECTORS,
        "OPENBLAS_CORETYPE": "Nehalem",
        "PYTHONHASHSEED": "7",
        "TZ": "Pacific/Auckland",
        "LC_ALL": "C",
        "MPLCONFIGDIR": str(other.root / "matplotlib"),
    }.items():
        monkeypatch.setenv(name, value)
    other.succeeds("figures")
    first, second = files(made.root / AGAIN), files(other.root / AGAIN)
    assert set(first) == set(second)
    assert not [name for name in first if first[name] != second[name]]
    # And those of the sums, which a stranger checks without kdelta.
    typed = commands(r"cd .*<") + commands(r"sha256sum .*<")
    check = " && ".join(typed).replace("<experiment>/<protocol>", NAME)
    subprocess.run(["bash", "-ec", check], cwd=other.root, check=True)
    sums = read_sums(made.root / "results/reference" / NAME / "SHA256SUMS")
    assert set(RESULT_FILES) < set(sums)
    assert {name for name in first if name.startswith("figures/")} < set(sums)
    # Other bytes fail the command.
    packed = other.root / "results/reference" / NAME / "SHA256SUMS"
    edit(packed, r"[0-9a-f]{64}(?=  tables/deltas.csv)", "ab" * 32)
    done = other.run("figures")
    assert done.returncode != 0
    assert "SHA256SUMS says: tables/deltas.csv differs. " in done.stdout


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "raw/idle/block-002/patched.jsonl.gz").write_bytes(gzip.compress(b"{}")),
            "not the file that was packed",
        ),
        (lambda f: (f / "reference.json").unlink(), "no packed run here"),
    ],
)
def test_what_is_wrong_is_told(
    reference: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    workflow = checkout(tmp_path, reference)
    spoil(workflow.root / "results/reference" / NAME)
    done = workflow.run("figures")
    assert done.returncode != 0
    assert message in done.stdout


def test_sums_are_taken_as_they_now_are(made: Workflow, tmp_path: Path) -> None:
    packed, again = tmp_path / "packed", tmp_path / "again"
    shutil.copytree(made.root / "results/reference" / NAME, packed)
    shutil.copytree(made.root / AGAIN, again)
    (again / "tables/deltas.csv").write_text("another\n")
    check = ["reference", "--check", str(packed), "--output", str(again)]
    assert [main(check), main([*check, "--update"]), main(check)] == [1, 0, 0]


def test_without_the_fonts_of_the_paper_the_rest_is_compared(
    made: Workflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs, again = tmp_path / "bin", tmp_path / "again"
    programs.mkdir()
    for program in ("kpsewhich", "pdflatex"):
        (programs / program).write_text("#!/bin/sh\nexit 1\n")
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    shutil.copytree(made.root / AGAIN, again)
    for name in ("figures", "report"):
        shutil.rmtree(again / name)
    (again / "SHA256SUMS").unlink()
    packed = made.root / "results/reference" / NAME
    assert main(["report", "figures", "--run", str(again)]) == 0
    assert main(["reference", "--check", str(packed), "--output", str(again)]) == 0
    said = capsys.readouterr().out
    assert "figures/*.pdf are not compared: Latin Modern is not installed" in said
    sums = read_sums(again / "SHA256SUMS")
    assert "figures/forest.svg" in sums
    assert not [name for name in sums if name.endswith(".pdf")]
    assert (again / "figures/forest.pdf").is_file()


def test_the_page_s_figures_use_a_font_that_comes_with_matplotlib() -> None:
    """Else their layout would depend on what the machine has installed."""
    assert Path(findfont("DejaVu Sans")).is_relative_to(mpl.get_data_path())


@pytest.mark.skipif(not SHIPPED, reason="no run ships with this checkout yet")
def test_the_shipped_runs(tmp_path: Path) -> None:
    workflow = checkout(tmp_path, None)
    shutil.copytree(CHECKOUT / "results/reference", workflow.root / "results/reference")
    workflow.succeeds("figures")
    assert not (workflow.root / "forbidden").exists()
    for record in SHIPPED:
        name = record.parent.relative_to(CHECKOUT / "results/reference")
        assert (workflow.root / "results/from-reference" / name / "report/paper.pdf").exists()


@pytest.mark.parametrize("record", SHIPPED, ids=lambda path: str(path.parent.name))
def test_a_shipped_run_is_small_and_holds_nothing_private(record: Path) -> None:
    found = files(record.parent)
    assert sum(map(len, found.values())) < 10 * MIB
    private = re.compile(rb"/(?:home|root|tmp|srv|work|Users|var/tmp)/\w|virtme\.exec=`\w")
    for name, data in found.items():
        text = gzip.decompress(data) if name.endswith(".gz") else data
        assert not private.search(text), name


def test_the_made_up_run_holds_nothing_private(made: Workflow) -> None:
    for name, data in files(made.root / AGAIN).items():
        assert not [secret for secret in SECRETS if secret.encode() in data], name
