# SPDX-License-Identifier: GPL-2.0-only
"""The command line: what it prints, and what it exits with."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kdelta import __version__, cli
from kdelta.cli import main
from kdelta.progress import Progress
from tests.conftest import Project

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_signals() -> object:
    """`main` takes SIGTERM over; here it belongs to pytest."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"kdelta {__version__}\n"


def test_help_names_every_verb(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for verb in ("fetch", "build", "programs", "probe", "measure", "manifest", "analyse", "report"):
        assert verb in said


@pytest.mark.parametrize("argv", [[], ["no-such-verb"], ["check"]])
def test_usage_errors(argv: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: kdelta")


LONG_VERB = """
import argparse, pathlib, sys, time
from kdelta import cli

def run(args):
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(60)

parser = argparse.ArgumentParser()
parser.set_defaults(run=run, messages=None)
cli.build_parser = lambda: parser
cli.main([])
"""
STARTS_IT = """
import subprocess, sys
subprocess.call([sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.mark.parametrize("ours", [True, False], ids=["a job", "typed"])
def test_a_job_ends_with_snakemake_however_that_ends(ours: bool, tmp_path: Path) -> None:
    """Whatever the verb: of a person's command, a shell that ends is no reason."""
    environment = {name: value for name, value in os.environ.items() if name != "KDELTA_ARGV"}
    if ours:
        environment["KDELTA_ARGV"] = "snakemake --cores 2"
    begun = tmp_path / "begun"
    argv = [sys.executable, "-c", STARTS_IT, LONG_VERB, str(begun)]
    parent = psutil.Popen(argv, env=environment)
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (verb,) = parent.children()
    parent.kill()
    parent.wait()
    try:
        verb.wait(60 if ours else 1)
    except psutil.TimeoutExpired:
        verb.kill()
        assert not ours
    else:
        assert ours


class Verbs:
    """A command line whose only verb fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def fail(self, error: BaseException) -> int:
        def run(_args: object) -> int:
            raise error

        parser = cli.argparse.ArgumentParser()
        parser.set_defaults(run=run, messages=None)
        self._monkeypatch.setattr(cli, "build_parser", lambda: parser)
        return main([])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (cli.KdeltaError("it is so"), 1, "kdelta: it is so\n"),
        (KeyboardInterrupt(), 130, "kdelta: interrupted; a new start continues\n"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/file"),
            1,
            "kdelta: No space left on device: /a/file\n",
        ),
        (OSError("no number"), 1, "kdelta: no number\n"),
    ],
)
def test_what_fails_is_told_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, error: BaseException, status: int, words: str
) -> None:
    assert Verbs(monkeypatch).fail(error) == status
    assert capsys.readouterr().err == words


def test_our_own_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        Verbs(monkeypatch).fail(ZeroDivisionError())


@pytest.mark.parametrize("terminal", [True, False])
def test_messages_are_shown_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """The log has each line as it came to stand; a terminal still sees progress in place."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    log = tmp_path / "new folder" / "verb.log"

    def run(_args: object) -> int:
        assert sys.stderr.isatty() == terminal
        with Progress("Stage", clock=iter((0.0, 20.0, 40.0)).__next__) as progress:
            progress.update(1)
        raise cli.KdeltaError("no \x1b[31msuch\x1b[m file")

    parser = cli.argparse.ArgumentParser()
    parser.set_defaults(run=run, messages=log)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert main([]) == 1
    on_the_way = [] if terminal else ["Stage: 1 steps, 20 s so far"]
    told = [*on_the_way, "Stage: done in 40 s", "kdelta: no such file"]
    assert log.read_text().splitlines() == told
    assert ("\r" in shown.getvalue()) == terminal
    assert shown.getvalue().endswith("kdelta: no such file\n")


def test_a_bug_of_ours_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_args: object) -> int:
        raise ZeroDivisionError("ours")

    parser = cli.argparse.ArgumentParser()
    parser.set_defaults(run=run, messages=tmp_path / "log")
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    with pytest.raises(ZeroDivisionError):
        main([])
    assert (tmp_path / "log").read_text().splitlines()[-1] == "ZeroDivisionError: ours"


def configure(project: Project, text: str = "experiment: experiment.yaml\n") -> list[str]:
    (project.root / "config").mkdir()
    (project.root / "config" / "config.yaml").write_text(text)
    return ["--root", str(project.root), "show"]


def finish(folder: Path) -> None:
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "tables.txt").write_text("THE TABLES\n")
    (folder / "report" / "paper.pdf").touch()


def test_show_the_configured_run(project: Project, capsys: Captured) -> None:
    argv = configure(project)
    run = project.root / "results" / "small" / "quick"
    finish(run)
    assert main(argv) == 0
    assert capsys.readouterr().out == f"THE TABLES\n\nreport: {run / 'report' / 'paper.pdf'}\n"


def test_show_a_folder(project: Project, capsys: Captured, tmp_path: Path) -> None:
    finish(tmp_path / "run")
    assert main(["show", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("THE TABLES\n")


def test_show_nothing(tmp_path: Path, capsys: Captured) -> None:
    assert main(["show", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"kdelta: {tmp_path}: no run here (neither report/tables.txt nor manifest.json exists); "
        "`snakemake --cores all` makes one, or name a folder results/<experiment>/<protocol>\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("experiment: none.yaml\n", "none.yaml: no such file"),
        ("experiment: kernel-configs/guest.config\n", "expected a mapping of keys to values"),
        ("experiment: broken.yaml\n", "broken.yaml:2:1: not valid YAML"),
        ("experment: x\n", "experment: unknown key (value 'x'); did you mean 'experiment'?"),
    ],
)
def test_show_with_a_wrong_configuration(
    project: Project, capsys: Captured, text: str, expected: str
) -> None:
    (project.root / "broken.yaml").write_text("name: [\n")
    assert main(configure(project, text)) == 1
    printed = capsys.readouterr().err
    assert expected in printed
    assert len(printed.splitlines()) == 1


def test_a_reader_that_has_gone(project: Project, tmp_path: Path) -> None:
    finish(tmp_path / "run")
    (tmp_path / "run" / "report" / "tables.txt").write_text("x" * 10_000_000)
    command = f"{sys.executable} -m kdelta.cli show {tmp_path / 'run'} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")
