# SPDX-License-Identifier: GPL-2.0-only
"""How long do analysis and report of a large experiment take?

Makes an experiment of 4 arms, 3 regimes, 36 cells and 24 blocks, 10,368 samples, from the raw
files of the shipped run: its blocks over and over, its 9 cells with 4 sizes of the pipe each.
The numbers in it mean nothing; their amount and shape are those of a real run.

    .venv/bin/python benchmarks/rendering.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdelta.earlier_runs import upgraded
from kdelta.provenance import raw_hashes
from kdelta.reference.pack import unpack

CHECKOUT = Path(__file__).resolve().parents[1]
PROTOCOL = "standard"
REFERENCE = CHECKOUT / "results" / "reference" / "pipe-prealloc" / PROTOCOL
REGIMES = ("idle", "memory-pressure", "reclaim")
PIPE_SIZES = tuple(2**exponent for exponent in range(18, 22))
SHIPPED_BLOCKS = 8

Json = dict[str, Any]


def enlarge_experiment(experiment: Json, blocks: int) -> Json:
    """The shipped experiment with another factor, fewer regimes and more blocks."""
    large = upgraded(experiment)
    for part in ("claims", "mail", "negative_controls"):
        large.pop(part, None)
    large["regimes"] = {name: experiment["regimes"][name] for name in REGIMES}
    large["mechanism"] = dict(experiment["mechanism"])
    large["mechanism"]["regimes"] = [r for r in large["mechanism"]["regimes"] if r in REGIMES]
    chosen = large["workloads"]["pipe_bench"]
    chosen["matrix"] = chosen["matrix"] | {"pipe_size": list(PIPE_SIZES)}
    chosen["arguments"] = {
        key: value for key, value in chosen["arguments"].items() if key != "pipe_size"
    }
    protocol = experiment["protocols"][PROTOCOL]
    durations = {name: protocol["duration_s"][name] for name in REGIMES}
    large["protocols"] = {PROTOCOL: protocol | {"blocks": blocks, "duration_s": durations}}
    return large


def enlarge_boots(source: Path, target: Path, block: int | None = None) -> None:
    """A folder of boots of the large run from one of the shipped run."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix == ".jsonl":
            _enlarge_boot(path, target / path.name, block)
        elif path.name == "schedule.json":
            schedule = json.loads(path.read_text())
            schedule["block"] = block
            schedule["cells"] = [c for cell in schedule["cells"] for c in _with_sizes(cell)]
            (target / path.name).write_text(json.dumps(schedule))
        else:
            shutil.copy(path, target / path.name)


def _with_sizes(cell: Json) -> list[Json]:
    return [cell | {"pipe_size": size} for size in PIPE_SIZES]


def _enlarge_boot(source: Path, target: Path, block: int | None) -> None:
    records: list[Json] = []
    order = 0
    for line in source.read_text().splitlines():
        record = json.loads(line)
        if block is not None and "block" in record:
            record["block"] = block
        if record["record"] == "end":
            record["samples"] = order
        if "cell" not in record:
            records.append(record)
            continue
        for cell in _with_sizes(record["cell"]):
            order += 1
            larger = record | {"cell": cell, "cell_order": order}
            if record.get("bench"):
                larger["bench"] = record["bench"] | {"pipe_size": cell["pipe_size"]}
            records.append(larger)
    target.write_text("".join(json.dumps(record) + "\n" for record in records))


def make_run(folder: Path, blocks: int) -> None:
    """Lay the large run's raw files and manifest out in ``folder``."""
    shipped = folder / "shipped"
    unpack(REFERENCE, shipped)
    for regime in REGIMES:
        for block in range(1, blocks + 1):
            taken = (block - 1) % SHIPPED_BLOCKS + 1
            enlarge_boots(
                shipped / "raw" / regime / f"block-{taken:03d}",
                folder / "raw" / regime / f"block-{block:03d}",
                block,
            )
    manifest = json.loads((shipped / "manifest.json").read_text())
    manifest["experiment"] = enlarge_experiment(manifest["experiment"], blocks)
    (shipped / "config").rename(folder / "config")
    for regime in manifest["experiment"]["mechanism"]["regimes"]:
        enlarge_boots(shipped / "mechanism" / regime, folder / "mechanism" / regime)
    shutil.rmtree(shipped)
    boots = [*folder.glob("raw/*/block-*"), *folder.glob("mechanism/*")]
    manifest["raw_sha256"] = raw_hashes(folder, boots)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def timed(what: str, command: list[str], check: Callable[[], str]) -> None:
    """Run one command and print how long it took."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what:28}{wall:8.1f} s {cpu:8.1f} s of CPU   {check()}", flush=True)


def main() -> int:
    """Make the run, analyse it and write every form of the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--keep", type=Path, help="make the run here, and leave it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdelta-rendering-") as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        make_run(folder, args.blocks)
        kdelta = [str(Path(sys.executable).with_name("kdelta"))]
        run = ["--run", str(folder)]

        def size(*names: str) -> Callable[[], str]:
            return lambda: ", ".join(
                f"{name} {(folder / name).stat().st_size / 2**20:.1f} MiB" for name in names
            )

        def lines() -> str:
            return f"{sum(1 for _ in (folder / 'samples.csv').open()) - 1} samples"

        print(f"{os.cpu_count()} CPUs")
        timed("analysis", [*kdelta, "analyse", *run], lines)
        for form, names in (
            ("text", ("report/tables.txt",)),
            ("figures", ("figures/latency.svg", "figures/forest.svg")),
            ("html", ("report/index.html",)),
            ("latex", ("report/paper.tex",)),
            ("pdf", ("report/paper.pdf",)),
        ):
            timed(form, [*kdelta, "report", form, *run], size(*names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
