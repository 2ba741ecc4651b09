# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the host."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from kdelta.host.cpu_time import HostCpu, StatTimes, own_cpu_s, parse_stat
from kdelta.host.facts import (
    MAX_AUTO_VCPUS,
    cpu_model,
    first_line,
    governor,
    guest_vcpus,
    host_cores,
    host_cpus,
    host_facts,
    hypervisor,
    meminfo_mib,
    mitigations,
    node_name,
    system_name,
    turbo,
)

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu hypervisor
"""

# Guest time (the last two columns) is part of user and nice.
STAT = """cpu  1000 100 500 90000 40 20 30 60 700 70
cpu0 500 50 250 45000 20 10 15 30 350 35
cpu1 500 50 250 45000 20 10 15 30 350 35
intr 1 2 3
ctxt 5
"""


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_the_processors_name() -> None:
    assert cpu_model(CPUINFO) == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert cpu_model("processor\t: 0\n") == os.uname().machine


def test_memory() -> None:
    meminfo = "MemTotal:       24689212 kB\nSwapTotal: 2048 kB\n"
    assert meminfo_mib(meminfo, "MemTotal") == 24110
    assert meminfo_mib(meminfo, "SwapTotal") == 2
    assert meminfo_mib("", "MemTotal") is None


def test_vcpus() -> None:
    assert guest_vcpus("auto") == min(host_cores(), MAX_AUTO_VCPUS)
    assert guest_vcpus(64) == 64


def test_first_line_of_a_program() -> None:
    assert first_line(["printf", "one\\ntwo\\n"]) == "one"
    assert first_line(["true"]) is None
    assert first_line(["/no/such/program"]) is None


def test_this_host_can_be_recorded() -> None:
    facts = host_facts()
    assert facts["cpus"] == host_cpus() >= 1
    assert facts["memory_mib"] > 0
    assert facts["kernel"] == platform.release()
    assert json.loads(json.dumps(facts)) == facts


def test_a_node_of_slurm_is_called_as_slurm_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that share a machine share its host name."""
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "PBS_JOBID", "LSB_JOBID", "_CONDOR_SLOT"):
        monkeypatch.delenv(name, raising=False)
    assert node_name() is None  # a machine by itself has no name that lasts
    monkeypatch.setenv("PBS_JOBID", "7.head")
    assert node_name() == platform.node()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "rack-7")
    assert node_name() == "rack-7"


def test_facts_are_the_same_when_asked_again() -> None:
    # They tell hosts apart in the manifest, so nothing in them may come and go.
    assert host_facts() == host_facts()


def test_what_is_missing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = host_facts(tmp_path)
    unknown = {name for name, value in facts.items() if value is None}
    known = {"cpu_model", "architecture", "cpus", "virtme_ng", "python"}
    assert unknown == facts.keys() - known


def test_clock_settings(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    assert governor(tmp_path) is None
    assert turbo(tmp_path) is None
    put(tmp_path, f"{cpu}/cpufreq/policy0/scaling_governor", "powersave")
    put(tmp_path, f"{cpu}/cpufreq/policy1/scaling_governor", "powersave")
    assert governor(tmp_path) == "powersave"
    put(tmp_path, f"{cpu}/cpufreq/policy10/scaling_governor", "performance")
    assert governor(tmp_path) == "powersave, performance"
    put(tmp_path, f"{cpu}/cpufreq/boost", "0")
    assert turbo(tmp_path) is False
    put(tmp_path, f"{cpu}/intel_pstate/no_turbo", "0")
    assert turbo(tmp_path) is True


def test_mitigations(tmp_path: Path) -> None:
    assert mitigations(tmp_path) is None
    put(tmp_path, "sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI")
    assert mitigations(tmp_path) == {"meltdown": "Mitigation: PTI"}


def test_hypervisors(tmp_path: Path) -> None:
    assert hypervisor(tmp_path, "flags\t: fpu\n") is None
    assert hypervisor(tmp_path, CPUINFO) == "unnamed hypervisor"
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "QEMU")
    put(tmp_path, "sys/class/dmi/id/product_name", "Standard PC")
    assert hypervisor(tmp_path, CPUINFO) == "QEMU Standard PC"
    put(tmp_path, "sys/hypervisor/type", "xen")
    assert hypervisor(tmp_path, "") == "xen"


def test_the_systems_name() -> None:
    assert system_name('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n') == "Debian GNU/Linux 12"
    assert system_name("ID=x\n") is None


def test_guest_time_is_counted_once() -> None:
    assert parse_stat(STAT, 100) == StatTimes(cpus=2, busy_s=16.5, steal_s=0.6)


def test_cpu_time_of_a_while(tmp_path: Path) -> None:
    put(tmp_path, "proc/stat", STAT)
    watch = HostCpu(root=tmp_path)
    later = "cpu  1300 100 500 90000 99 20 30 85 1000 70\ncpu0 0\ncpu1 0\n"
    put(tmp_path, "proc/stat", later)
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        pass
    used = watch.used()
    ticks = os.sysconf("SC_CLK_TCK")
    assert used["cpus"] == 2
    assert used["busy_s"] == 300 / ticks
    assert used["steal_s"] == 25 / ticks
    assert 0.19 <= used["own_s"] <= used["elapsed_s"] + 0.05


def test_own_time_grows_with_work() -> None:
    before = own_cpu_s()
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass
    assert 0.04 < own_cpu_s() - before < 1


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu"
    folder.mkdir(parents=True)
    allowed = sorted(os.sched_getaffinity(0))
    (folder / "online").write_text(",".join(map(str, [*allowed, max(allowed) + 1])))
    for cpu in [*allowed, max(allowed) + 1]:
        topology = folder / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        # all of them are threads of one core, but for the last, which we may not use
        siblings = allowed if cpu in allowed else [cpu]
        (topology / "core_cpus_list").write_text(",".join(map(str, siblings)))
    assert host_cores(tmp_path) == 1
    assert host_cores(tmp_path / "nothing") == host_cpus()
