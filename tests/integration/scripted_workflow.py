# SPDX-License-Identifier: GPL-2.0-only
"""The real Snakefile, by the real snakemake, with a `kdelta` that only writes its files.

It runs in a copy of the checkout, so that a test may change anything in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from kdelta.report.figures import figure_stems
from kdelta.schema import RESULT_FILES
from kdelta.workload.build import HELPERS
from tests.conftest import CHECKOUT, SMALL
from tests.integration.scripted_guest import Environment
from tests.workloads import PIPE_BENCH

PARTS = ("Snakefile", "workflow", "profiles", "config", "kernel-configs", "patches", "report")
SOURCES = ("src/kdelta", *(f"src/{name}" for name in HELPERS), "workloads")

# Writes what the verb's rule expects, and a line of what it was asked.
STAND_IN = """\
#!{python} -IS
import hashlib, json, shlex, sys, time
from pathlib import Path

words = sys.argv[1:]
if words[0] == "--messages":  # where to, apart from what is done
    Path(words[1]).write_text("told")
    words = words[2:]
verb, *words = words
options = dict(zip(words, words[1:]))
root = Path({root!r})
with (root / "calls").open("a") as log:
    log.write(shlex.join([verb, *words]) + "\\n")

def write(folder, *names):
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(verb)

def image(folder):
    # What of a source and an arm's files goes into an image is the build's to say.
    words = (root / "source").read_text() + options["--arm"]
    words += "".join(path.read_text() for path in sorted((root / "patches").rglob("*.patch")))
    words += (root / "kernel-configs/guest.config").read_text()
    digest = hashlib.sha256(words.encode()).hexdigest()
    write(folder, "vmlinuz", "config", "objects.sha256", "symbols.tsv.gz")
    (Path(folder) / "image.json").write_text(
        json.dumps({{"key": digest[:16], "image_sha256": digest}}))

if verb == "manifest":
    write(".", options["--output"])
elif verb == "programs":
    write(options["--output"], "pipe_bench", "speed_check", "guest_init", "programs.json")
elif verb == "fetch":
    write(".", options["--output"])
    record = {{"kernel_version": (root / "source").read_text()}}
    Path(options["--output"]).write_text(json.dumps(record))
elif verb == "probe":
    write(".", options["--output"])
    Path(options["--output"]).write_text((root / "acceleration").read_text())
elif verb == "build":
    image(options["--output"])
elif verb == "measure":
    stop = root / "stop-at"
    if stop.exists():
        left = int(stop.read_text()) - 1
        stop.write_text(str(left))
        if left == 0:
            write(options["--output"], "schedule.json", "host.json")
            (root / "stopped").touch()
            time.sleep(1000)
    write(options["--output"], "schedule.json", "host.json")
    ends = (".jsonl", ".console.log")
    write(options["--output"], *(arm + end for arm in {arms!r} for end in ends))
elif verb == "analyse":
    write(options["--output"], *{results!r})
elif verb == "mechanism":
    write(options["--output"], *(arm + ".jsonl" for arm in {arms!r}))
elif verb == "report":
    names = {{"text": ("report/tables.txt",), "html": ("report/index.html",),
             "paper": ("report/paper.tex", "report/paper.pdf", "report/paper.log",
                       "report/macros.tex", "report/tables/overall.tex"),
             "figures": {figures!r}}}
    write(options["--run"], *names[words[0]])
elif verb == "export":
    write(words[0], "exports/samples.csv.gz", "datapackage.json")
    write(words[0] + "/exports/go", *(arm + ".txt" for arm in {arms!r}))
elif verb == "show":
    print("THE TABLES")
else:
    sys.exit(f"unknown verb {{verb}}")
"""


class Workflow:
    """A copy of the checkout, in which `snakemake` is run."""

    def __init__(
        self,
        folder: Path,
        *,
        stand_in: bool = True,
        arms: Sequence[str] = ("baseline", "patched", "other", "control"),
    ) -> None:
        self.root = folder / "checkout"
        self.root.mkdir()
        for name in (*PARTS, *SOURCES):
            source, target = CHECKOUT / name, self.root / name
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy(source, target)
        self.environment = Environment(folder / "env", self.root / "src")
        if stand_in:
            text = STAND_IN.format(
                python=self.environment.python.resolve(),
                root=str(self.root),
                arms=tuple(arms),
                results=RESULT_FILES,
                figures=[
                    f"figures/{stem}.{end}"
                    for stem in figure_stems(PIPE_BENCH, mechanism=True)
                    for end in ("svg", "pdf")
                ],
            )
            self.environment.program("kdelta", text)

    def use_small_experiment(self) -> None:
        """Let the configuration name the small experiment, and write what that names."""
        (self.root / "source").write_text("6.12.9")
        (self.root / "acceleration").write_text('{"mode": "tcg"}')
        traced = SMALL | {"mechanism": {"regimes": ["idle"]}}
        (self.root / "small.yaml").write_text(yaml.safe_dump(traced, sort_keys=False))
        (self.root / "kernel-configs" / "guest.config").write_text("CONFIG_SMP=y\n")
        series = self.root / "patches" / "series"
        series.mkdir()
        (series / "0001-first.patch").write_text("first\n")
        (self.root / "patches" / "other.patch").write_text("other\n")
        (self.root / "config" / "config.yaml").write_text(
            "experiment: small.yaml\nprotocol: quick\n"
        )

    def argv(self, *words: str) -> list[str]:
        """The command line of a `snakemake`."""
        return [str(self.environment.python), "-m", "snakemake", "--cores", "2", *words]

    def environ(self) -> dict[str, str]:
        """What a run finds in its environment: nothing of the person who runs the tests."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KDELTA_", "SNAKEMAKE_"))}
        return {**kept, "XDG_CACHE_HOME": str(self.root / "cache"), "HOME": str(self.root)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end; stdout and stderr come together."""
        return subprocess.run(
            self.argv(*words),
            cwd=self.root,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def succeeds(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *words: str) -> set[str]:
        """What a dry run says that it would do, by the rules' messages."""
        return set(re.findall(r"^Job \d+: (.+)$", self.succeeds("--dry-run", *words), re.M))

    def calls(self) -> list[str]:
        """What `kdelta` was asked since this was last called."""
        log = self.root / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines
