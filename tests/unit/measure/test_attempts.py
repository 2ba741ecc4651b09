# SPDX-License-Identifier: GPL-2.0-only
"""Tries of a block that came to nothing are remembered until one succeeds, and then told."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdelta.errors import KdeltaError
from kdelta.measure.attempts import NAME, remembered


def test_a_first_try_has_nothing_to_tell(tmp_path: Path) -> None:
    with remembered(tmp_path, 0) as earlier:
        assert earlier == []
    assert not (tmp_path / NAME).exists()


def test_what_kept_earlier_tries_from_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(KdeltaError), remembered(tmp_path, 0):
        raise KdeltaError("the guest did not boot:\nKernel panic")
    with pytest.raises(KeyboardInterrupt), remembered(tmp_path, 0):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), remembered(tmp_path, 0):
        raise ZeroDivisionError("ours")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    with pytest.raises(KeyboardInterrupt), remembered(tmp_path, 0):
        raise KeyboardInterrupt
    # the last one was killed: it could write nothing but left its scratch folder
    with remembered(tmp_path, 1) as earlier:
        reasons = [attempt["reason"] for attempt in earlier]
    assert reasons == [
        "the guest did not boot: Kernel panic",
        "interrupted",
        "ZeroDivisionError('ours')",
        "interrupted (SLURM job 12 on n1)",
        "killed",
    ]
    assert [attempt.get("node") for attempt in earlier] == [None, None, None, "n1", "n1"]
    assert all(attempt["at"].endswith("+00:00") for attempt in earlier)
    assert not (tmp_path / NAME).exists(), "they are in the block's host.json now"


def test_a_line_cut_short_by_a_full_disk_is_left_out(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"at":"t","reason":"one"}\n{"at":"t","rea')
    with remembered(tmp_path, 0) as earlier:
        assert [attempt["reason"] for attempt in earlier] == ["one"]
