# SPDX-License-Identifier: GPL-2.0-only
"""setup/install.sh and the Makefile, with stand-ins for apt, dpkg and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from shipped_support import ROOT

# All that install.sh may need besides the stand-ins: whatever else it calls is not found.
TOOLS = (
    *("bash", "cat", "cut", "dirname", "env", "flock", "fold", "grep", "mkdir"),
    *("paste", "rm", "sed", "sha256sum", "tail"),
)

PYTHON = """
case "$*" in
*platform*) echo "$VERSION" ;;
*version_info*) case $VERSION in 3.9*) exit 1 ;; esac ;;
"-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    cp "$0" "$3/bin/kdelta" ;;
*) echo "python $*" >>"$CALLS" ;;
esac
"""
DPKG_QUERY = """
for last; do :; done
case " $MISSING " in *" $last "*) exit 1 ;; esac
printf installed
"""
RECORD = 'echo "$(basename "$0") $*" >>"$CALLS"\n'


@dataclass
class Machine:
    """A copy of the project on a machine that has only what `bin` holds."""

    project: Path
    bin: Path
    calls_file: Path

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{script}")
        path.chmod(0o755)

    def setup(
        self, *groups: str, missing: str = "", version: str = "3.11.2"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.project / "setup/install.sh", *groups],
            env={
                "PATH": str(self.bin),
                "PYTHON": "python-stand-in",
                "CALLS": str(self.calls_file),
                "MISSING": missing,
                "VERSION": version,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls_of(self, program: str) -> list[str]:
        calls = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [call for call in calls if call.startswith(program + " ")]

    def installations(self) -> list[str]:
        return self.calls_of("python -m pip")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian machine on which every package is installed, and root's."""
    project, programs = tmp_path / "a project", tmp_path / "bin"
    shutil.copytree(ROOT / "setup", project / "setup")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    programs.mkdir()
    made = Machine(project, programs, tmp_path / "calls")
    for name in (*TOOLS, "basename", "cp"):
        found = shutil.which(name)
        assert found, f"{name} is not installed here"
        (programs / name).symlink_to(found)
    made.program("python-stand-in", PYTHON)
    made.program("dpkg-query", DPKG_QUERY)
    made.program("apt-get", RECORD)
    made.program("apt-cache", "exit 0\n")
    made.program("id", "echo 0\n")
    return made


def test_nothing_missing_calls_no_apt(machine: Machine) -> None:
    done = machine.setup("run", "test")
    assert done.returncode == 0, done.stderr
    assert machine.calls_of("apt-get") == []


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    done = machine.setup("run", missing="ccache bc chromium")
    assert done.returncode == 0, done.stderr
    update, install = machine.calls_of("apt-get")
    assert update.endswith("update")
    assert install.endswith("install --yes --no-install-recommends bc ccache")
    assert "system packages: bc ccache ..." in done.stdout


def test_an_ordinary_user_installs_with_sudo(machine: Machine) -> None:
    machine.program("id", "echo 1000\n")
    machine.program("sudo", RECORD)
    done = machine.setup("run", missing="bc")
    assert done.returncode == 0, done.stderr
    assert machine.calls_of("apt-get") == []
    assert any(
        "install --yes" in call and call.endswith(" bc") for call in machine.calls_of("sudo")
    )


def test_without_sudo_the_missing_packages_are_named(machine: Machine) -> None:
    machine.program("id", "echo 1000\n")
    done = machine.setup("run", missing="bc flex")
    assert done.returncode != 0
    assert "missing system packages: flex bc" in done.stderr


def test_another_system_is_told_what_it_needs(machine: Machine) -> None:
    (machine.bin / "dpkg-query").unlink()
    (machine.bin / "apt-get").unlink()
    done = machine.setup("run")
    assert done.returncode == 0, done.stderr
    assert "not a Debian system" in done.stdout
    assert "qemu-system-x86" in done.stdout
    assert machine.installations()


def test_a_failing_step_shows_its_output(machine: Machine) -> None:
    machine.program("apt-get", "echo 'E: no route to the archive' >&2; exit 100\n")
    done = machine.setup("run", missing="bc")
    assert done.returncode != 0
    assert "E: no route to the archive" in done.stderr
    assert "status 100" in done.stderr


def test_an_old_python_is_refused_in_words(machine: Machine) -> None:
    done = machine.setup("run", version="3.9.2")
    assert done.returncode != 0
    assert "Python 3.9.2, kdelta needs 3.11 or newer" in done.stderr
    assert machine.installations() == []


def test_packages_come_from_the_lock_and_only_once(machine: Machine) -> None:
    assert machine.setup("run").returncode == 0
    first = machine.installations()
    assert any("--require-hashes --requirement requirements.lock" in call for call in first)
    assert any("--no-deps --no-build-isolation --editable ." in call for call in first)
    again = machine.setup("run", "test")
    assert (again.returncode, again.stdout) == (0, "")
    assert machine.installations() == first


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_a_changed_fact_installs_again(machine: Machine, file: str) -> None:
    assert machine.setup("run").returncode == 0
    before = len(machine.installations())
    with (machine.project / file).open("a") as lock:
        lock.write("# changed\n")
    assert machine.setup("run").returncode == 0
    assert len(machine.installations()) == 2 * before


def test_a_moved_checkout_gets_a_new_environment(machine: Machine) -> None:
    assert machine.setup("run").returncode == 0
    before = len(machine.installations())
    machine.project = machine.project.rename(machine.project.with_name("elsewhere"))
    assert machine.setup("run").returncode == 0
    assert len(machine.installations()) == 2 * before


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(machine: Machine) -> None:
    working = (machine.bin / "python-stand-in").read_text()
    broken = working.replace('echo "python $*" >>"$CALLS"', "exit 1")
    (machine.bin / "python-stand-in").write_text(broken)
    assert machine.setup("run").returncode != 0
    (machine.bin / "python-stand-in").write_text(working)
    assert machine.setup("run").returncode == 0
    assert machine.installations()


def test_an_unknown_group_is_refused(machine: Machine) -> None:
    done = machine.setup("runn")
    assert done.returncode != 0
    assert "no such group of packages: runn" in done.stderr


def make(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["make", "-C", str(folder), "--no-print-directory", *arguments],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_plain_make_lists_the_commands() -> None:
    listed = make(ROOT)
    for target in ("report", "setup", "test", "check", "unit", "clean", "distclean", "help"):
        assert f"  make {target} " in listed


def test_clean_deletes_what_runs_wrote_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    gone = ["results/pipe-prealloc/quick/samples.csv", ".snakemake/log/x", "results/other.txt"]
    kept = ["results/README.md", "results/reference/raw/x.jsonl", ".venv/bin/python", "src/a.py"]
    for name in (*gone, *kept):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    make(tmp_path, "clean")
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in gone if (tmp_path / name).exists()] == []
    assert not (tmp_path / "results/pipe-prealloc").exists()
