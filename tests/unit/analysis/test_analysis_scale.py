# SPDX-License-Identifier: GPL-2.0-only
"""What large runs take another way than small ones do: it gives the same."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import SETTINGS, Truth, edit, write_raw

from kdelta.analysis import blocks, tables
from kdelta.analysis.forked import on_all_cpus
from kdelta.analysis.inference import Floats
from kdelta.analysis.position import _Slices, _slopes
from kdelta.analysis.run import analyse
from kdelta.analysis.speed import FEWEST_DF, Labels, centred, what_goes_with_speed
from kdelta.errors import KdeltaError

several = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one CPU: there are no other processes"
)


def _half(shared: int, item: int) -> tuple[int, int]:
    if item % 2:
        raise KdeltaError(f"{item} is odd")
    return shared + item // 2, os.getpid()


@several
def test_all_cpus_give_the_same_in_the_same_order() -> None:
    items = range(0, 40, 2)
    alone = list(on_all_cpus(_half, 7, items, worth_it=False))
    by_all = list(on_all_cpus(_half, 7, items, worth_it=True))
    assert [value for value, _ in by_all] == [value for value, _ in alone]
    assert {process for _, process in alone} == {os.getpid()}
    assert os.getpid() not in {process for _, process in by_all}


@pytest.mark.parametrize("worth_it", [False, True])
def test_the_first_mistake_is_told_whoever_finds_it(worth_it: bool) -> None:
    found = on_all_cpus(_half, 0, [0, 2, 5, 4, 3], worth_it=worth_it)
    assert next(found)[0] == 0
    with pytest.raises(KdeltaError, match=r"^5 is odd$"):
        list(found)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.csv")
    }


def test_a_large_run_gives_the_bytes_that_a_small_one_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tmp_path / "raw", Truth(regimes=SETTINGS.regimes, blocks=3))
    # One sample is set aside, one boot has none, so that every table has something.
    edit(raw / "idle/block-002/patched.jsonl", lambda records: records[2].update(status="failed"))
    (raw / "idle/block-003/control.jsonl").unlink()
    analyse(raw, tmp_path / "small", SETTINGS)
    monkeypatch.setattr(blocks, "PART_BYTES", 1)
    monkeypatch.setattr(tables, "ROWS", 7)
    analyse(raw, tmp_path / "large", SETTINGS)
    found = files(tmp_path / "small")
    assert found == files(tmp_path / "large")
    samples = pd.read_csv(io.BytesIO(found["samples.csv"]))
    assert len(samples) == 2 * 3 * 3 * 4 - 4
    assert (~samples["valid"]).sum() == 1


def test_a_broken_file_is_the_same_message_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tmp_path / "raw", Truth(blocks=3))
    for block in ("block-002", "block-003"):
        with (raw / "idle" / block / "patched.jsonl").open("a") as file:
            file.write("{")
    messages = []
    for size in (blocks.PART_BYTES, 1):
        monkeypatch.setattr(blocks, "PART_BYTES", size)
        with pytest.raises(KdeltaError) as caught:
            analyse(raw, tmp_path / "out", SETTINGS)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "block-002/patched.jsonl:7: " in messages[0]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Floats, Floats, Labels, Labels]:
    """Logarithms of pairs, of speeds (some missing), their cells and blocks."""
    size = draw(st.integers(0, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    speeds = rng.normal(draw(st.sampled_from([0.0, 0.3])), 0.05, size)
    logs = draw(st.floats(-1, 1)) * speeds + rng.normal(0.2, 0.02, size)
    missing = rng.random(size) < draw(st.sampled_from([0.0, 0.2]))
    return (
        logs,
        np.where(missing, np.nan, speeds),
        rng.integers(0, draw(st.integers(1, 6)), size),
        rng.integers(0, draw(st.integers(1, 8)), size),
    )


@settings(max_examples=60)
@given(pairs())
def test_what_goes_with_the_speed_is_by_least_squares_on_the_other_blocks(
    drawn: tuple[Floats, Floats, Labels, Labels],
) -> None:
    logs, speeds, cells, numbers = drawn
    found = what_goes_with_speed(logs, speeds, cells, numbers)
    known = np.isfinite(speeds)
    assert not found[~known].any()
    for block in np.unique(numbers):
        others, own = known & (numbers != block), known & (numbers == block)
        slope = 0.0
        if others.sum() - len(np.unique(cells[others])) >= FEWEST_DF:
            x, y = centred(speeds[others], cells[others]), centred(logs[others], cells[others])
            slope = float(np.linalg.lstsq(x[:, np.newaxis], y, rcond=None)[0][0])
        assert found[own] == pytest.approx(slope * speeds[own], rel=1e-9, abs=1e-12)


def test_speeds_that_do_not_differ_explain_nothing() -> None:
    blocks_, cells = (labels.ravel() for labels in np.indices((6, 8)))
    logs = np.random.default_rng(3).normal(size=48)
    for speed in (0.0, 0.1, -0.3):
        assert not what_goes_with_speed(logs, np.full(48, speed), cells, blocks_).any()


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(1, 3), st.floats(0, 0.4))
def test_slopes_without_a_block_are_those_of_the_other_blocks_alone(
    seed: int, arms: int, cells: int, lost: float
) -> None:
    rng = np.random.default_rng(seed)
    block, number, cell, arm = (labels.ravel() for labels in np.indices((5, 3, cells, arms)))
    turn = (block * 3 + number) * cells + cell
    position = np.concatenate([rng.permutation(arms) for _ in range(len(block) // arms)])
    log = rng.normal(size=len(block)) + 0.1 * position + arm
    kept = rng.random(len(block)) >= lost
    slices = _Slices(log, cell, block, turn, position, arm).only(kept)
    numbers = np.unique(slices.block)
    if not len(numbers):
        return
    whole, *without = _slopes(slices, numbers)
    assert whole == pytest.approx(_fitted(slices), rel=1e-6, abs=1e-9, nan_ok=True)
    for left_out, slope in zip(numbers, without, strict=True):
        expected = _fitted(slices.only(slices.block != left_out))
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def _fitted(slices: _Slices) -> float:
    """The slope by least squares with a column for every arm and every round of every cell."""
    columns = [slices.position.astype(float)]
    columns += [
        (slices.cell == cell) & (slices.arm == arm)
        for cell in np.unique(slices.cell)
        for arm in np.unique(slices.arm)
    ]
    columns += [slices.turn == turn for turn in np.unique(slices.turn)]
    design = np.array(columns, dtype=float).T
    others = design[:, 1:]
    left = design[:, 0] - others @ np.linalg.lstsq(others, design[:, 0], rcond=None)[0]
    if float(left @ left) <= 1e-9:
        return np.nan
    return float(slices.log @ left / (left @ left))
