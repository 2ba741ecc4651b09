# SPDX-License-Identifier: GPL-2.0-only
"""Programs of the kernel's tree: built for real, from a small tree, which stays as it is."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdelta.cli import main
from kdelta.errors import KdeltaError
from kdelta.kernel.image import sha256_file
from kdelta.kernel.source import SourceTree
from kdelta.workflow import RunPlan, plan_run
from kdelta.workload.build import RECORD, build_programs
from kdelta.workload.declaration import Workload
from tests.conftest import Project

BENCH = "tools/testing/selftests/mine/bench.c"
FILES = {
    "Makefile": "VERSION = 6\n",
    "tools/testing/selftests/kselftest.h": "#define ANSWER 7\n",
    # Found beside its folder, as most selftests say, and by the include path.
    BENCH: '#define _GNU_SOURCE\n#include "../kselftest.h"\n#include "kselftest.h"\n'
    "#include <stdio.h>\n"
    'int main(void) { printf("file: %s\\nrate: %d\\n", __FILE__, ANSWER); return 0; }\n',
    "tools/tool/Makefile": "$(O)/in/tool: tool.c\n\tmkdir -p $(O)/in\n\t$(CC) -g -o $@ $<\n",
    "tools/tool/tool.c": '#include <stdio.h>\nint main(void) { return puts("rate: 5") < 0; }\n',
    "tools/empty/README": "no Makefile\n",
    "tools/broken/Makefile": "all:\n\t$(CC) -o $(O)/broken missing.c\n",
    "tools/stray/Makefile": "all:\n\tmkdir left; touch left/stray.o $(O)/stray\n",
}


def declared(**program: str) -> dict[str, Any]:
    return {
        "title": "of the tree",
        "parameters": {"size": {"type": "size", "default": "1K"}},
        "program": program,
        "command": ["{program}"],
        "output": "key-value",
        "metrics": {"rate": {"read": "rate", "title": "Rate", "unit": "1/s", "better": "higher"}},
    }


def make_tree(folder: Path, identity: str = "5eed") -> SourceTree:
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SourceTree(
        identity,
        folder,
        {
            **{"type": "debian", "package": "linux-source-6.12", "version": "6.12.1-1"},
            **{"kernel_version": "6.12.1", "suite": "found-there", "sha256": identity},
        },
    )


def built(source: SourceTree, folder: Path, **program: str) -> tuple[Path, dict[str, Any]]:
    workload = Workload.model_validate(declared(**program))
    out = folder / "out"
    build_programs({"w": (workload, folder)}, out, out / "log", folder / "cache", tree=source)
    record = json.loads((out / RECORD).read_text())["w"]
    return out / workload.program.name, record


def state(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_c_file_finds_the_selftests_headers(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = state(tree.path)
    program, record = built(tree, tmp_path, tree=BENCH)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed == f"file: {BENCH}\nrate: 7\n", "and no folder of this machine is in it"
    assert record["tree"] == BENCH
    assert record["source"] == "5eed"
    assert record["source_sha256"] == sha256_file(tree.path / BENCH)
    assert record["binary_sha256"] == sha256_file(program)
    assert "warning" not in (tmp_path / "out/log").read_text()
    assert state(tree.path) == before


def test_a_folder_is_built_outside_the_tree(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = state(tree.path)
    program, record = built(tree, tmp_path, tree="tools/tool")
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed == "rate: 5\n"
    assert record["tree"] == "tools/tool"
    assert record["program"] == "tool"
    assert record["binary_sha256"] == sha256_file(program)
    assert state(tree.path) == before


@pytest.mark.parametrize("origin", [BENCH, "tools/tool"])
def test_the_same_bytes_wherever_the_tree_lies(tmp_path: Path, origin: str) -> None:
    digests = {
        built(make_tree(tmp_path / place / "tree"), tmp_path / place, tree=origin)[1][
            "binary_sha256"
        ]
        for place in ("one", "another")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("origin", [BENCH, "tools/tool"])
def test_another_tree_is_another_program(tmp_path: Path, origin: str) -> None:
    """The cache goes by the tree: what a program includes of it is not looked at."""
    _, first = built(make_tree(tmp_path / "old", "01d"), tmp_path, tree=origin)
    tree = make_tree(tmp_path / "new", "9e3")
    (tree.path / "tools/testing/selftests/kselftest.h").write_text("#define ANSWER 8\n")
    text = FILES["tools/tool/tool.c"].replace("5", "6")
    (tree.path / "tools/tool/tool.c").write_text(text)
    _, second = built(tree, tmp_path, tree=origin)
    assert first["binary_sha256"] != second["binary_sha256"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            {"tree": "tools/testing/selftests/pipe/pipe_bench.c"},
            r"workloads/w: program\.tree: Linux 6\.12\.1 \(linux-source-6\.12 6\.12\.1-1\) has no "
            r"tools/testing/selftests/pipe/pipe_bench\.c; measure a kernel that has it",
        ),
        ({"tree": "tools/empty"}, r"has no tools/empty/Makefile"),
        ({"tree": "tools/broken"}, r"broken: `make` of the kernel's tree: .*missing\.c.*log"),
        ({"tree": "tools/tool", "command": "tol"}, r"made no program tol; name the one"),
        ({"tree": "tools/stray"}, r"wrote left into the tree, and not into O="),
    ],
)
def test_what_cannot_be_built_has_words(tmp_path: Path, program: dict[str, str], said: str) -> None:
    tree = make_tree(tmp_path / "tree")
    before = state(tree.path)
    with pytest.raises(KdeltaError, match=said):
        built(tree, tmp_path, **program)
    assert state(tree.path) == before
    assert not (tree.path / "tools/stray/left").exists()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of the small tree, which lies in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = tmp_path / "cache/kdelta/sources/5eed"
    tree = make_tree(entry / "tree")
    (tree.path / "fs").mkdir()
    (tree.path / "fs/one.c").write_text("return 1;\n")
    for path in (entry / "source.json", tmp_path / "record.json"):
        path.write_text(json.dumps(tree.record()))
    return tmp_path / "record.json"


@pytest.fixture
def of_the_tree(project: Project, small: dict[str, Any]) -> Project:
    """The small experiment, with a workload of the tree."""
    folder = project.root / "workloads/mine"
    folder.mkdir()
    (folder / "workload.yaml").write_text(yaml.safe_dump(declared(tree=BENCH)))
    small["workloads"] = {"mine": {"matrix": {"size": [1024]}}}
    project.write(small)
    return project


def kdelta(project: Project, *words: str) -> int:
    return main(["--root", str(project.root), *words])


def test_check_runs_it_where_the_source_is_at_hand(
    of_the_tree: Project, cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kdelta(of_the_tree, "check", "experiment.yaml") == 0
    assert "workload mine runs here and is understood: rate 7 1/s" in capsys.readouterr().out
    other = of_the_tree.root / "workloads/mine/workload.yaml"
    other.write_text(yaml.safe_dump(declared(tree="tools/perf", command="perf")))
    assert kdelta(of_the_tree, "check", "experiment.yaml") == 1
    assert "workloads/mine: program.tree: Linux 6.12.1" in capsys.readouterr().err


def test_check_says_what_would_be_set_aside_and_leaves_nothing_behind(
    project: Project,
    cached: Path,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = project.root / "workloads/mine"
    folder.mkdir()
    command = ["{program}", "-c", "touch left; echo rate=$((0 * {size}))"]
    mine = {**declared(package="dash", command="sh"), "command": command}
    (folder / "workload.yaml").write_text(yaml.safe_dump(mine))
    small["workloads"] = {"mine": {"matrix": {"size": [1024]}}}
    project.write(small)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert kdelta(project, "check", "experiment.yaml") == 0
    printed = capsys.readouterr().out
    assert "note: such a sample would be set aside: rate is not above zero" in printed
    assert "it ends by itself, here after 0." in printed
    assert list((tmp_path / "here").iterdir()) == []


def test_check_says_that_the_source_is_not_there(
    of_the_tree: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert kdelta(of_the_tree, "check", "experiment.yaml") == 0
    assert "workload mine was not tried: it is built from the kernel's" in capsys.readouterr().out


def test_programs_are_built_from_the_record_of_the_source(
    of_the_tree: Project, cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "programs"
    words = ["programs", "--experiment", "experiment.yaml", "--output", str(out)]
    words += ["--log", str(tmp_path / "log")]
    assert kdelta(of_the_tree, *words) == 1
    assert "give the record of `kdelta fetch`" in capsys.readouterr().err
    assert kdelta(of_the_tree, *words, "--source", str(cached)) == 0
    assert json.loads((out / RECORD).read_text())["mine"]["tree"] == BENCH
    expected = {Path(path).name for path in plan(of_the_tree).programs}
    assert {path.name for path in out.iterdir()} == expected


def plan(project: Project) -> RunPlan:
    return plan_run({"experiment": project.file.name, "protocol": "quick"}, "c", project.root)


def test_the_workflow_waits_for_the_source_of_such_a_workload_alone(
    project: Project, small: dict[str, Any], of_the_tree: Project
) -> None:
    run = plan(of_the_tree)
    assert run.programs_source == [run.source_record("baseline")]
    before = run.programs_key()
    small["kernel"]["source"] = {"type": "debian", "package": "linux-source-7.2"}
    of_the_tree.write(small)
    assert plan(of_the_tree).programs_key() != before
    small["workloads"] = {"pipe_bench": {"matrix": {"writers": [1], "readers": [1]}}}
    project.write(small)
    run = plan(project)
    assert run.programs_source == []
    before = run.programs_key()
    small["kernel"]["source"] = {"type": "debian", "package": "linux-source-6.12"}
    project.write(small)
    assert plan(project).programs_key() == before


def test_a_kernel_without_it_is_refused_when_it_is_fetched(
    of_the_tree: Project,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    linux = make_tree(tmp_path / "linux").path
    more = {"Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n", "Kconfig": "\n"}
    (linux / "fs").mkdir()
    for name, text in {**more, "fs/one.c": "return 1;\n"}.items():
        (linux / name).write_text(text)
    git = ["git", "-C", str(linux), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    small["kernel"]["source"] = {"type": "git", "url": str(linux), "commit": commit}
    of_the_tree.write(small)
    record = tmp_path / "source.json"
    words = ["fetch", "--experiment", "experiment.yaml", "--output", str(record)]
    declaration = of_the_tree.root / "workloads/mine/workload.yaml"
    declaration.write_text(yaml.safe_dump(declared(tree="tools/perf", command="perf")))
    assert kdelta(of_the_tree, *words) == 1
    assert f"Linux 6.12.1 ({linux} {commit[:12]}) has no tools/perf" in capsys.readouterr().err
    assert not record.exists()
    declaration.write_text(yaml.safe_dump(declared(tree=BENCH)))
    assert kdelta(of_the_tree, *words) == 0
    assert json.loads(record.read_text())["id"] == commit


def test_a_program_that_only_guests_will_have(
    project: Project,
    small: dict[str, Any],
    cached: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = project.root / "workloads/mine"
    folder.mkdir()
    mine = declared(package="some-program-of-guests")
    (folder / "workload.yaml").write_text(yaml.safe_dump(mine))
    small["workloads"] = {"mine": {"matrix": {"size": [1024]}}}
    project.write(small)
    assert kdelta(project, "check", "experiment.yaml") == 1
    assert "apt-get install some-program-of-guests" in capsys.readouterr().err
    other = "arm64" if platform.machine() != "aarch64" else "x86_64"
    assert kdelta(project, "check", "experiment.yaml", "--arch", other) == 0
    said = f"was not tried: its package some-program-of-guests is for {other} guests"
    assert said in capsys.readouterr().out
