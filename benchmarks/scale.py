# SPDX-License-Identifier: GPL-2.0-only
"""What do large runs cost: planning, a look at a finished run, analysis, the page?

Every figure stands beside that of something simple which was measured in the same minutes, and the
ratio of both is what can be compared between machines:

- planning 10,000 jobs of the real Snakefile: a bare Snakefile of the same jobs and files;
- `snakemake -n` of a finished run: the same of a Snakefile with one rule;
- analysis of 1,000,000 samples: parsing the same files as JSON, on one CPU; and a tenth of them,
  which shows whether the time grows in proportion;
- the page of 6 arms, 4 regimes and 100 cells: that of the flagship's shape.

    .venv/bin/python benchmarks/scale.py --write

`--write` puts the table into docs/performance.md. All of it takes half an hour on 2 cores and
6 GiB of disk; `--only analysis --samples 100000` and the like take less.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
# The builders of synthetic runs are the tests'.
for _folder in (CHECKOUT, *(CHECKOUT / "tests/unit" / name for name in ("analysis", "report"))):
    sys.path.insert(0, str(_folder))

from report_synthetic import FOUR, Plan  # noqa: E402
from synthetic import QUIET_CONSOLE, SETTINGS, boot_records, write_records  # noqa: E402

from kdelta.analysis.run import analyse  # noqa: E402
from kdelta.analysis.settings import AnalysisSettings  # noqa: E402
from kdelta.host.facts import cpu_model, host_cpus  # noqa: E402
from kdelta.schema import RESULT_FILES  # noqa: E402
from tests.browser import Browser  # noqa: E402
from tests.conftest import SMALL  # noqa: E402
from tests.integration.scripted_workflow import Workflow  # noqa: E402
from tests.integration.test_page import make_page  # noqa: E402

DOCUMENT = CHECKOUT / "docs" / "performance.md"
BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"
MIB, GIB = 2**20, 2**30
POLL_S = 0.2

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table; the target is in words, `met` whether it was reached."""

    what: str
    found: str
    ratio: str
    target: str
    met: bool | None


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of wall time and of CPUs, and bytes of memory at the most.

    Of the command and all below it; each page of memory that they share is counted once. Ratios
    are of CPU time, which another program on the host hardly changes.
    """

    wall_s: float
    cpu_s: float
    memory: int

    @property
    def told(self) -> str:
        return f"{self.wall_s:.1f} s (CPU {self.cpu_s:.1f} s)"


def cost_of(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Cost:
    """Run a command to its end and see what it takes."""
    begun, before, most = time.monotonic(), cpu_of_children(), 0
    process = psutil.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, memory_of(process))
        time.sleep(POLL_S)
    wall_s = time.monotonic() - begun
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return Cost(wall_s, cpu_of_children() - before, most)


def cpu_of_children() -> float:
    """Seconds of CPU of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(process: psutil.Process) -> int:
    """Bytes of a process and all below it."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def best_of(times: int, measure: Callable[[], Cost]) -> Cost:
    """The quickest of several: what else ran on the host only ever adds."""
    return min((measure() for _ in range(times)), key=lambda cost: cost.cpu_s)


# Planning


def planning(folder: Path, jobs: int) -> Iterator[Row]:
    """A dry run of a large experiment whose kernels are built, and of the bare Snakefile."""
    blocks = min(jobs, 200)
    regimes = [f"r{number:02d}" for number in range(1, jobs // blocks + 1)]
    workflow = Workflow(folder)
    workflow.use_small_experiment()
    experiment = SMALL | {
        "regimes": {name: {"title": f"regime {name}"} for name in regimes},
        "mechanism": {"regimes": regimes[:1]},
        "protocols": {
            "quick": {"blocks": blocks, "rounds": 3, "duration_s": dict.fromkeys(regimes, 1)}
        },
    }
    (workflow.root / "small.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    workflow.succeeds("--quiet", "all", "--", "results/small/quick/guests.sha256")
    bare = folder / "bare"
    arms = [*SMALL["arms"], "control"]
    write_bare(bare, regimes, blocks, arms)

    def plan(where: Path) -> Cost:
        # What is printed of ten thousand jobs is the same for both, and nobody's to read.
        return cost_of(workflow.argv("--dry-run", "--quiet", "all"), where, workflow.environ())

    ours, theirs = best_of(2, lambda: plan(workflow.root)), best_of(2, lambda: plan(bare))
    ratio = ours.cpu_s / theirs.cpu_s
    what = f"planning {len(regimes) * blocks:,} jobs"
    yield Row(what, ours.told, f"{ratio:.2f} of a bare Snakefile", "at most 2", ratio <= 2)
    yield Row(
        f"memory of {what}",
        f"{ours.memory / MIB:.0f} MiB",
        f"{ours.memory / theirs.memory:.2f} of a bare Snakefile",
        "under 1 GiB",
        ours.memory < GIB,
    )


BARE = """\
REGIMES, BLOCKS, ARMS, TABLES = {regimes!r}, {blocks!r}, {arms!r}, {tables!r}
RAW = "run/raw/{{regime}}/block-{{block}}"
KERNELS = [f"kernels/{{arm}}" for arm in ARMS]


rule all:
    default_target: True
    input:
        [f"run/{{name}}" for name in TABLES],


rule kernel:
    output:
        "kernels/{{arm}}/vmlinuz",
        "kernels/{{arm}}/image.json",
    shell:
        "build {{wildcards.arm}} {{output}}"


rule programs:
    output:
        "programs",
    shell:
        "compile {{output}}"


rule acceleration:
    output:
        "acceleration.json",
    shell:
        "probe {{output}}"


rule guests:
    input:
        [f"{{kernel}}/image.json" for kernel in KERNELS],
        "acceleration.json",
        "programs",
    output:
        "guests.sha256",
    shell:
        "sha256sum {{input}} > {{output}}"


rule block:
    input:
        images=ancient([f"{{kernel}}/vmlinuz" for kernel in KERNELS]),
        records=ancient([f"{{kernel}}/image.json" for kernel in KERNELS]),
        programs=ancient("programs"),
        acceleration=ancient("acceleration.json"),
        guests=ancient("guests.sha256"),
    output:
        schedule=f"{{RAW}}/schedule.json",
        host=f"{{RAW}}/host.json",
        samples=[f"{{RAW}}/{{arm}}.jsonl" for arm in ARMS],
    log:
        [f"{{RAW}}/{{arm}}.console.log" for arm in ARMS],
    params:
        key="key",
        guests="guests",
        kernels="kernels",
        folder="folder",
    threads: 2
    shell:
        "measure {{wildcards.regime}} {{wildcards.block}} {{params.key}} {{params.folder}}"


rule manifest:
    input:
        expand(f"{{RAW}}/host.json", regime=REGIMES, block=BLOCKS),
    output:
        "run/manifest.json",
    shell:
        "manifest {{output}}"


rule tables:
    input:
        expand(f"{{RAW}}/host.json", regime=REGIMES, block=BLOCKS),
        expand(f"{{RAW}}/{{{{arm}}}}.jsonl", regime=REGIMES, block=BLOCKS, arm=ARMS),
        rules.manifest.output,
    output:
        [f"run/{{name}}" for name in TABLES],
    shell:
        "analyse {{output}}"
"""


def write_bare(folder: Path, regimes: list[str], blocks: int, arms: list[str]) -> None:
    """A Snakefile that somebody would write for these jobs, without keys and checkpoint.

    As in ours, kernels and programs are built, and what guests boot and run is one file.
    """
    folder.mkdir()
    numbers = [f"{number:03d}" for number in range(1, blocks + 1)]
    (folder / "Snakefile").write_text(
        BARE.format(regimes=regimes, blocks=numbers, arms=arms, tables=list(RESULT_FILES))
    )
    for arm in arms:
        (folder / "kernels" / arm).mkdir(parents=True)
        for name in ("vmlinuz", "image.json"):
            (folder / "kernels" / arm / name).touch()
    for name in ("programs", "acceleration.json", "guests.sha256"):
        (folder / name).touch()


def finished(folder: Path) -> Iterator[Row]:
    """A look at a flagship of which all is done."""
    workflow = Workflow(folder, arms=("baseline", "bulk", "control"))
    (workflow.root / "source").write_text("6.12.9")
    (workflow.root / "acceleration").write_text('{"mode": "tcg"}')
    workflow.succeeds("--quiet", "all")
    bare = folder / "bare"
    bare.mkdir()
    (bare / "Snakefile").write_text('rule all:\n    output: "done"\n    shell: "touch {output}"\n')
    (bare / "done").touch()

    def look(where: Path) -> Cost:
        return cost_of(workflow.argv("--dry-run"), where, workflow.environ())

    ours, theirs = best_of(3, lambda: look(workflow.root)), best_of(3, lambda: look(bare))
    yield Row(
        "`snakemake -n` of a finished run",
        ours.told,
        f"{ours.cpu_s / theirs.cpu_s:.1f} of one rule's",
        "under 3 s",
        ours.wall_s < 3,
    )


# Analysis

ANALYSED = ("baseline", "one", "two", "three", "control")
REGIMES = ("idle", "idle-memcg", "memory-pressure", "reclaim")
LEVELS, ROUNDS = range(1, 11), 5
WORK = 2_000_000
HOST_CPU = {"cpus": 2, "elapsed_s": 1.2, "busy_s": 2.31, "own_s": 2.3, "steal_s": 0.0}


def settings_of(blocks: int) -> AnalysisSettings:
    """Of the synthetic run: 5 arms, 4 regimes, 100 cells."""
    return replace(SETTINGS, arms=ANALYSED, regimes=REGIMES, blocks=blocks)


def write_run(raw: Path, blocks: int) -> Path:
    """Its raw files: what guests write, as small as it can be, a slice every 1.4 s."""
    rng = np.random.default_rng(1)
    order = [
        {"writers": writers, "readers": readers}
        for writers, readers in itertools.product(LEVELS, LEVELS)
    ]
    for regime, number in itertools.product(REGIMES, range(1, blocks + 1)):
        folder = raw / regime / f"block-{number:03d}"
        folder.mkdir(parents=True)
        turns = [
            [{"cell": int(cell), "arms": list(ANALYSED)} for cell in rng.permutation(len(order))]
            for _ in range(ROUNDS)
        ]
        schedule = {"schema": 1, "regime": regime, "block": number, "arms": list(ANALYSED)}
        schedule |= {"cells": order, "rounds": turns}
        (folder / "schedule.json").write_text(json.dumps(schedule))
        boots = [{"arm": arm, "status": "ok"} for arm in ANALYSED]
        host = {"schema": 1, "host": {"cpus": 2, "cpu_model": "synthetic"}, "boots": boots}
        (folder / "host.json").write_text(json.dumps(host))
        for position, arm in enumerate(ANALYSED, start=1):
            records = slices(rng, regime, number, arm, position, order, turns)
            write_records(folder / f"{arm}.jsonl", records)
            (folder / f"{arm}.console.log").write_text(QUIET_CONSOLE)
    return raw


def slices(
    rng: np.random.Generator,
    regime: str,
    block: int,
    arm: str,
    position: int,
    order: list[Json],
    turns: list[list[Json]],
) -> list[Json]:
    """The records of one boot, round after round, with clocks, speed checks and the host's CPUs."""
    effect = {"one": 1.1, "two": 1.2, "three": 0.9}.get(arm, 1.0)
    found: list[Json] = []
    head: list[Json] = []
    end: Json = {}
    for number, cells in enumerate(turns, start=1):
        here = [order[turn["cell"]] for turn in cells]
        speeds = rng.normal(1, 0.03, (len(here), 3))
        rates = (1000 * effect * speeds[:, 0]).tolist()
        first, *samples, end = boot_records(regime, block, arm, position, here, rates)
        head = [first]
        for place, (sample, ticks) in enumerate(zip(samples, speeds[:, 1:].tolist(), strict=True)):
            order_in_boot = len(found) + 1
            start = (len(ANALYSED) * order_in_boot + position) * 1_400_000_000
            before, after = ({"wall_ns": [round(2e7 * t)] * 2} for t in ticks)
            sample |= {
                "round": number,
                "cell_order": order_in_boot,
                "slot": 1 + (position + place + block) % len(ANALYSED),
                "realtime_start_ns": 1_795_419_502_000_000_000 + start,
                "monotonic_start_ns": start,
                "monotonic_end_ns": start + 1_203_000_000,
                "realtime_end_ns": 1_795_419_502_000_000_000 + start + 1_203_000_000,
                "speed": {
                    "work": WORK,
                    "before": before | {"cpu_ns": before["wall_ns"]},
                    "after": after | {"cpu_ns": after["wall_ns"]},
                },
                "host_cpu": HOST_CPU,
                "grown": sample["grown"] | {"stat.steal": 0},
            }
            found.append(sample)
    return [*head, *found, end | {"samples": len(found)}]


def analysis(folder: Path, samples: int) -> Iterator[Row]:
    """Raw files to tables, of all samples and of a tenth of them."""
    a_block = len(ANALYSED) * len(REGIMES) * len(LEVELS) ** 2 * ROUNDS
    blocks = max(10, round(samples / a_block))
    raw = write_run(folder / "raw", blocks)
    size = sum(path.stat().st_size for path in raw.rglob("*.jsonl"))
    parse_s = timed_parsing(raw, blocks)

    def take(number: int) -> Cost:
        words = ["--analyse", str(raw), str(number), str(folder / "out")]
        return cost_of([sys.executable, __file__, *words], folder, dict(os.environ))

    part, whole = take(blocks // 10), take(blocks)
    number = blocks * a_block
    tenth = blocks // 10 / blocks
    yield Row(
        f"analysis of {number:,} samples",
        whole.told,
        f"{whole.cpu_s / parse_s:.1f} of parsing JSON",
        f"{20 * number / 1e6:.3g} s",
        whole.wall_s <= 20 * number / 1e6,
    )
    yield Row(
        f"memory of it, files of {size / GIB:.1f} GiB",
        f"{whole.memory / MIB:,.0f} MiB",
        f"{whole.memory / part.memory:.1f} for {1 / tenth:.1f} times",
        "under 2 GiB",
        whole.memory < 2 * GIB,
    )
    growth = whole.cpu_s / part.cpu_s
    yield Row(
        "its time for a part",
        f"{part.told}, of {tenth:.2f}",
        f"{growth:.1f} for {1 / tenth:.1f} times",
        "as much",
        growth <= 1.1 / tenth,
    )


def timed_parsing(raw: Path, blocks: int) -> float:
    """Seconds of CPU to parse the records in Python, from those of one block of each regime."""
    begun = time.process_time()
    for path in raw.glob("*/block-001/*.jsonl"):
        for line in path.read_bytes().splitlines():
            json.loads(line)
    return (time.process_time() - begun) * blocks


# The page

LARGE = Plan(
    effects={
        (regime, arm): effect
        for regime in ("idle", "memory-pressure", "idle-memcg", "reclaim")
        for arm, effect in (("a", 1.2), ("b", 1.1), ("c", 1.0), ("d", 0.95), ("control", 1.0))
    },
    matrix={"writers": tuple(LEVELS), "readers": tuple(LEVELS)},
    blocks=10,
    noise=0.03,
    traced=("idle", "idle-memcg"),
)
# How long the reader waits until a change is drawn.
SHOWN = """
new Promise((done) => {{
  const begun = performance.now();
  {act};
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun), 0));
}})
"""
ALL_METRICS = (
    "const s = document.querySelector('#switches [name=metric]'); s.value = 'all';"
    " s.dispatchEvent(new Event('change', {bubbles: true}))"
)
OPEN_CELL = "document.querySelector('a.open').click()"


@dataclass(frozen=True)
class Page:
    """What a reader has of a page, in seconds, and its size in bytes."""

    written_s: float
    size: int
    load_s: float
    switch_s: float
    cell_s: float


def page_of(plan: Plan, folder: Path) -> Page:
    """Write the page of a made-up run, open it and use it."""
    begun = time.monotonic()
    address = make_page(plan, folder / "run")
    written_s = time.monotonic() - begun
    size = (folder / "run" / "report" / "index.html").stat().st_size
    with Browser(folder / "profile") as browser:
        begun = time.monotonic()
        browser.open(address)
        load_s = time.monotonic() - begun
        waits = [browser.evaluate(SHOWN.format(act=act)) / 1e3 for act in (ALL_METRICS, OPEN_CELL)]
    return Page(written_s, size, load_s, *waits)


def pages(folder: Path) -> Iterator[Row]:
    """The large run's page beside that of the flagship's shape."""
    for name in ("small", "large"):
        (folder / name).mkdir(parents=True)
    small, large = page_of(FOUR, folder / "small"), page_of(LARGE, folder / "large")
    yield Row(
        "large page opened",
        f"{large.load_s:.1f} s, {large.size / MIB:.0f} MiB",
        f"{large.load_s / small.load_s:.1f} of a page of 9 cells",
        "under 5 s",
        large.load_s < 5,
    )
    for what, ours, theirs in (
        ("every metric shown", large.switch_s, small.switch_s),
        ("a cell's blocks opened", large.cell_s, small.cell_s),
    ):
        yield Row(
            f"large page: {what}",
            f"{ours:.2f} s",
            f"{ours / theirs:.1f} of a page of 9 cells",
            "under 1 s",
            ours < 1,
        )


# The table


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with the machine that they are of."""
    model = cpu_model(Path("/proc/cpuinfo").read_text())
    lines = [
        f"Measured on {host_cpus()} CPUs ({model}) by `benchmarks/scale.py`.",
        "",
        "| what | measured | ratio | target | met |",
        "|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "**no**", None: ""}
    lines += [f"| {r.what} | {r.found} | {r.ratio} | {r.target} | {words[r.met]} |" for r in rows]
    return "\n".join(lines)


def write_table(text: str) -> None:
    """Put the table between its marks in the document."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Row]]] = {
    "planning": lambda folder, args: planning(folder, args.jobs),
    "finished": lambda folder, args: finished(folder),
    "analysis": lambda folder, args: analysis(folder, args.samples),
    "pages": lambda folder, args: pages(folder),
}


def main() -> int:
    """Measure all of it, or a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    parser.add_argument("--keep", type=Path, help="work here, and leave it")
    # What is measured of the analysis, in a process of its own.
    parser.add_argument("--analyse", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.analyse:
        raw, blocks, out = args.analyse
        analyse(Path(raw), Path(out), settings_of(int(blocks)))
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kdelta-scale-") as name:
        for part in args.only or PARTS:
            folder = (args.keep or Path(name)) / part
            folder.mkdir(parents=True)
            for row in PARTS[part](folder, args):
                print(f"{row.what}: {row.found}; {row.ratio}; target: {row.target}", flush=True)
                rows.append(row)
    if args.write:
        write_table(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
