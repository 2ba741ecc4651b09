# SPDX-License-Identifier: GPL-2.0-only
"""Looks at all processes, which come and go meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdelta.guest import pinning
from kdelta.guest.stressor import observe_group
from kdelta.guest.supervise import descendants


@pytest.fixture
def process_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like /proc in which one process ended between listing and reading.

    From then on the kernel answers ESRCH to whatever names a file of it, to stat() and open() too.
    """
    for number in (7, 8):
        (tmp_path / str(number) / "task" / str(number)).mkdir(parents=True)
        # proc(5): state, parent, group, and 3 resident pages as the 24th field.
        fields = f"{number} (sleep) S 1 5 " + "0 " * 18 + "3 0"
        (tmp_path / str(number) / "stat").write_text(fields)
        (tmp_path / str(number) / "task" / str(number) / "comm").write_text("CPU 0/TCG\n")
    gone = tmp_path / "7"

    def unless_gone(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *args: Any, **kwargs: Any) -> Any:
            if gone in (path, *path.parents):
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(path))
            return real(path, *args, **kwargs)

        return call

    for name in ("stat", "open", "read_text", "iterdir"):
        monkeypatch.setattr(Path, name, unless_gone(getattr(Path, name)))
    return tmp_path


def test_a_process_that_ends_while_all_are_looked_at(process_that_ended: Path) -> None:
    assert descendants(1, process_that_ended) == {8}
    assert (
        observe_group(5, process_that_ended).resident_kib == 3 * os.sysconf("SC_PAGE_SIZE") // 1024
    )
    assert pinning._threads(process_that_ended / "7") == {}
    assert pinning._threads(process_that_ended / "8") == {8: "CPU 0/TCG"}
