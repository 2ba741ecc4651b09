# SPDX-License-Identifier: GPL-2.0-only
"""A host's /proc and /sys as files, so that settings can be changed without changing any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from host_files import CPU, put


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores without SMT, two frequency policies, turbo on, three interrupts."""
    root = tmp_path / "root"
    put(root, f"{CPU}/online", "0-3")
    for cpu in range(4):
        put(root, f"{CPU}/cpu{cpu}/topology/core_cpus_list", str(cpu))
        put(root, f"{CPU}/cpu{cpu}/topology/physical_package_id", "0")
    for policy, governor in enumerate(("powersave", "schedutil")):
        put(root, f"{CPU}/cpufreq/policy{policy}/scaling_governor", governor)
    put(root, f"{CPU}/cpufreq/boost", "1")
    put(root, "proc/irq/1/smp_affinity_list", "0-3")
    put(root, "proc/irq/2/smp_affinity_list", "1-2")
    put(root, "proc/irq/3/smp_affinity_list", "3")
    put(root, "proc/irq/default_smp_affinity", "f")
    put(root, "proc/sys/kernel/random/boot_id", "this-boot")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    return root


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "environment.json"
