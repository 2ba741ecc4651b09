# SPDX-License-Identifier: GPL-2.0-only
"""A kernel with tracefs, for probes to run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tracefs import Kernel

from kdelta.probes import tracefs


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(tracefs, "TRACEFS", tmp_path)
    return Kernel(tmp_path)
