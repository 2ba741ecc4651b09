# SPDX-License-Identifier: GPL-2.0-only
"""`kdelta plan`: blocks from a spread, a spread from a pilot, and what is printed."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from simulation import World, simulate
from synthetic import BLOCK_WALL_S, SETTINGS, Truth, write_simulated

from kdelta.analysis.planning import blocks_needed, pilot_spread
from kdelta.analysis.power import Design, Spread, chance_of_equivalent, smallest_effect
from kdelta.analysis.raw import read_raw
from kdelta.analysis.run import analyse_boots
from kdelta.cli import main
from kdelta.errors import KdeltaError
from tests.conftest import CHECKOUT

DESIGN = Design(blocks=2, cells=18, confidence=0.95, margin=0.03)
REGIMES = ("idle", "memory-pressure")
FACTORS = {"writers": (1, 2, 5), "readers": (1, 5, 10)}
Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("effect", [0.035, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("spread", [Spread(0.01), Spread(0.08), Spread(0.2, 4), Spread(0.1, 2)])
def test_blocks_needed_is_the_inverse_of_the_noise_floor(effect: float, spread: Spread) -> None:
    blocks = blocks_needed(effect, spread, DESIGN, 0.8)
    assert blocks is not None

    def floor(n: int) -> float:
        return smallest_effect(spread, replace(DESIGN, blocks=n), 0.8)

    assert floor(blocks) <= effect * (1 + 1e-9)
    assert blocks == 3 or floor(blocks - 1) > effect
    assert blocks_needed(-effect, spread, DESIGN, 0.8) == blocks


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.02])
def test_within_the_margin_the_question_is_equivalence(effect: float) -> None:
    spread = Spread(0.05, 9)
    blocks = blocks_needed(effect, spread, DESIGN, 0.8)
    assert blocks is not None

    def chance(n: int) -> float:
        return chance_of_equivalent(effect, spread, replace(DESIGN, blocks=n))

    assert chance(blocks) >= 0.8 > chance(blocks - 1)


def test_more_blocks_than_anybody_runs_is_none() -> None:
    assert (
        blocks_needed(math.log1p(0.03), Spread(0.01), DESIGN, 0.8) is None
    )  # at the margin's edge
    assert blocks_needed(0.04, Spread(0.9), DESIGN, 0.8) is None
    assert blocks_needed(0.5, Spread(0.0), DESIGN, 0.8) == 3


def pilot(folder: Path, world: World, regimes: tuple[str, ...] = REGIMES, seed: int = 1) -> Path:
    """A run's folder with raw data only."""
    logs = simulate(replace(world, regimes=len(regimes)), 1, seed)[0]
    write_simulated(folder / "raw", Truth(regimes=regimes, factors=FACTORS), logs)
    return folder


def spread_of(folder: Path, control: str | None = "control") -> tuple[Spread, Spread, str]:
    settings = replace(SETTINGS, control=control, only=("throughput_mib_s",))
    boots = read_raw(folder / "raw", settings).boots
    found = pilot_spread(analyse_boots(boots, settings).ratios, "idle", settings)
    return found.cell, found.overall, found.source


def test_a_pilots_spread_is_that_of_its_world(tmp_path: Path) -> None:
    world = World(blocks=30, effect=0.5, boot_sd=0.05, sample_sd=0.1)
    cell, overall, source = spread_of(pilot(tmp_path, world, ("idle",)))
    assert cell.log_sd == pytest.approx(math.sqrt(2 * (0.05**2 + 0.1**2)), rel=0.25)
    assert overall.log_sd == pytest.approx(math.sqrt(2 * (0.05**2 + 0.1**2 / 9)), rel=0.3)
    assert (cell.df, overall.df) == (29, 29)
    assert source == "control arm, 30 blocks"
    # Without a control arm, of the arms around their own effects (here 0.5 and 0).
    cell, _, source = spread_of(tmp_path, control=None)
    assert cell.log_sd == pytest.approx(math.sqrt(2 * (0.05**2 + 0.1**2)), rel=0.25)
    assert source == "patched, control, 30 blocks"


def test_a_pilot_of_two_blocks_is_none(tmp_path: Path) -> None:
    with pytest.raises(KdeltaError, match=r"regime idle has 2 blocks .* at least 3 .* --spread"):
        spread_of(pilot(tmp_path, World(blocks=2), ("idle",)))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment that the synthetic raw data is of."""
    document = {
        "schema": 2,
        "name": "synthetic",
        "title": "synthetic",
        "kernel": {
            "source": {"type": "debian", "package": "linux-source-6.12"},
            "config": {"fragments": ["fragment.config"]},
        },
        "arms": {"baseline": {"title": "b"}, "patched": {"title": "p"}},
        "workloads": {
            "pipe_bench": {"matrix": {name: list(levels) for name, levels in FACTORS.items()}}
        },
        "regimes": {name: {"title": name} for name in (*REGIMES, "reclaim")},
        "protocols": {
            "quick": {
                "blocks": 5,
                "warmup_s": 0.2,
                "duration_s": dict.fromkeys(REGIMES, 1.0),
            },
            "paper": {"blocks": 10, "warmup_s": 1.0, "duration_s": {"idle": 10.0}},
            "wide": {"blocks": 10, "duration_s": {"reclaim": 1.0}},
        },
        "seed": 1,
    }
    (tmp_path / "fragment.config").write_text("CONFIG_SMP=y\n")
    (tmp_path / "workloads").symlink_to(CHECKOUT / "workloads")
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def plan(experiment: Path, *options: str) -> int:
    root = str(experiment.parent)
    return main(["--root", root, "plan", "--experiment", "experiment.yaml", *options])


def rows(said: str) -> dict[tuple[str, str], list[str]]:
    """(regime, question) -> blocks, hours of the printed table."""
    lines = said.split("\n\n")[1].splitlines()
    assert len({len(line) for line in lines}) == 1  # aligned
    starts = [lines[0].index(name) for name in ("regime", "verdict on")]
    return {
        (line[: starts[1]].strip(), line[starts[1] :].split("  ")[0].strip()): line.split()[-2:]
        for line in lines[1:]
    }


def test_plan_from_a_pilot(experiment: Path, capsys: Captured) -> None:
    run = pilot(experiment.parent / "run", World(blocks=8))
    assert plan(experiment, "--pilot", "run", "--effect", "10") == 0
    said = capsys.readouterr().out
    table = rows(said)
    cell, overall, source = spread_of(run)
    blocks = blocks_needed(math.log(1.1), cell, DESIGN, 0.8)
    assert blocks is not None
    hours = blocks * BLOCK_WALL_S / 3600
    assert table["idle", "a cell"] == [str(blocks), f"{hours:.2f}"]
    whole = blocks_needed(math.log(1.1), overall, replace(DESIGN, cells=1), 0.8)
    assert table["idle", "overall"][0] == str(whole)
    largest = max(int(table[regime, "a cell"][0]) for regime in REGIMES)
    assert table["whole run", "a cell"][0] == str(largest)
    assert max(map(len, said.splitlines())) <= 80
    said = " ".join(said.split())
    assert f"over blocks; {source}." in said
    assert "90.0 s per block, as the pilot measured" in said
    assert "faster or slower with 80 % probability" in said
    assert "(7 degrees of freedom)" in said


def test_plan_for_another_protocol_than_the_pilots(experiment: Path, capsys: Captured) -> None:
    pilot(experiment.parent / "run", World(blocks=4))
    options = ("--pilot", "run", "--protocol", "paper", "--effect", "10", "--power", "0.9")
    assert plan(experiment, *options) == 0
    said = capsys.readouterr().out
    assert {regime for regime, _ in rows(said)} == {"idle", "whole run"}
    seconds = BLOCK_WALL_S + 3 * 9 * (11.0 - 1.2)
    said = " ".join(said.split())
    assert f"{seconds:.1f} s per block, 90.0 s in the pilot" in said
    assert "one family of 9 cells" in said
    assert "with 90 % probability" in said


def test_plan_where_the_pilot_recorded_no_times(experiment: Path, capsys: Captured) -> None:
    run = pilot(experiment.parent / "run", World(blocks=4))
    for path in run.glob("raw/*/*/host.json"):
        path.write_text(json.dumps({"schema": 1}))
    assert plan(experiment, "--pilot", "run", "--effect", "10") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{3 * 9 * 1.2:.1f} s per block, from durations alone" in said


def test_plan_from_a_spread(experiment: Path, capsys: Captured) -> None:
    assert plan(experiment, "--spread", "8", "--protocol", "quick", "--effect", "-5") == 0
    said = capsys.readouterr().out
    blocks = blocks_needed(-math.log(0.95), Spread(math.log(1.08)), DESIGN, 0.8)
    assert rows(said)["idle", "a cell"][0] == str(blocks)
    assert "effect of -5 %" in said
    assert "not measured" in said
    assert "degrees of freedom" not in said


def test_plan_says_when_an_effect_is_within_the_margin(experiment: Path, capsys: Captured) -> None:
    assert plan(experiment, "--spread", "2", "--protocol", "paper", "--effect", "1") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "equivalent with 80 % probability" in said
    assert "lies within the margin" in said
    assert plan(experiment, "--spread", "40", "--protocol", "paper", "--effect", "2.9") == 0
    assert "> 1000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--pilot", "nowhere", "--effect", "5"), "--pilot nowhere: has no folder raw/"),
        (("--pilot", "two", "--effect", "5"), "regime idle has 2 blocks"),
        (("--pilot", "run", "--protocol", "wide", "--effect", "5"), "no block of regime reclaim"),
        (
            ("--spread", "8", "--effect", "5"),
            "name a protocol with --protocol (quick, paper, wide)",
        ),
        (("--spread", "0", "--protocol", "quick", "--effect", "5"), "--spread 0"),
        (("--spread", "nan", "--protocol", "quick", "--effect", "5"), "--spread nan"),
        (("--spread", "8", "--protocol", "quick", "--effect", "-100"), "--effect -100"),
        (("--spread", "8", "--protocol", "quick", "--effect", "inf"), "--effect inf"),
        (("--spread", "8", "--protocol", "q", "--effect", "5"), "no protocol 'q'"),
        (("--spread", "8", "--protocol", "quick", "--effect", "5", "--power", "80"), "--power 80"),
    ],
)
def test_mistakes(
    experiment: Path, options: tuple[str, ...], expected: str, capsys: Captured
) -> None:
    pilot(experiment.parent / "two", World(blocks=2), ("idle",))
    pilot(experiment.parent / "run", World(blocks=3), ("idle",))
    assert plan(experiment, *options) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("kdelta: ")
    assert expected in said.err


def test_a_pilot_or_a_spread_but_not_both(experiment: Path, capsys: Captured) -> None:
    assert plan(experiment, "--effect", "5") == 1
    assert "--effect: give --pilot or --spread too" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        plan(experiment, "--effect", "5", "--spread", "8", "--pilot", "run")
    assert caught.value.code == 2
    assert "--pilot" in capsys.readouterr().err


def foreseen(said: str, regime: str) -> tuple[float, float]:
    """What effects are seen over all cells of a regime, and in one."""
    line = next(line for line in said.splitlines() if line.startswith(f"{regime} "))
    overall, cell = line.removeprefix(regime).replace("%", "").split()
    return float(overall) / 100, float(cell) / 100


@pytest.mark.parametrize("spread", [8.0, 30.0])
def test_what_a_protocol_would_see(experiment: Path, spread: float, capsys: Captured) -> None:
    """The smallest effects for which its blocks are enough."""
    assert plan(experiment, "--protocol", "paper", "--spread", f"{spread:g}") == 0
    said = capsys.readouterr().out
    assert said.startswith("paper: 10 blocks of 3 guests")
    assert max(map(len, said.splitlines())) <= 80
    one, cells_ = Spread(math.log1p(spread / 100)), math.prod(map(len, FACTORS.values()))
    for effect, cells in zip(foreseen(said, "idle"), (1, cells_), strict=True):
        design = replace(DESIGN, cells=cells)
        fewer, enough = (
            blocks_needed(math.log1p(effect) * factor, one, design, 0.8) for factor in (0.98, 1.02)
        )
        assert enough is not None
        assert enough <= 10
        assert fewer is None or fewer >= 10


def test_what_a_protocol_would_see_by_the_latest_run(experiment: Path, capsys: Captured) -> None:
    """For a regime that the run does not have, by assumption."""
    assert plan(experiment, "--protocol", "quick") == 0
    said = capsys.readouterr().out
    assert "spread: assumed: 15% from slice to slice" in said
    by_assumption = foreseen(said, "memory-pressure")
    for number, (folder, sd) in enumerate({"older": 0.5, "newer": 0.01}.items()):
        run = experiment.parent / "results/synthetic" / folder
        pilot(run, World(blocks=8, boot_sd=0.01, sample_sd=sd), ("idle",))
        (run / "manifest.json").write_text("{}")
        os.utime(run / "manifest.json", (number, number))
    assert plan(experiment, "--protocol", "quick") == 0
    said = capsys.readouterr().out
    assert "idle: control arm, 8 blocks" in said
    assert foreseen(said, "idle") < by_assumption
    assert foreseen(said, "memory-pressure") == by_assumption


def test_a_latest_run_that_is_of_no_use_stops_nobody(experiment: Path, capsys: Captured) -> None:
    """`make report` plans before it measures: what lies in results/ must not end it."""
    run = pilot(experiment.parent / "results/synthetic/quick", World(blocks=2), ("idle",))
    (run / "manifest.json").write_text("{}")
    assert plan(experiment, "--protocol", "quick") == 0
    said = capsys.readouterr()
    assert "spread: assumed: 15% from slice to slice" in said.out
    assert "is of no use here: pilot: regime idle has 2 blocks" in said.err


@pytest.mark.parametrize("options", [(), ("--effect", "10")])
def test_a_pilot_with_more_arms_than_the_protocol(
    experiment: Path, options: tuple[str, ...], capsys: Captured
) -> None:
    document = yaml.safe_load(experiment.read_text())
    document["protocols"]["quick"]["arms"] = []
    experiment.write_text(yaml.safe_dump(document, sort_keys=False))
    pilot(experiment.parent / "run", World(blocks=8))
    assert plan(experiment, "--protocol", "quick", "--pilot", "run", *options) == 0
    assert "control arm, 8 blocks" in " ".join(capsys.readouterr().out.split())


def test_a_budget_is_of_the_configured_run(experiment: Path, capsys: Captured) -> None:
    assert plan(experiment, "--protocol", "quick", "--budget", "30m") == 1
    assert "name the protocol with its time: --protocol NAME-30m" in capsys.readouterr().err


def test_the_configured_protocol_within_a_time(experiment: Path, capsys: Captured) -> None:
    (experiment.parent / "config.yaml").write_text("experiment: experiment.yaml\n")
    root = str(experiment.parent)
    assert main(["--root", root, "plan", "--config", "config.yaml", "--budget", "30m"]) == 0
    assert capsys.readouterr().out.startswith("quick-30m: ")


def test_a_planned_experiment_finds_what_it_was_planned_for() -> None:
    """The round trip: plan from one pilot's worth of spread, run it, count what is called."""
    world = World(cells=1, boot_sd=0.02, sample_sd=0.05)
    spread = Spread(math.sqrt(2 * (0.02**2 + 0.05**2)))
    effect = math.log(1.1)
    design = replace(DESIGN, cells=9)
    blocks = blocks_needed(effect, spread, design, 0.8)
    assert blocks is not None
    planned = replace(design, blocks=blocks)
    x = simulate(replace(world, blocks=blocks, effect=effect), 4000, seed=3)
    ratios = (x[:, 0, 1] - x[:, 0, 0])[..., 0]
    error = ratios.std(axis=-1, ddof=1) / math.sqrt(blocks)
    called = np.mean(ratios.mean(axis=-1) > planned.t_strictest * error)
    assert 0.8 - 0.02 <= called <= 0.92


@pytest.mark.parametrize(("of", "status"), [("synthetic", 0), ("another", 1), (None, 0)])
def test_a_pilot_of_another_experiment_than_the_configured_one(
    experiment: Path, of: str | None, status: int, capsys: Captured
) -> None:
    root = experiment.parent
    (root / "config.yaml").write_text("experiment: experiment.yaml\n")
    run = pilot(root / "run", World(blocks=8))
    if of is not None:
        (run / "manifest.json").write_text(json.dumps({"experiment": {"name": of}}))
    args = ["--root", str(root), "plan", "--config", "config.yaml", "--pilot", "run"]
    assert main(args) == status
    words = "--pilot run: is a run of another, but config.yaml is set to synthetic; give"
    assert (words in capsys.readouterr().err) == bool(status)
